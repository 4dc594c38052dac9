"""How much a network changes when its input hardly does: the floor that disagreement is judged beside.

An int8 network is chaotic: one step in one early integer can move others after it, and two runtimes that
differ anywhere differ as much as if their inputs did. So no runtime can be asked to agree better than
the network agrees with itself.

bit    the lowest bit of one subpixel is inverted. It is drawn uniformly from the part of the input that
       shows the picture; changes that die out on the way count as zero. What this changes an int8 network
       by is the *one-bit floor*
noise  -1, 0 or +1, each as likely, added to every subpixel of the input, clipped to 0..255
"""

from __future__ import annotations

import numpy as np

from fcos_edge.letterbox import Letterbox
from fcos_edge.runtime import UInt8Array

KINDS = ("bit", "noise")


def perturb(images: UInt8Array, letterbox: Letterbox, kind: str, seed: tuple[int, ...]) -> UInt8Array:
    """(1, H, W, 3) uint8, perturbed; the same seed gives the same picture on every machine."""
    generator = np.random.default_rng(seed)
    if kind == "bit":
        return flip_lowest_bit(images, letterbox, generator)
    return add_noise(images, generator)


def flip_lowest_bit(images: UInt8Array, letterbox: Letterbox, generator: np.random.Generator) -> UInt8Array:
    """(1, H, W, 3) uint8 with one bit of one subpixel of the picture inverted."""
    (height, width), (left, top) = letterbox.resized_hw, letterbox.pad_xy
    row = top + int(generator.integers(height))
    column = left + int(generator.integers(width))
    flipped: UInt8Array = images.copy()
    flipped[0, row, column, int(generator.integers(3))] ^= 1
    return flipped


def add_noise(images: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """(1, H, W, 3) uint8, every subpixel moved by -1, 0 or +1."""
    noise = generator.integers(-1, 2, images.shape)
    noisy: UInt8Array = np.clip(images + noise, 0, 255).astype(np.uint8)
    return noisy
