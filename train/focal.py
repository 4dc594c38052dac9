"""The class term: focal loss (arXiv 1708.02002) and quality focal loss (arXiv 2006.04388), summed.

N  locations of a batch
C  classes
P  positive locations
p  class probability, sigmoid of the logit x
q  what a positive location's class should say: 1, or its soft score

               the class of a positive location        every other class
focal          alpha (1 - p)^2 (-ln p)                 (1 - alpha) p^2 (-ln(1 - p))
quality focal  (p - q)^2 (-q ln p - (1 - q) ln(1 - p)) p^2 (-ln(1 - p))

Nearly all of the N C terms are of the last kind, and the rest are P. So the last kind is summed over all
of them, block by block while the block lies in the cache, and then put right at P places. The gradient is
made on the way. At 16 pictures of 800x1333 and 80 classes this is 28 million terms: written down as formulas
of whole tensors they take a dozen times as long, and six times the memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ALPHA = 0.25  # arXiv 1708.02002, table 1b, where gamma is 2; arXiv 2006.04388 has the same exponent, no alpha
# Elements of a block: of each thread's share on a CPU, where smaller ones cost calls and larger ones leave
# the caches; on a GPU, where only memory counts.
CPU_BLOCK = 1 << 18
GPU_BLOCK = 1 << 24
# Up to this logit -ln(1 - p) may be taken of p itself: 1 - p still has 15 bits in float32.
MOST_LOGIT = 6.0


class Positives(NamedTuple):
    """Where a class is, and what it should say.

    rows     (P,) int64, index of the location
    classes  (P,) int64
    quality  (P,) 0..1, the soft score of quality focal loss; None: focal loss
    """

    rows: Tensor
    classes: Tensor
    quality: Tensor | None


def focal_sum(logits: Tensor, is_ignored: Tensor, positives: Positives, divisor: Tensor) -> Tensor:
    """The sum of all terms, over `divisor`; what is ignored has none.

    logits:     (N, C)
    is_ignored: (N,) bool
    divisor:    scalar
    """
    # The divisor goes inside: then the gradient is done when the backward pass comes, and needs no copy.
    total: Tensor = _FocalSum.apply(logits, is_ignored, *positives, divisor)  # type: ignore[no-untyped-call]
    return total


class _FocalSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, is_ignored: Tensor, rows: Tensor, classes: Tensor, quality: Tensor | None,
        divisor: Tensor,
    ) -> Tensor:  # fmt: skip
        weight = (1.0 if quality is not None else 1 - ALPHA) / divisor
        logits = logits.contiguous()
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        total = _sum_of_negatives(logits, is_ignored, weight, gradient)
        x = logits[rows, classes]
        as_negative, _ = _negative(x)
        if quality is None:
            loss, slope = _focal_positive(x)
        else:
            loss, slope = _quality_positive(x, quality.to(x.dtype))
        total = total + loss.sum() / divisor - as_negative.sum() * weight
        if gradient is not None:
            gradient[rows, classes] = slope / divisor
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        # A loss that is a plain sum of its terms sends 1. To look is to wait for a GPU, which copies fast.
        if slope.device.type != "cpu" or slope != 1:
            gradient = gradient * slope
        return gradient, None, None, None, None, None


def _sum_of_negatives(logits: Tensor, is_ignored: Tensor, weight: Tensor, gradient: Tensor | None) -> Tensor:
    """The sum as if there were no positive, times `weight`; fills `gradient` (N, C) where there is one."""
    count, classes = logits.shape
    if not count or not classes:
        return logits.new_zeros(())
    block = CPU_BLOCK * torch.get_num_threads() if logits.device.type == "cpu" else GPU_BLOCK
    rows = min(max(block // classes, 1), count)
    buffers = [torch.empty_like(logits[:rows]) for _ in range(3)]
    is_counted = (~is_ignored)[:, None].to(logits.dtype)
    sums = []
    for first in range(0, count, rows):
        x = logits[first : first + rows]
        p, log_rest, factor = (buffer[: len(x)] for buffer in buffers)
        torch.sigmoid(x, out=p)
        _log_rest(x, p, log_rest)
        p.mul_(is_counted[first : first + rows])
        torch.addcmul(log_rest, p, log_rest, value=-1, out=factor)
        torch.sub(p, factor, alpha=2, out=factor)
        p.mul_(p)
        sums.append(torch.dot(p.view(-1), log_rest.view(-1)))
        if gradient is not None:
            # The derivative of -p^2 ln(1 - p) by x is p^2 (p - 2 (1 - p) ln(1 - p)).
            torch.mul(factor, p.mul_(weight), out=gradient[first : first + rows])
    return -torch.stack(sums).sum() * weight


def _log_rest(x: Tensor, p: Tensor, out: Tensor) -> None:
    """ln(1 - p) into `out`."""
    # Most blocks of a CPU have small logits alone, and for these it is half the price. A GPU is not asked.
    if x.device.type == "cpu" and x.amax() <= MOST_LOGIT:
        torch.neg(p, out=out).log1p_()
    else:
        torch.ops.aten.softplus.out(x, out=out).neg_()  # F.softplus has no `out`


def _negative(x: Tensor) -> tuple[Tensor, Tensor]:
    """p^2 (-ln(1 - p)) and its derivative by x."""
    p, softplus = x.sigmoid(), F.softplus(x)
    return p**2 * softplus, p**2 * (2 * (1 - p) * softplus + p)


def _focal_positive(x: Tensor) -> tuple[Tensor, Tensor]:
    """alpha (1 - p)^2 (-ln p) and its derivative: the mirror image of the other."""
    loss, slope = _negative(-x)
    return ALPHA * loss, -ALPHA * slope


def _quality_positive(x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """(p - q)^2 (-q ln p - (1 - q) ln(1 - p)) and its derivative by x."""
    p = x.sigmoid()
    entropy = F.softplus(x) - q * x
    return (p - q) ** 2 * entropy, (p - q) * (2 * p * (1 - p) * entropy + (p - q) ** 2)
