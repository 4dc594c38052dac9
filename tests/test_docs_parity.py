"""docs/parity.md: its commands can be said, and every key of a report stands there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.cli import main, make_parser
from fcos_edge.free_data import write_free_data
from fcos_edge.parity.gates import GATES
from tests.small_detector import save_small_detector

# Below these keys stand names of the user's: classes, figures of COCO, files, packages.
_NAMED_BY_OTHERS = {
    "classes", "figures", "curves", "versions", "operating_thresholds", "here", "limits", "latency_ms",
    "verify",
}  # fmt: skip


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest) -> str:
    root: Path = request.getfixturevalue("repo_root")
    return (root / "docs" / "parity.md").read_text(encoding="utf-8")


def test_commands__are_understood(page: str) -> None:
    lines = re.findall(r"(?:^|\$ |run: )fcos-edge (.*)$", page, flags=re.MULTILINE)
    assert len(lines) >= 10
    for line in lines:
        words = shlex.split(line.partition(" > ")[0])
        assert make_parser().parse_args(words).command


def test_gates__each_has_a_line(page: str) -> None:
    for name in GATES:
        assert f"| `{name}` |" in page


def test_report__each_key_stands_there(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, bundle, data = tmp_path / "small.safetensors", tmp_path / "small", tmp_path / "data"
    save_small_detector(checkpoint)
    assert main(["export", str(checkpoint), "--int8", "--formats", "onnx", "--out", str(bundle)]) == 0
    write_free_data(data)
    labels = next(data.glob("annotations/*.json"))
    document = json.loads(labels.read_text())
    labels.write_text(json.dumps({**document, "images": document["images"][:3]}))
    capsys.readouterr()
    command = ["parity", str(bundle), "--data", str(data), "--draws", "5", "--threads", "1", "--json"]
    # So few pixels fail a gate or not: everything is reported all the same.
    assert main([*command, "--checkpoint", str(checkpoint), "--onnx-in-openvino"]) in (0, 1)
    report = json.loads(capsys.readouterr().out)
    assert all(one["accuracy"] for one in report["artifacts"])
    missing = {key for key in _keys(report) if f"`{key}`" not in page}
    assert missing == set()


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _keys(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            if key not in _NAMED_BY_OTHERS:
                yield from _keys(one)
            elif key in ("classes", "curves", "figures") and isinstance(one, dict):
                for named in one.values():
                    yield from _keys(named)
