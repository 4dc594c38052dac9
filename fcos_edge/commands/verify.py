"""`fcos-edge verify`: repeat the verification of a bundle on this machine. Needs no torch and no data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge.arguments import positive_int
from fcos_edge.console import note, print_json, print_table

if TYPE_CHECKING:
    from fcos_edge.verify import ArtifactReport

SUMMARY = "prove a bundle again on this machine, from its golden pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder that `export` wrote")
    parser.add_argument(
        "--runtime", metavar="R",
        help="only the files of onnxruntime, openvino or tflite (default: each file in its own runtime)",
    )  # fmt: skip
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="threads of the model (default: all this process may use)",
    )


def run(args: argparse.Namespace) -> int:
    from fcos_edge.verify import verify_bundle

    report = verify_bundle(args.bundle, args.runtime, args.threads, is_timed=True)
    if args.json:
        print_json({"bundle": str(args.bundle), **report.to_dict()})
    else:
        header = ("artifact", "runtime", "result", "raw outputs", "detections", "latency", "note")
        print_table(header, map(_row, report.artifacts))
        if report.skipped:
            why = "not --runtime's" if args.runtime else "no runtime for them is installed"
            note(f"not verified, {why}: {', '.join(report.skipped)}")
    return 0 if report.passed else 1


def _row(report: ArtifactReport) -> tuple[str, ...]:
    detections, latency = report.partners, report.latency
    return (
        report.file,
        report.runtime,
        "FAILED" if report.failures else "passed",
        report.outputs,
        f"{detections.matched} of {detections.asked} have a partner",
        f"{latency.median_ms:.1f} ms (n={latency.runs})" if latency else "",
        "; ".join(filter(None, (report.failure, report.note))),
    )
