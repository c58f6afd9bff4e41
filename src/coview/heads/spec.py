"""The specification of a projection head.

Heads of the literature, for features of width d (parameters not named keep their defaults):

    SimCLR (v1; v2: layers=3)     HeadSpec()
    SupCon, ImageNet              HeadSpec(layers=1, batch_norm="none", normalize_input=True)
    SupContrast, MoCo v2, LoGo    HeadSpec(batch_norm="none", bias="all", init="torch")
    SimSiam projector             HeadSpec(layers=3, output=2048, last_affine="none", init="torch")
    SimSiam predictor             HeadSpec(hidden=512, output=2048, batch_norm="hidden",
                                           bias="last", init="torch")
    BYOL projector, predictor     HeadSpec(hidden=4096, output=256, batch_norm="hidden",
                                           bias="hidden", init="torch")

SimSiam's code has a frozen bias before the last BatchNorm. BatchNorm subtracts it again, so it is
left out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from coview.core.errors import InvalidValue
from coview.core.values import decode_one, encode
from coview.heads.head import Head, dense_layer

CHOICES = {
    "batch_norm": ("all", "hidden", "none"),
    "bias": ("all", "hidden", "last", "none"),
    "last_affine": ("scale", "both", "none"),
    "init": ("normal", "torch", "zeros"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """Features h -> embedding z by ``layers`` dense layers with ReLU between them.

    The defaults are official SimCLR's head: two layers without bias, each followed by BatchNorm;
    the last BatchNorm scales but does not shift (SimCLR, appendix; released ``model_util``).

    layers: number of dense layers >= 0; 0 gives z = h.
    hidden: width of the middle layers; None is the width of h.
    output: width of z.
    batch_norm: after "all" layers, after the "hidden" ones, or "none".
    bias: "all" dense layers have one, the "hidden" ones, the "last" one, or "none".
    last_affine: a BatchNorm after the last layer has a "scale", "both" scale and shift, or "none".
    normalize_input: h is scaled to unit length before the first layer.
    init: "normal" draws weights from N(0, 0.01^2) and sets biases to 0; "torch" draws both as
    torch.nn.Linear, uniformly within 1 / sqrt(width of the input); "zeros" sets both to 0, for the
    logits of a single layer (SimCLRv2's fine-tuning).

    Raises InvalidValue for other values.

    >>> head = HeadSpec(layers=3, hidden=32, output=8).build(16, seed=0)
    >>> head.widths
    (16, 32, 32, 8)
    >>> head.truncated(1).features
    32
    """

    layers: int = 2
    hidden: int | None = None
    output: int = 128
    batch_norm: str = "all"
    bias: str = "none"
    last_affine: str = "scale"
    normalize_input: bool = False
    init: str = "normal"

    def __post_init__(self) -> None:
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                raise InvalidValue(
                    f"`{field}` of HeadSpec is {getattr(self, field)!r}; expected one of "
                    f"{', '.join(map(repr, allowed))}."
                )
        for field, minimum in (("layers", 0), ("hidden", 1), ("output", 1)):
            value = getattr(self, field)
            if not (
                (isinstance(value, int | np.integer) and value >= minimum)
                or (field == "hidden" and value is None)
            ):
                raise InvalidValue(
                    f"`{field}` of HeadSpec is {value!r}; expected an integer >= {minimum}."
                )

    def widths(self, in_features: int) -> tuple[int, ...]:
        """The widths of h, each middle layer and z."""
        if self.layers == 0:
            return (in_features,)
        return (in_features, *[self.hidden or in_features] * (self.layers - 1), self.output)

    def build(self, in_features: int, seed: int = 0) -> Head:
        """Build the head for features of that width; the same seed gives the same bits."""
        head = self.outline(in_features).to_empty(device="cpu")
        head.initialize(self.init, seed)
        return head

    def outline(self, in_features: int) -> Head:
        """Build the head on the meta device, without values, to count or load parameters."""
        widths = self.widths(in_features)
        with torch.device("meta"):
            layers = [
                self._layer(widths[k], widths[k + 1], last=k == self.layers - 1)
                for k in range(self.layers)
            ]
            return Head(layers, widths, self.normalize_input)

    def _layer(self, width_in: int, width_out: int, *, last: bool) -> nn.Sequential:
        position = "last" if last else "hidden"
        has_norm = self.batch_norm == "all" or (self.batch_norm == "hidden" and not last)
        affine = self.last_affine if last else "both"
        return dense_layer(
            width_in, width_out, bias=self.bias in ("all", position),
            affine=affine if has_norm else None, relu=not last,
        )  # fmt: skip

    def label(self) -> str:
        """A short description: "2 layers to 128, BatchNorm"."""
        if self.layers == 0:
            return "no head"
        kind = "linear" if self.layers == 1 else f"{self.layers} layers"
        hidden = f" of {self.hidden}" if self.hidden and self.layers > 1 else ""
        norm = {"all": ", BatchNorm", "hidden": ", BatchNorm inside", "none": ""}[self.batch_norm]
        return f"{kind}{hidden} to {self.output}{norm}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form; :meth:`from_json` gives an equal value back."""
        data: dict[str, Any] = encode(self)
        return data

    @staticmethod
    def from_json(data: Any) -> HeadSpec:
        """The specification that ``to_json`` wrote. An unknown key raises UnknownName."""
        return decode_one(data, HeadSpec)
