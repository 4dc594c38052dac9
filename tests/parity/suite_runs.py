"""Run pytest with our plugin in a process and a folder of its own, and read its JUnit file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PLUGIN = ("-p", "fcos_edge.pytest_plugin")
# Of pytest's own exit codes.
PASSED, FAILED, USAGE_ERROR, NOTHING_COLLECTED = 0, 1, 4, 5


@dataclass(frozen=True)
class Result:
    """passed, failed, error or skipped, and what was said with it."""

    outcome: str
    message: str = ""


@dataclass(frozen=True)
class SuiteRun:
    """results: (`fcos-edge.model.int8.onnx.onnxruntime`, `ap_drop`) -> result, as JUnit names them"""

    folder: Path
    code: int
    output: str
    results: Mapping[tuple[str, str], Result]

    def names(self, outcome: str) -> set[str]:
        """Gates of any artifact with this outcome."""
        return {gate for (_, gate), result in self.results.items() if result.outcome == outcome}

    def of(self, artifact: str) -> dict[str, Result]:
        """Gate -> result; `model.int8.onnx.onnxruntime`."""
        wanted = f"fcos-edge.{artifact}"
        return {gate: result for (name, gate), result in self.results.items() if name == wanted}


def run_suite(folder: Path, *arguments: str | Path) -> SuiteRun:
    """`pytest ARGUMENTS` in `folder`, which is made."""
    folder.mkdir(exist_ok=True)
    # Without the plugins that happen to be installed here; ours is named, installed or not.
    command = [
        sys.executable,
        "-m",
        "pytest",
        *PLUGIN,
        "--junitxml",
        "junit.xml",
        "-rA",
        *map(str, arguments),
    ]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
    )  # fmt: skip
    junit = folder / "junit.xml"
    results = {}
    for case in ElementTree.parse(junit).iter("testcase") if junit.exists() else ():
        told = next(iter(case), None)
        outcome = "passed" if told is None else {"failure": "failed"}.get(told.tag, told.tag)
        message = "" if told is None else told.get("message", "")
        results[case.attrib["classname"], case.attrib["name"]] = Result(outcome, message)
    return SuiteRun(folder, done.returncode, done.stdout, results)
