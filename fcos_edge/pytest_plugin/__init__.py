"""A plugin for pytest: `pytest --fcos-bundle BUNDLE --fcos-data D` judges a bundle, a test for each gate.

    fcos-edge::model.int8.onnx::onnxruntime::ap_drop

What is judged, and why, is `fcos-edge parity`'s; without --fcos-data it is `fcos-edge verify`'s, in small.

pytest loads this file wherever fcos-edge is installed, so that it imports nothing of weight: the rest
(suite.py) waits for --fcos-bundle.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.arguments import different_names, package_and_path, positive_float, positive_int

_NEED_DATA = ("split", "classes", "checkpoint", "draws", "limit", "baseline", "json")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fcos-edge", "fcos-edge: is what runs here the detector that was exported?")

    def add(name: str, metavar: str, what: str, **how: Any) -> None:
        group.addoption(f"--fcos-{name}", metavar=metavar, help=what, **how)

    add("bundle", "BUNDLE", "judge this bundle: a test for each artifact, runtime and gate", type=_path)
    add(
        "data",
        "D",
        "labelled pictures, COCO, YOLO or VOC (default: the bundle's golden pictures)",
        type=_path,
    )
    add("split", "S", "which of them (default: val)")
    add("classes", "C,C", "measure some of the classes", type=different_names)
    add("checkpoint", "FILE", "what was exported, to be the reference in PyTorch", type=_path)
    add("runtime", "R", "only onnxruntime, openvino or tflite (default: all)")
    add("precisions", "P,P", "which files (default: all)", type=different_names)
    add("python", "PACKAGE=PATH", "run a runtime's package in another Python; may be given several times",
        type=package_and_path, action="append", default=[])  # fmt: skip
    group.addoption("--fcos-onnx-in-openvino", action="store_true", help="run .onnx files in OpenVINO, too")
    add("threads", "N", "of each artifact (default: all this process may use)", type=positive_int)
    add("timeout", "S", "wait so long for a runtime's answer (default: 300)", type=positive_float)
    add("draws", "N", "draws of the pictures for 95 %% intervals (default: 1000)", type=positive_int)
    add("limit", "NAME=X", "a limit of `fcos-edge parity`, as max-ap-drop=2; may be given several times",
        type=_limit, action="append", default=[])  # fmt: skip
    add("baseline", "FILE", "an earlier report: what got worse fails too", type=_path)
    add("json", "FILE", "write the report, as `fcos-edge parity --json` prints it", type=_path)


def pytest_configure(config: pytest.Config) -> None:
    def is_given(name: str) -> bool:
        return bool(config.getoption(f"fcos_{name}"))

    if not is_given("bundle"):
        if is_given("data"):
            raise pytest.UsageError("--fcos-data: there is nothing to judge on it; give --fcos-bundle, too")
        return
    if not is_given("data") and (needless := [name for name in _NEED_DATA if is_given(name)]):
        raise pytest.UsageError(f"--fcos-{needless[0]}: is for labelled pictures; give --fcos-data, too")
    from fcos_edge.pytest_plugin.suite import Suite

    config.addinivalue_line("markers", "fcos_edge: a gate of the bundle that --fcos-bundle names")
    config.pluginmanager.register(Suite(config), "fcos-edge-suite")


def _path(text: str) -> Path:
    # Absolute: by the time that it is used, a test may have gone elsewhere.
    return Path(os.path.abspath(text))


def _limit(text: str) -> tuple[str, float]:
    """`max-ap-drop=2`, also as max_ap_drop."""
    from fcos_edge.commands.parity import LIMITS, limit_of

    name, equals, value = text.partition("=")
    name = name.replace("-", "_")
    if not equals or name not in LIMITS:
        names = ", ".join(LIMITS).replace("_", "-")
        raise argparse.ArgumentTypeError(f"{text!r} is no limit and its value; the limits are {names}")
    return name, limit_of(name, value)
