"""The default number of threads, and who waits for whom."""

from __future__ import annotations

import os
import threading
import time
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
        ("100000 0", 4, 4),
    ],
)
def test_default_threads__is_cores_within_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_max: str, cores: int, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert threads.default_threads() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 4), ("200000", 2), ("150000", 2)])
def test_default_threads__older_cgroups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    assert threads.default_threads() == expected


def test_default_threads__without_cgroup_or_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_CGROUP", tmp_path / "absent")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.default_threads() == 1


class Crowd:
    """Threads that each take cores for a moment, and what was taken at most."""

    def __init__(self, cores: int) -> None:
        self.shared = threads.SharedCores(cores)
        self.lock = threading.Lock()
        self.taken = self.most = 0

    def work(self, count: int, rounds: int) -> None:
        for _ in range(rounds):
            with self.shared.taken(count):
                with self.lock:
                    self.taken += min(count, self.shared.cores)
                    self.most = max(self.most, self.taken)
                time.sleep(0.001)
                with self.lock:
                    self.taken -= min(count, self.shared.cores)


def run_all(workers: list[threading.Thread]) -> None:
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize(
    ("cores", "counts"),
    [
        (2, [2, 2]),  # two networks with the default number
        (2, [1, 1, 1]),
        (4, [1, 2, 3, 4]),
        (2, [5, 1, 0]),  # more than there are is all; nothing is always free
    ],
)
def test_shared_cores__never_more_threads_than_cores(cores: int, counts: list[int]) -> None:
    crowd = Crowd(cores)
    run_all([threading.Thread(target=crowd.work, args=(count, 20)) for count in counts])
    assert crowd.most == min(cores, sum(min(count, cores) for count in counts))
    assert crowd.taken == 0


def test_shared_cores__many_small_ones_do_not_keep_a_large_one_out() -> None:
    crowd = Crowd(2)
    done = threading.Event()

    def small() -> None:
        while not done.is_set():
            crowd.work(1, 1)

    def large() -> None:
        crowd.work(2, 3)
        done.set()

    run_all([threading.Thread(target=one) for one in (small, small, small, large)])


def test_shared_cores__who_needs_none_does_not_wait_behind_who_does() -> None:
    shared = threads.SharedCores(1)

    def wait() -> None:
        with shared.taken(1):
            pass

    waiting = threading.Thread(target=wait)
    with shared.taken(1):
        waiting.start()
        time.sleep(0.05)  # until it stands at the entrance
        run_all([threading.Thread(target=lambda: shared.taken(0).__enter__())])
    waiting.join(timeout=60)


def test_shared_cores__are_free_again_after_an_error() -> None:
    shared = threads.SharedCores(1)
    with pytest.raises(ValueError, match="broken"), shared.taken(1):
        raise ValueError("broken")
    with shared.taken(1):
        pass


def test_shared_cores__by_default_are_those_of_the_process() -> None:
    assert threads.SharedCores().cores == threads.default_threads()
