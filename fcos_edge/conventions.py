"""Whether what surrounds the network is as it was exported: conventions, post-processing, thresholds.

Needs no network. The conventions of a model file are compared with those that golden.json keeps, and the
post-processing is run on the stored raw outputs of PyTorch: it must give the stored detections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np

from fcos_edge.artifact import ArtifactInfo
from fcos_edge.budgets import PostprocessBudget
from fcos_edge.comparison import Check
from fcos_edge.detections import Detections
from fcos_edge.golden import REFERENCE, Golden
from fcos_edge.letterbox import Letterbox
from fcos_edge.matching import BoolArray, count_unmatched
from fcos_edge.postprocess import PostProcessor
from fcos_edge.raw_outputs import join_outputs
from fcos_edge.spec import ModelSpec, shown


def check_conventions(spec: ModelSpec, info: ArtifactInfo, file_name: str, golden: Golden) -> Check:
    """Every convention of a model file beside the exported one."""
    exported = golden.thresholds_of(file_name)
    words = changed_conventions(spec, info.operating_thresholds, golden.spec, exported, other="exported as")
    figure = "number of conventions that are not as exported"
    return Check("conventions", figure, len(words), 0, words="; ".join(words))


def changed_conventions(
    spec: ModelSpec,
    thresholds: Sequence[float],
    other_spec: ModelSpec,
    other_thresholds: Sequence[float],
    *,
    other: str,
) -> list[str]:
    """Conventions and operating thresholds that are not the other side's, in words; provenance is neither.

    other: what stands before the other's value, as in `nms_iou is 0.65, exported as 0.6`
    """
    words: list[str] = []
    for name in (field.name for field in fields(spec) if field.name != "provenance"):
        words += _differences(name, getattr(spec, name), getattr(other_spec, name), other)
    if len(thresholds) != len(other_thresholds):
        return words  # other classes, which is said
    # They are as many as the other side's classes, whatever this side calls its own.
    for name, one, another in zip(other_spec.classes, thresholds, other_thresholds, strict=True):
        words += _differences(f"the operating threshold of {name}", one, another, other)
    return words


def has_shapes_of(spec: ModelSpec, golden: Golden) -> bool:
    """Whether outputs under `spec` can be compared with the golden ones."""
    shapes, wanted = (
        (one.input_hw, one.output_names, one.level_hw, len(one.classes)) for one in (spec, golden.spec)
    )
    return shapes == wanted


def check_postprocessing(
    spec: ModelSpec,
    info: ArtifactInfo,
    file_name: str,
    golden: Golden,
    source_hws: Sequence[tuple[int, int]],
    budget: PostprocessBudget,
) -> Iterator[Check]:
    """PyTorch's stored outputs through this machine's post-processing, under the file's conventions.

    source_hws  sizes of the source pictures
    """
    postprocess = PostProcessor(spec)
    exported = golden.thresholds_of(file_name)
    for picture, source_hw in zip(golden.pictures, source_hws, strict=True):
        letterbox = Letterbox.from_spec(spec, source_hw)
        candidates = postprocess(join_outputs(picture.fp32, spec), [letterbox])[0]
        operating = picture.operating
        if exported != golden.operating_thresholds[REFERENCE]:
            operating = picture.candidates.filtered(exported)
        for what, found, reference in (
            ("candidates", candidates, picture.candidates),
            ("detections", picture.candidates.filtered(info.operating_thresholds), operating),
        ):
            same = same_pairs(reference, found, budget)
            odd = count_unmatched(same) + count_unmatched(same.T)
            figure = f"number of {what} of PyTorch's outputs that only this or only the exporting machine has"
            yield Check(picture.source_name, figure, odd, 0)


def same_pairs(reference: Detections, found: Detections, budget: PostprocessBudget) -> BoolArray:
    """(R, F): same class, each side of the box and the score as near as the budget says."""
    is_same = reference.labels[:, None] == found.labels[None]
    is_same &= np.abs(reference.scores[:, None] - found.scores[None]) <= np.float32(budget.score)
    distance = np.abs(reference.boxes_xyxy[:, None] - found.boxes_xyxy[None])
    return np.asarray(is_same & (distance <= np.float32(budget.pixels)).all(axis=2))


def _differences(name: str, found: object, wanted: object, other: str) -> Iterator[str]:
    if isinstance(found, tuple) and isinstance(wanted, tuple) and len(found) == len(wanted):
        for index, (one, another) in enumerate(zip(found, wanted, strict=True)):
            yield from _differences(f"{name}[{index}]", one, another, other)
    elif found != wanted:
        yield f"{name} is {shown(found)}, {other} {shown(wanted)}"
