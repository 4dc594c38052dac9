"""Which pictures a refinement looks at, where not all of them are needed."""

from __future__ import annotations

import hashlib

import numpy as np

from fcos_edge.runtime import UInt8Array


def chosen_inputs(inputs: UInt8Array, count: int) -> UInt8Array:
    """At most `count` of the inputs (N, H, W, 3), the same ones in the same order however they are sorted.

    By digest: a choice that has nothing to do with what the pictures show.
    """
    digests = [hashlib.sha256(picture.tobytes()).digest() for picture in inputs]
    order = sorted(range(len(inputs)), key=digests.__getitem__)
    return inputs[np.array(order[:count], np.intp)]
