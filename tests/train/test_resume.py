"""A run that was killed, whenever that was, gives the weights that it would have given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcos_edge.train.run_files import METRICS_FILE, STATE_FILE
from tests.coco_sets import make_coco_set

CHECKPOINT = "smoke.safetensors"
# Six steps an epoch or more, with mosaic, pasted objects, sizes and repeats by lot: every kind of chance that
# there is.
SETTINGS = (
    "batch_size=2", "augment.mosaic=0.5", "augment.paste=1.5", "sizes_hw=[[96,96],[128,96]]", "balance=1",
    "max_images=12",
)  # fmt: skip
SECONDS = 120


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 15)


def _command(shapes: Path, out: Path, workers: int) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return [
        sys.executable, "-m", "fcos_edge", "train", "--data", str(shapes), "--out", str(out), *settings,
        "--preset", "smoke", "--hold-out", "3", "--epochs", "3", "--workers", str(workers),
        "--save-every", "1", "--no-tensorboard", "--threads", "1",
    ]  # fmt: skip


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=_environment())
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _kill_at_step(command: list[str], out: Path, steps: int, delay_s: float) -> None:
    """Start the command, and kill it with its workers a moment after its `steps`th state was written."""
    with subprocess.Popen(
        command, stderr=subprocess.DEVNULL, start_new_session=True, env=_environment()
    ) as process:
        written: set[int] = set()
        until = time.monotonic() + SECONDS
        while len(written) < steps:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < until
            if (out / STATE_FILE).exists():
                written.add((out / STATE_FILE).stat().st_mtime_ns)
            time.sleep(0.001)
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGKILL)


def _rows(out: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (out / METRICS_FILE).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.slow
def test_train__killed_at_any_moment_goes_on_to_the_same_weights(shapes: Path, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    _run(_command(shapes, straight, 0))
    # In the first epoch, while a state may be being written, and in the last; with workers and without.
    for steps, delay_s, workers in ((2, 0.0, 2), (4, 0.03, 0), (3, 0.1, 1)):
        _kill_at_step(_command(shapes, killed, workers), killed, steps, delay_s)
        assert not (killed / CHECKPOINT).exists()
    _run([sys.executable, "-m", "fcos_edge", "train", "--out", str(killed), "--resume", "--threads", "1"])
    assert (killed / CHECKPOINT).read_bytes() == (straight / CHECKPOINT).read_bytes()
    assert _rows(killed) == _rows(straight)
    assert not [path.name for path in killed.iterdir() if path.name.startswith(".")]
