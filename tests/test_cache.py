"""Compiled models that are kept: found again, bounded, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fcos_edge import cache
from fcos_edge.cache import CacheEntry
from fcos_edge.cpu import cpu_identity


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def entry(content: str = "a", runtime: str = "r", version: str = "1", options: str = "") -> CacheEntry:
    return CacheEntry(content, runtime, version, options)


def test_entry__is_found_again(folder: Path) -> None:
    assert entry().read() is None
    entry().write(b"compiled")
    assert entry().read() == b"compiled"
    entry().write(b"")
    assert entry().read() == b""
    assert len(list(folder.iterdir())) == 1
    entry().forget()
    assert entry().read() is None
    entry().forget()


@pytest.mark.parametrize("change", [
    {"content": "b"}, {"runtime": "s"}, {"version": "2"}, {"options": "fast"},
])  # fmt: skip
def test_entry__of_something_else_is_another(folder: Path, change: dict[str, str]) -> None:
    entry().write(b"compiled")
    assert entry(**change).read() is None


def test_entry__of_another_cpu_is_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry().write(b"compiled")
    monkeypatch.setattr(cache, "cpu_identity", lambda: "another")
    assert entry().read() is None


@pytest.mark.parametrize("damage", [
    lambda stored: stored[:-1],  # cut short
    lambda stored: stored[:40] + bytes([stored[40] ^ 1]) + stored[41:],  # one bit of the content
    lambda stored: bytes([stored[0] ^ 1]) + stored[1:],  # one bit of the digest
    lambda stored: b"",
])  # fmt: skip
def test_entry__damaged_is_none(folder: Path, damage: object) -> None:
    entry().write(b"compiled" * 10)
    (path,) = folder.iterdir()
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    assert entry().read() is None
    entry().write(b"again")
    assert entry().read() == b"again"


def test_write__keeps_the_newest_and_leaves_nothing_half_written(folder: Path) -> None:
    for index in range(cache._MOST_ENTRIES + 3):
        entry(str(index)).write(b"compiled")
        for age, path in enumerate(sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime_ns)):
            os.utime(path, (1000 - age, 1000 - age))  # the clock is too coarse for files this quick
    kept = [index for index in range(cache._MOST_ENTRIES + 3) if entry(str(index)).read()]
    assert kept == list(range(3, cache._MOST_ENTRIES + 3))
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_nothing__is_kept_where_the_variable_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entry().write(b"compiled")
    assert CacheEntry.of_file(Path(__file__), "", "r", "1", "") is None
    assert entry().read() is None
    assert list(tmp_path.iterdir()) == []


def test_folder__is_the_users_cache_and_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entry().write(b"compiled")
    assert (tmp_path / "fcos-edge").stat().st_mode & 0o077 == 0
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    entry().write(b"compiled")
    assert len(list((tmp_path / "home" / ".cache" / "fcos-edge").iterdir())) == 1


def test_folder__that_cannot_be_made_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for named in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), "/proc/none", "nul\0"):
        monkeypatch.setattr(os, "environ", {cache.VARIABLE: named})
        entry().write(b"compiled")
        assert entry().read() is None


def test_folder__of_somebody_else_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry().write(b"compiled")
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert entry().read() is None


@pytest.mark.parametrize(("changed", "is_same"), [
    ("model name : Other\nflags : a b\nMHz : 1\n", False),
    ("model name : One\nflags : a b c\nMHz : 1\n", False),
    ("model name : One\nflags : a b\nMHz : 2\n", True),  # what changes from one second to the next
])  # fmt: skip
def test_cpu_identity(tmp_path: Path, changed: str, is_same: bool) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("model name : One\nflags : a b\nMHz : 1\n")
    other.write_text(changed)
    assert (cpu_identity(one) == cpu_identity(other)) == is_same
    assert cpu_identity(tmp_path / "absent") != ""
