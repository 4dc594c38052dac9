"""Checkpoints that are none, through every verb that takes one; what a header claims costs nothing."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from fcos_edge.cli import main
from fcos_edge.train.checkpoint import HEADER_KEY, save_checkpoint
from tests.bad_input.verbs import run, verb
from tests.quantize.test_placing import tree
from tests.recordings import picture_bgr
from tests.small_checkpoint import small_checkpoint
from tests.train.test_checkpoint import Harmful

PATH = Path("x.safetensors")
VERBS = [
    ["export", "x.safetensors", "--out", "out"],
    ["inspect", "x.safetensors"],
    ["detect", "street.png", "--model", "x.safetensors"],
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "x.safetensors"
    save_checkpoint(path, small_checkpoint())
    return path.read_bytes()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert cv2.imwrite("street.png", picture_bgr())
    return tmp_path


def pickled(_: bytes) -> bytes:
    """Reading it as a pickle would write a file."""
    return pickle.dumps(Harmful())


def of_torch(_: bytes) -> bytes:
    torch.save({"weight": torch.zeros(3), "harm": 1}, PATH)
    return PATH.read_bytes()


def cut(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def framed(document: dict[str, Any], tail: int = 0) -> bytes:
    text = json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text + bytes(tail)


def header_length(length: int) -> Callable[[bytes], bytes]:
    return lambda whole: struct.pack("<Q", length) + whole[8:]


def claims_gigabytes(whole: bytes) -> bytes:
    """A tensor of 8 GB in a file of a few bytes."""
    tensor = {"dtype": "F32", "shape": [1 << 31], "data_offsets": [0, 1 << 33]}
    return framed({"__metadata__": {HEADER_KEY: "{}"}, "weight": tensor})


def network_of_gigabytes(whole: bytes) -> bytes:
    """The header of our own claims a network that nobody could build."""
    (length,) = struct.unpack_from("<Q", whole)
    framing = json.loads(whole[8 : 8 + length])
    ours = json.loads(framing["__metadata__"][HEADER_KEY])
    ours["network"] |= {"fpn_channels": 8192, "tower_depth": 64}
    framing["__metadata__"][HEADER_KEY] = json.dumps(ours)
    return framed(framing) + whole[8 + length :]


def foreign(whole: bytes) -> bytes:
    """Another program's safetensors."""
    return framed({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, tail=4)


NO_SAFETENSORS = "x.safetensors: no safetensors file ("


@pytest.mark.parametrize("argv", VERBS, ids=["export", "inspect", "detect"])
@pytest.mark.parametrize(("spoil", "said"), [
    (pickled, NO_SAFETENSORS),
    (of_torch, NO_SAFETENSORS),
    (lambda _: b"", NO_SAFETENSORS),
    (cut, NO_SAFETENSORS),
    (header_length(1 << 31), NO_SAFETENSORS),
    (header_length(1 << 40), NO_SAFETENSORS),
    (header_length((1 << 64) - 1), NO_SAFETENSORS),
    (claims_gigabytes, NO_SAFETENSORS),
    (foreign, "x.safetensors: safetensors without an fcos-edge header; give a checkpoint of fcos-edge"),
    (network_of_gigabytes, "x.safetensors: fpn."),
])  # fmt: skip
def test_checkpoint__that_is_none(
    argv: list[str], spoil: Callable[[bytes], bytes], said: str,
    whole: bytes, place: Path, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    PATH.write_bytes(spoil(whole))
    was = tree(place)
    assert main(argv) == 2
    out, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("model: ")]
    assert (out, len(lines)) == ("", 1), err
    assert lines[0].startswith(f"fcos-edge: {said}")
    assert len(lines[0]) < 400
    assert tree(place) == was  # and no `unpickled`


@pytest.mark.parametrize("spoil", [claims_gigabytes, network_of_gigabytes])
def test_checkpoint__claims_cost_no_memory(
    spoil: Callable[[bytes], bytes], whole: bytes, place: Path
) -> None:
    PATH.write_bytes(spoil(whole))
    # A new process, whose high-water mark is its own: PyTorch takes 300 MB when it is imported.
    code = (
        "import resource, sys; from fcos_edge.cli import main; import torch;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; code = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before); sys.exit(code)"
    )
    command = verb("inspect", "x.safetensors")
    ended = run([command[0], "-c", code, *command[3:]], place)
    assert (ended.code, len(ended.complaints)) == (2, 1)
    assert int(ended.out) < 200 << 10  # KiB
