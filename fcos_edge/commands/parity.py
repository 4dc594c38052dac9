"""`fcos-edge parity`: every artifact of a bundle in every runtime here, on labelled pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcos_edge.arguments import (
    add_variant_options,
    different_names,
    not_negative_float,
    positive_float,
    positive_int,
)
from fcos_edge.console import note, print_json
from fcos_edge.errors import UsageError
from fcos_edge.report.options import add_page_options, check_page_options, write_pages

if TYPE_CHECKING:
    from fcos_edge.parity.limits import Limits

SUMMARY = "prove on labelled pictures that every artifact here is the same detector, and what it costs"
EXTRA = "parity"
# Option -> what its help says. The defaults and their reasons are those of parity/limits.py.
LIMITS = {
    "max_ap_drop": "points of AP that int8 may lose, classes weighted by their boxes",
    "max_class_drop": "points of AP that one class may lose",
    "max_miss_increase": "points that the miss rate of one class may rise at its operating threshold",
    "least_boxes": "boxes that a class must have to be judged alone; smaller ones are pooled and reported",
    "agreement_factor": "how many times as wide the limits on raw outputs and detections are",
    "max_latency_ratio": "int8 time / fp32 time of a runtime",
    "max_latency_ms": "median milliseconds of a picture, letterbox to detections",
}
# "Nothing may be lost" is a limit, too.
_TYPES: dict[str, Callable[[str], float]] = {
    "max_ap_drop": not_negative_float,
    "max_class_drop": not_negative_float,
    "max_miss_increase": not_negative_float,
    "least_boxes": positive_int,
}


def limit_of(name: str, text: str) -> float:
    """The value of one of LIMITS as a user gives it; raises argparse.ArgumentTypeError for anything else."""
    return _TYPES.get(name, positive_float)(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from fcos_edge.parity.limits import Limits

    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder that `export` wrote")
    parser.add_argument(
        "--data", metavar="D", type=Path, required=True,
        help="data set in COCO, YOLO or VOC format: its folder, its COCO file or its data.yaml",
    )  # fmt: skip
    parser.add_argument("--split", metavar="S", default="val", help="which pictures (default: %(default)s)")
    parser.add_argument("--classes", metavar="C,C", type=different_names, help="measure some of the classes")
    parser.add_argument("--strict", action="store_true", help="refuse classes that are in another order")
    parser.add_argument(
        "--checkpoint", metavar="FILE", type=Path,
        help="what the bundle was exported from, to be the reference in PyTorch (default: the embedded one"
        " where it is that, else an fp32 artifact)",
    )  # fmt: skip
    add_variant_options(parser)
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="of each artifact (default: all this process may use)",
    )
    parser.add_argument(
        "--timeout", type=positive_float, metavar="S", default=300.0,
        help="seconds after which a runtime that does not answer has failed (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--draws", type=positive_int, metavar="N", default=1000,
        help="how many times pictures are drawn anew for the 95 %% intervals (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--collect", metavar="FILE", type=Path,
        help="only run, and write detections and times to FILE (JSON Lines), as on a board",
    )  # fmt: skip
    parser.add_argument(
        "--from", metavar="FILE", type=Path, nargs="+", dest="from_files",
        help="report on what --collect wrote, on boards or here; nothing but the reference runs",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", metavar="FILE", type=Path, help="an earlier report (--json): what got worse fails too"
    )
    add_page_options(parser)
    parser.add_argument(
        "--bench", metavar="FILE", type=Path, help="what `bench --json` wrote, to stand in the page, too"
    )
    limits = parser.add_argument_group("gates", "exit code 1 where one fails; docs/parity.md explains them")
    for name, what in LIMITS.items():
        default = getattr(Limits(), name)
        limits.add_argument(
            f"--{name.replace('_', '-')}", metavar="X", dest=name, default=default,
            type=partial(limit_of, name),
            help=f"{what} (default: {'not judged' if default is None else f'{default:g}'})",
        )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from fcos_edge.parity.measure import Request, collect, measure
    from fcos_edge.parity.summary import print_report

    of_report = (args.from_files, args.baseline, args.checkpoint, args.html, args.markdown, args.bench)
    if args.collect is not None and any(of_report):
        raise UsageError(
            "--collect only runs: leave out --from, --baseline, --checkpoint, --html, --markdown and --bench,"
            " and give them where the report is made"
        )
    if args.from_files and (args.runtime or args.precisions or args.python or args.onnx_in_openvino):
        raise UsageError(
            "--from reports on all that was collected: leave out --runtime, --precisions, --python and"
            " --onnx-in-openvino, and give them to --collect"
        )
    check_page_options(args)
    bench = _bench(args)
    request = Request(
        bundle=args.bundle, data=args.data, split=args.split, classes=args.classes, is_strict=args.strict,
        checkpoint=args.checkpoint, runtime=args.runtime, precisions=args.precisions,
        pythons=tuple(args.python), has_onnx_in_openvino=args.onnx_in_openvino, threads=args.threads,
        timeout_s=args.timeout, draws=args.draws, limits=_limits(args), command=args.command_line,
    )  # fmt: skip
    if args.collect is not None:
        recording = collect(request, args.collect)
        failures = [f"{run.name}: {run.failure}" for run in recording.runs if run.failure]
        if args.json:
            print_json({"file": str(args.collect), "pictures": len(recording.pictures), "failed": failures})
        else:
            note(f"wrote {args.collect}: {len(recording.runs)} artifacts, {len(recording.pictures)} pictures")
            for line in failures:
                print(f"FAILED {line}")
        return 1 if failures else 0
    report = measure(request, tuple(args.from_files or ()), args.baseline)
    if args.json:
        print_json(report.to_dict())
        for line in report.failures:
            note(f"FAILED {line}")
    else:
        print_report(report)
    # Last: a disk that is full by now must not cost what was measured.
    if args.html is not None or args.markdown is not None:
        _write_pages(args, report.to_dict(), bench)
    return 0 if report.passed else 1


def _bench(args: argparse.Namespace) -> Mapping[str, Any] | None:
    """What `--bench` names; read before the work."""
    if args.bench is None:
        return None
    from fcos_edge.bundle import read_manifest
    from fcos_edge.report.document import check_same_bundle, read_document

    if args.html is None and args.markdown is None:
        raise UsageError("--bench is shown in a page; name one with --html or --markdown, or leave it out")
    kind, bench = read_document(args.bench)
    if kind != "bench":
        raise UsageError(f"--bench {args.bench}: is a report of {kind}; give what `bench --json` wrote")
    artifacts = read_manifest(args.bundle).artifacts
    check_same_bundle(bench, {one.name: sum(file.bytes for file in one.files) for one in artifacts})
    return bench


def _write_pages(
    args: argparse.Namespace, document: Mapping[str, Any], bench: Mapping[str, Any] | None
) -> None:
    from fcos_edge.report.parity import parity_markdown, parity_page

    write_pages(
        args,
        lambda: parity_page(document, bench=bench, data=args.data),
        lambda: parity_markdown(document, bench=bench),
    )


def _limits(args: argparse.Namespace) -> Limits:
    from fcos_edge.parity.limits import Limits

    return replace(Limits(), **{name: getattr(args, name) for name in LIMITS})
