"""What a training run is, and the folder that belongs to it.

The folder holds `run.json` (what the run is), `state.pt`, `metrics.jsonl`, TensorBoard's files and, in the
end, the checkpoint. The same run goes on from them after an interruption; no other may use the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fcos_edge import __version__
from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.config import CheckpointFile, QatConfig, TrainConfig
from fcos_edge.train.data.licence import Use
from fcos_edge.train.run_files import (
    BOARD_FOLDER,
    COMMAND,
    METRICS_FILE,
    PAGE_FILE,
    RECORD_FILE,
    RUN_FILE,
    STATE_FILE,
)
from fcos_edge.writing import naming

NO_WEIGHTS = "none"
LICENSED = "training_pictures"  # of the spec's provenance: which pictures, where not all
MOST_HELD_OUT = 200
# In run.json only where they are used: older ones lack them.
_OPTIONAL = ("qat", "start", "teacher", "licence")


@dataclass(frozen=True)
class Run:
    """What decides the weights that come out.

    name        of the model: the spec's, and the checkpoint file's without its suffix
    data        data sets; their `train` splits are used
    weights     file of the backbone's ImageNet weights; None: the installed ones; NO_WEIGHTS: random numbers
    held_out    pictures that do not train; None: a tenth, at most 200
    exclude     kinds of findings of the data check that are left out, not refused
    qat         of quantization-aware training, which begins with a checkpoint instead of `weights`
    start       the detector whose weights it begins with, instead of `weights`
    licence     only pictures whose licence record allows this use; None: all
    teacher     the detector that it learns from, beside the labels
    """

    name: str
    classes: tuple[str, ...]
    data: tuple[Path, ...]
    config: TrainConfig
    weights: str | None = None
    held_out: int | None = None
    exclude: tuple[str, ...] = ()
    qat: QatConfig | None = None
    start: CheckpointFile | None = None
    licence: Use | None = None
    teacher: CheckpointFile | None = None

    @property
    def spec(self) -> ModelSpec:
        """Of the detector that it makes."""
        config, network = self.config, self.config.network
        provenance: dict[str, Any] = {"data": [path.resolve().name for path in self.data]}
        if self.licence is not None:
            provenance[LICENSED] = f"only those whose licence record allows {self.licence} use"
        return ModelSpec(
            self.name, self.classes, config.input_hw, network.mean, network.std, strides=network.strides,
            distance=network.distance, distance_unit=network.distance_unit,
            score="class" if config.loss.quality == "none" and network.quality_from == "branch" else "sqrt",
            nms_iou=config.nms_iou, provenance={**provenance, "fcos_edge": __version__},
        )  # fmt: skip

    def count_held_out(self, pictures: int) -> int:
        """How many of so many pictures do not train."""
        return min(pictures // 10, MOST_HELD_OUT) if self.held_out is None else self.held_out

    def to_dict(self) -> dict[str, Any]:
        """JSON values; equal for two runs that would give the same weights."""
        return {
            "name": self.name, "classes": list(self.classes),
            "data": [str(path.resolve()) for path in self.data],
            "config": self.config.to_dict(), "weights": self.weights, "held_out": self.held_out,
            "exclude": list(self.exclude),
            **({"qat": asdict(self.qat)} if self.qat else {}),
            **({"start": asdict(self.start)} if self.start else {}),
            **({"licence": self.licence} if self.licence else {}),
            **({"teacher": asdict(self.teacher)} if self.teacher else {}),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Run:
        """Read what `to_dict` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(**{
            **document, "classes": tuple(document["classes"]), "data": tuple(map(Path, document["data"])),
            "exclude": tuple(document["exclude"]),
            "config": TrainConfig.from_dict(document["config"]),
            "qat": QatConfig(**document["qat"]) if document.get("qat") else None,
            **{
                name: CheckpointFile(**document[name]) if document.get(name) else None
                for name in ("start", "teacher")
            },
        })  # fmt: skip


def provenance_of_both(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The first training's provenance, where a second went before or after it, or made its teacher.

    Which pictures trained is said only where it holds of both.
    """
    is_same = first.get(LICENSED) == second.get(LICENSED)
    return {key: value for key, value in first.items() if is_same or key != LICENSED}


def checkpoint_file(run: Run, out_dir: Path) -> Path:
    """Where the run's checkpoint belongs."""
    return out_dir / f"{run.name}.safetensors"


def read_run(out_dir: Path) -> Run:
    """The run that a folder belongs to. Raises UsageError where there is none."""
    path = out_dir / RUN_FILE
    try:
        document = {**json.loads(path.read_bytes())}
        return Run.from_dict({key: value for key, value in document.items() if key != COMMAND})
    except OSError as error:
        raise UsageError(f"{path}: no run to resume ({error.strerror}); give a run's folder") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, CheckpointError) as error:
        reason = f"{type(error).__name__}: {str(error)[:100]}"
        raise UsageError(f"{path}: damaged ({reason}); give the run's own arguments again") from None


def claim_folder(run: Run, out_dir: Path, command: str = "") -> None:
    """Make `out_dir` the folder of `run`, or find that it is.

    command  the line that begins it, for its report

    Raises UsageError, and changes nothing, where it holds a finished run, another run, or other files.
    """
    path, advice = checkpoint_file(run, out_dir), "choose another --out"
    if path.exists():
        raise UsageError(f"{path}: is there already; {advice}")
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"{out_dir}: is a file, expected a folder; {advice}")
    found = {entry.name for entry in out_dir.iterdir()} if out_dir.is_dir() else set()
    own = {RUN_FILE, RECORD_FILE, STATE_FILE, METRICS_FILE, BOARD_FOLDER, PAGE_FILE, path.name}
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
                text = json.dumps({**wanted, COMMAND: command}, indent=1, sort_keys=True)
                part.write_text(text, encoding="utf-8")
                os.replace(part, out_dir / RUN_FILE)
            finally:
                part.unlink(missing_ok=True)
        return
    there = _found(out_dir / RUN_FILE)
    if there != wanted:
        found_values = there if isinstance(there, dict) else {}
        # A key that is written only where it is used may be on either side.
        keys = [*wanted, *(key for key in _OPTIONAL if key not in wanted)]
        differs = [key for key in keys if found_values.get(key) != wanted.get(key)]
        what = " and ".join(differs) or "contents"
        raise UsageError(f"{out_dir}: holds another run, its {what} differ; give its arguments, or {advice}")


def _found(path: Path) -> Any:
    """What a folder's file says of its run, as `to_dict` says it now; None where it is damaged.

    Settings that are younger than the run have their defaults.
    """
    try:
        there = json.loads(path.read_bytes())
        if isinstance(there, dict):
            there.pop(COMMAND, None)
    except (ValueError, RecursionError):
        return None
    try:
        return json.loads(json.dumps(Run.from_dict(there).to_dict()))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, CheckpointError):
        return there
