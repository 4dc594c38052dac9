"""The device never sees torch: its modules are imported where torch, train and quantize cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GENERIC_NAMES = ("train", "quantize", "runtimes")

# Prints what was imported although it must not be. Runs apart: this process may have torch already.
PROGRAM = """
import importlib, sys

class Blocked:
    asked = []
    def find_spec(self, name, path=None, target=None):
        if name in BLOCKED:
            self.asked.append(name)
            raise ModuleNotFoundError(f"{name} is blocked on the device", name=name)

BLOCKED = {"torch", "fcos_edge.train", "fcos_edge.quantize", "train", "quantize", "runtimes"}
sys.meta_path.insert(0, Blocked())
for module in sys.argv[1:]:
    importlib.import_module(module)
print(*Blocked.asked, *(BLOCKED & set(sys.modules)))
"""


def device_modules(root: Path) -> list[str]:
    """The device's files, as imported; `__main__` would run the command line.

    The verbs of the workstation count too: they import torch when they run.
    """
    packages = {
        "fcos_edge": "fcos_edge",
        "fcos_edge/bench": "fcos_edge.bench",
        "fcos_edge/commands": "fcos_edge.commands",
        "fcos_edge/parity": "fcos_edge.parity",
        "fcos_edge/doctor": "fcos_edge.doctor",
        "fcos_edge/workers": "fcos_edge.workers",
        "runtimes": "fcos_edge.runtimes",
    }
    names = [
        f"{package}.{path.stem}".removesuffix(".__init__")
        for folder, package in packages.items()
        for path in (root / folder).glob("*.py")
    ]
    return sorted(name for name in names if not name.endswith("__main__"))


def import_apart(root: Path, *modules: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *modules],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_device__imports_neither_torch_nor_workstation_code(repo_root: Path) -> None:
    modules = device_modules(repo_root)
    assert {"fcos_edge", "fcos_edge.postprocess", "fcos_edge.detector"} <= set(modules)
    assert {"fcos_edge.commands", "fcos_edge.commands.train", "fcos_edge.runtimes.replay"} <= set(modules)
    done = import_apart(repo_root, *modules)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


@pytest.mark.parametrize("name", ["torch", "fcos_edge.train", "fcos_edge.quantize", *GENERIC_NAMES])
def test_device__the_block_works(repo_root: Path, name: str) -> None:
    assert f"{name} is blocked on the device" in import_apart(repo_root, name).stderr


def test_generic_names__are_no_top_level_modules() -> None:
    # conftest.py refuses such an import by name; this also sees a test folder that became a package.
    assert not set(GENERIC_NAMES) & set(sys.modules)
