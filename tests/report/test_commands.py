"""The commands that a page tells are commands: each is read as a user would give it."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from fcos_edge.cli import make_parser
from fcos_edge.report.analysis import analysis_page
from fcos_edge.report.evaluation import evaluation_page
from fcos_edge.report.parity import bench_page, parity_page
from fcos_edge.report.training import read_training, training_page
from tests.report.conftest import read_bench, read_report
from tests.report.small_documents import make_analysis, make_evaluation, make_run

PAGES: dict[str, Callable[[Path], str]] = {
    "parity": lambda folder: parity_page(read_report(), bench=read_bench()),
    "bench": lambda folder: bench_page(read_bench()),
    "evaluation": lambda folder: evaluation_page(make_evaluation()),
    "analysis": lambda folder: analysis_page(make_analysis()),
    "training": lambda folder: training_page(read_training(make_run(folder / "my run"))),
    "unfinished": lambda folder: training_page(read_training(make_run(folder / "run", is_finished=False))),
}


@pytest.mark.parametrize("name", PAGES)
def test_commands__are_understood(name: str, tmp_path: Path) -> None:
    lines = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", PAGES[name](tmp_path), re.DOTALL)
    assert lines
    for line in map(html.unescape, lines):
        program, *argv = shlex.split(line)
        assert program == "fcos-edge"
        make_parser().parse_args(argv)  # exits where it does not understand
