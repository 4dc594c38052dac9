"""Verify a bundle on this machine: from its golden source pictures to outputs and detections.

Needs neither torch nor a data set. Every artifact runs through the device's own letterbox, runtime wrapper
and post-processing, and is compared with what PyTorch and the integer simulator said at export. What is
allowed stands in `budgets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fcos_edge.budgets import BUDGETS, FloatBudget
from fcos_edge.bundle import Manifest, ManifestArtifact, check_files, read_manifest
from fcos_edge.cpu import detect_cpu
from fcos_edge.detections import Detections
from fcos_edge.errors import RuntimeUnavailableError, UsageError
from fcos_edge.golden import FOLDER, Golden, GoldenPicture, read_golden
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.loading import LoadedArtifact, open_artifact
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import (
    Branch,
    FloatArray,
    RawOutputs,
    find_runtime,
    installed_package,
    runtime_names,
)
from fcos_edge.spec import BRANCHES, ModelSpec

DEFAULT_RUNTIME = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tflite"}


@dataclass
class ArtifactReport:
    """What was measured of one artifact in one runtime; `failures` is empty where it passed."""

    file: str
    runtime: str
    precision: str
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "passed": not self.failures}


def verify_bundle(folder: Path, runtime: str | None = None) -> list[ArtifactReport]:
    """Verify every artifact that a runtime installed here reads.

    runtime: only the artifacts of this runtime's own format

    Raises ArtifactError for a damaged bundle, and an error with advice where no runtime is installed.
    """
    manifest = read_manifest(folder)
    if runtime is not None:
        find_runtime(runtime)
    reports = list(_verify(folder, manifest, runtime))
    if not reports:
        raise RuntimeUnavailableError(
            f"{folder}: no installed runtime reads this bundle's artifacts;"
            ' pip install "fcos-edge[onnx]", or [openvino] or [tflite]'
        )
    return reports


def _verify(folder: Path, manifest: Manifest, runtime: str | None) -> Iterator[ArtifactReport]:
    golden = read_golden(folder, manifest.spec)
    for artifact in manifest.artifacts:
        name = DEFAULT_RUNTIME[artifact.format]
        if name not in runtime_names() or runtime not in (None, name):
            continue
        if runtime is None and installed_package(find_runtime(name)) is None:
            continue
        yield verify_artifact(folder, artifact, name, golden)


def verify_artifact(
    folder: Path, artifact: ManifestArtifact, runtime_name: str, golden: Golden
) -> ArtifactReport:
    """Run the golden pictures through one artifact and judge it by the budgets."""
    loaded = open_artifact(check_files(folder, artifact), runtime_name)
    report = ArtifactReport(artifact.name, runtime_name, artifact.precision)
    try:
        runs = [_run(folder, loaded, picture, report) for picture in golden.pictures]
    finally:
        loaded.close()
    if artifact.precision == "int8":
        _judge_int8(loaded, golden, runs, report)
    else:
        budget = BUDGETS.fp32 if artifact.precision == "fp32" else BUDGETS.fp16
        _judge_float(loaded, golden, runs, budget, report)
    return report


@dataclass(frozen=True, eq=False)
class _Run:
    outputs: dict[str, FloatArray]  # (h, w, C), dequantized
    detections: Detections


def _run(folder: Path, loaded: LoadedArtifact, picture: GoldenPicture, report: ArtifactReport) -> _Run:
    image_bgr = read_image_bgr(folder / FOLDER / picture.source_name)
    letterbox = Letterbox.from_spec(loaded.spec, (image_bgr.shape[0], image_bgr.shape[1]))
    images = letterbox.apply(image_bgr)[None]
    off = int(np.abs(images.astype(np.int16) - picture.images).max())
    if off > BUDGETS.letterbox:
        report.failures.append(f"{picture.source_name}: letterboxed input is off by {off} grey levels")
    # The stored input, so that a grey level of the resize is not taken for the network's error.
    raw = loaded.runtime.run(picture.images)
    detections = PostProcessor(loaded.spec)(raw, [letterbox])[0]
    return _Run(split_outputs(raw, loaded.spec), detections)


def split_outputs(raw: RawOutputs, spec: ModelSpec) -> dict[str, FloatArray]:
    """The first picture's outputs by name, (h, w, C) float32, dequantized."""
    outputs: dict[str, FloatArray] = {}
    start = 0
    for index, (level, (height, width)) in enumerate(zip(spec.level_names, spec.level_hw, strict=True)):
        stop = start + height * width
        for name, branch in zip(BRANCHES, raw, strict=True):
            values = _real(branch, index, start, stop)
            outputs[f"{name}_{level}"] = values.reshape(height, width, -1)
        start = stop
    return outputs


def _real(branch: Branch, level: int, start: int, stop: int) -> FloatArray:
    values = branch.values[0, start:stop]
    if not branch.quantization:
        return np.array(values, np.float32)
    scale, zero_point = branch.quantization[level]
    return np.asarray((values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale), np.float32)


def _judge_float(
    loaded: LoadedArtifact, golden: Golden, runs: list[_Run], budget: FloatBudget, report: ArtifactReport
) -> None:
    worst, worst_name = 0.0, ""
    for name in loaded.spec.output_names:
        largest = max(float(np.abs(picture.fp32[name]).max()) for picture in golden.pictures)
        off = max(
            float(np.abs(run.outputs[name] - picture.fp32[name]).max())
            for run, picture in zip(runs, golden.pictures, strict=True)
        )
        relative = off / max(largest, 1e-12)
        if not relative <= budget.max_difference:
            report.failures.append(f"{name}: differs by {relative:.2g} of its range, {budget.max_difference:g} allowed")
        if not relative <= worst:
            worst, worst_name = relative, name
    found, wanted = _count_partners(
        loaded, golden, runs, budget.threshold_margin, budget.iou, lambda own, other: abs(own - other) <= budget.score
    )
    if found < wanted:
        report.failures.append(f"detections: {found} of {wanted} found again")
    report.figures.update(largest_difference=worst, worst_output=worst_name, matched=found, detections=wanted)


def _judge_int8(loaded: LoadedArtifact, golden: Golden, runs: list[_Run], report: ArtifactReport) -> None:
    budget = BUDGETS.int8
    infos = {info.name: info for info in golden.outputs}
    if not infos:
        raise UsageError("the golden pictures hold no integers; export with --int8 again")
    differing, logit_sums, logit_count = 0, 0.0, 0
    for run, picture in zip(runs, golden.pictures, strict=True):
        for name, value in run.outputs.items():
            scale, zero_point = infos[name].scale, infos[name].zero_point
            assert scale is not None
            assert zero_point is not None
            wanted = (picture.int8[name].astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
            differing += int(np.count_nonzero(value != wanted))
            if name.startswith("logits"):
                logit_sums += float(np.abs(value - wanted).sum())
                logit_count += wanted.size
    mean_off = logit_sums / logit_count
    steps = [info.scale for info in golden.outputs if info.scale and info.name.startswith("logits")]
    floor = max(golden.one_bit_floor, budget.least_floor * float(np.mean(steps)))
    cpu = detect_cpu()
    is_exact = bool(cpu.has_vnni) and golden.is_integer and _is_exact(loaded.runtime_name)
    if is_exact and differing:
        report.failures.append(f"{differing} integers differ from the simulator's, none may on {cpu.description}")
    elif not mean_off <= budget.floors[loaded.runtime_name] * floor:
        cause = "; this CPU's int8 products saturate" if cpu.saturates_int8 else ""
        report.failures.append(
            f"logits: mean difference to the simulator {mean_off:.3g},"
            f" {budget.floors[loaded.runtime_name]:g} floors of {floor:.3g} allowed{cause}"
        )
    for branch in BRANCHES:
        ours, theirs = (_flat(maps, branch) for maps in (
            [run.outputs for run in runs], [picture.fp32 for picture in golden.pictures]
        ))  # fmt: skip
        mean = float(np.abs(ours - theirs).mean() / max(float(theirs.std()), 1e-12))
        correlation = float(np.corrcoef(ours, theirs)[0, 1])
        report.figures[f"{branch}_correlation"] = correlation
        report.figures[f"{branch}_mean_difference"] = mean
        if not (mean <= budget.mean_difference and correlation >= budget.correlation):
            report.failures.append(
                f"{branch}: mean difference {mean:.3g} deviations to fp32 ({budget.mean_difference:g} allowed),"
                f" correlation {correlation:.3f} ({budget.correlation:g} wanted)"
            )
    found, wanted = _count_partners(
        loaded, golden, runs, budget.threshold_margin, budget.partner_iou,
        lambda own, other: other >= budget.partner_score * own,
    )  # fmt: skip
    if found < budget.matched * wanted:
        report.failures.append(f"detections: {found} of {wanted} found again")
    report.figures.update(
        differing_integers=differing, mean_logit_difference=mean_off, one_bit_floor=golden.one_bit_floor,
        is_exact=is_exact, matched=found, detections=wanted,
    )  # fmt: skip


def _is_exact(runtime_name: str) -> bool:
    """tflite-runtime's int8 kernels round otherwise than ai-edge-litert's."""
    return installed_package(find_runtime(runtime_name)) in ("onnxruntime", "ai_edge_litert")


def _flat(maps: list[Any], branch: str) -> FloatArray:
    return np.concatenate([
        value.ravel() for outputs in maps for name, value in outputs.items() if name.startswith(f"{branch}_")
    ])  # fmt: skip


def _count_partners(
    loaded: LoadedArtifact, golden: Golden, runs: list[_Run], margin: float, least_iou: float, is_near: Any
) -> tuple[int, int]:
    """(found, wanted): reference detections above threshold + margin that have a partner, one to one."""
    thresholds = np.asarray(loaded.info.operating_thresholds, np.float32)
    found = wanted = 0
    for run, picture in zip(runs, golden.pictures, strict=True):
        theirs, ours = picture.candidates, run.detections
        free = np.ones(len(ours), bool)
        for box, score, label in zip(theirs.boxes_xyxy, theirs.scores, theirs.labels, strict=True):
            if score < thresholds[label] + margin:
                continue
            wanted += 1
            overlap = np.where(free & (ours.labels == label), _iou(box, ours.boxes_xyxy), -1.0)
            best = int(overlap.argmax()) if len(ours) else -1
            if best >= 0 and overlap[best] >= least_iou and is_near(float(score), float(ours.scores[best])):
                found += 1
                free[best] = False
    return found, wanted


def _iou(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """One box (4,) with many (N, 4) -> (N,)."""
    size = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = size.clip(min=0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / np.maximum(area - shared, 1e-6), np.float32)
