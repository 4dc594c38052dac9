"""`fcos-edge verify`: repeat the verification of a bundle on this machine. Needs no torch and no data."""

from __future__ import annotations

import argparse
from pathlib import Path

from fcos_edge.arguments import add_runtime
from fcos_edge.console import print_json, print_table

SUMMARY = "prove a bundle again on this machine, from its golden pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder that `export` wrote")
    add_runtime(parser)


def run(args: argparse.Namespace) -> int:
    from fcos_edge.verify import verify_bundle

    reports = verify_bundle(args.bundle, args.runtime)
    if args.json:
        print_json({"bundle": str(args.bundle), "artifacts": [report.to_dict() for report in reports]})
    else:
        print_table(
            ("artifact", "runtime", "result"),
            [(r.file, r.runtime, "; ".join(r.failures) or "passed") for r in reports],
        )
    return 1 if any(report.failures for report in reports) else 0
