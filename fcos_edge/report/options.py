"""The options that write pages: where to, refused before the work where they cannot be written."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from fcos_edge.console import note
from fcos_edge.errors import UsageError


def add_page_options(parser: argparse.ArgumentParser, has_markdown: bool = True) -> None:
    """`--html FILE`, and `--markdown FILE`; nothing that draws is imported here."""
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write a page that opens without a network, all in one file"
    )
    if has_markdown:
        parser.add_argument(
            "--markdown", metavar="FILE", type=Path, help="write the same in short, to comment a pull request"
        )


def check_page_options(args: argparse.Namespace) -> None:
    """Raise UsageError where a page cannot be written, ModuleNotFoundError where nothing here can draw it."""
    asked = _asked(args)
    if not asked:
        return
    from fcos_edge.report.page import check_page_file

    for option, path in asked.items():
        check_page_file(option, path)
    if len({path.resolve() for path in asked.values()}) < len(asked):
        raise UsageError(f"{' and '.join(asked)}: both are {next(iter(asked.values()))}; name two files")
    if "--html" in asked:
        import matplotlib  # noqa: F401 (the charts need it, and would find out too late)


def write_pages(
    args: argparse.Namespace, html: Callable[[], str], markdown: Callable[[], str] | None = None
) -> list[str]:
    """Make and write what was asked for, and say so. Returns the files' paths."""
    from fcos_edge.report.page import write_page

    makers = {"--html": html, "--markdown": markdown}
    written = []
    for option, path in _asked(args).items():
        make = makers[option]
        assert make is not None
        write_page(path, make())
        note(f"wrote {path}")
        written.append(str(path))
    return written


def _asked(args: argparse.Namespace) -> dict[str, Path]:
    paths = {f"--{name}": getattr(args, name, None) for name in ("html", "markdown")}
    return {option: path for option, path in paths.items() if path is not None}
