"""The whole way of `parity`: from a bundle and a data set to a recording or a report.

measure   bundle + data -> every artifact and the reference run -> report
collect   bundle + data -> every artifact runs -> recording, for a report elsewhere
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcos_edge.bundle import MANIFEST_NAME, SENSITIVITY_NAME, Manifest, read_manifest, sha256_of
from fcos_edge.calibration_pictures import count_calibrated_on
from fcos_edge.conditions import measure_conditions
from fcos_edge.console import note
from fcos_edge.errors import RuntimeUnavailableError, UsageError
from fcos_edge.parity.baseline import check_same_data, judged_against, read_baseline
from fcos_edge.parity.limits import Limits
from fcos_edge.parity.live import Options
from fcos_edge.parity.recording import (
    PictureId,
    Recording,
    VariantRun,
    read_recording,
    write_recording,
)
from fcos_edge.parity.reference import Reference, find_reference
from fcos_edge.parity.report import ParityReport, build_artifacts, spec_digest
from fcos_edge.parity.running import AllRuns, Compared, run_variants
from fcos_edge.parity.truth import check_classes, check_pictures, identify, read_truth
from fcos_edge.sensitivity_table import read_table
from fcos_edge.threads import checked_threads
from fcos_edge.workers.process import TIMEOUT_S, open_interpreters
from fcos_edge.workers.variants import Variant, chosen_variants, plan_variants, this_interpreter
from fcos_edge.writing import check_new_file

if TYPE_CHECKING:
    from fcos_edge.train.evaluation.evaluate import LabelledSplit


@dataclass(frozen=True)
class Request:
    """What is asked for; the options of the command line.

    classes     measured; None: all of the model's
    is_strict   classes in another order are refused
    checkpoint  that the bundle was exported from
    precisions  of the files that run; None: all
    pythons     (package, interpreter)
    draws       of the pictures, for intervals
    command     the command line; "" where there is none
    """

    bundle: Path
    data: Path
    split: str = "val"
    classes: tuple[str, ...] | None = None
    is_strict: bool = False
    checkpoint: Path | None = None
    runtime: str | None = None
    precisions: tuple[str, ...] | None = None
    pythons: tuple[tuple[str, Path], ...] = ()
    has_onnx_in_openvino: bool = False
    threads: int | None = None
    timeout_s: float = TIMEOUT_S
    draws: int = 1000
    limits: Limits = field(default_factory=Limits)
    command: str = ""


def measure(request: Request, recordings: Sequence[Path] = (), baseline: Path | None = None) -> ParityReport:
    """Run, or read what was collected, and compare.

    recordings  what `collect` wrote; then only the reference runs here
    baseline    an earlier report

    Raises FcosEdgeError for what is wrong with bundle, data, files or environment.
    """
    manifest = read_manifest(request.bundle)
    classes = _chosen(request.classes, manifest.spec.classes)
    before = None if baseline is None else read_baseline(baseline)
    read = _read_recordings(recordings)
    check_classes(request.data, request.split, classes, request.is_strict, note)
    labelled = read_truth(request.data, request.split, classes)
    identities = identify(labelled.pictures)
    threads = checked_threads(request.threads)
    calibrated_on = count_calibrated_on(request.bundle, [picture.path for picture in labelled.pictures])
    data = {**_data_facts(labelled, identities), "calibrated_on": calibrated_on}
    if before is not None:
        check_same_data(before, data)
    for path, recording in zip(recordings, read, strict=True):
        _check_recording(path, recording, request.bundle, identities)

    options = Options(threads, request.timeout_s)
    conditions: dict[str, Any] = {"here": measure_conditions(threads)}
    skipped: tuple[str, ...] = ()
    if read:
        reference, runs, why = _reference_of_files(request, manifest, labelled, read, options)
        conditions |= {one.machine: dict(one.conditions) for one in read}
    else:
        planned, skipped = _plan(request, manifest)
        variants = chosen_variants(planned, request.precisions)
        chosen = find_reference(request.bundle, manifest, planned, request.checkpoint)
        note(f"reference: {chosen.why}")
        paths = [picture.path for picture in labelled.pictures]
        runs = run_variants(request.bundle, manifest, variants, chosen, paths, options)
        assert runs.reference is not None
        reference, why = runs.reference, chosen.why
    accuracy, noise, artifacts = build_artifacts(runs, reference, labelled, request.limits, request.draws)
    against = None
    if before is not None:
        artifacts, against = judged_against(before, artifacts, request.limits)
    names = tuple(picture.path.name for picture in labelled.pictures)
    sizes_hw = tuple(picture.size_hw for picture in labelled.pictures)
    table_path = request.bundle / SENSITIVITY_NAME
    sensitivity = read_table(table_path) if table_path.is_file() else None
    return ParityReport(
        bundle=_bundle_facts(request.bundle, manifest), data=data, reference=reference, why=why,
        reference_accuracy=accuracy, noise=noise, artifacts=artifacts, pairs=runs.pairs, skipped=skipped,
        limits=request.limits, conditions=conditions, baseline=against,
        picture_names=names, picture_sizes_hw=sizes_hw, sensitivity=sensitivity,
        command=request.command,
    )  # fmt: skip


def collect(request: Request, out: Path) -> Recording:
    """Run every artifact and write what each found and took to `out`. Needs no evaluation packages."""
    from fcos_edge.train.data.formats import read_pictures

    check_new_file(out, "--collect")
    manifest = read_manifest(request.bundle)
    classes = _chosen(request.classes, manifest.spec.classes)
    variants = chosen_variants(_plan(request, manifest)[0], request.precisions)
    check_classes(request.data, request.split, classes, request.is_strict, note)
    pictures = read_pictures(request.data, request.split, classes)
    check_pictures(request.data, pictures)
    identities = identify(pictures)
    threads = checked_threads(request.threads)
    conditions = measure_conditions(threads)
    paths = [picture.path for picture in pictures]
    options = Options(threads, request.timeout_s)
    runs = run_variants(request.bundle, manifest, variants, None, paths, options)
    recording = Recording(
        _manifest_digest(request.bundle), f"{request.data.resolve().name}/{request.split}",
        identities, conditions, tuple(compared.run for compared in runs.artifacts),
    )  # fmt: skip
    write_recording(out, recording)
    return recording


def _plan(request: Request, manifest: Manifest) -> tuple[tuple[Variant, ...], tuple[str, ...]]:
    variants, skipped = plan_variants(
        manifest, open_interpreters(request.pythons), runtime=request.runtime,
        has_onnx_in_openvino=request.has_onnx_in_openvino,
    )  # fmt: skip
    return variants, skipped if request.runtime is None else ()


def _read_recordings(paths: Sequence[Path]) -> list[Recording]:
    """Each with a name of its own, by which its artifacts are told from others'."""
    names = [path.name for path in paths]
    machines = [str(path) if names.count(path.name) > 1 else path.name for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"--from {' '.join(map(str, paths))}: one file is named twice; name each once")
    return [read_recording(path, machine) for path, machine in zip(paths, machines, strict=True)]


def _reference_of_files(
    request: Request,
    manifest: Manifest,
    labelled: LabelledSplit,
    recordings: Sequence[Recording],
    options: Options,
) -> tuple[VariantRun, AllRuns, str]:
    """The reference, run here where that is possible, else an fp32 artifact that was collected."""
    collected = tuple(run for recording in recordings for run in recording.runs)
    artifacts = tuple(Compared(run) for run in collected)
    reference = _local_reference(request, manifest)
    if reference is not None:
        note(f"reference: {reference.why}")
        paths = [picture.path for picture in labelled.pictures]
        untimed = replace(options, is_timed=False, is_verified=False)
        runs = run_variants(request.bundle, manifest, (), reference, paths, untimed)
        assert runs.reference is not None
        return runs.reference, replace(runs, artifacts=artifacts), reference.why
    well = [run for run in collected if run.variant.precision == "fp32" and not run.failure]
    if not well:
        raise UsageError(
            "nothing to compare with: no fp32 artifact was collected, and none runs here; collect one, or"
            " install a runtime"
        )
    why = f"{well[0].name}, since nothing runs here"
    note(f"reference: {why}")
    return well[0], AllRuns(None, None, artifacts, ()), why


def _local_reference(request: Request, manifest: Manifest) -> Reference | None:
    try:
        variants, _ = plan_variants(manifest, [this_interpreter()])
    except RuntimeUnavailableError:
        variants = ()
    try:
        return find_reference(request.bundle, manifest, variants, request.checkpoint)
    except UsageError:
        if request.checkpoint is not None:
            raise
        return None


def _check_recording(path: Path, recording: Recording, bundle: Path, identities: Sequence[PictureId]) -> None:
    if recording.bundle != _manifest_digest(bundle):
        raise UsageError(f"--from {path}: was collected with another bundle than {bundle}; give that one")
    if recording.pictures != tuple(identities):
        raise UsageError(
            f"--from {path}: was collected on other pictures ({recording.data}, {len(recording.pictures)});"
            " give the same --data and --split"
        )


def _chosen(names: Sequence[str] | None, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the model's classes that are asked for, in its order."""
    for name in names or ():
        if name not in classes:
            raise UsageError(f"--classes: {name!r} is none of the model's: {', '.join(classes)}")
    return classes if names is None else tuple(name for name in classes if name in names)


def _data_facts(labelled: LabelledSplit, identities: Sequence[PictureId]) -> dict[str, Any]:
    digest = hashlib.sha256("".join(picture.sha256 for picture in identities).encode()).hexdigest()
    boxes = sum(int((picture.labels >= 0).sum()) for picture in labelled.pictures)
    return {
        "name": labelled.name, "pictures": len(identities), "pictures_sha256": digest, "boxes": boxes,
        "classes": list(labelled.classes),
    }  # fmt: skip


def _bundle_facts(bundle: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.spec.name, "manifest_sha256": _manifest_digest(bundle),
        "spec_sha256": spec_digest(manifest.spec), "classes": list(manifest.spec.classes),
        "input_hw": list(manifest.spec.input_hw),
        "checkpoint_sha256": manifest.spec.provenance.get("checkpoint_sha256"),
    }  # fmt: skip


def _manifest_digest(bundle: Path) -> str:
    return sha256_of(bundle / MANIFEST_NAME)
