"""XNNPACK for tflite-runtime, where that is installed; nearly everywhere the interface is not there."""

from __future__ import annotations

import _ctypes
from pathlib import Path

import pytest

from fcos_edge.xnnpack import int8_delegate


def test_int8_delegate__library_without_xnnpack() -> None:
    assert int8_delegate(Path(_ctypes.__file__), threads=1) is None


def test_int8_delegate__makes_one_and_frees_it() -> None:
    native = pytest.importorskip("tflite_runtime._pywrap_tensorflow_interpreter_wrapper")
    delegate = int8_delegate(Path(native.__file__), threads=2)
    assert delegate is not None
    assert delegate._get_native_delegate_pointer() > 0
