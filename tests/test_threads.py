"""The default number of threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fcos_edge import threads


@pytest.mark.parametrize(
    ("cpu_max", "cores", "expected"),
    [
        ("max 100000\n", 4, 4),  # no quota
        ("200000 100000\n", 4, 2),
        ("50000 100000\n", 4, 1),  # half a core is still one thread
        ("250000 100000\n", 4, 3),  # the half core is not left idle
        ("1000 100000\n", 4, 1),
        ("800000 100000\n", 4, 4),  # a quota above what the machine has
        ("nonsense", 4, 4),
    ],
)
def test_default_threads__is_cores_within_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_max: str, cores: int, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    monkeypatch.setattr(threads, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert threads.default_threads() == expected


def test_default_threads__without_cgroup_or_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_CGROUP_QUOTA", tmp_path / "absent")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.default_threads() == 1
