"""Raw outputs by name, and as a runtime returns them."""

from __future__ import annotations

import numpy as np

from fcos_edge.raw_outputs import join_outputs, split_outputs
from fcos_edge.runtime import Branch, FloatArray, RawOutputs
from fcos_edge.spec import BRANCHES
from tests.runtimes.models import SPEC


def numbered() -> dict[str, FloatArray]:
    """Each value tells its location, counted through all levels, and its channel, in sixteenths."""
    number = 0
    outputs: dict[str, FloatArray] = {}
    for level, (height, width) in zip(SPEC.level_names, SPEC.level_hw, strict=True):
        locations = np.arange(number, number + height * width, dtype=np.float32).reshape(height, width, 1)
        number += height * width
        for branch, channels in (("logits", len(SPEC.classes)), ("ltrb", 4), ("centerness", 1)):
            outputs[f"{branch}_{level}"] = locations + np.arange(channels).astype(np.float32) / np.float32(16)
    return outputs


def test_join_outputs__levels_one_after_the_other_row_by_row() -> None:
    raw = join_outputs(numbered(), SPEC)
    locations = np.arange(SPEC.num_locations)
    np.testing.assert_array_equal(raw.centerness.values, locations[None])
    np.testing.assert_array_equal(raw.ltrb.values[0, :, 3], locations + 3 / 16)
    np.testing.assert_array_equal(raw.logits.values[0, :, 2], locations + 2 / 16)


def test_split_outputs__undoes_the_joining() -> None:
    found = dict(split_outputs(join_outputs(numbered(), SPEC), SPEC))
    assert sorted(found) == sorted(SPEC.output_names)
    for name, expected in numbered().items():
        np.testing.assert_array_equal(found[name], expected)


def test_split_outputs__integers_with_the_scale_of_their_level() -> None:
    points = [(2.0 ** -(level + 1), 10 * level) for level in range(len(SPEC.strides))]
    channels = {"logits": (len(SPEC.classes),), "ltrb": (4,), "centerness": ()}
    raw = RawOutputs(*(
        Branch(np.full((1, SPEC.num_locations, *channels[name]), 100, np.uint8), points) for name in BRANCHES
    ))  # fmt: skip
    found = dict(split_outputs(raw, SPEC))
    for level, (scale, zero_point) in zip(SPEC.level_names, points, strict=True):
        for branch in BRANCHES:
            assert set(found[f"{branch}_{level}"].ravel()) == {(100 - zero_point) * scale}
