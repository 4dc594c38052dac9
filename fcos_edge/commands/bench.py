"""`fcos-edge bench`: latency, memory and throughput of every artifact of a bundle on this machine."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge.arguments import add_variant_options, different_names, positive_int
from fcos_edge.console import note, print_json, print_table
from fcos_edge.errors import ArtifactError, DataError, UsageError

if TYPE_CHECKING:
    from fcos_edge.bench.figures import Latency
    from fcos_edge.bench.report import BenchReport, CaseReport

SUMMARY = "measure how fast every artifact of a bundle is here, and what it costs"
EXTRA = "parity"  # for a data set's labels
SECONDS = 60
# fp16 files are half as large and computed as fp32 is.
PRECISIONS = ("int8", "fp32")
# More say nothing new of the time, and each is held in memory by every process.
MOST_PICTURES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", metavar="BUNDLE", nargs="?", type=Path,
        help="the folder that `export` wrote (default: ./street8-lite0-320)",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="D", type=Path,
        help=f"data set, or folder of pictures, of which {MOST_PICTURES} are run"
        " (default: the bundle's golden pictures)",
    )  # fmt: skip
    parser.add_argument("--split", metavar="S", help="which pictures of the data set (default: val)")
    add_variant_options(parser, ",".join(PRECISIONS))
    parser.add_argument(
        "--threads", metavar="N,N", type=_thread_counts,
        help="numbers of threads (default: 1, 2, 4, ... up to the cores that this process may use)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", metavar="S", type=positive_int, default=SECONDS,
        help="time for all of it (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from fcos_edge import embedded
    from fcos_edge.bench.measure import bench_variants
    from fcos_edge.bundle import MANIFEST_NAME, read_manifest
    from fcos_edge.threads import checked_threads
    from fcos_edge.workers.process import open_interpreters
    from fcos_edge.workers.variants import chosen_variants, plan_variants

    bundle: Path = args.bundle or Path(embedded.NAME)
    if args.bundle is None and not (bundle / MANIFEST_NAME).is_file():
        raise UsageError(
            f"there is no bundle {embedded.NAME} in this folder; give a bundle, or make this one:"
            " fcos-edge export --int8"
        )
    manifest = read_manifest(bundle)
    threads = [checked_threads(count) for count in args.threads or _default_threads()]
    pictures = _pictures(args.data, args.split, bundle)
    interpreters = open_interpreters(args.python)
    variants, skipped = plan_variants(
        manifest, interpreters, runtime=args.runtime, has_onnx_in_openvino=args.onnx_in_openvino
    )
    precisions = args.precisions
    if precisions is None and {v.precision for v in variants} & set(PRECISIONS):
        precisions = PRECISIONS
    chosen = chosen_variants(variants, precisions)
    report = bench_variants(bundle, manifest, chosen, threads, pictures, args.seconds)
    if args.json:
        print_json(report.to_dict())
    else:
        _print(report)
    left_out = sorted({v.file for v in variants} - {v.file for v in chosen})
    if left_out and args.precisions is None:
        note(f"not measured, add them with --precisions: {', '.join(left_out)}")
    if skipped and args.runtime is None:
        note(f"not measured, no runtime for them here: {', '.join(skipped)}")
    for name, failure in report.failures.items():
        note(f"failed: {name}: {failure}")
    return 1 if report.failures else 0


def _pictures(data: Path | None, split: str | None, bundle: Path) -> list[Path]:
    """Files to run. Raises FcosEdgeError where one cannot be read."""
    from fcos_edge.golden import FOLDER
    from fcos_edge.image import read_image_bgr
    from fcos_edge.sources import list_pictures, spread

    if data is None:
        if split is not None:
            raise UsageError("--split is of a data set; name it with --data, or leave --split out")
        if not (bundle / FOLDER).is_dir():
            raise ArtifactError(
                f"{bundle}: no golden pictures; copy the bundle again, or name others with --data"
            )
        return list(list_pictures(bundle / FOLDER))
    from fcos_edge.train.data.formats import read_labels
    from fcos_edge.train.data.picture_list import is_unlabelled, read_picture_list

    if is_unlabelled(data):
        paths = [picture.path for picture in read_picture_list(data).pictures]
    else:
        paths = [picture.path for picture in read_labels(data, split or "val").pictures]
    chosen = spread(paths, MOST_PICTURES)
    for path in chosen:
        if not path.is_file():
            raise DataError(f"{path}: no such picture; give a data set with its pictures")
        read_image_bgr(path)
    return chosen


def _default_threads() -> list[int]:
    """1, 2, 4, ... and the cores that this process may use."""
    from fcos_edge.threads import default_threads

    cores = default_threads()
    return sorted({1 << power for power in range(cores.bit_length())} | {cores})


def _print(report: BenchReport) -> None:
    from fcos_edge.bench.report import count_threads
    from fcos_edge.conditions import describe_conditions

    print("\n".join([*describe_conditions(report.conditions), *_other_versions(report)]))
    pictures, rounds = len(report.pictures), report.rounds
    print(
        f"{report.bundle}: {pictures} {'picture' if pictures == 1 else 'pictures'} over and over, {rounds}"
        f" {'round' if rounds == 1 else 'rounds'}, {report.took_s:.0f} s;"
        f" left out as warm-up: {report.warm_up_calls} calls, and the first of each round"
    )
    measured = [case for case in report.cases if case.latency]
    if measured:
        print(
            "\nms a picture, p50/p90/p99; slow: calls over twice the p50; to fp32, to fewer: times as fast at"
            " inference, median of the rounds"
        )
        print_table(
            ("artifact", "package", "threads", "letterbox", "inference", "post", "whole", "n", "slow",
             "largest", "to fp32", "to fewer"),
            [_latency_row(case, report) for case in measured],
        )  # fmt: skip
        least = min(case.threads for case in measured)
        print(
            f"\nin a process of its own, {count_threads(least)}: ms to load at a first start and at later"
            " ones, ms of the first inference; MiB of memory before loading, at rest, at peak, and of files"
        )
        print_table(
            ("artifact", "package", "load", "later", "first", "before", "at rest", "at peak", "files"),
            [_cost_row(case, report) for case in measured if case.threads == least],
        )
    best = [(one, setting, one.tried[setting]) for one in report.throughput if (setting := one.best)]
    if best:
        print("\nbest pictures/s, from picture to detections")
        print_table(("artifact", "package", "pictures/s", "n", "with"), [
            (one.variant.file, one.variant.package, rate, pictures, setting.description)
            for one, setting, (pictures, rate) in best
        ])  # fmt: skip
    if heat := _heat_line(report):
        print(f"\n{heat}")
    if report.remarks:
        print()
    for remark in report.remarks:
        print(f"- {remark}")


def _other_versions(report: BenchReport) -> list[str]:
    """What ran in another Python than this one, a line each."""
    here = {"python": platform.python_version(), **report.conditions["versions"]}
    others = {}
    for case in report.cases:
        if case.versions and not case.versions.items() <= here.items():
            others[case.variant.package] = ", ".join(f"{name} {text}" for name, text in case.versions.items())
    return [f"{package} runs with {text}" for package, text in others.items()]


def _latency_row(case: CaseReport, report: BenchReport) -> tuple[object, ...]:
    whole = case.latency["whole"]
    stages = (_percentiles(latency) for latency in case.latency.values())
    gains = (
        next((f"{gain.ratio.median:.2f}x" for gain in found if gain.fast is case), "")
        for found in (report.int8_gains, report.thread_gains)
    )
    return (
        case.variant.file, case.variant.package, case.threads, *stages, whole.n, whole.slow_calls,
        whole.largest_ms, *gains,
    )  # fmt: skip


def _percentiles(latency: Latency) -> str:
    values = (latency.p50_ms, latency.p90_ms, latency.p99_ms)
    return "/".join("-" if value is None else f"{value:.3g}" for value in values)


def _cost_row(case: CaseReport, report: BenchReport) -> tuple[object, ...]:
    again_ms = (one.load_again_ms for one in report.throughput if one.variant == case.variant)
    memory = (_whole(case.memory_mib.get(when)) for when in ("before", "rest", "peak"))
    return (
        case.variant.file, case.variant.package, _whole(case.load_ms), _whole(next(again_ms, None)),
        case.first_ms, *memory, case.size_bytes / (1 << 20),
    )  # fmt: skip


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _heat_line(report: BenchReport) -> str:
    """Before, the most in between, and after; "" where the system tells nothing."""
    from fcos_edge.heat import highest_temperature

    parts = []
    degrees = [found for heat in report.heat if (found := highest_temperature(heat)) is not None]
    if degrees:
        parts.append(f"{degrees[0]:.0f} deg C before, up to {max(degrees):.0f}, {degrees[-1]:.0f} after")
    clocks = [heat["clock_mhz"] for heat in report.heat if "clock_mhz" in heat]
    if clocks:
        down = f", down to {min(clocks):,}" * (min(clocks) < clocks[0])
        parts.append(f"clock {clocks[0]:,} MHz before{down}, {clocks[-1]:,} after")
    return "; ".join(parts)


def _thread_counts(text: str) -> list[int]:
    """`1,2,4`, each once."""
    return sorted(positive_int(part) for part in different_names(text))
