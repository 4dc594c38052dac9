"""How far an artifact may be from the PyTorch model: every number that `verify` judges by, and its reason.

floor  the one-bit floor: what flipping the lowest bit of one input value changes the logits by, on average,
       in the integer simulator. An int8 detector is chaotic, so a runtime that rounds in another order
       differs by about this much, and nothing below it means anything. Measured at export.
step   one integer of an int8 output: its scale
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class FloatBudget:
    """A float artifact against PyTorch in float32.

    max_difference    largest difference of an output / largest absolute value of its reference
    shift             mean difference of one channel of an output / its standard deviation
    threshold_margin  detections this far above their operating threshold must have a partner: nearer,
                      the allowed score difference decides about their existence
    iou               least, of a detection and its partner
    score             largest difference, of a detection and its partner
    """

    max_difference: float
    shift: float
    threshold_margin: float
    iou: float
    score: float


@dataclass(frozen=True)
class Int8Budget:
    """An int8 artifact against the integer simulator, and against PyTorch in float32.

    floors            mean difference of a branch to the simulator, in floors, of an inexact runtime
    output_floors     the same of one output
    shift_floors      mean difference of one channel of an output, with its sign, in floors
    least_floor       steps; a floor below it counts as this
    mean_difference   mean difference to float32 / standard deviation of the reference, per branch
    correlation       least, with float32, per branch
    threshold_margin  float32 detections this far above their operating threshold look for a partner
    partner_score     a partner's score / the detection's, at least
    partner_iou       least
    matched           least part of them that has a partner, per bundle
    """

    floors: float
    output_floors: float
    shift_floors: float
    least_floor: float
    mean_difference: float
    correlation: float
    threshold_margin: float
    partner_score: float
    partner_iou: float
    matched: float


@dataclass(frozen=True)
class PostprocessBudget:
    """Detections of the same raw outputs, here and where they were exported.

    pixels  largest difference of a side
    score   largest difference
    """

    pixels: float
    score: float


# Weights that were trained as int8 computes them are not meant to be a good network in float: with one weight
# scale per tensor, logits correlate with float32's by 0.93 after 160 steps, and by 0.954 after 400.
QAT_CORRELATION = 0.9
# After a layer that stays in float, sums that depend on their order are rounded anew, so that ties are too:
# OpenVINO is at 1.6 to 2.1 floors in ResNet-50 with GroupNorm heads (benchmarks/paper_size.py).
MIXED_FACTOR = 1.5


@dataclass(frozen=True)
class Budgets:
    """All of them. `letterbox`: largest difference of the network's input, in grey levels."""

    letterbox: int
    postprocess: PostprocessBudget
    fp32: FloatBudget
    fp16: FloatBudget
    w8: Int8Budget
    int8: Int8Budget

    def of_int8(self, *, is_integer: bool, is_trained: bool) -> Int8Budget:
        """The budget of an int8 file.

        is_integer  no layer of the network stays in float
        is_trained  quantization-aware, so that its float weights are not a network of their own
        """
        budget = self.int8
        if not is_integer:
            budget = replace(
                budget, floors=MIXED_FACTOR * budget.floors, output_floors=MIXED_FACTOR * budget.output_floors
            )
        if is_trained:
            budget = replace(budget, correlation=min(budget.correlation, QAT_CORRELATION))
        return budget


_INT8 = Int8Budget(
    # Some sums near a tie round the other way, which is as good as flipped bits: OpenVINO is at 1.2
    # floors over 50 pictures, tflite-runtime's own kernels at 1.5 (logits) and 1.7 (ltrb) on the golden
    # ones.
    floors=2.0,
    # An output of a coarse level has 27 cells on three pictures; none was above 1.7.
    output_floors=4.0,
    # Rounding has no side: means over thousands of cells are at 0.2 floors, over 27 cells at up to 2.3
    # where the limit is 3.8 (comparison.py). A class whose logits are 0.3 higher is at 13.
    shift_floors=1.5,
    # Small networks are not chaotic: a flipped bit changes little, a rounding at the end as much.
    least_floor=0.25,
    # 8 bits for every tensor leave the embedded detector, on the golden pictures, a correlation of 0.96
    # (logits) to 0.99 (ltrb) and a mean difference of 0.09 to 0.14 standard deviations.
    mean_difference=0.3,
    correlation=0.94,
    # An input noise of one grey level already moves scores and boxes of float32 itself: 98 % of its
    # detections keep a partner at IoU 0.75 (benchmarks/int8_agreement.py).
    threshold_margin=0.1,
    partner_score=0.5,
    partner_iou=0.5,
    # Three pictures have a handful of detections: one lost out of five is chance.
    matched=0.8,
)
BUDGETS = Budgets(
    # OpenCV's fixed-point resize differs by one grey level between CPU families; a wrong colour order,
    # interpolation or padding by a hundred.
    letterbox=1,
    # Float32 through a dozen operations; `exp` differs by a unit in the last place between CPU families.
    postprocess=PostprocessBudget(pixels=0.01, score=1e-5),
    # Float32 sums in another order end up 1e-5 to 1e-4 apart after a hundred layers, on no particular side.
    fp32=FloatBudget(max_difference=1e-3, shift=1e-2, threshold_margin=0.01, iou=0.99, score=0.005),
    # Weights rounded to 11 bits: single weights move by 5e-4, outputs of the embedded detector by 0.9 %, of
    # one that was trained for a step by 2.7 %, the mean of a class by 0.02 standard deviations. Scores and
    # boxes follow in proportion.
    fp16=FloatBudget(max_difference=4e-2, shift=5e-2, threshold_margin=0.05, iou=0.9, score=0.03),
    # Rounded weights alone, judged by what is about PyTorch, since there is no simulator of floats: 0.07 to
    # 0.11 standard deviations and correlations of 0.987 to 0.994 in the embedded detector.
    w8=replace(_INT8, mean_difference=0.25, correlation=0.96),
    int8=_INT8,
)
# OpenVINO reading an int8 ONNX file drops the rounding between a convolution and an addition, which its own
# .xml keeps: 2.7 floors, shifts of 2.5 and 3.0 where 2.2 and 2.9 are allowed, a correlation of 0.93.
FOREIGN_BUDGETS = replace(
    BUDGETS,
    int8=replace(BUDGETS.int8, floors=4.0, output_floors=8.0, shift_floors=3.0, correlation=0.9),
)
