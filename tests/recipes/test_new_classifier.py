"""A new classifier under the recipes of the papers, whose LARS leaves it alone."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from coview.recipes import change, for_classes, recipe
from coview.recipes.build import build

RECIPES = ("finetune-v2-imagenet", "distill-imagenet")


class Network(nn.Module):
    """Images' numbers -> logits; parameters have the names of a learner's."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(4, 16), nn.Linear(16, 2)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder.reset_parameters()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, rows):
        return self.head(self.encoder(rows).relu())


def separable(rows=64):
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def train(name, steps, rate):
    """The loss of every step, and the gradients and weights of the classifier."""
    network, (x, y) = Network(), separable()
    optimizer = recipe(name).optimizer.build(network)
    losses, gradients, weights = [], [], [network.head.weight.detach().clone()]
    for _ in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        gradients.append(network.head.weight.grad.clone())
        weights.append(network.head.weight.detach().clone())
    return losses, gradients, weights


@pytest.mark.parametrize("name", RECIPES)
def test_it_takes_plain_momentum_at_the_full_rate(name):
    _, (first, second), (zero, one, two) = train(name, 2, 0.16)
    torch.testing.assert_close(one - zero, -0.16 * first)
    torch.testing.assert_close(two - one, -0.16 * (0.9 * first + second))


@pytest.mark.parametrize("name", RECIPES)
def test_it_learns_what_can_be_separated(name):
    losses, _, _ = train(name, 60, 0.16)
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)
    assert losses[-1] < 0.3


def test_a_kept_layer_of_the_projection_head_is_adapted():
    made = change(for_classes(recipe("finetune-v2-imagenet"), 3), encoder="resnet10/8-small")
    names = made.optimizer.groups(build(made))
    adapted, plain = names["decayed"], names["excluded"]
    assert any(name.startswith("encoder.kept.") for name in adapted)
    assert {name for name in (*adapted, *plain) if name.startswith("head.")} <= set(plain)
