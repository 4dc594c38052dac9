"""A bundle appears whole or not at all, and costs the user nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fcos_edge.bundle import (
    SENSITIVITY_NAME,
    SENSITIVITY_PLOT_NAME,
    Manifest,
    ManifestArtifact,
    describe_file,
    write_manifest,
)
from fcos_edge.errors import GateError, UsageError
from fcos_edge.quantize.placing import check_replaceable, placed_when_done
from tests.small_specs import SMALL_SPEC


def write_bundle(folder: Path, content: str) -> None:
    """As little as makes a bundle; `content` tells one from another."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.fp32.onnx"
    model.write_text(content)
    (folder / "golden").mkdir()
    for name in ("README.md", SENSITIVITY_NAME, SENSITIVITY_PLOT_NAME):
        (folder / name).write_text(content)
    write_manifest(folder, Manifest(SMALL_SPEC, (ManifestArtifact((describe_file(model),), "onnx", "fp32"),)))


def place(out: Path, content: str, then: Callable[[], object] = lambda: None) -> None:
    """Write a bundle to be placed at `out`; `then` happens before it is."""
    with placed_when_done(out) as folder:
        write_bundle(folder, content)
        then()


def put(path: Path) -> Callable[[], object]:
    """Somebody else's file, to be written later."""

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs")

    return write


def fail(error: BaseException, first: Callable[[], object] = lambda: None) -> Callable[[], object]:
    def end() -> None:
        first()
        raise error

    return end


def tree(folder: Path) -> dict[str, str]:
    """Every file, folder and link below, hidden ones too, with a file's content and a link's target."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_text(errors="replace")
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("out", ["new", "a/b/new", "new.bundle"])
def test_place__makes_folder_and_parents(out: str, tmp_path: Path) -> None:
    place(tmp_path / out, "first")
    assert (tmp_path / out / "model.fp32.onnx").read_text() == "first"
    assert len(list((tmp_path / out).parent.iterdir())) == 1


def test_place__folder_is_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    place(tmp_path / "new", "first")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_place__nothing_is_there_before_the_end(tmp_path: Path) -> None:
    out = tmp_path / "new"
    with placed_when_done(out) as folder:
        assert not out.exists()
        # Beside it, so that the rename cannot cross file systems.
        assert folder.parent.parent == tmp_path


@pytest.mark.parametrize("error", [
    GateError("logits_p3"),
    ValueError("ours"),
    KeyboardInterrupt(),  # Ctrl-C
    SystemExit(143),  # a handler of SIGTERM
], ids=lambda error: type(error).__name__)  # fmt: skip
@pytest.mark.parametrize("out", ["out", "a/b/out"], ids=["beside", "new parents"])
@pytest.mark.parametrize("before", ["nothing", "empty folder", "bundle"])
def test_place__failure_leaves_all_as_it_was(
    error: BaseException, out: str, before: str, tmp_path: Path
) -> None:
    if before == "empty folder":
        (tmp_path / out).mkdir(parents=True)
    elif before == "bundle":
        write_bundle(tmp_path / out, "old")
    was = tree(tmp_path)
    with pytest.raises(type(error)):
        place(tmp_path / out, "half", fail(error))
    assert tree(tmp_path) == was


def test_place__failure_keeps_parent_that_somebody_else_uses(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        place(tmp_path / "a/b/out", "half", fail(KeyboardInterrupt(), put(tmp_path / "a/theirs.txt")))
    assert tree(tmp_path) == {"a": "folder", "a/theirs.txt": "theirs"}


@pytest.mark.parametrize("before", ["empty folder", "bundle"])
def test_place__replaces_whole(before: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if before == "bundle":
        write_bundle(out, "old")
        (out / "calibration.json").write_text("old")
    place(out, "new")
    write_bundle(tmp_path / "wanted", "new")
    assert tree(out) == tree(tmp_path / "wanted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "wanted"]


def test_place__failed_rename_restores_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "out", "old")
    was = tree(tmp_path)
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(UsageError, match=r"out: cannot be replaced \(Input/output error\)"):
        place(tmp_path / "out", "new")
    assert tree(tmp_path) == was


def test_place__what_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no bundle and not empty"):
        place(tmp_path / "out", "new", put(tmp_path / "out/theirs.txt"))
    assert tree(tmp_path) == {"out": "folder", "out/theirs.txt": "theirs"}


def test_place__link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    write_bundle(tmp_path / "disk" / "real", "old")
    (tmp_path / "out").symlink_to("disk/real")
    place(tmp_path / "out", "new")
    assert os.readlink(tmp_path / "out") == "disk/real"
    assert (tmp_path / "disk/real/model.fp32.onnx").read_text() == "new"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]


def test_place__link_to_nothing_gets_its_folder(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("disk/real")
    place(tmp_path / "out", "new")
    assert (tmp_path / "disk/real/model.fp32.onnx").read_text() == "new"
    assert (tmp_path / "out").is_symlink()


def test_place__link_to_itself_is_one_clear_mistake(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(UsageError, match=r"name (a new folder|another)"):
        place(tmp_path / "out", "new")
    assert tree(tmp_path) == {"out": "out"}


def test_place__name_that_the_disk_refuses_leaves_no_parents(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write there \(File name too long\)"):
        place(tmp_path / "a" / "b" / ("x" * 300) / "out", "new")
    assert tree(tmp_path) == {}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_place__read_only_parent_is_one_clear_mistake(tmp_path: Path) -> None:
    parent = tmp_path / "theirs"
    parent.mkdir(mode=0o555)
    with pytest.raises(UsageError, match=r"theirs: cannot write there \(Permission denied\)"):
        place(parent / "out", "new")


def _foreign_file(out: Path) -> None:
    write_bundle(out, "old")
    (out / "notes.txt").write_text("mine")


def _foreign_hidden_file(out: Path) -> None:
    write_bundle(out, "old")
    (out / ".git").mkdir()


def _half_a_bundle(out: Path) -> None:
    write_bundle(out, "old")
    (out / "manifest.json").write_text("{")


def _no_bundle(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")


@pytest.mark.parametrize(("make", "said"), [
    (_foreign_file, "holds notes.txt, which no bundle does"),
    (_foreign_hidden_file, "holds .git, which no bundle does"),
    (_half_a_bundle, "is no bundle and not empty"),
    (_no_bundle, "is no bundle and not empty"),
    (lambda out: out.write_text("a file"), "is a file; name a new folder"),
])  # fmt: skip
def test_check__what_is_not_ours_protects_itself(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "out")
    was = tree(tmp_path)
    with pytest.raises(UsageError, match=said):
        check_replaceable(tmp_path / "out")
    assert tree(tmp_path) == was


def test_check__file_among_the_parents(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file: is a file, not a folder"):
        check_replaceable(tmp_path / "file" / "a" / "out")


@pytest.mark.parametrize("out", ["", ".", "..", "/", "../here"])
def test_check__folder_that_the_shell_stands_in(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match="cannot be replaced by a bundle; name a new folder"):
        check_replaceable(Path(out))


@pytest.mark.parametrize("before", ["nothing", "nothing, nor a parent", "empty folder", "bundle"])
def test_check__what_may_be_replaced(before: str, tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    if before != "nothing, nor a parent":
        out.parent.mkdir()
    if before == "empty folder":
        out.mkdir()
    elif before == "bundle":
        write_bundle(out, "old")
    check_replaceable(out)


def test_check__moved_bundle_may_be_replaced(tmp_path: Path) -> None:
    write_bundle(tmp_path / "first", "old")
    shutil.move(tmp_path / "first", tmp_path / "second")
    check_replaceable(tmp_path / "second")
