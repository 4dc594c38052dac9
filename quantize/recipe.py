"""Recipes: how int8 is decided, as a name that decodes.

    w8c_a8t_mse_bc    8-bit weights, one scale per output channel; 8-bit activations, one scale and zero
                      point per tensor; ranges of least squared error; biases corrected

w8c w8t w7c w7t   bits of a weight; its scale per output channel (c) or one per tensor (t)
a8t a8s           activations with any zero point (t), or symmetric: zero point 0 as int8 (s)
minmax ...        how a range is chosen (`quantize/ranges.py`)
cle ws ada bc     refinements, each a file in `quantize/refinements/`, in the order in which they run
qat               trained so (`quantize/qat.py`): the record belongs to its weights
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from fcos_edge.errors import UsageError

ESTIMATOR_NAMES = ("minmax", "percentile", "mse", "average")
REFINEMENTS = {
    "cle": "cross-layer equalization",
    "ws": "weight scales of least squared error",
    "ada": "adaptive rounding of weights",
    "bc": "bias correction",
    "qat": "quantization-aware training",
}
_WEIGHTS = {"w8c": (8, True), "w8t": (8, False), "w7c": (7, True), "w7t": (7, False)}
_ACTIVATIONS = {"a8t": False, "a8s": True}


@dataclass(frozen=True)
class Recipe:
    """What a name says.

    weight_bits     8, or 7: products of two neighbours then fit int16, which x86 without VNNI adds them in
    is_per_channel  weight scales per output channel, else one for all of a convolution
    is_symmetric    activations around zero: q - 128 has zero point 0
    estimator       one of ESTIMATOR_NAMES
    refinements     some of REFINEMENTS, in that order
    """

    weight_bits: int = 8
    is_per_channel: bool = True
    is_symmetric: bool = False
    estimator: str = "minmax"
    refinements: tuple[str, ...] = ()

    @cached_property
    def name(self) -> str:
        weights = f"w{self.weight_bits}{'c' if self.is_per_channel else 't'}"
        activations = "a8s" if self.is_symmetric else "a8t"
        return "_".join((weights, activations, self.estimator, *self.refinements))

    @property
    def weight_limit(self) -> int:
        """The largest |q| of a weight: the range is symmetric, as TFLite demands."""
        return (1 << (self.weight_bits - 1)) - 1


# What measures best on the embedded detector, each with its kind of weight scales (docs/int8.md).
DEFAULT_RECIPE = Recipe(estimator="mse", refinements=("ws", "bc"))
PER_TENSOR_RECIPE = Recipe(is_per_channel=False, estimator="mse", refinements=("ada", "bc"))


@lru_cache
def parse_recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises UsageError that says which part is unknown."""
    parts = name.split("_")
    weights, activations, estimator = (*parts, "", "", "")[:3]
    refinements = parts[3:]
    for part, known in ((weights, _WEIGHTS), (activations, _ACTIVATIONS), (estimator, ESTIMATOR_NAMES)):
        if part not in known:
            raise UsageError(f"recipe {name!r}: {part!r} is none of {', '.join(known)}")
    for part in refinements:
        if part not in REFINEMENTS:
            raise UsageError(f"recipe {name!r}: {part!r} is none of {', '.join(REFINEMENTS)}")
    if refinements != [part for part in REFINEMENTS if part in refinements]:
        raise UsageError(
            f"recipe {name!r}: refinements come once each, in the order {', '.join(REFINEMENTS)}"
        )
    bits, is_per_channel = _WEIGHTS[weights]
    return Recipe(bits, is_per_channel, _ACTIVATIONS[activations], estimator, tuple(refinements))
