"""One training run, from data sets to a checkpoint: hold pictures out, train, measure, choose thresholds.

Held-out pictures never train. They say how good the detector is, and where each class's operating
threshold lies; the data set's own `val` stays untouched for reporting.

A run's folder holds `run.json` (what the run is), `state.pt` and `metrics.jsonl` (the loop's). The same
run goes on from them after an interruption; no other may use the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fcos_edge import __version__
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import UsageError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint, as_stored
from fcos_edge.train.config import TrainConfig
from fcos_edge.train.dataset import LabelledPicture, check_files, hold_out
from fcos_edge.train.evaluate import Evaluation, compare_with_pictures, find_candidates
from fcos_edge.train.formats.coco import read_coco
from fcos_edge.train.loop import METRICS_FILE, STATE_FILE, train
from fcos_edge.train.model import Fcos
from fcos_edge.train.thresholds import best_f1_thresholds
from fcos_edge.train.torch_runtime import TorchRuntime
from fcos_edge.writing import naming

RUN_FILE = "run.json"


@dataclass(frozen=True)
class Run:
    """What decides the weights that come out.

    name           of the model: the spec's, and the checkpoint file's without its suffix
    data           folders of COCO data sets; their `train` splits are used
    held_out       pictures that do not train
    """

    name: str
    classes: tuple[str, ...]
    data: tuple[Path, ...]
    config: TrainConfig
    held_out: int

    @property
    def spec(self) -> ModelSpec:
        network = self.config.network
        data = [folder.resolve().name for folder in self.data]
        return ModelSpec(
            self.name, self.classes, self.config.input_hw, network.mean, network.std, strides=network.strides,
            provenance={"data": data, "fcos_edge": __version__},
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """JSON values; equal for two runs that would give the same weights."""
        return {
            "name": self.name, "classes": list(self.classes),
            "data": [str(folder.resolve()) for folder in self.data],
            "config": self.config.to_dict(), "held_out": self.held_out,
        }  # fmt: skip


def checkpoint_file(run: Run, out_dir: Path) -> Path:
    """Where the run's checkpoint belongs."""
    return out_dir / f"{run.name}.safetensors"


def claim_folder(run: Run, out_dir: Path) -> None:
    """Make `out_dir` the folder of `run`, or find that it is.

    Raises UsageError, and changes nothing, where it holds a finished run, another run, or other files.
    """
    path, advice = checkpoint_file(run, out_dir), "choose another --out"
    if path.exists():
        raise UsageError(f"{path}: is there already; {advice}")
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"{out_dir}: is a file, expected a folder; {advice}")
    found = {entry.name for entry in out_dir.iterdir()} if out_dir.is_dir() else set()
    own = {RUN_FILE, STATE_FILE, METRICS_FILE, path.name}
    if foreign := sorted(found - own - {f".{name}.part" for name in own}):
        raise UsageError(f"{out_dir}: holds {foreign[0]}, which is not of this run; {advice}")
    wanted = json.loads(json.dumps(run.to_dict()))
    if RUN_FILE not in found:
        if found & own:
            raise UsageError(f"{out_dir}: holds a run without its {RUN_FILE}; {advice}")
        with naming(out_dir, advice):
            out_dir.mkdir(parents=True, exist_ok=True)
            part = out_dir / f".{RUN_FILE}.part"
            try:
                part.write_text(json.dumps(wanted, indent=1, sort_keys=True), encoding="utf-8")
                os.replace(part, out_dir / RUN_FILE)
            finally:
                part.unlink(missing_ok=True)
        return
    try:
        there = json.loads((out_dir / RUN_FILE).read_bytes())
    except (ValueError, RecursionError):
        there = None
    if there != wanted:
        differs = [key for key in wanted if not isinstance(there, dict) or there.get(key) != wanted[key]]
        what = " and ".join(differs) or "contents"
        raise UsageError(f"{out_dir}: holds another run, its {what} differ; give its arguments, or {advice}")


def read_pictures(run: Run) -> tuple[list[LabelledPicture], list[LabelledPicture]]:
    """Pictures to train on, and those held out. Raises DataError for data that cannot be used."""
    pictures = [picture for folder in run.data for picture in read_coco(folder, "train", run.classes)]
    check_files(pictures)
    training, held_out = hold_out(pictures, run.held_out)
    return training[: run.config.max_images or None], held_out


def train_checkpoint(
    run: Run,
    training: Sequence[LabelledPicture],
    held_out: Sequence[LabelledPicture],
    out_dir: Path,
    *,
    weights_path: Path | None,
    eval_every: int,
    workers: int,
    log: Callable[[str], None],
) -> Checkpoint:
    """Train from ImageNet weights, or go on where the run stopped; the checkpoint has no record yet.

    weights_path  a file of ImageNet weights; None takes the installed ones
    eval_every    epochs between two looks at the held-out pictures
    """
    config, spec = run.config, run.spec
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(config.seed)
    network = Fcos(config.network, pretrained=True, weights_path=weights_path).to(device)

    def after_epoch(epoch: int, average: Fcos) -> dict[str, Any]:
        # The last epoch's average is measured below, as it will be stored.
        if not held_out or epoch % eval_every or epoch == config.epochs:
            return {}
        _, evaluation = _measure(average, spec, held_out)
        return {"held_out": evaluation.to_dict()}

    average = train(config, network, training, out_dir, after_epoch=after_epoch, log=log, workers=workers)
    released = as_stored(average)
    metrics: dict[str, Any] = {"training_pictures": len(training)}
    found: list[Detections] = []
    if held_out:
        found, evaluation = _measure(released, spec, held_out)
        metrics["held_out"] = evaluation.to_dict()
    truth = [(picture.boxes_xyxy, picture.labels) for picture in held_out]
    thresholds = best_f1_thresholds(found, truth, len(run.classes))
    return Checkpoint(released, config.network, spec, thresholds, metrics, config.to_dict())


def _measure(
    network: Fcos, spec: ModelSpec, pictures: Sequence[LabelledPicture]
) -> tuple[list[Detections], Evaluation]:
    detector = Detector(TorchRuntime(network, spec), spec, [0.0] * len(spec.classes))
    found = find_candidates(detector, pictures, "held-out pictures")
    return found, compare_with_pictures(found, pictures, spec.classes)
