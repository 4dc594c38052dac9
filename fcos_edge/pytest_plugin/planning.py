"""Which tests a bundle gets: known from its manifest and the runtimes here, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcos_edge.bundle import Manifest
from fcos_edge.parity.gates import GATES
from fcos_edge.runtime import find_runtime, runtime_names
from fcos_edge.workers.process import open_interpreters
from fcos_edge.workers.variants import Variant, chosen_variants, plan_variants

# What `verify` says, without labelled pictures.
GOLDEN_GATES = ("runs", "golden")
BASELINE_GATES = (
    "baseline_ap_drop", "baseline_class_drop", "baseline_miss_increase", "baseline_latency_ratio",
)  # fmt: skip
_NO_RUNTIME = "no-runtime"


@dataclass(frozen=True)
class Planned:
    """One artifact in one runtime, and its tests.

    package  of the runtime
    gates    names
    variant  None where nothing here runs the file
    why      then: what to do about it
    """

    file: str
    package: str
    gates: tuple[str, ...]
    variant: Variant | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """`model.int8.onnx in onnxruntime`, as the report has it."""
        return self.variant.name if self.variant is not None else self.file


def plan(
    manifest: Manifest,
    *,
    runtime: str | None,
    precisions: Sequence[str] | None,
    pythons: Sequence[tuple[str, Path]],
    has_onnx_in_openvino: bool,
) -> tuple[tuple[Variant, ...], tuple[Planned, ...]]:
    """What runs here, as `parity` plans it; and a test that is skipped for each file that nothing runs.

    Raises RuntimeUnavailableError or UsageError where nothing is left to run.
    """
    interpreters = open_interpreters(pythons)
    variants, skipped = plan_variants(
        manifest, interpreters, runtime=runtime, has_onnx_in_openvino=has_onnx_in_openvino
    )
    precision_of = {artifact.name: artifact.precision for artifact in manifest.artifacts}
    missing = tuple(
        Planned(file, _NO_RUNTIME, ("runs",), why=_what_to_install(file))
        for file in skipped
        if runtime is None and (precisions is None or precision_of[file] in precisions)
    )
    return chosen_variants(variants, precisions), missing


def with_gates(
    variants: Sequence[Variant], *, has_baseline: bool, has_latency_limit: bool
) -> tuple[Planned, ...]:
    """The gates of `parity` that are for each artifact."""
    planned = []
    for variant in variants:
        others = [other for other in variants if other != variant]
        is_int8 = variant.precision == "int8"
        has_fp32 = is_int8 and any(_is_its_fp32(variant, other) for other in others)
        absent = {
            "runtimes_agree": not (is_int8 and any(other.precision == "int8" for other in others)),
            "latency_ratio": not has_fp32,
            "latency_ms": not has_latency_limit,
            "baseline_latency_ratio": not has_fp32,
        }
        names = (*GATES, *(BASELINE_GATES if has_baseline else ()))
        gates = tuple(name for name in names if not absent.get(name))
        planned.append(Planned(variant.file, variant.package, gates, variant))
    return tuple(planned)


def with_golden_gates(variants: Sequence[Variant]) -> tuple[Planned, ...]:
    """Those of `verify`."""
    return tuple(Planned(one.file, one.package, GOLDEN_GATES, one) for one in variants)


def _is_its_fp32(variant: Variant, other: Variant) -> bool:
    """Of the same runtime and format: what int8 is to be faster than."""
    is_same = (variant.package, Path(variant.file).suffix) == (other.package, Path(other.file).suffix)
    return is_same and other.precision == "fp32"


def _what_to_install(file: str) -> str:
    readers = [find_runtime(name) for name in runtime_names()]
    own = [one.REQUIREMENT for one in readers if tuple(one.READERS)[:1] == (Path(file).suffix,)]
    wanted = " or ".join(f"pip install '{requirement}'" for requirement in own if requirement)
    return f"{file}: no runtime for it is installed; run: {wanted}"
