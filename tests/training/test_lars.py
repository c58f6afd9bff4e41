import math

import pytest
import torch

from coview.training import LARS


def parameter(values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def slow_step(w, g, v, *, lr, momentum, weight_decay, eta, adapt):
    """Per number, in Python floats."""
    g = [gi + weight_decay * wi for gi, wi in zip(g, w, strict=True)]
    norm_w = math.sqrt(sum(wi * wi for wi in w))
    norm_g = math.sqrt(sum(gi * gi for gi in g))
    trust = eta * norm_w / norm_g if adapt and norm_w > 0 and norm_g > 0 else 1.0
    v = [momentum * vi + lr * trust * gi for vi, gi in zip(v, g, strict=True)]
    return [wi - vi for wi, vi in zip(w, v, strict=True)], v


def test_lars_gives_the_published_numbers_of_two_steps():
    w = parameter([3.0, 4.0])
    optimizer = LARS([w], lr=1.0, weight_decay=0.1)
    seen = []
    for lr in (1.0, 0.5):
        optimizer.param_groups[0]["lr"] = lr
        w.grad = torch.tensor([0.8, -0.6], dtype=torch.float64)
        optimizer.step()
        seen.append(w.detach().clone())
    expected = [[2.9950806504, 4.0008944272], [2.9881946601, 4.0021464254]]
    torch.testing.assert_close(
        torch.stack(seen), torch.tensor(expected, dtype=torch.float64), atol=5e-11, rtol=0
    )
    velocity = optimizer.state[w]["velocity"]
    expected = torch.tensor([0.0068859904, -0.0012519982], dtype=torch.float64)
    torch.testing.assert_close(velocity, expected, atol=5e-11, rtol=0)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lars_agrees_with_a_slow_loop_over_fifty_changing_rates(weight_decay, dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (7,), (2, 3, 2, 2), (5,)]
    adapted = [False, True, True, False]
    weights = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    weights[1].zero_()  # a norm of zero: trust is 1
    parameters = [torch.nn.Parameter(w.to(dtype)) for w in weights]
    groups = [
        {"params": [p for p, a in zip(parameters, adapted, strict=True) if a]},
        {
            "params": [p for p, a in zip(parameters, adapted, strict=True) if not a],
            "weight_decay": 0.0,
            "adapt": False,
        },
    ]
    optimizer = LARS(groups, lr=0.0, weight_decay=weight_decay, eta=0.02)
    slow = [w.flatten().tolist() for w in weights]
    velocities = [[0.0] * len(w) for w in slow]
    for step in range(50):
        lr = 2.0 * (1 + math.cos(math.pi * step / 50)) * (step % 7 + 1) / 7
        for group in optimizer.param_groups:
            group["lr"] = lr
        for i, p in enumerate(parameters):
            gradient = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if step % 11 == 3:
                gradient.zero_()
            p.grad = gradient.to(dtype)
            slow[i], velocities[i] = slow_step(
                slow[i], gradient.flatten().tolist(), velocities[i], lr=lr, momentum=0.9,
                weight_decay=weight_decay if adapted[i] else 0.0, eta=0.02, adapt=adapted[i],
            )  # fmt: skip
        optimizer.step()
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for p, expected in zip(parameters, slow, strict=True):
        expected = torch.tensor(expected, dtype=torch.float64).reshape(p.shape)
        torch.testing.assert_close(
            p.detach().double(), expected, rtol=tolerance, atol=tolerance * 10
        )


def test_lars_leaves_the_gradient_as_it_is():
    w = parameter([1.0, 2.0])
    w.grad = torch.tensor([0.5, 0.25], dtype=torch.float64)
    LARS([w], lr=1.0, weight_decay=0.1).step()
    assert w.grad.tolist() == [0.5, 0.25]


def test_lars_without_decay_still_adapts():
    w = parameter([3.0, 4.0])
    w.grad = torch.tensor([0.0, 10.0], dtype=torch.float64)
    LARS([w], lr=1.0, weight_decay=0.0).step()
    assert w.tolist() == pytest.approx([3.0, 4.0 - 0.001 * 5 / 10 * 10])


def test_lars_group_without_adaptation_is_plain_momentum():
    w, twin = parameter([3.0, 4.0]), parameter([3.0, 4.0])
    lars = LARS([w], lr=0.3, adapt=False)
    sgd = torch.optim.SGD([twin], lr=0.3, momentum=0.9)
    for step in range(5):
        w.grad = torch.tensor([0.1 * step, 1.0], dtype=torch.float64)
        twin.grad = w.grad.clone()
        lars.step()
        sgd.step()
    torch.testing.assert_close(w, twin)


def test_lars_skips_parameters_without_a_gradient():
    w, idle = parameter([3.0]), parameter([4.0])
    w.grad = torch.ones(1, dtype=torch.float64)
    optimizer = LARS([w, idle], lr=1.0)
    optimizer.step()
    assert idle.item() == 4.0
    assert idle not in optimizer.state


def test_lars_never_asks_for_the_value_of_a_tensor(monkeypatch):
    for name in ("item", "__bool__", "__float__", "tolist", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: pytest.fail("waited for the device"))
    w = torch.nn.Parameter(torch.ones(3))
    w.grad = torch.ones(3)
    LARS([w], lr=1.0, weight_decay=0.1).step()
