"""The detector around a runtime that answers with recorded outputs."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
import pytest

from fcos_edge.detector import Detector
from fcos_edge.errors import ImageError, UsageError
from fcos_edge.letterbox import Letterbox
from fcos_edge.runtime import Branch, RawOutputs, UInt8Array
from tests.small_specs import SMALL_SPEC

L = SMALL_SPEC.num_locations
OPERATING = (0.5, 0.8, 0.2)
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)


class RecordedRuntime:
    """Answers every picture with three objects: classes 0, 1, 2 of score 0.7, 0.6, 0.3."""

    def __init__(self) -> None:
        self.seen: list[UInt8Array] = []
        self.closed = 0
        logits = np.full((1, L, 3), -20, np.float32)
        for label, score in enumerate((0.7, 0.6, 0.3)):
            logits[0, label * 2, label] = math.log(score**2 / (1 - score**2))
        centerness = np.full((1, L), 30, np.float32)
        self._raw = RawOutputs(Branch(logits), Branch(np.ones((1, L, 4), np.float32)), Branch(centerness))

    def run(self, images: UInt8Array) -> RawOutputs:
        self.seen.append(images.copy())
        return self._raw

    def close(self) -> None:
        self.closed += 1


class SlowRuntime(RecordedRuntime):
    """Answers with the darkest picture's object alone, and takes its time to look."""

    def run(self, images: UInt8Array) -> RawOutputs:
        raw = super().run(images)
        time.sleep(0.005)
        # Read late: another call's picture in the buffer would be seen.
        raw.logits.values[...] = -20
        raw.logits.values[0, 0, int(images[0, 0, 0, 0])] = 5
        return raw


def make() -> tuple[Detector, RecordedRuntime]:
    runtime = RecordedRuntime()
    return Detector(runtime, SMALL_SPEC, OPERATING), runtime


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [
        (None, [0, 2]),  # 0.7 >= 0.5, 0.6 < 0.8, 0.3 >= 0.2
        (0.55, [0, 1]),
        (0.0, [0, 1, 2]),  # no less than the candidates
        (1.0, []),
        (1, []),
        (np.float32(0.55), [0, 1]),
    ],
)
def test_call__takes_the_operating_thresholds_or_one_for_all(threshold: Any, labels: list[int]) -> None:
    detector, _ = make()
    assert detector(IMAGE, threshold=threshold).labels.tolist() == labels


def test_candidates__are_all_above_the_candidate_threshold() -> None:
    detector, _ = make()
    assert detector.candidates(IMAGE).labels.tolist() == [0, 1, 2]


def test_run__gets_the_letterboxed_picture_and_boxes_come_back_in_source_pixels() -> None:
    detector, runtime = make()
    found = detector(IMAGE)
    letterbox = Letterbox.from_spec(SMALL_SPEC, (48, 80))
    np.testing.assert_array_equal(runtime.seen[0], letterbox.apply(IMAGE)[None])
    # (4, 4) with one stride around it, clipped at 0: 12 input pixels, 1.5 source pixels each.
    np.testing.assert_allclose(found.boxes_xyxy[0], [0, 0, 12 * 80 / 53, 18], rtol=1e-6)  # 53: 53.3 rounded


def test_run__pictures_of_changing_size_leave_nothing_behind() -> None:
    detector, runtime = make()
    sizes = [(48, 80), (10, 200), (48, 80), (32, 64), (200, 10)]
    for size in sizes:
        detector(np.full((*size, 3), 200, np.uint8))
    for seen, size in zip(runtime.seen, sizes, strict=True):
        wanted = Letterbox.from_spec(SMALL_SPEC, size).apply(np.full((*size, 3), 200, np.uint8))
        np.testing.assert_array_equal(seen[0], wanted)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf, "0.5", True, [0.5], np.array([0.5])])
def test_threshold__out_of_range(threshold: Any) -> None:
    detector, runtime = make()
    with pytest.raises(UsageError, match="wanted a number from 0 to 1"):
        detector(IMAGE, threshold=threshold)
    assert runtime.seen == []
    with pytest.raises(UsageError, match="wanted a number from 0 to 1"):
        Detector(runtime, SMALL_SPEC, [0.5, threshold, 0.5])


@pytest.mark.parametrize("thresholds", [(), (0.5,), (0.5,) * 4])
def test_operating_thresholds__one_per_class(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=f"found {len(thresholds)} operating thresholds, wanted 3"):
        Detector(RecordedRuntime(), SMALL_SPEC, thresholds)


@pytest.mark.parametrize("image", [None, IMAGE[:, :, 0], IMAGE / 255, "street.jpg"])
def test_image__that_is_none(image: Any) -> None:
    detector, runtime = make()
    with pytest.raises(ImageError):
        detector(image)
    assert runtime.seen == []


def test_threads__that_share_a_detector_get_their_own_results() -> None:
    detector = Detector(SlowRuntime(), SMALL_SPEC, OPERATING, threads=1)
    found: dict[int, list[int]] = {}

    def work(label: int) -> None:
        image_bgr = np.full((32, 64, 3), label, np.uint8)
        found[label] = [one for _ in range(10) for one in detector(image_bgr).labels.tolist()]

    workers = [threading.Thread(target=work, args=(label,)) for label in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert found == {label: [label] * 10 for label in range(3)}


def test_close__frees_the_runtime_once_and_ends_all_calls() -> None:
    with make()[0] as detector:
        detector(IMAGE)
    detector.close()
    assert isinstance(detector.runtime, RecordedRuntime)
    assert detector.runtime.closed == 1
    for call in (detector, detector.candidates):
        with pytest.raises(UsageError, match="is closed; load the model again"):
            call(IMAGE)


def test_with__closes_after_an_error() -> None:
    detector, runtime = make()
    with pytest.raises(ImageError), detector:
        detector(IMAGE[:0])
    assert runtime.closed == 1
