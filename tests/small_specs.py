"""A spec small enough for the oracle's loops: 32x64 pixels, three levels, 42 locations."""

from __future__ import annotations

from fcos_edge.spec import ModelSpec

SMALL_SPEC = ModelSpec(
    name="small",
    classes=("person", "bicycle", "car"),
    input_hw=(32, 64),
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    strides=(8, 16, 32),
)


def class_names(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))
