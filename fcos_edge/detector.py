"""A detector that is ready to use: picture in, detections out."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.errors import UsageError
from fcos_edge.image import as_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.postprocess import PostProcessor
from fcos_edge.runtime import Runtime
from fcos_edge.spec import ModelSpec
from fcos_edge.threads import SHARED_CORES

if TYPE_CHECKING:
    import numpy.typing as npt


class Detector:
    """A runtime with its model's conventions around it.

        detections = detector(image_bgr)                  # operating thresholds, one per class
        detections = detector(image_bgr, threshold=0.2)   # another one, for all classes
        detections = detector.candidates(image_bgr)       # all above the candidate threshold

    Thresholds are compared with the final score. Below the spec's candidate threshold nothing exists,
    so a lower threshold gives the candidates.

    Threads may share a detector: their calls take turns. Detectors that run at the same time share the
    cores of the process: what would be more threads than cores takes turns, too.
    A detector owns its runtime: `close`, or leaving the `with` block, frees both.
    """

    def __init__(
        self, runtime: Runtime, spec: ModelSpec, operating_thresholds: Sequence[float], threads: int = 0
    ) -> None:
        """threads: how many the runtime computes with on this machine's cores; 0 where it uses none."""
        thresholds = tuple(map(_checked_threshold, operating_thresholds))
        if len(thresholds) != len(spec.classes):
            raise UsageError(
                f"found {len(thresholds)} operating thresholds, wanted {len(spec.classes)}, one per class;"
                " export the model again"
            )
        self.spec = spec
        self.operating_thresholds = thresholds
        self._thresholds = np.array(thresholds, np.float32)
        self._least_threshold = min(thresholds)
        self.runtime = runtime
        # What was loaded, on one line; `load` fills it in.
        self.description = ""
        self._postprocess = PostProcessor(spec)
        self._images = np.empty((1, *spec.input_hw, 3), np.uint8)
        self._letterbox: Letterbox | None = None
        self._is_closed = False
        self._threads = threads
        self._lock = threading.Lock()

    def __call__(self, image_bgr: npt.NDArray[np.uint8], threshold: float | None = None) -> Detections:
        """Detections whose final score reaches the threshold.

        image_bgr: (H, W, 3) uint8, BGR, any size
        threshold: 0..1, for all classes; None takes the operating threshold of each class
        """
        if threshold is not None:
            return self._detect(image_bgr, _checked_threshold(threshold))
        return self._detect(image_bgr, self._least_threshold).filtered(self._thresholds)

    def candidates(self, image_bgr: npt.NDArray[np.uint8]) -> Detections:
        """Everything above the spec's candidate threshold: what evaluation measures.

        image_bgr: (H, W, 3) uint8, BGR, any size
        """
        return self._detect(image_bgr, least_score=0.0)

    def _detect(self, image_bgr: npt.NDArray[np.uint8], least_score: float) -> Detections:
        image_bgr = as_image_bgr(image_bgr)
        # Pictures and outputs are in buffers that the next call uses again.
        with self._lock:
            if self._is_closed:
                raise UsageError("this detector is closed; load the model again")
            letterbox = self._letterbox_for((image_bgr.shape[0], image_bgr.shape[1]))
            letterbox.apply(image_bgr, out=self._images[0])
            with SHARED_CORES.taken(self._threads):
                raw = self.runtime.run(self._images)
            return self._postprocess(raw, [letterbox], least_score)[0]

    def close(self) -> None:
        """Free the runtime, when a call that is under way is done; a second call does nothing."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self.runtime.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _letterbox_for(self, source_hw: tuple[int, int]) -> Letterbox:
        if self._letterbox is None or self._letterbox.source_hw != source_hw:
            self._letterbox = Letterbox.from_spec(self.spec, source_hw)
        return self._letterbox


def _checked_threshold(threshold: float) -> float:
    is_number = isinstance(threshold, int | float | np.integer | np.floating)
    if not is_number or isinstance(threshold, bool) or math.isnan(threshold) or not 0 <= threshold <= 1:
        raise UsageError(f"threshold: found {threshold!r}, wanted a number from 0 to 1; 0.3 is a usual one")
    return float(threshold)
