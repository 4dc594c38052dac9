"""`fcos-edge report`: pages of what other verbs wrote earlier with --json, as on a board."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fcos_edge.console import print_json
from fcos_edge.errors import UsageError
from fcos_edge.report.options import add_page_options, check_page_options, write_pages

SUMMARY = "make a page, or a comment in Markdown, of what other verbs wrote with --json"
EXTRA = "parity"

Document = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path,
        help="what `parity` or `bench` wrote with --json; the page of a parity report shows a bench, too",
    )  # fmt: skip
    add_page_options(parser)
    parser.add_argument(
        "--data", metavar="D", type=Path,
        help="the data set that was measured on, to show the pictures that differ most",
    )  # fmt: skip
    parser.add_argument(
        "--bundle", metavar="B", type=Path, help="the bundle, for a sensitivity table that the report has not"
    )


def run(args: argparse.Namespace) -> int:
    from fcos_edge.report.document import read_document

    if args.html is None and args.markdown is None:
        raise UsageError("nothing to write; name a file with --html, with --markdown or with both")
    check_page_options(args)
    documents: dict[str, Document] = {}
    for path in args.files:
        kind, document = read_document(path)
        if kind in documents:
            raise UsageError(f"{path}: a second {kind} report; give one of each kind")
        documents[kind] = document
    written = write_pages(args, *_pages(documents, args))
    if args.json:
        print_json({"kinds": sorted(documents), "files": written})
    return 0


def _pages(
    documents: Mapping[str, Document], args: argparse.Namespace
) -> tuple[Callable[[], str], Callable[[], str]]:
    """What makes the HTML, and what makes the Markdown."""
    from fcos_edge.report.document import check_same_bundle
    from fcos_edge.report.parity import bench_page, parity_markdown, parity_page

    bench = documents.get("bench")
    if "parity" in documents:
        parity = documents["parity"]
        check_same_bundle(bench, {one["file"]: one["bytes"] for one in parity["artifacts"]})
        sensitivity = _sensitivity(args.bundle) if args.bundle is not None else None
        return (
            lambda: parity_page(parity, bench=bench, data=args.data, sensitivity=sensitivity),
            lambda: parity_markdown(parity, bench=bench),
        )
    assert bench is not None
    for option in ("data", "bundle"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option}: there is no parity report among the files; leave it out")
    if args.markdown is not None:
        raise UsageError("--markdown: a bench alone has no short form; give a parity report, too, or --html")
    return lambda: bench_page(bench), lambda: ""


def _sensitivity(bundle: Path) -> Mapping[str, Any]:
    from fcos_edge.bundle import SENSITIVITY_NAME
    from fcos_edge.sensitivity_table import read_table

    if not (bundle / SENSITIVITY_NAME).is_file():
        raise UsageError(f"--bundle {bundle}: has no {SENSITIVITY_NAME}; leave it out")
    return read_table(bundle / SENSITIVITY_NAME).to_dict()
