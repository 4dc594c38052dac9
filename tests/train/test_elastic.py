"""Two torchrun agents on one machine, of which one is killed: the other goes on from the last state."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fcos_edge.train.checkpoint import load_checkpoint
from fcos_edge.train.run_files import METRICS_FILE, STATE_FILE
from tests.coco_sets import make_coco_set

EPOCHS = 25
SECONDS = 240


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _agent(data: Path, out: Path, port: int, log: Path, *, is_host: bool) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1",
        "--max-restarts=3", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test",
        f"--rdzv-conf=is_host={int(is_host)},join_timeout=60,last_call_timeout=1,timeout=30,"
        "keep_alive_interval=1,keep_alive_max_attempt=3",
        "--local-addr=127.0.0.1", "-m", "fcos_edge", "train", "--data", str(data), "--out", str(out),
        "--preset", "smoke", "--hold-out", "3", "--epochs", str(EPOCHS), "--workers", "0",
        "--set", "network.head_norm=none", "--set", "network.convs=plain", "--save-every", "1",
        "--no-tensorboard", "--threads", "1",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with log.open("wb") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )


def _steps_done(out: Path) -> int:
    if not (out / STATE_FILE).exists():
        return 0
    return int(torch.load(out / STATE_FILE, weights_only=True)["steps_done"])


def _kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """torchrun's workers have sessions of their own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    for child in children:
        os.kill(int(child), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_train__one_of_two_machines_is_lost(tmp_path: Path) -> None:
    data = make_coco_set(tmp_path / "shapes", "train", 11)
    out, port = tmp_path / "run", _free_port()
    logs = [tmp_path / "agent0.log", tmp_path / "agent1.log"]
    agents = [_agent(data, out, port, log, is_host=index == 0) for index, log in enumerate(logs)]
    try:
        until = time.monotonic() + SECONDS
        while _steps_done(out) < 6:
            assert time.monotonic() < until, logs[0].read_text()[-3000:]
            assert all(agent.poll() is None for agent in agents), logs[0].read_text()[-3000:]
            time.sleep(0.2)
        _kill_with_children(agents[1])
        before = _steps_done(out)
        assert before < 2 * EPOCHS  # there was something left to do
        assert agents[0].wait(until - time.monotonic()) == 0, logs[0].read_text()[-3000:]
    finally:
        for agent in agents:
            if agent.poll() is None:
                _kill_with_children(agent)
            agent.wait()
    rows = [json.loads(line) for line in (out / METRICS_FILE).read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    checkpoint = load_checkpoint(out / "smoke.safetensors")
    assert checkpoint.metrics["held_out"]["pictures"] == 3
    # It began once: the second start found the state.
    assert logs[0].read_text().count("8 pictures to train on") == 2
