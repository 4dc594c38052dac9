"""Arguments that several verbs share, and the types of their values."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

CALIBRATION_PICTURES = 256  # at most, of those that are given


def positive_int(text: str) -> int:
    """A whole number from 1."""
    # Not int(): it takes "1_000" and " 1".
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def different_names(text: str) -> tuple[str, ...]:
    """`a,b,c`, each once."""
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of different names, with a comma between them")
    return names


def positive_float(text: str) -> float:
    """A number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def not_negative_float(text: str) -> float:
    """A number from 0."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0")
    return value


def _number(text: str) -> float:
    """NaN, which is neither more nor less than any limit, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def package_and_path(text: str) -> tuple[str, Path]:
    """`tflite-runtime=venv/bin/python`."""
    package, separator, path = text.partition("=")
    if not (package and separator and path):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no package and Python, as in tflite-runtime=venv/bin/python"
        )
    return package, Path(path)


def add_variant_options(parser: argparse.ArgumentParser, precisions: str = "all") -> None:
    """Which artifacts run in which runtimes: what `workers.variants` plans with.

    precisions: what is run by default, as help says it
    """
    parser.add_argument("--runtime", metavar="R", help="only onnxruntime, openvino or tflite (default: all)")
    parser.add_argument(
        "--precisions", metavar="P,P", type=different_names, help=f"which files (default: {precisions})"
    )
    parser.add_argument(
        "--python", metavar="PACKAGE=PATH", type=package_and_path, action="append", default=[],
        help="run a runtime's package in another Python, as in tflite-runtime=venv/bin/python;"
        " may be given several times",
    )  # fmt: skip
    parser.add_argument("--onnx-in-openvino", action="store_true", help="run .onnx files in OpenVINO, too")


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """`--runtime`; which names there are is for the loader to say."""
    parser.add_argument(
        "--runtime", metavar="R", help="onnxruntime, openvino or tflite (default: the best here)"
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a model runs: what `opening.open_model` reads."""
    add_runtime(parser)
    parser.add_argument("--precision", metavar="P", help="int8, fp32, fp16, or fast (default: int8 if there)")
    parser.add_argument("--device", metavar="D", help="in the runtime's words: GPU, CUDA, ... (default: CPU)")
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="threads of the model (default: all this process may use)",
    )
