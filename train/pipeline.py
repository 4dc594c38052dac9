"""One training run, from data sets to a checkpoint: check, hold out, train, measure, choose thresholds.

Held-out pictures never train. They say how good the detector is, and where each class's operating
threshold lies; the data set's own `val` stays untouched for reporting.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from fcos_edge import __version__
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.draw import draw_detections
from fcos_edge.image import read_image_bgr
from fcos_edge.runtime import UInt8Array
from fcos_edge.sources import spread
from fcos_edge.spec import ModelSpec
from fcos_edge.train.assign import find_method
from fcos_edge.train.checkpoint import Checkpoint, as_stored, load_checkpoint
from fcos_edge.train.data.check import Rule, apply, check_data
from fcos_edge.train.data.dataset import LabelledPicture, hold_out
from fcos_edge.train.data.formats import find_format, read_pictures
from fcos_edge.train.distill import make_teacher
from fcos_edge.train.evaluation.coco_figures import Evaluation, compare_with_pictures
from fcos_edge.train.evaluation.sharded import sharded_candidates
from fcos_edge.train.evaluation.thresholds import best_f1_thresholds
from fcos_edge.train.loop import train
from fcos_edge.train.model import Fcos
from fcos_edge.train.processes import Processes
from fcos_edge.train.run import LICENSED, NO_WEIGHTS, Run, provenance_of_both
from fcos_edge.train.schedule import BatchSchedule
from fcos_edge.train.start import begin_with, described
from fcos_edge.train.torch_runtime import TorchRuntime
from fcos_edge.train.tracking import Tracker

DRAWN_PICTURES = 4


@dataclass(frozen=True)
class MachineOptions:
    """What a run may differ in from time to time, and still be the same run.

    loader_workers  processes that read pictures, per training process
    cache_bytes     decoded pictures kept in memory
    save_every      steps between two states
    eval_every      epochs between two looks at the held-out pictures
    board           write for TensorBoard
    """

    loader_workers: int = 1
    cache_bytes: int = 0
    save_every: int = 500
    eval_every: int = 5
    board: bool = True


class TrainingData(NamedTuple):
    """Pictures to train on, those held out, and the data sets that they are from, as JSON."""

    training: list[LabelledPicture]
    held_out: list[LabelledPicture]
    sets: list[dict[str, Any]]


def read_data(run: Run, processes: Processes, say: Callable[[str], None]) -> TrainingData:
    """The run's pictures, the same in all processes: the first one reads and checks them, and reports.

    Raises DataError for data that cannot be used.
    """
    if not processes.is_first:
        return processes.share(TrainingData([], [], []))
    sets = [(path, "train") for path in run.data]
    # What both train and val hold would flatter whoever measures on val.
    others = [(path, "val") for path in run.data if "val" in find_format(path, "train").splits(path)]
    rules: dict[str, Rule] = dict.fromkeys(run.exclude, "excluded")
    report = check_data([*sets, *others], run.classes, rules=rules, licence=run.licence)
    for line in report.lines():
        say(line)
    report.raise_if_refused()
    for what, file in (("begins with", run.start or run.qat), ("learns from", run.teacher)):
        if run.licence is None or file is None:
            continue
        if LICENSED not in load_checkpoint(Path(file.checkpoint)).spec.provenance:
            say(f"{Path(file.checkpoint).name}, which this run {what}, had other pictures too")
    pictures = [
        picture
        for path, split in sets
        for picture in read_pictures(path, split, run.classes, run.config.crowd, run.licence)
    ]
    training, held_out = hold_out(apply(report, pictures), run.count_held_out(len(pictures)))
    if run.config.max_images:
        training = spread(training, run.config.max_images)  # of all sets, which come one after the other
    # Names, not places: the checkpoint is for others, too.
    described = [{**row, "path": Path(row["path"]).name} for row in report.to_dict()["sets"]]
    return processes.share(TrainingData(training, held_out, described[: len(sets)]))


def check_first_step(run: Run, data: TrainingData, processes: Processes) -> None:
    """Raise UsageError for a run that could not take its first step: nothing has been written yet."""
    find_method(run.config.assign.method)
    BatchSchedule(data.training, run.config, 0, 0, processes.rank, processes.world)


def make_network(run: Run, processes: Processes, say: Callable[[str], None]) -> Fcos:
    """The network before training. Raises UsageError or CheckpointError for weights that cannot be had."""
    torch.manual_seed(run.config.seed)
    if run.start is not None:
        network = Fcos(run.config.network)
        begin_with(network, run.classes, run.start, say)
        return network.to(processes.device)
    path = None if run.weights is None or run.weights == NO_WEIGHTS else Path(run.weights)
    return Fcos(run.config.network, pretrained=run.weights != NO_WEIGHTS, weights_path=path).to(
        processes.device
    )


def train_checkpoint(
    run: Run, network: Fcos, data: TrainingData, out_dir: Path, processes: Processes, machine: MachineOptions
) -> Checkpoint:
    """Train `network`, or go on where the run stopped; the checkpoint has no record yet."""
    config, spec, held_out = run.config, run.spec, data.held_out

    def after_epoch(epoch: int, average: Fcos, tracker: Tracker | None) -> dict[str, Any]:
        # The last epoch's average is measured below, as it will be stored.
        if not held_out or epoch % machine.eval_every or epoch == config.epochs:
            return {}
        found, evaluation = _measure(average, spec, held_out, processes)
        if tracker is not None and machine.board:
            tracker.pictures(epoch, _drawn(found, held_out, spec))
        return {"held_out": evaluation.to_dict()}

    teacher = None if run.teacher is None else make_teacher(run.teacher, spec, config.distill)
    average = train(
        config, network, data.training, out_dir, processes=processes, after_epoch=after_epoch,
        loader_workers=machine.loader_workers, cache_bytes=machine.cache_bytes,
        save_every=machine.save_every, board=machine.board, teacher=teacher,
    )  # fmt: skip
    metrics: dict[str, Any] = {"training_pictures": len(data.training)}
    found: list[Detections] = []
    if held_out:
        stored = as_stored(average).to(processes.device)
        found, evaluation = _measure(stored, spec, held_out, processes)
        metrics["held_out"] = evaluation.to_dict()
    truth = [(picture.boxes_xyxy, picture.labels) for picture in held_out]
    thresholds = best_f1_thresholds(found, truth, len(run.classes))
    header = {**config.to_dict(), "made_with": _versions(), "made_from": data.sets}
    for name, file in (("began_with", run.start), ("taught_by", run.teacher)):
        if file is not None:
            header[name] = described(file)
            before = header[name]["provenance"]
            spec = replace(spec, provenance=provenance_of_both(spec.provenance, before))
    return Checkpoint(as_stored(average), config.network, spec, thresholds, metrics, header)


def _versions() -> dict[str, str]:
    return {
        "fcos_edge": __version__, "python": platform.python_version(), "torch": torch.__version__,
        "numpy": np.__version__, "opencv": cv2.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }  # fmt: skip


def _measure(
    network: Fcos, spec: ModelSpec, pictures: Sequence[LabelledPicture], processes: Processes
) -> tuple[list[Detections], Evaluation]:
    detector = Detector(TorchRuntime(network, spec), spec, [0.0] * len(spec.classes))
    found = sharded_candidates(detector, pictures, "held-out pictures", processes.rank, processes.world)
    return found, compare_with_pictures(found, pictures, spec.classes)


def _drawn(
    found: Sequence[Detections], pictures: Sequence[LabelledPicture], spec: ModelSpec
) -> list[UInt8Array]:
    """The first pictures with what was found on them, at score 0.3."""
    return [
        draw_detections(read_image_bgr(picture.path), detections.filtered(0.3), spec.classes)
        for detections, picture in zip(found[:DRAWN_PICTURES], pictures, strict=False)
    ]
