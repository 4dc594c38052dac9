"""What may only be read: a bundle in use on a read-only disk, folders without permission to write.

Root may write anywhere, so that root's rights are taken away where the tests run as root.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from fcos_edge.train.checkpoint import save_checkpoint
from tests.bad_input.verbs import in_mounts, needs_mounts, run, verb, without_rights
from tests.quantize.test_placing import tree, write_bundle
from tests.recordings import picture_bgr, write_recording
from tests.small_checkpoint import small_checkpoint

READ_ONLY = "mount --bind disk disk && mount -o remount,bind,ro disk"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder with a bundle, a model, a checkpoint and a picture in it."""
    folder = tmp_path / "disk"
    write_bundle(folder / "out", "of yesterday")
    write_recording(folder / "model.npz")
    save_checkpoint(folder / "x.safetensors", small_checkpoint())
    assert cv2.imwrite(str(folder / "street.png"), picture_bgr())
    (folder / "detections").mkdir()
    (folder / "detections" / "detections.jsonl").write_text("of yesterday\n")
    return folder


# What a verb writes, and what it says where it may not.
REFUSED = [
    (["export", "x.safetensors", "--out", "a/b"],
     "{disk}/a: cannot write there ({reason}); name another --out"),
    (["detect", "street.png", "--model", "model.npz"],
     "--out detections: cannot write there ({reason}); choose another folder with --out"),
    (["detect", "street.png", "--model", "model.npz", "--out", "a/b"],
     "--out a/b: cannot write there ({reason}); choose another folder with --out"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "said"), REFUSED)
def test_read_only_disk__is_one_line(argv: list[str], said: str, disk: Path) -> None:
    needs_mounts(READ_ONLY, disk.parent)
    was = tree(disk)
    ended = run(in_mounts(f"{READ_ONLY} && cd disk", verb(*argv)), disk.parent)
    wanted = said.format(disk=disk, reason="Read-only file system")
    assert (ended.code, ended.complaints) == (2, (f"fcos-edge: {wanted}",))
    assert tree(disk) == was


@pytest.mark.parametrize(("argv", "said"), REFUSED)
def test_folder_without_permission__is_one_line(argv: list[str], said: str, disk: Path) -> None:
    was = tree(disk)
    folders = (disk, disk / "detections")
    for folder in folders:
        folder.chmod(0o555)
    try:
        ended = run(without_rights(verb(*argv)), disk)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    wanted = said.format(disk=disk, reason="Permission denied")
    assert (ended.code, ended.complaints) == (2, (f"fcos-edge: {wanted}",))
    assert tree(disk) == was


@pytest.mark.parametrize(("name", "argv", "said"), [
    ("street.png", ["detect", "street.png", "--model", "model.npz"],
     "street.png: cannot read the picture (Permission denied); check the path"),
    ("model.npz", ["detect", "street.png", "--model", "model.npz"],
     "model.npz: no recording: [Errno 13] Permission denied"),
    ("out/manifest.json", ["inspect", "out"], "out: no bundle, cannot read manifest.json: Permission denied"),
    ("out/manifest.json", ["verify", "out"], "out: no bundle, cannot read manifest.json: Permission denied"),
    ("x.safetensors", ["inspect", "x.safetensors"], "x.safetensors: cannot be read (Permission denied)"),
])  # fmt: skip
def test_file_without_permission__is_one_line(name: str, argv: list[str], said: str, disk: Path) -> None:
    was = tree(disk)
    (disk / name).chmod(0)
    try:
        ended = run(without_rights(verb(*argv)), disk)
    finally:
        (disk / name).chmod(0o644)
    (line,) = ended.complaints
    assert ended.code == 2
    assert line.startswith(f"fcos-edge: {said}")
    assert tree(disk) == was


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, of Linux")
def test_folder_that_cannot_be_made__is_one_line(disk: Path) -> None:
    ended = run(verb("detect", "street.png", "--model", "model.npz", "--out", "/proc/x"), disk)
    assert ended.code == 2
    assert ended.complaints == (
        "fcos-edge: --out /proc/x: cannot write there (No such file or directory); choose another folder with"
        " --out",
    )


# --- in use


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "tflite"])
def test_bundle_on_a_read_only_disk__is_used(runtime: str, embedded_bundle: Path, tmp_path: Path) -> None:
    """Also where no cache can be made, as in a container with a read-only root."""
    pytest.importorskip({"tflite": "ai_edge_litert"}.get(runtime, runtime))
    assert cv2.imwrite(str(tmp_path / "street.png"), picture_bgr())
    mounts = f"mount --bind {embedded_bundle} {embedded_bundle} && mount -o remount,bind,ro {embedded_bundle}"
    needs_mounts(mounts, tmp_path)
    names = sorted(path.name for path in embedded_bundle.rglob("*"))
    command = verb("detect", "street.png", "--model", str(embedded_bundle), "--runtime", runtime, "--json")
    ended = run(in_mounts(f"{mounts} && export FCOS_EDGE_CACHE=/proc/nothing", command), tmp_path)
    assert (ended.code, ended.complaints) == (0, ())
    assert ended.out.count("\n") == 1
    ended = run(in_mounts(mounts, verb("verify", str(embedded_bundle), "--runtime", runtime)), tmp_path)
    assert (ended.code, "passed" in ended.out) == (0, True)
    assert sorted(path.name for path in embedded_bundle.rglob("*")) == names
