"""docs/train.md: its commands, in their order, on a small part of the data and for a short while."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fcos_edge.cli import main, make_parser
from tests.coco_sets import make_coco_set

# What makes a command short; nothing else of it is changed.
SHORTER = {
    "train": ("--set", "max_images=8", "--threads", "1"),
    "eval": ("--threads", "1"),
    "export": (),
    "detect": (),
    "analyze": (),
}


def commands(page: str) -> list[list[str]]:
    """The words after `fcos-edge` of each line of its console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line.removeprefix("$ fcos-edge")) for line in lines if line.startswith("$ fcos-edge")]


@pytest.mark.slow
def test_the_page__from_data_to_detections(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = commands((repo_root / "docs" / "train.md").read_text())
    assert [words[0] for words in found] == [
        "analyze", "analyze", "train", "eval", "export", "detect", "train", "train", "export",
    ]  # fmt: skip
    make_coco_set(tmp_path / "bccd", "train", 12)
    make_coco_set(tmp_path / "bccd", "val", 3, seed=1)
    monkeypatch.chdir(tmp_path)
    # The last three, from a detector and for int8, are understood here and run in test_train_start.py and
    # test_train_qat.py of commands/: a network that learned nothing has no int8 to verify.
    for words in found[-3:]:
        make_parser().parse_args(words)
    for words in found[:-3]:
        if "--epochs" in words:
            words[words.index("--epochs") + 1] = "1"
        assert main([*words, *SHORTER[words[0]]]) == 0
    assert len((tmp_path / "detections" / "detections.jsonl").read_text().splitlines()) == 3
