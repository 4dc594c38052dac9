"""What is installed, and that the table of extras is pyproject's."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.doctor import packages
from fcos_edge.doctor.packages import BASE, EXTRAS, Wanted, installed_version, refusal, report_extras
from fcos_edge.runtime import find_runtime, runtime_names

BY_NAME = {extra.name: extra for extra in EXTRAS}


def required(pyproject: str) -> dict[str, list[str]]:
    """Extra -> its requirements; Python 3.10 has no tomllib, and one kind of list is all there is."""
    found = {}
    for name, body in re.findall(r"^([\w-]+) = \[(.*?)\]$", pyproject, re.DOTALL | re.MULTILINE):
        body = re.sub(r"#.*", "", body)
        found[name] = re.findall(r'"([^"]+)"', body)
    return found


def test_extras__are_those_of_pyproject(repo_root: Path) -> None:
    found = required((repo_root / "pyproject.toml").read_text())
    assert {"dependencies", "dev", "export"} <= set(found)
    for extra in EXTRAS:
        wanted = found["dependencies" if extra.name == BASE else extra.name]
        included = re.findall(r"\[(.*)\]", " ".join(wanted))
        assert sorted(extra.includes) == sorted(",".join(included).split(",") if included else [])
        names = {re.split(r"[<>=\[]", line)[0] for line in wanted} - {"fcos-edge"}
        # A bound on NumPy or OpenCV is no package of its own.
        if extra.name != BASE:
            names -= {package.names[0] for package in BY_NAME[BASE].packages}
        assert names == {package.names[0] for package in extra.packages}


def test_extras__hold_every_package_of_every_runtime() -> None:
    modules = {package.module for extra in EXTRAS if extra.is_runtime for package in extra.packages}
    assert modules == {module for name in runtime_names() for module in find_runtime(name).PACKAGES}


def test_report__names_versions_without_importing() -> None:
    reports = {report.extra.name: report for report in report_extras()}
    assert reports[BASE].installed["numpy"] == np.__version__
    assert reports[BASE].is_complete
    assert reports["onnx"].to_dict()["pip"] == ""


@pytest.mark.parametrize(("wanted", "version"), [
    (Wanted("no_such_module", ("numpy",)), None),
    (Wanted("numpy", ("no-such-name", "numpy")), np.__version__),  # another build's name
    (Wanted("numpy", ("no-such-name",)), ""),  # a distribution's own
])  # fmt: skip
def test_installed_version(wanted: Wanted, version: str | None) -> None:
    assert installed_version(wanted) == version


def test_incomplete__extras_name_what_they_include(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"numpy", "opencv-python-headless", "tqdm", "faster-coco-eval", "onnxruntime"}
    monkeypatch.setattr(
        packages, "installed_version", lambda wanted: "1" if wanted.names[0] in installed else None
    )
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    reports = {report.extra.name: report for report in report_extras()}
    assert reports["parity"].missing == ("jinja2", "matplotlib", "pyyaml")
    assert reports["train"].incomplete == ("parity",)
    assert reports["export"].incomplete == ("train", "openvino", "tflite")
    assert reports["parity"].to_dict()["pip"] == "pip install 'fcos-edge[parity]'"


@pytest.mark.parametrize(("name", "python", "machine", "said"), [
    ("tflite-runtime", (3, 11), "armv7l", ""),
    ("tflite-runtime", (3, 12), "aarch64", "no wheel for Python 3.12: the last is 3.11"),
    ("tflite", (3, 13), "aarch64", ""),
    ("tflite", (3, 11), "armv7l", "no wheel for armv7l"),
    ("base", (3, 13), "armv7l", ""),
])  # fmt: skip
def test_refusal__is_said_where_there_are_no_wheels(
    name: str, python: tuple[int, int], machine: str, said: str
) -> None:
    assert refusal(BY_NAME[name], python, machine) == said


def test_refusal__gives_no_pip_line() -> None:
    reports = [report for report in report_extras() if report.refusal]
    assert all(report.to_dict()["pip"] == "" for report in reports)
    assert bool(reports) == (sys.version_info[:2] > (3, 11) or platform.machine() == "armv7l")
