"""`fcos-edge verify`: repeat the verification of a bundle on this machine. Needs no torch and no data."""

from __future__ import annotations

import argparse
from pathlib import Path

from fcos_edge.arguments import add_runtime
from fcos_edge.console import note, print_json, print_table

SUMMARY = "prove a bundle again on this machine, from its golden pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder that `export` wrote")
    add_runtime(parser)


def run(args: argparse.Namespace) -> int:
    from fcos_edge.verify import verify_bundle

    report = verify_bundle(args.bundle, args.runtime)
    if args.json:
        print_json({"bundle": str(args.bundle), **report.to_dict()})
    else:
        rows = [
            (r.file, r.runtime, "; ".join(check.description for check in r.failures) or "passed", r.note)
            for r in report.artifacts
        ]
        print_table(("artifact", "runtime", "result", "note"), rows)
        if report.skipped:
            why = "not --runtime's" if args.runtime else "no runtime for them is installed"
            note(f"not verified, {why}: {', '.join(report.skipped)}")
    return 0 if report.passed else 1
