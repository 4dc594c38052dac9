"""How much faster int8 is than fp32, in each runtime.

    python benchmarks/int8_speed.py street8-lite0-320

All networks are loaded at once and take turns: in each round every one computes the same picture a
number of times, fp32 and int8 of a runtime one right after the other, so that a busy neighbour slows both.
A round's figure is the median of its calls, and a runtime's ratio the median of its rounds' ratios. Timed
is the network alone, through the device's own wrapper: no letterbox, no post-processing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from conditions import Table, Target, add_json, has_vnni, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.console import track
from fcos_edge.errors import UsageError
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.loading import LoadedArtifact
from fcos_edge.runtime import UInt8Array
from fcos_edge.spec import ModelSpec
from networks import open_networks

# Threads -> how many times as fast int8 is to be.
LEAST_RATIOS = {1: 1.8, 2: 1.7}
WARM_UP_CALLS = 10


def run(args: argparse.Namespace) -> None:
    networks = open_networks(args.bundle, ("fp32", "int8"), args.threads)
    runtimes = [name for name, precision in networks if precision == "int8" and (name, "fp32") in networks]
    if not runtimes:
        raise UsageError(f"{args.bundle}: no runtime has both fp32 and int8; export with --int8")
    conditions = measure_conditions(args.threads, {"rounds": args.rounds, "calls": args.calls})
    images = golden_input(args.bundle, next(iter(networks.values())).spec)
    for network in networks.values():
        time_calls(network, images, WARM_UP_CALLS)
    keys = [(runtime, precision) for runtime in runtimes for precision in ("fp32", "int8")]
    rounds_ms: dict[tuple[str, str], list[float]] = {key: [] for key in keys}
    for _ in track(range(args.rounds), "timing", args.rounds):
        for key in keys:
            rounds_ms[key].append(statistics.median(time_calls(networks[key], images, args.calls)))

    least = LEAST_RATIOS.get(args.threads, LEAST_RATIOS[1])
    targets, rows, figures = [], [], {}
    for runtime in runtimes:
        fp32_ms, int8_ms = rounds_ms[runtime, "fp32"], rounds_ms[runtime, "int8"]
        ratios = [slow / fast for slow, fast in zip(fp32_ms, int8_ms, strict=True)]
        ratio = statistics.median(ratios)
        figures[runtime] = {"fp32_ms": fp32_ms, "int8_ms": int8_ms, "ratios": ratios}
        rows.append((runtime, statistics.median(fp32_ms), statistics.median(int8_ms), ratio,
                     f"{min(ratios):.2f} .. {max(ratios):.2f}"))  # fmt: skip
        # Promised for one thread and two, and where the CPU has instructions for it.
        is_judged = has_vnni() and args.threads in LEAST_RATIOS
        what = f"{runtime}: fp32 time / int8 time"
        targets.append(Target(what, ratio, ">=", least, "", is_judged))
    header = ("runtime", "fp32 ms", "int8 ms", "ratio", "ratios of the rounds")
    title = f"one picture, {args.threads} {'thread' if args.threads == 1 else 'threads'}, medians"
    report("int8_speed", conditions, targets, [Table(title, header, rows)], figures, args.json)
    for network in networks.values():
        network.close()


def time_calls(network: LoadedArtifact, images: UInt8Array, calls: int) -> list[float]:
    """Milliseconds of each call."""
    times_ms = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        network.runtime.run(images)
        times_ms.append((time.perf_counter_ns() - start) / 1e6)
    return times_ms


def golden_input(bundle: Path, spec: ModelSpec) -> UInt8Array:
    """(1, H, W, 3) uint8: the first golden picture, letterboxed."""
    pictures = sorted(path for path in (bundle / "golden").glob("*") if path.suffix in (".png", ".jpg"))
    if not pictures:
        raise UsageError(f"{bundle}: no golden pictures; export the bundle again")
    image_bgr = read_image_bgr(pictures[0])
    letterbox = Letterbox.from_spec(spec, (image_bgr.shape[0], image_bgr.shape[1]))
    return np.ascontiguousarray(letterbox.apply(image_bgr)[None])


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="How much faster int8 is than fp32, in each runtime.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=positive_int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--calls", type=positive_int, default=50, metavar="N", help="in each round (default: %(default)s)"
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
