"""`fcos-edge report`: pages of what other verbs wrote with --json, as on a board, and of training runs."""

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
_ALONE = ("eval", "analyze", "training")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path,
        help="what `parity`, `bench`, `eval` or `analyze` wrote with --json, or the folder of a training run;"
        " the page of a parity report shows a bench, too",
    )  # fmt: skip
    add_page_options(parser)
    parser.add_argument(
        "--data", metavar="D", type=Path,
        help="the data set that was measured on, to show the pictures that differ most, or the worst of eval",
    )  # fmt: skip
    parser.add_argument(
        "--bundle", metavar="B", type=Path, help="the bundle, for a sensitivity table that the report has not"
    )


def run(args: argparse.Namespace) -> int:
    if args.html is None and args.markdown is None:
        raise UsageError("nothing to write; name a file with --html, with --markdown or with both")
    check_page_options(args)
    documents: dict[str, Document] = {}
    for path in args.files:
        kind, document = _read(path)
        if kind in documents:
            raise UsageError(f"{path}: a second {kind} report; give one of each kind")
        documents[kind] = document
    try:
        written = write_pages(args, *_pages(documents, args))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        names, reason = ", ".join(map(str, args.files)), f"{type(error).__name__}: {error}"
        raise UsageError(f"{names}: damaged ({reason}); write it again with --json") from None
    if args.json:
        print_json({"kinds": sorted(documents), "files": written})
    return 0


def _read(path: Path) -> tuple[str, Document]:
    """A file that a verb wrote, or the folder of a training run."""
    from fcos_edge.report.document import read_document

    if not path.is_dir():
        return read_document(path)
    from fcos_edge.report.training import read_training

    return "training", read_training(path)


def _page_alone(kind: str, document: Document, data: Path | None) -> str:
    """Of what is no measurement of a bundle."""
    if kind == "eval":
        from fcos_edge.report.evaluation import evaluation_page

        return evaluation_page(document, data)
    if kind == "analyze":
        from fcos_edge.report.analysis import analysis_page as page
    else:
        from fcos_edge.report.training import training_page as page
    return page(document)


def _pages(
    documents: Mapping[str, Document], args: argparse.Namespace
) -> tuple[Callable[[], str], Callable[[], str]]:
    """What makes the HTML, and what makes the Markdown."""
    from fcos_edge.report.document import check_same_bundle
    from fcos_edge.report.parity import bench_page, parity_markdown, parity_page

    if alone := [kind for kind in _ALONE if kind in documents]:
        kind = alone[0]
        if len(documents) > 1:
            raise UsageError(f"a page of {kind} holds nothing else; make a page of each file by itself")
        has_pictures = "worst_misses" in documents[kind]
        _refuse(args, f"the page is of {kind}", *["data"] * (kind != "eval"), "bundle", "markdown")
        if args.data is not None and not has_pictures:
            _refuse(args, "the file is of an older eval, which names no pictures", "data")
        return lambda: _page_alone(kind, documents[kind], args.data), lambda: ""
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
    _refuse(args, "there is no parity report among the files", "data", "bundle")
    if args.markdown is not None:
        raise UsageError("--markdown: a bench alone has no short form; give a parity report, too, or --html")
    return lambda: bench_page(bench), lambda: ""


def _refuse(args: argparse.Namespace, reason: str, *options: str) -> None:
    for option in options:
        if getattr(args, option) is not None:
            raise UsageError(f"--{option}: {reason}; leave it out")


def _sensitivity(bundle: Path) -> Mapping[str, Any]:
    from fcos_edge.bundle import SENSITIVITY_NAME
    from fcos_edge.sensitivity_table import read_table

    if not (bundle / SENSITIVITY_NAME).is_file():
        raise UsageError(f"--bundle {bundle}: has no {SENSITIVITY_NAME}; leave it out")
    return read_table(bundle / SENSITIVITY_NAME).to_dict()
