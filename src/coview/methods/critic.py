"""LoGo's adversarial critic as a module: its network, its own SGD, its affinity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import relu, softplus

from coview.core.rng import Stream, stream_seed
from coview.core.tensors import to_device, unit_rows
from coview.heads.head import init_linear
from coview.methods.affinity import Critic

Weights = Mapping[str, Tensor]
Pairs = Sequence[tuple[Tensor, Tensor]]


class CriticNetwork(nn.Module):
    """D: [a; b] [N, 2 width] -> [N]."""

    def __init__(self, spec: Critic, width: int) -> None:
        super().__init__()
        widths = [2 * width, *[spec.hidden] * spec.layers]
        self.hidden = nn.ModuleList(
            nn.Linear(wide_in, wide_out) for wide_in, wide_out in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(spec.hidden) for _ in range(spec.layers))
        self.last = nn.Linear(spec.hidden, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = torch.cat([a, b], dim=1)
        for dense, norm in zip(self.hidden, self.norms, strict=True):
            x = relu(norm(dense(x)))
        scores: Tensor = self.last(x)
        return scores.squeeze(1)


class AdversarialCritic(nn.Module):
    """The critic's weights and momentum buffers (``velocity``).

    ``propose_update`` computes an update, ``commit`` stores it. The parameters take no gradient
    from the encoder's loss and belong to no optimizer of the run.
    """

    def __init__(self, spec: Critic, width: int, seed: int) -> None:
        super().__init__()
        self.spec, self.seed = spec, seed
        self.network = CriticNetwork(spec, width)
        generator = torch.Generator().manual_seed(stream_seed(seed, Stream.INIT, "critic"))
        for module in self.network.modules():
            if isinstance(module, nn.Linear):
                init_linear(module, "torch", generator)
        self.velocity = CriticNetwork(spec, width)
        for parameter in self.velocity.parameters():
            nn.init.zeros_(parameter)
        self.requires_grad_(False)

    def propose_update(self, pairs: Pairs, step: int, batch_size: int) -> tuple[Weights, Weights]:
        """Weights and velocity after one step of SGD on the critic's loss of ``pairs``.

        ``pairs``: (a, b) [B, width] for two local views of the images of all ranks, as constants.
        ``batch_size`` is that of all ranks. Changes nothing.
        """
        weights = {
            name: value.detach().requires_grad_() for name, value in self.network.named_parameters()
        }
        with torch.enable_grad():
            noisy = [self._with_noise(a, b, step, k) for k, (a, b) in enumerate(pairs)]
            loss = self.loss(weights, noisy)
            gradients = torch.autograd.grad(loss, list(weights.values()))
        rate = self.spec.learning_rate * batch_size / 256
        velocity, updated = {}, {}
        for (name, value), gradient in zip(weights.items(), gradients, strict=True):
            old = self.velocity.get_parameter(name)
            gradient = gradient + self.spec.weight_decay * value.detach()
            velocity[name] = self.spec.momentum * old + gradient
            updated[name] = value.detach() - rate * velocity[name]
        return updated, velocity

    def loss(self, weights: Weights, pairs: Pairs) -> Tensor:
        """The critic's loss, the mean over all pairs of views in both orders."""
        return torch.stack([self._pair_loss(weights, a, b) for a, b in pairs]).mean()

    def _pair_loss(self, weights: Weights, a: Tensor, b: Tensor) -> Tensor:
        # A roll pairs no image with itself in a batch of at least two images.
        same = torch.cat([self._score(weights, a, b), self._score(weights, b, a)])
        other = torch.cat(
            [self._score(weights, a, b.roll(1, 0)), self._score(weights, b, a.roll(1, 0))]
        )
        if self.spec.loss == "literal":
            return other.tanh().mean() - same.tanh().mean()
        return softplus(-same).mean() + softplus(other).mean()

    def affinity(self, weights: Weights, a: Tensor, b: Tensor) -> Tensor:
        """l_a of each row pair, the mean of both orders: [B, width] twice -> [B]."""
        both = torch.stack([self._score(weights, a, b), self._score(weights, b, a)])
        values = both.tanh() if self.spec.loss == "literal" else softplus(both)
        return values.mean(0)

    @torch.no_grad()
    def commit(self, weights: Weights, velocity: Weights) -> None:
        """Store an update that :meth:`propose_update` computed."""
        for name, parameter in self.network.named_parameters():
            parameter.copy_(weights[name])
            self.velocity.get_parameter(name).copy_(velocity[name])

    def _score(self, weights: Weights, a: Tensor, b: Tensor) -> Tensor:
        scores: Tensor = functional_call(self.network, dict(weights), (a, b))
        return scores

    def _with_noise(self, a: Tensor, b: Tensor, step: int, pair: int) -> tuple[Tensor, Tensor]:
        if self.spec.noise == 0:
            return a, b
        seed = stream_seed(self.seed, Stream.STEP, f"critic {step} {pair}")
        generator = torch.Generator().manual_seed(seed)
        scale = self.spec.noise / math.sqrt(a.shape[1])
        draws = torch.randn(2, *a.shape, generator=generator)
        draws = to_device(draws, a.device).to(a.dtype) * scale
        return a + draws[0], b + draws[1]


def critic_rows(rows: Tensor) -> Tensor:
    """Rows of length 1 in float32 (float64 for float64), the critic's input."""
    return unit_rows(rows if rows.dtype == torch.float64 else rows.float())
