"""What a record costs: points of average precision, measured on labelled pictures through the simulator.

A point is a hundredth of COCO's AP of 0..1. The reference is the network itself, in PyTorch.
"""

from __future__ import annotations

from dataclasses import replace

from fcos_edge.console import note
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import UsageError
from fcos_edge.parity.accuracy import compare_accuracy, measure_accuracy
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulated_runtime import SimulatedRuntime
from fcos_edge.runtime import Runtime
from fcos_edge.sources import spread
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.train.evaluation.evaluate import LabelledSplit, find_candidates
from fcos_edge.train.torch_runtime import TorchRuntime

MOST_PICTURES = 500  # 75 s a record on one core


class AccuracyDrop:
    """record -> points of AP lost; less than 0 where it is better than float.

    metric      a class's name for its AP; "" for the mean over classes
    reference   points of the float network

    Raises UsageError where the metric is no class, or has no box to find.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        graph: Graph,
        labelled: LabelledSplit,
        metric: str = "",
        pictures: int = MOST_PICTURES,
    ) -> None:
        classes = checkpoint.spec.classes
        if metric and metric not in classes:
            raise UsageError(f"--metric {metric}: no class; name one of {', '.join(classes)}")
        chosen = spread(labelled.pictures, pictures)
        self._labelled = replace(labelled, pictures=tuple(chosen))
        self._checkpoint = checkpoint
        self._graph = graph
        self._metric = metric
        note(f"measuring on {len(chosen)} of {len(labelled.pictures)} pictures of {labelled.name}")
        self._reference = self._find(TorchRuntime(checkpoint.network, checkpoint.spec), "PyTorch")
        self.reference = self._points(self._reference)
        if self.reference < 0:
            what = metric or "any class"
            raise UsageError(f"--max-drop: {labelled.name} has no box of {what}; measure on other pictures")

    def __call__(self, record: Record) -> float:
        return self.reference - self._points(self._simulated(record))

    def interval(self, record: Record) -> tuple[float, float] | None:
        """Where the drop lies in 95 % of draws of as many pictures from these; None where none has a box."""
        thresholds = self._checkpoint.operating_thresholds
        before, after = (
            measure_accuracy(self._labelled, found, thresholds)
            for found in (self._reference, self._simulated(record))
        )
        difference = compare_accuracy(before, after)
        one = difference.figures["AP"]
        if self._metric:
            (one,) = (row.ap for row in difference.classes if row.name == self._metric)
        if one is None or one.interval_95 is None:
            return None
        low, high = one.interval_95
        return -100 * high, -100 * low

    def _simulated(self, record: Record) -> list[Detections]:
        return self._find(SimulatedRuntime(self._graph, record, self._checkpoint.spec), "the simulator")

    def _find(self, runtime: Runtime, what: str) -> list[Detections]:
        with Detector(runtime, self._checkpoint.spec, self._checkpoint.operating_thresholds) as detector:
            return find_candidates(detector, self._labelled.pictures, f"measuring {what}")

    def _points(self, found: list[Detections]) -> float:
        evaluation = self._labelled.compare(found)
        ap = evaluation.figures["AP"]
        if self._metric:
            (ap,) = (row.ap for row in evaluation.classes if row.name == self._metric)
        return 100 * ap
