"""XNNPACK for int8 in tflite-runtime.

tflite-runtime 2.14 hands float operators to XNNPACK by itself and leaves int8 ones to its own kernels, which
take fifteen times as long on x86. Its XNNPACK has int8 kernels, too; its builders have left the switch off.
The Python interpreter takes delegates of its user, so this makes one with the switch on, through the C
interface that the package's library exports (xnnpack_delegate.h of TensorFlow 2.14).

ai-edge-litert has the switch on, and its newer XNNPACK has kernels for VNNI besides: twice as fast again.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

# TFLITE_XNNPACK_DELEGATE_FLAG_QS8: signed 8-bit operators, also with a scale per channel.
_SIGNED_INT8 = 1


class _Options(ctypes.Structure):
    """TfLiteXNNPackDelegateOptions as far as we set it; the library fills in the rest."""

    _fields_ = (
        ("num_threads", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        # More than what follows takes, a pointer and a truth value. Returned by hidden pointer, as every
        # structure above 16 bytes is.
        ("rest", ctypes.c_uint8 * 120),
    )


class XnnpackDelegate:
    """A delegate as tflite-runtime's `Interpreter(experimental_delegates=[...])` takes it.

    Must outlive the interpreter, which sees to that: it holds its delegates and lets go of them last.
    """

    def __init__(self, library: Any, threads: int) -> None:
        self._library = library
        library.TfLiteXNNPackDelegateOptionsDefault.restype = _Options
        library.TfLiteXNNPackDelegateCreate.argtypes = (ctypes.POINTER(_Options),)
        library.TfLiteXNNPackDelegateCreate.restype = ctypes.c_void_p
        library.TfLiteXNNPackDelegateDelete.argtypes = (ctypes.c_void_p,)
        library.TfLiteXNNPackDelegateDelete.restype = None
        options = library.TfLiteXNNPackDelegateOptionsDefault()
        options.num_threads = threads
        options.flags |= _SIGNED_INT8
        self._pointer = library.TfLiteXNNPackDelegateCreate(ctypes.byref(options))

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self._library.TfLiteXNNPackDelegateDelete(self._pointer)
            self._pointer = None

    def _get_native_delegate_pointer(self) -> int:
        """What the interpreter asks each delegate for."""
        pointer: int = self._pointer
        return pointer


def int8_delegate(library_path: Path, threads: int) -> XnnpackDelegate | None:
    """The delegate from the library at `library_path`, None where that was built without XNNPACK (armv7)."""
    library = ctypes.CDLL(str(library_path))
    if not hasattr(library, "TfLiteXNNPackDelegateCreate"):
        return None
    return XnnpackDelegate(library, threads)
