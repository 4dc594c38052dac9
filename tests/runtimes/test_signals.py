"""Runtimes that are gone leave nothing behind that a signal stumbles over: Ctrl-C, the end of a child."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtimes.models import write_onnx, write_openvino, write_tflite

# Two models that are closed in the order in which they were opened, and a handler that must still be reached.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from fcos_edge.loading import open_artifact

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
for _ in range(2):
    models = [open_artifact(Path(sys.argv[1]), sys.argv[2]) for _ in range(2)]
    while models:
        models.pop(0).close()
    os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.parametrize(
    ("runtime", "suffix", "write"),
    [
        ("onnxruntime", ".onnx", write_onnx),
        ("openvino", ".onnx", write_onnx),
        ("openvino", ".xml", write_openvino),
        ("tflite", ".tflite", write_tflite),
    ],
)
def test_close__leaves_signals_working(
    repo_root: Path, tmp_path: Path, runtime: str, suffix: str, write: Callable[[Path], Path]
) -> None:
    pytest.importorskip({"tflite": "ai_edge_litert"}.get(runtime, runtime))
    path = write(tmp_path / f"model{suffix}")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path, runtime],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["handled"] * 2), done.stderr
