"""The module of a projection head: dense layers whose outputs can all be used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, stream_seed
from coview.core.tensors import unit_rows


class Head(nn.Module):
    """h [B, widths[0]] -> z [B, widths[-1]]; built by ``HeadSpec``.

    Layer 0 is h itself; layer k is the output of ``layers[k - 1]`` after its BatchNorm and ReLU.
    The last layer is z: it has no ReLU and is not scaled to unit length (the objectives do that).
    ``widths`` are the widths of the layers 0, 1, ...

    >>> import torch
    >>> from coview.heads import HeadSpec
    >>> head = HeadSpec(layers=3, hidden=32, output=8).build(16).eval()
    >>> [tuple(output.shape) for output in head.layer_outputs(torch.ones(2, 16))]
    [(2, 16), (2, 32), (2, 32), (2, 8)]
    >>> head.truncated(1)(torch.ones(2, 16)).shape
    torch.Size([2, 32])
    """

    def __init__(
        self, layers: Sequence[nn.Module], widths: Sequence[int], normalize_input: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.widths = tuple(widths)
        self.normalize_input = normalize_input

    @property
    def features(self) -> int:
        return self.widths[-1]

    def forward(self, h: Tensor) -> Tensor:
        return self.layer_outputs(h)[-1]

    def layer_outputs(self, h: Tensor) -> list[Tensor]:
        """The outputs of layers 0, 1, ...: [h, layer 1, ..., z]. Without layers [h].

        ``normalize_input`` scales the input of layer 1, not layer 0.
        """
        outputs = [h]
        for index, layer in enumerate(self.layers):
            first = index == 0 and self.normalize_input
            outputs.append(layer(unit_rows(h) if first else outputs[-1]))
        return outputs

    def truncated(self, layers: int) -> Head:
        """A head of the first ``layers`` layers, which shares this head's parameters and buffers.

        Its output is ``layer_outputs(h)[layers]`` and its width ``features``; with 0 layers it is
        the identity. SimCLRv2 (section 2) fine-tunes from such a middle layer. Raises InvalidValue
        unless 0 <= ``layers`` <= the number of layers of this head.
        """
        if not 0 <= layers <= len(self.layers):
            raise InvalidValue(
                f"`layers` is {layers}; this head has {len(self.layers)} layers, expected 0 to "
                f"{len(self.layers)}."
            )
        first = list(self.layers)[:layers]
        head = Head(first, self.widths[: layers + 1], self.normalize_input)
        # Not head.train(): layers may be in different modes, and they belong to this head.
        head.training = self.training
        return head

    def initialize(self, init: str, seed: int) -> None:
        """Initialize every parameter and buffer in place; ``init`` as in ``HeadSpec``."""
        generator = torch.Generator().manual_seed(stream_seed(seed, Stream.INIT, "head"))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module, init, generator)
            elif isinstance(module, nn.BatchNorm1d):
                reset_batch_norm(module)


def dense_layer(
    in_features: int, out_features: int, *, bias: bool, affine: str | None, relu: bool
) -> nn.Sequential:
    """A linear layer, then BatchNorm (unless ``affine`` is None) and ReLU (if ``relu``)."""
    layer = nn.Sequential()
    layer.add_module("dense", nn.Linear(in_features, out_features, bias=bias))
    if affine is not None:
        norm = nn.BatchNorm1d(out_features, affine=affine != "none")
        if affine == "scale":
            norm.register_parameter("bias", None)
        layer.add_module("norm", norm)
    if relu:
        layer.add_module("relu", nn.ReLU(inplace=True))
    return layer


def reset_batch_norm(norm: nn.BatchNorm1d) -> None:
    """Mean 0, variance 1, scale 1, shift 0. Unlike torch's own, works without a shift."""
    norm.reset_running_stats()
    if norm.affine:
        nn.init.ones_(norm.weight)
        if norm.bias is not None:
            nn.init.zeros_(norm.bias)


def init_linear(dense: nn.Linear, init: str, generator: torch.Generator) -> None:
    """Initialize a linear layer as "normal", "torch" or "zeros" (see ``HeadSpec``)."""
    if init in ("normal", "zeros"):
        nn.init.normal_(dense.weight, std=0.01 if init == "normal" else 0.0, generator=generator)
        if dense.bias is not None:
            nn.init.zeros_(dense.bias)
        return
    bound = 1 / math.sqrt(dense.in_features)
    nn.init.uniform_(dense.weight, -bound, bound, generator=generator)
    if dense.bias is not None:
        nn.init.uniform_(dense.bias, -bound, bound, generator=generator)
