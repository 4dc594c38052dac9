"""Whether a detector runs on and on: memory, handles, threads and latency over many thousand frames.

    python benchmarks/soak.py

Frames of eight sizes in turn, one thread, each runtime in a process of its own, int8. Without a bundle,
that of a small untrained detector is made (which needs torch). What is taken after a third of the frames,
when allocators have taken what they need, is compared with what is taken at the end; twenty blocks show how
it went.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge import load
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import read_manifest
from fcos_edge.console import note
from fcos_edge.errors import UsageError
from fcos_edge.runtime import find_runtime, installed_package
from networks import RUNTIME_OF

BLOCKS = 20
SIZES_HW = ((120, 160), (160, 120), (96, 96), (240, 320), (33, 500), (500, 33), (64, 64), (480, 640))
# One page in a hundred frames would be 0.8 MiB in 20,000.
MOST_GROWTH_MIB = 0.5
MOST_SLOWDOWN = 1.1


class Sample(NamedTuple):
    """The process after a block of frames."""

    frames: int
    resident_mib: float
    handles: int
    threads: int
    python_blocks: int
    latency_us: float


def run(args: argparse.Namespace) -> None:
    if not Path("/proc/self/statm").exists():
        raise UsageError("this system has no /proc; the soak reads memory and handles from there")
    conditions = measure_conditions(1, {"frames": args.frames})
    with _bundle(args.bundle) as bundle:
        formats = [artifact.format for artifact in read_manifest(bundle).artifacts]
        runtimes = [RUNTIME_OF[name] for name in dict.fromkeys(formats)]
        runtimes = [name for name in runtimes if installed_package(find_runtime(name)) is not None]
        samples = {}
        for name in runtimes:
            note(f"{name}: {args.frames} frames")
            # A new process each: memory is its own.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                samples[name] = pool.submit(soak, bundle, name, args.frames).result()

    targets, rows, figures = [], [], {}
    for name, found in samples.items():
        early, late = found[len(found) // 3], found[-1]
        rows += [(name, *sample[:5], f"{sample.latency_us:.0f}") for sample in (early, late)]
        figures[name] = [sample._asdict() for sample in found]
        growth = late.resident_mib - early.resident_mib
        # A single block may have met a busy neighbour.
        third = len(found) // 3
        slowdown = _latency(found[-third:]) / _latency(found[1 : 1 + third])
        targets += [
            Target(f"{name}: growth of resident memory", growth, "<=", MOST_GROWTH_MIB, " MiB"),
            Target(f"{name}: handles more at the end", late.handles - early.handles, "<=", 0),
            Target(f"{name}: threads more at the end", late.threads - early.threads, "<=", 0),
            Target(f"{name}: latency, last third / first third", slowdown, "<=", MOST_SLOWDOWN),
        ]
    header = ("runtime", "frames", "resident MiB", "handles", "threads", "Python blocks", "median us")
    report("soak", conditions, targets, [Table("early and late", header, rows)], figures, args.json)


def soak(bundle: Path, runtime: str, frames: int) -> list[Sample]:
    """Run so many frames; a sample after each block."""
    pictures = [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in SIZES_HW]
    samples = []
    with load(bundle, runtime=runtime, precision="int8", threads=1) as detector:
        block = max(1, frames // BLOCKS)
        times_us = np.empty(block)  # reused: it is not to grow itself
        for done in range(0, block * BLOCKS, block):
            for index in range(block):
                start = time.perf_counter_ns()
                detector(pictures[(done + index) % len(pictures)], threshold=0.3)
                times_us[index] = (time.perf_counter_ns() - start) / 1e3
            samples.append(_sample(done + block, float(np.median(times_us))))
    return samples


def _sample(frames: int, latency_us: float) -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        frames,
        round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        sys.getallocatedblocks(),
        latency_us,
    )


def _latency(samples: list[Sample]) -> float:
    return statistics.median(sample.latency_us for sample in samples)


@contextmanager
def _bundle(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    # Only here: torch takes long to load, and the soak of a given bundle needs none.
    from small_bundle import noise, small_checkpoint, write_bundle

    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder), small_checkpoint(), noise(9))
        yield Path(folder)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Memory, handles and latency over many thousand frames.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", nargs="?", help="default: a small one is made")
    parser.add_argument(
        "--frames", type=positive_int, default=20_000, metavar="N", help="default: %(default)s"
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
