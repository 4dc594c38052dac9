"""What every runtime gives back, and how one is found by name.

N     pictures in a batch
L     locations of all levels, P3 first, row by row
C     classes, background not counted
ltrb  distances from a location to the four sides of its box

A runtime is one file in `runtimes/`: it runs a network, and changes layout and dtype, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Branch:
    """One kind of output for all locations.

    values        float32, or int8/uint8 with `quantization`; may be a view of a buffer that the next
                  run overwrites
    quantization  (scale, zero_point) per level; empty where `values` is float32
    """

    values: npt.NDArray[Any]
    quantization: Sequence[tuple[float, int]] = ()


class RawOutputs(NamedTuple):
    """What a network returns for N pictures, all levels one after the other."""

    logits: Branch  # (N, L, C), before the sigmoid
    ltrb: Branch  # (N, L, 4), before the activation
    centerness: Branch  # (N, L), before the sigmoid


class Runtime(Protocol):
    """A loaded network. `close` frees it; no other call may follow."""

    def run(self, images: UInt8Array) -> RawOutputs:
        """images: (N, H, W, 3) uint8, RGB, letterboxed."""
        ...

    def close(self) -> None: ...


class AsyncRuntime(Runtime, Protocol):
    """A runtime that can work on one batch while the caller prepares the next."""

    def submit(self, images: UInt8Array) -> None: ...

    def wait(self) -> RawOutputs: ...
