"""What one pair adds to the gradient of SupCon, by its formula and by autograd.

For an anchor z = w / |w| and a candidate z_k at the cosine c, a step down the loss moves w toward
z_k by

    (X_k - P_k) / tau * sqrt(1 - c^2) / |w|

where P is the softmax over all candidates and X the weight of a positive: 1 / #P for the form
"out", its share of the positives' softmax for "in", 0 for a negative (Khosla et al., supplement).
The root is the part of z_k across z: what normalization lets through. Below 0 the step moves w
away: from every negative, and from a positive that has more of the softmax than its weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Form = Literal["out", "in"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighborhood:
    """An anchor w [D] of any length, and unit candidates [K, D]; the first ``positives`` are its
    positives, the others negatives."""

    anchor: Tensor
    candidates: Tensor
    positives: int

    @property
    def cosines(self) -> Tensor:
        """[K]."""
        return self.candidates @ F.normalize(self.anchor, dim=0)


def draw(
    *, positives: int, negatives: int, width: int, seed: int, places: Sequence[int], cosine: float
) -> Neighborhood:
    """Random unit rows, of which the candidates ``places`` have this ``cosine`` to the anchor.

    Equal seeds differ in these rows alone.

    >>> drawn = draw(positives=2, negatives=3, width=8, seed=0, places=[1], cosine=0.5)
    >>> round(float(drawn.cosines[1]), 6)
    0.5
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(positives + negatives + 1, width, generator=generator, dtype=torch.float64)
    anchor, candidates = rows[0], F.normalize(rows[1:], dim=1)
    direction = F.normalize(anchor, dim=0)
    for place in places:
        row = candidates[place]
        across = F.normalize(row - (row @ direction) * direction, dim=0)
        candidates[place] = cosine * direction + (1 - cosine**2) ** 0.5 * across
    return Neighborhood(anchor=anchor, candidates=candidates, positives=positives)


def by_formula(
    around: Neighborhood, *, temperature: float, form: Form = "out", normalize: bool = True
) -> Tensor:
    """How far a step of size 1 moves w toward each candidate: [K].

    ``normalize`` False: w is a unit row itself, without the layer that makes it so, and moves by
    the whole of z_k in place of its part across z.
    """
    cosines, count = around.cosines, around.positives
    weight = torch.zeros_like(cosines)
    weight[:count] = 1 / count if form == "out" else (cosines[:count] / temperature).softmax(0)
    toward: Tensor = (weight - (cosines / temperature).softmax(0)) / temperature
    if normalize:
        toward = toward * (1 - cosines**2).clamp_min(0).sqrt() / around.anchor.norm()
    return toward


def by_autograd(
    around: Neighborhood, *, temperature: float, form: Form = "out", normalize: bool = True
) -> Tensor:
    """The same, measured: every pair has a copy of the anchor, whose gradient is the pair's part.

    Shapes and ``normalize`` as for :func:`by_formula`.
    """
    start = around.anchor if normalize else F.normalize(around.anchor, dim=0)
    copies = start.repeat(len(around.candidates), 1).requires_grad_()
    rows = F.normalize(copies, dim=1) if normalize else copies
    logits = (rows * around.candidates).sum(1) / temperature
    own = logits[: around.positives]
    attraction = own.mean() if form == "out" else own.logsumexp(0)
    (gradient,) = torch.autograd.grad(logits.logsumexp(0) - attraction, copies)
    sign = -(gradient * around.candidates).sum(1).sign()
    toward: Tensor = sign * gradient.norm(dim=1)
    return toward


def closed_form(rows: Tensor, labels: Sequence[int], temperature: float) -> Tensor:
    """dL/dw of the whole batch: ((P - T) + (P - T)^T) Z / (tau M), through the normalization.

    Shapes: rows [M, D], a label for each -> [M, D]. Rows without positives have no part in it.
    """
    unit = F.normalize(rows, dim=1)
    names = torch.tensor(labels)
    itself = torch.eye(len(rows), dtype=torch.bool)
    same = (names[:, None] == names) & ~itself
    counted = same.any(1, keepdim=True)
    target = same.to(rows.dtype) / same.sum(1, keepdim=True).clamp_min(1)
    softmax = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf).softmax(1)
    slope = (softmax - target) * counted / (temperature * float(counted.sum()))
    to_unit = (slope + slope.T) @ unit
    across = to_unit - (to_unit * unit).sum(1, keepdim=True) * unit
    gradient: Tensor = across / rows.norm(dim=1, keepdim=True)
    return gradient
