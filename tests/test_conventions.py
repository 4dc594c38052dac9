"""Conventions, thresholds and post-processing beside what was exported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fcos_edge.artifact import ArtifactInfo, OutputInfo
from fcos_edge.budgets import BUDGETS
from fcos_edge.conventions import check_conventions, check_postprocessing, has_shapes_of
from fcos_edge.golden import Golden
from fcos_edge.spec import ModelSpec
from tests.runtimes.models import SPEC, THRESHOLDS
from tests.small_golden import small_golden

GOLDEN = small_golden()
INFO = ArtifactInfo("onnx", "fp32", tuple(map(OutputInfo, SPEC.output_names)), THRESHOLDS)
FILE = "model.fp32.onnx"


def said(spec: ModelSpec = SPEC, info: ArtifactInfo = INFO, golden: Golden = GOLDEN) -> str:
    check = check_conventions(spec, info, FILE, golden)
    assert check.passed == (check.words == "")
    return check.words


def odd(spec: ModelSpec = SPEC, info: ArtifactInfo = INFO, golden: Golden = GOLDEN) -> list[str]:
    """What fails in post-processing: candidates, detections or both."""
    source_hws = [SPEC.input_hw] * len(golden.pictures)
    checks = check_postprocessing(spec, info, FILE, golden, source_hws, BUDGETS.postprocess)
    return sorted({check.figure.split()[2] for check in checks if not check.passed})


def test_conventions__as_exported_pass() -> None:
    assert said(replace(SPEC, provenance={"checkpoint": "another"})) == ""
    assert odd() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nms_iou": 0.65}, "nms_iou is 0.65, exported as 0.6"),
        ({"resize": "stretch"}, "resize is 'stretch', exported as 'letterbox'"),
        ({"pad_color_rgb": (114, 0, 114)}, "pad_color_rgb[1] is 0, exported as 114"),
        ({"nms_per_class": False}, "nms_per_class is False, exported as True"),
        ({"classes": ("ant", "bee", "dog", "cat")},
         "classes[2] is 'dog', exported as 'cat'; classes[3] is 'cat', exported as 'dog'"),
        ({"classes": ("ant", "bee")}, "classes is ('ant', 'bee'), exported as ('ant', 'bee', 'cat', 'dog')"),
        ({"score": "class", "max_detections": 7},
         "score is 'class', exported as 'sqrt'; max_detections is 7, exported as 100"),
    ],
)  # fmt: skip
def test_conventions__what_differs_is_named(changes: dict[str, Any], words: str) -> None:
    assert said(replace(SPEC, **changes)) == words


def test_conventions__thresholds_are_those_of_the_file() -> None:
    other = (0.5, *THRESHOLDS[1:])
    changed = replace(INFO, operating_thresholds=other)
    assert (
        said(info=changed)
        == f"the operating threshold of {SPEC.classes[0]} is 0.5, exported as {THRESHOLDS[0]}"
    )
    # Unless this file was exported with thresholds of its own.
    own = replace(GOLDEN, operating_thresholds={**GOLDEN.operating_thresholds, FILE: other})
    assert said(info=changed, golden=own) == ""
    assert odd(info=changed, golden=own) == []
    assert (
        said(golden=own)
        == f"the operating threshold of {SPEC.classes[0]} is {THRESHOLDS[0]}, exported as 0.5"
    )


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({"location_offset": 0.0}, True),
        ({"distance": "exp"}, True),
        ({"distance_unit": "pixel"}, True),
        ({"score": "class"}, True),
        ({"score": "product"}, True),
        ({"candidate_threshold": 0.3}, True),
        ({"max_detections": 2}, True),
        ({"strides": (16, 32)}, False),  # other shapes: has_shapes_of
        ({"pre_nms_topk_per_level": 2}, True),
        ({"nms_iou": 0.61}, False),  # no two boxes here overlap
    ],
)
def test_postprocessing__other_conventions_give_other_candidates(
    changes: dict[str, Any], fails: bool
) -> None:
    spec = replace(SPEC, **changes)
    if has_shapes_of(spec, GOLDEN):
        assert odd(spec) == (["candidates"] if fails else [])


def test_postprocessing__another_threshold_gives_other_detections() -> None:
    # One detection of either picture is just above its threshold of 0.3.
    assert odd(info=replace(INFO, operating_thresholds=(0.35,) * 4)) == ["detections"]
    # Lower ones change nothing where nothing lies between.
    assert odd(info=replace(INFO, operating_thresholds=tuple(t - 0.001 for t in THRESHOLDS))) == []


@pytest.mark.parametrize(
    ("pixels", "score", "fails"),
    [
        (0.005, 0, False),  # float32 in another order
        (0.02, 0, True),
        (0, 5e-6, False),
        (0, 2e-5, True),
    ],
)
def test_postprocessing__as_near_as_float32_is(pixels: float, score: float, fails: bool) -> None:
    def moved(found: Any) -> Any:
        boxes = found.boxes_xyxy + np.float32(pixels)
        return replace(found, boxes_xyxy=boxes, scores=found.scores - np.float32(score))

    pictures = tuple(
        replace(picture, candidates=moved(picture.candidates), operating=moved(picture.operating))
        for picture in GOLDEN.pictures
    )
    assert odd(golden=replace(GOLDEN, pictures=pictures)) == (["candidates"] if fails else [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"nms_iou": 0.65}, True),
        ({"classes": ("ant", "bee", "cat", "emu")}, True),
        ({"classes": ("ant", "bee", "cat")}, False),
        ({"input_hw": (96, 64)}, False),
        ({"strides": (16, 32)}, False),
    ],
)
def test_shapes(changes: dict[str, Any], expected: bool) -> None:
    assert has_shapes_of(replace(SPEC, **changes), GOLDEN) is expected
