"""One report that several files of this folder look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcos_edge.parity.measure import Request, measure
from fcos_edge.parity.report import ParityReport


@pytest.fixture(scope="session")
def small_request(small_bundle: Path, few_pictures: Path) -> Request:
    return Request(small_bundle, few_pictures, runtime="onnxruntime", threads=1, draws=50)


@pytest.fixture(scope="session")
def small_report(small_request: Request) -> ParityReport:
    return measure(small_request)
