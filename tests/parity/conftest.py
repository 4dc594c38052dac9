"""One report that several files of this folder look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcos_edge.parity.limits import Limits
from fcos_edge.parity.measure import Request, measure
from fcos_edge.parity.report import ParityReport


@pytest.fixture(scope="session")
def small_request(small_bundle: Path, few_pictures: Path) -> Request:
    # A neighbour's moment is a large part of the millisecond that it takes.
    limits = Limits(max_latency_ratio=1000)
    return Request(small_bundle, few_pictures, runtime="onnxruntime", threads=1, draws=50, limits=limits)


@pytest.fixture(scope="session")
def small_report(small_request: Request) -> ParityReport:
    return measure(small_request)
