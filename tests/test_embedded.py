"""The detector that ships with the package: what it finds, in PyTorch and in int8, and what it carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fcos_edge
from fcos_edge import embedded
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.quantize.record import Record
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint
from fcos_edge.train.torch_runtime import open_checkpoint
from tests.oracles import iou

# Pictures of scikit-image, with a box drawn by hand: x1 y1 x2 y2.
BOXES = {
    "astronaut": ("person", (19, 15, 368, 512)),  # without the helmet under her arm, right of 368
    "cat": ("cat", (0, 0, 402, 300)),  # its head fills the picture up to the right ear
}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(embedded.CHECKPOINT)


@pytest.fixture(scope="module", params=["PyTorch", "onnxruntime", "openvino", "tflite"])
def detector(request: pytest.FixtureRequest, embedded_bundle: Path) -> Iterator[Detector]:
    """PyTorch runs the checkpoint, the others the bundle's int8 files; all with their own thresholds."""
    if request.param == "PyTorch":
        opened = open_checkpoint(embedded.CHECKPOINT, threads=1)
    else:
        opened = fcos_edge.load(embedded_bundle, runtime=request.param, precision="int8", threads=1)
    with opened as detector:
        yield detector


@pytest.mark.parametrize("picture", BOXES)
def test_embedded__finds_person_and_cat_and_nothing_else(picture: str, detector: Detector) -> None:
    from skimage import data

    load: Callable[[], np.ndarray] = getattr(data, picture)
    detections = detector(np.ascontiguousarray(load()[:, :, ::-1]))  # RGB to BGR
    name, box_xyxy = BOXES[picture]
    assert _names(detections, detector) == [name]
    x1, y1, x2, y2 = map(float, detections.boxes_xyxy[0])
    # Drawn by hand, and hair, an arm or the ear may count or not; the helmet too would be 0.9.
    assert iou((x1, y1, x2, y2), box_xyxy) >= 0.5


def _names(detections: Detections, detector: Detector) -> list[str]:
    return [detector.spec.classes[label] for label in detections.labels]


def test_checkpoint__fits_in_a_package(checkpoint: Checkpoint) -> None:
    assert embedded.CHECKPOINT.stat().st_size <= 8e6
    assert checkpoint.spec.name == embedded.NAME
    assert checkpoint.spec.input_hw == (320, 320)
    assert checkpoint.spec.classes == (
        "person", "bicycle", "car", "motorcycle", "bus", "cat", "dog", "horse",
    )  # fmt: skip


def test_checkpoint__has_a_threshold_for_each_class(checkpoint: Checkpoint) -> None:
    assert len(checkpoint.operating_thresholds) == len(checkpoint.spec.classes)
    # Below the candidate threshold one would have no effect.
    assert all(checkpoint.spec.candidate_threshold < t < 1 for t in checkpoint.operating_thresholds)


def test_checkpoint__record_is_of_256_pictures(checkpoint: Checkpoint) -> None:
    record = Record.from_dict(checkpoint.record)
    assert len(set(record.picture_sha256)) == 256
    assert record.float_nodes == ()  # every runtime can be held to the simulator's integers


def test_checkpoint__says_what_it_reaches_and_on_how_many_boxes(checkpoint: Checkpoint) -> None:
    figures = checkpoint.metrics["coco-person val"]
    assert set(figures["classes"]) == set(checkpoint.spec.classes)
    for row in figures["classes"].values():
        assert row["boxes"] > 0
        assert 0 <= row["AP"] <= row["AP50"] <= 1
    person = figures["classes"]["person"]
    # What it was made to reach.
    assert person["AP"] >= 0.15
    assert person["AP50"] >= 0.38


def test_checkpoint__says_where_it_comes_from(checkpoint: Checkpoint) -> None:
    wanted = {"licence_of_the_weights", "licences_of_the_pictures", "limits", "training_pictures"}
    assert wanted <= set(checkpoint.spec.provenance)


def test_model_card__stands_beside_it_and_has_the_same_figures(checkpoint: Checkpoint) -> None:
    card = embedded.CHECKPOINT.with_suffix(".md").read_text(encoding="utf-8")
    sets = [checkpoint.metrics[name]["classes"] for name in ("coco-person val", "voc-coco-mix val")]
    for name in checkpoint.spec.classes:
        cells = [
            cell
            for row in (classes[name] for classes in sets)
            for cell in (str(row["boxes"]), _short(row["AP"]), _short(row["AP50"]))
        ]
        assert f"| {name} | {' | '.join(cells)} |" in card


def _short(figure: float) -> str:
    """`.228`"""
    return f"{figure:.3f}".removeprefix("0")
