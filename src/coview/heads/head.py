"""The module of a projection head: dense layers whose every output can be taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, stream_seed


class Head(nn.Module):
    """h [B, widths[0]] -> z [B, widths[-1]]; made by ``HeadSpec``.

    ``widths`` are the widths of the taps: t_0 = h, t_k = layer k after BatchNorm and ReLU, and
    the last z, which has no ReLU and is not scaled to unit length (the objectives do that).
    """

    def __init__(
        self, layers: Sequence[nn.Module], widths: Sequence[int], normalize_input: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.widths = tuple(widths)
        self.normalize_input = normalize_input

    def forward(self, h: Tensor) -> Tensor:
        return self.taps(h)[-1]

    def taps(self, h: Tensor) -> list[Tensor]:
        """[h, layer 1, ..., z]; a head without layers gives [h]."""
        found = [h]
        for layer in self.layers:
            first = self.normalize_input and len(found) == 1
            found.append(layer(F.normalize(h, dim=1) if first else found[-1]))
        return found

    def first(self, count: int) -> Head:
        """A head of the first ``count`` layers, sharing this one's parameters; its z is tap count.

        SimCLRv2 (section 2) fine-tunes from such a middle layer. Raises InvalidValue where the
        head has fewer layers.
        """
        if not 0 <= count <= len(self.layers):
            raise InvalidValue(
                f"This head has {len(self.layers)} layers; cannot keep the first {count} of them."
            )
        layers = list(self.layers)[:count]
        return Head(layers, self.widths[: count + 1], self.normalize_input).train(self.training)

    def initialize(self, init: str, seed: int) -> None:
        """Give every parameter and buffer its first value, in place, as ``HeadSpec.init`` says."""
        generator = torch.Generator().manual_seed(stream_seed(seed, Stream.INIT, "head"))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module, init, generator)
            elif isinstance(module, nn.BatchNorm1d):
                reset(module)


def dense_layer(
    wide_in: int, wide_out: int, *, bias: bool, affine: str | None, relu: bool
) -> nn.Sequential:
    """Dense, then BatchNorm and ReLU where asked."""
    layer = nn.Sequential()
    layer.add_module("dense", nn.Linear(wide_in, wide_out, bias=bias))
    if affine is not None:
        norm = nn.BatchNorm1d(wide_out, affine=affine != "none")
        if affine == "scale":
            norm.register_parameter("bias", None)
        layer.add_module("norm", norm)
    if relu:
        layer.add_module("relu", nn.ReLU(inplace=True))
    return layer


def reset(norm: nn.BatchNorm1d) -> None:
    """Mean 0, variance 1, scale 1, shift 0; unlike torch's own for a norm that does not shift."""
    norm.reset_running_stats()
    if norm.affine:
        nn.init.ones_(norm.weight)
        if norm.bias is not None:
            nn.init.zeros_(norm.bias)


def init_linear(dense: nn.Linear, init: str, generator: torch.Generator) -> None:
    """Draw N(0, 0.01^2) and biases 0, or as torch uniformly within 1 / sqrt(in), biases too."""
    if init == "normal":
        nn.init.normal_(dense.weight, std=0.01, generator=generator)
        if dense.bias is not None:
            nn.init.zeros_(dense.bias)
        return
    bound = 1 / math.sqrt(dense.in_features)
    nn.init.uniform_(dense.weight, -bound, bound, generator=generator)
    if dense.bias is not None:
        nn.init.uniform_(dense.bias, -bound, bound, generator=generator)
