"""FCOS detectors from training to verified int8 on small computers.

    import cv2, fcos_edge
    detector = fcos_edge.load("street8-lite0-320")     # a bundle, or one .onnx / .xml / .tflite
    detections = detector(cv2.imread("street.jpg"))    # BGR, as OpenCV gives it

The names below are imported when they are first used: a program that only reads a spec does not wait
for OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcos_edge.detections import Detections
    from fcos_edge.detector import Detector
    from fcos_edge.errors import FcosEdgeError
    from fcos_edge.loading import load
    from fcos_edge.spec import ModelSpec

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "FcosEdgeError", "ModelSpec", "__version__", "load"]

_HOMES = {
    "Detections": "fcos_edge.detections",
    "Detector": "fcos_edge.detector",
    "FcosEdgeError": "fcos_edge.errors",
    "ModelSpec": "fcos_edge.spec",
    "load": "fcos_edge.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
