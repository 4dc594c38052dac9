"""SIGINT and SIGTERM at each stage of an export: one line, the exit code of the signal, and all as it was.

tests/commands/test_export.py does the same with the command as a shell starts it, at one stage.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.cli import main
from tests.bad_input.verbs import NOTES, environment
from tests.conftest import REPO_ROOT
from tests.quantize.test_placing import tree, write_bundle
from tests.small_detector import save_small_detector

# What export says at the beginning of each stage, and the formats that lead there soon.
STAGES = [
    ("folding the network", "onnx"),
    ("writing onnx fp32", "onnx"),
    ("writing onnx int8", "onnx"),
    ("writing openvino fp32", "openvino"),
    ("writing openvino fp16", "openvino"),
    ("writing openvino int8", "openvino"),
    ("writing tflite fp32", "tflite"),
    ("writing tflite fp16", "tflite"),
    ("writing tflite int8", "tflite"),
    ("running the golden pictures in PyTorch and in the integer simulator", "onnx"),
    ("verifying every artifact", "onnx"),
]
SIGNALS = [
    (signal.SIGINT, 130, "fcos-edge: interrupted"),  # Ctrl-C
    (signal.SIGTERM, 143, "fcos-edge: terminated"),  # kill, a supervisor, a container that stops
]
# Into the stage: its beginning is Python, then comes native code.
DELAY_SECONDS = 0.03


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_detector(tmp_path_factory.mktemp("checkpoint") / "small.safetensors")


@pytest.mark.slow
def test_export__ended_at_each_stage(checkpoint: Path, tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = []
    wanted, trees = [], []
    for stage, formats in STAGES:
        for number, code, said in SIGNALS:
            folder = tmp_path / f"{len(cases)}"
            write_bundle(folder / "out", "of yesterday")
            argv = ["export", str(checkpoint), "--int8", "--formats", formats, "--out", "out"]
            cases.append({
                "folder": str(folder), "argv": argv, "line": stage, "seconds": DELAY_SECONDS,
                "number": number,
            })  # fmt: skip
            wanted.append((stage, code, [said]))
            trees.append(tree(folder))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bad_input.signalled"],
        cwd=REPO_ROOT, env=environment(), input=json.dumps(cases), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [
        (stage, result["code"], [line for line in result["lines"] if not line.startswith(NOTES)])
        for (stage, _, _), result in zip(wanted, json.loads(done.stdout), strict=True)
    ]
    assert found == wanted
    assert [tree(Path(case["folder"])) for case in cases] == trees


def test_stages__are_all_there_are(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), "--int8", "--out", str(tmp_path / "out")]) == 0
    *said, last = capsys.readouterr().err.splitlines()
    assert last.startswith("wrote ")
    told = ("INFO: ", "int8 is meant for ")  # no stages
    assert [line for line in said if not line.startswith(told)] == [stage for stage, _ in STAGES]
