"""NumPy and OpenCV that do not work, as boards have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcos_edge.doctor.base import try_base


def test_base__works_here() -> None:
    assert try_base(60) == ""


@pytest.mark.parametrize(("module", "source", "said"), [
    # OpenCV for desktops on a server.
    ("cv2", "raise ImportError('libGL.so.1: cannot open shared object file')",
     "ImportError: libGL.so.1: cannot open shared object file"),
    # A build for a newer CPU.
    ("numpy", "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
     "importing NumPy and OpenCV crashed with SIGILL"),
    ("cv2", "import os; os._exit(7)", "importing NumPy and OpenCV ended with exit code 7"),
    ("cv2", "resize = lambda picture, size, interpolation: picture.repeat(2, 0).repeat(2, 1) + 1\n"
            "imencode = lambda suffix, picture: (True, picture)\n"
            "imdecode = lambda data, flags: data\n"
            "INTER_NEAREST = IMREAD_COLOR = 0\n",
     "NumPy and OpenCV compute a wrong picture"),
])  # fmt: skip
def test_base__what_is_wrong_is_one_line(
    module: str, source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert try_base(60) == said


def test_base__a_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cv2.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert try_base(1) == "importing NumPy and OpenCV took more than 1 s and was ended"
