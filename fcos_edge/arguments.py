"""Arguments that several verbs share, and the types of their values."""

from __future__ import annotations

import argparse

CALIBRATION_PICTURES = 256  # at most, of those that are given


def positive_int(text: str) -> int:
    """A whole number from 1."""
    # Not int(): it takes "1_000" and " 1".
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN is not either
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def different_names(text: str) -> tuple[str, ...]:
    """`a,b,c`, each once."""
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of different names, with a comma between them")
    return names


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
