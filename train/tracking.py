"""What a run tells while it trains: `metrics.jsonl`, TensorBoard, and a progress bar or lines.

`metrics.jsonl` has one row an epoch. A run that goes on from its state first drops the rows that were
written after it, so that the file is the one of an uninterrupted run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fcos_edge.console import Progress
from fcos_edge.runtime import UInt8Array
from fcos_edge.train.run_files import BOARD_FOLDER, METRICS_FILE
from fcos_edge.train.state import REMEDY
from fcos_edge.writing import append_line, naming

STEPS_BETWEEN_SCALARS = 10


class Tracker:
    """Of one run, in its folder; only the first of several processes has one.

    steps  of the whole run
    first  the step that it begins with, after an interruption
    board  write for TensorBoard too
    """

    def __init__(self, out_dir: Path, steps: int, first: int, *, board: bool) -> None:
        self.path = out_dir / METRICS_FILE
        self.steps = steps
        _drop_rows(self.path, first)
        self._board: Any = None
        if board:
            from torch.utils.tensorboard import SummaryWriter

            with naming(out_dir / BOARD_FOLDER, REMEDY):
                self._board = SummaryWriter(str(out_dir / BOARD_FOLDER), purge_step=first or None)
        self._progress = Progress("training", steps, first)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.close()
        if self._board is not None:
            self._board.close()

    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        """`step` steps are done; the scalars are those of the last one."""
        self._progress.advance(step, " ".join(f"{name} {value:.3g}" for name, value in scalars.items()))
        if self._board is not None and (step % STEPS_BETWEEN_SCALARS == 0 or step == self.steps):
            for name, value in scalars.items():
                self._board.add_scalar(f"train/{name}", value, step)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """One row of `metrics.jsonl`; it has the key `step`. Numbers in it go to TensorBoard too."""
        text = json.dumps(row)
        with naming(self.path, REMEDY):
            append_line(self.path, text)
        self._progress.say(text)
        if self._board is not None:
            for name, value in _numbers(row):
                self._board.add_scalar(f"epoch/{name}", value, row["step"])

    def pictures(self, epoch: int, images_bgr: Sequence[UInt8Array]) -> None:
        """Drawn detections, for TensorBoard."""
        if self._board is not None:
            for index, image_bgr in enumerate(images_bgr):
                self._board.add_image(f"held out/{index}", image_bgr[..., ::-1], epoch, dataformats="HWC")


def _numbers(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Every number in a row of dicts, by its path."""
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{name}", float(value)))
    return found


def _drop_rows(path: Path, step: int) -> None:
    """Keep the rows up to `step`: later ones, and one cut short, are written again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            is_kept = json.loads(line)["step"] <= step
        except (ValueError, TypeError, KeyError):
            is_kept = False
        if is_kept:
            kept.append(line + "\n")
    part = path.with_name(f".{path.name}.part")
    try:
        with naming(path, REMEDY):
            part.write_text("".join(kept), encoding="utf-8")
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
