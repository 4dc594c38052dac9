"""What every test shares: the data folder, one thread per library, no generic top-level module.

The data folder is `../shared/data` beside the checkout, or FCOS_EDGE_TEST_DATA. Tests that need it ask
for the fixture `data_dir`, or for `data_set("coco-person")`, and are skipped where it is absent.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

REPO_ROOT = Path(__file__).resolve().parent.parent
# They are read once, at the first import of NumPy, OpenCV or torch. Commands that a test starts inherit them.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
    os.environ.setdefault(_variable, "1")

# Nothing of a test stays in the user's folders, and each loads its files as they are.
os.environ["FCOS_EDGE_CACHE"] = ""

GENERIC_NAMES = frozenset({"train", "quantize", "runtimes"})


class _NoGenericNames(importlib.abc.MetaPathFinder):
    """Fails `import train` and the like.

    The checkout is on sys.path in a test run, so that such an import would work here and nowhere else.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in GENERIC_NAMES:
            raise ImportError(f"import fcos_edge.{fullname}, not {fullname}: it is no top-level module")
        return None


sys.meta_path.insert(0, _NoGenericNames())


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope="session")
def embedded_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded detector, exported in all formats and precisions. A test that changes it takes a copy."""
    from fcos_edge import embedded
    from fcos_edge.cli import main

    folder = tmp_path_factory.mktemp("embedded") / embedded.NAME
    assert main(["export", "--int8", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of small_detector.py in ONNX, fp32 and int8; beside it lies small.safetensors."""
    from fcos_edge.cli import main
    from tests.small_detector import save_small_detector

    folder = tmp_path_factory.mktemp("small")
    checkpoint = save_small_detector(folder / "small.safetensors")
    argv = ["export", str(checkpoint), "--int8", "--formats", "onnx", "--out", str(folder / "small")]
    assert main(argv) == 0
    return folder / "small"


@pytest.fixture(scope="session")
def free_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labelled pictures that every user has: 36 of a person and a cat."""
    from fcos_edge.free_data import write_free_data

    folder = tmp_path_factory.mktemp("free") / "free-data"
    write_free_data(folder)
    return folder


@pytest.fixture(scope="session")
def few_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight labelled pictures of a person and a cat, with the classes of the embedded detector."""
    from tests.few_pictures import write_few_pictures

    return write_few_pictures(tmp_path_factory.mktemp("few") / "few")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the data sets; skips the test where there is none."""
    named = os.environ.get("FCOS_EDGE_TEST_DATA")
    folder = Path(named) if named else REPO_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}; name a folder with FCOS_EDGE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def data_set(data_dir: Path) -> Callable[[str], Path]:
    """The folder of one data set by its name; skips the test where it is absent."""

    def find(name: str) -> Path:
        folder = data_dir / name
        if not folder.is_dir():
            pytest.skip(f"no data set {name} in {data_dir}")
        return folder

    return find
