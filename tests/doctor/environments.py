"""Environments that have only some packages: a virtual one each, with links to those of this one."""

from __future__ import annotations

import importlib.util
import subprocess
import venv
from pathlib import Path

from tests.conftest import REPO_ROOT

# Module -> how the names of what belongs to it begin in site-packages.
_PARTS = {
    "numpy": ("numpy",),
    "cv2": ("cv2", "opencv_python_headless"),
    "tqdm": ("tqdm",),
    "onnxruntime": ("onnxruntime", "flatbuffers", "protobuf", "google", "packaging", "sympy", "mpmath"),
}
BASE = ("numpy", "cv2", "tqdm")


def make_environment(folder: Path, *modules: str) -> Path:
    """The Python of a new environment with fcos-edge and these modules."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "checkout.pth").write_text(f"{REPO_ROOT}\n")
    for module in modules:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        installed = Path(spec.origin).parent.parent
        for begin in _PARTS[module]:
            for path in (*installed.glob(f"{begin}"), *installed.glob(f"{begin}[.-]*")):
                link = site_packages / path.name
                if not link.exists():
                    link.symlink_to(path)
    return folder / "bin" / "python"


def add_module(python: Path, name: str, source: str) -> None:
    """A package of one file, in the environment of `python`."""
    (site_packages,) = python.parent.parent.glob("lib/python*/site-packages")
    (site_packages / name).mkdir()
    (site_packages / name / "__init__.py").write_text(source)


def run_doctor(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`fcos-edge doctor`, with nothing of this process's Python around it."""
    return subprocess.run(
        [str(python), "-m", "fcos_edge", "doctor", *arguments],
        cwd=python.parent.parent,
        env={"PATH": "/usr/bin:/bin", "HOME": str(python.parent.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
