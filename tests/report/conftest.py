"""A parity report, a bench and their page, for every file of this folder.

parity.json.gz is what `fcos-edge parity street8-lite0-320 --data free-data --json` wrote on two busy cores,
without `verify` and `one_bit`, which no page shows, and with the first 40 layers of the sensitivity table;
bench.json is `fcos-edge bench street8-lite0-320 --seconds 10 --threads 1 --runtime onnxruntime --json`.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.free_data import write_free_data
from fcos_edge.report.parity import parity_page

_FOLDER = Path(__file__).parent


@pytest.fixture
def document() -> dict[str, Any]:
    """A new copy, that a test may change."""
    return read_report()


@pytest.fixture
def bench() -> dict[str, Any]:
    return read_bench()


@pytest.fixture(scope="session")
def free_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures that the report is of."""
    folder = tmp_path_factory.mktemp("data") / "free-data"
    write_free_data(folder)
    return folder


@pytest.fixture(scope="session")
def page(free_data: Path) -> str:
    """The page with all its parts."""
    return parity_page(read_report(), bench=read_bench(), data=free_data)


def read_report() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(gzip.decompress((_FOLDER / "parity.json.gz").read_bytes()))
    return values


def read_bench() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((_FOLDER / "bench.json").read_text())
    return values
