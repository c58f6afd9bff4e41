import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from toy_images import blobs

from coview.core.errors import DataError, InvalidValue
from coview.evaluation import ProbeSpec, linear_probe
from coview.evaluation.linear import Standardization, train_probe

QUICK = ProbeSpec(epochs=15, batch_size=64)


def test_linear_probe_learns_separable_classes():
    rows, labels, ids = blobs(400, 4, 16, spread=0.5)
    test, truth, _ = blobs(200, 4, 16, seed=1, spread=0.5)
    assert linear_probe(rows, labels, ids, QUICK).accuracy(test, truth) > 0.98


def test_linear_probe_of_noise_is_near_chance():
    generator = torch.Generator().manual_seed(0)
    rows, test = (torch.randn(n, 8, generator=generator) for n in (400, 400))
    labels, truth = (torch.randint(4, (400,), generator=generator) for _ in range(2))
    accuracy = linear_probe(rows, labels, torch.arange(400), QUICK).accuracy(test, truth)
    assert accuracy == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("place", [0, 8, 19])
def test_fit_of_one_setting_alone_equals_it_among_many(place):
    rows, labels, ids = blobs(150, 3, 6, dtype=torch.float64)
    settings = ProbeSpec(learning_rates=(0.3, 1.0, 3.0, 10.0)).settings
    together = train_probe(rows, labels, ids.numpy(), 3, settings, QUICK)
    alone = train_probe(rows, labels, ids.numpy(), 3, (settings[place],), QUICK)
    for many, one in zip(together, alone, strict=True):
        assert torch.allclose(many[place], one[0], rtol=1e-10, atol=1e-12)


def test_fit_equals_the_optimizer_of_torch():
    rows, labels, ids = blobs(96, 3, 5, dtype=torch.float64)
    spec = ProbeSpec(epochs=4, batch_size=96)
    weights, bias = train_probe(rows, labels, ids.numpy(), 3, ((0.7, 0.01),), spec)
    layer = torch.nn.Linear(5, 3, dtype=torch.float64)
    torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    groups = [
        {"params": [layer.weight], "weight_decay": 0.01},
        {"params": [layer.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.7, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(rows), labels).backward()
        optimizer.step(), schedule.step()
    assert torch.allclose(weights[0], layer.weight.T, atol=1e-12)
    assert torch.allclose(bias[0], layer.bias, atol=1e-12)


def test_fit_agrees_with_convex_logistic_regression():
    rows, labels, ids = blobs(300, 3, 4, spread=1.5, dtype=torch.float64)
    test, truth, _ = blobs(500, 3, 4, seed=1, spread=1.5, dtype=torch.float64)
    scale, decay = Standardization.of(rows), 1e-3
    x, hot = scale(rows).numpy(), np.eye(3)[labels.numpy()]

    def objective(flat):
        w, b = flat[:12].reshape(4, 3), flat[12:]
        logits = x @ w + b
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        value = -np.log((p * hot).sum(1)).mean() + decay / 2 * (w**2).sum()
        gradient = x.T @ (p - hot) / len(x) + decay * w
        return value, np.concatenate([gradient.ravel(), (p - hot).mean(0)])

    best = minimize(objective, np.zeros(15), jac=True, method="L-BFGS-B").x
    spec = ProbeSpec(epochs=300, batch_size=300)
    weights, bias = train_probe(scale(rows), labels, ids.numpy(), 3, ((3.0, decay),), spec)
    assert np.allclose(weights[0].numpy(), best[:12].reshape(4, 3), atol=0.02)
    ours = (scale(test) @ weights[0] + bias[0]).argmax(1)
    theirs = torch.from_numpy((scale(test).numpy() @ best[:12].reshape(4, 3) + best[12:]).argmax(1))
    assert (ours == truth).double().mean() == pytest.approx(
        float((theirs == truth).double().mean()), abs=0.005
    )


def ill_conditioned(rows, decades):
    """Rows mixed so that some directions have 10^decades times the deviation of others."""
    generator, width = torch.Generator().manual_seed(5), rows.shape[1]
    left, right = (torch.linalg.qr(torch.randn(width, width, generator=generator))[0] for _ in "ab")
    return rows @ (left * torch.logspace(0, -decades, width)) @ right


@pytest.mark.parametrize(
    ("count", "classes", "width", "spread", "decades"),
    [(1500, 6, 64, 3.0, 0.0), (2000, 5, 16, 1.0, 1.0)],  # strong and weak decay is best
)
def test_linear_probe_agrees_with_scikit_learn_at_its_best_decay(
    count, classes, width, spread, decades
):
    rows, labels, ids = blobs(count, classes, width, spread=spread)
    test, truth, _ = blobs(4000, classes, width, seed=1, spread=spread)
    rows, test = ill_conditioned(rows, decades), ill_conditioned(test, decades)
    scale = Standardization.of(rows)
    accuracies = {}
    for decay in (1e-8, *ProbeSpec().weight_decays, 1.0):
        model = LogisticRegression(C=1 / (decay * count), max_iter=5000)
        model.fit(scale(rows).numpy(), labels.numpy())
        accuracies[decay] = float(model.score(scale(test).numpy(), truth.numpy()))
    best = max(accuracies, key=accuracies.get)
    assert best in ProbeSpec().weight_decays
    # Two standard errors of the test accuracy, and half a point for the choice of the setting.
    noise = 2 * (accuracies[best] * (1 - accuracies[best]) / 4000) ** 0.5 + 0.005
    accuracy = linear_probe(rows, labels, ids).accuracy(test, truth)
    assert accuracy == pytest.approx(accuracies[best], abs=noise)


def test_fit_a_diverging_setting_leaves_the_others_alone():
    rows, labels, ids = blobs(100, 3, 5, dtype=torch.float64)
    mad = train_probe(rows * 1e3, labels, ids.numpy(), 3, ((1e300, 0.1), (1e-6, 0.0)), QUICK)[0]
    alone = train_probe(rows * 1e3, labels, ids.numpy(), 3, ((1e-6, 0.0),), QUICK)[0]
    assert not mad[0].isfinite().all()
    assert torch.allclose(mad[1], alone[0], rtol=1e-8)


def test_linear_probe_never_chooses_a_diverged_setting():
    rows, labels, ids = blobs(200, 3, 5)
    spec = ProbeSpec(learning_rates=(1e38, 1.0), weight_decays=(0.1,), epochs=5)
    probe = linear_probe(rows, labels, ids, spec)
    assert probe.setting == (1.0, 0.1)
    assert probe.validation[0] == -1


def test_linear_probe_takes_the_best_validation_setting_and_refits_on_all():
    rows, labels, ids = blobs(200, 3, 5, spread=2.0, dtype=torch.float64)
    probe = linear_probe(rows, labels, ids, QUICK)
    settings = probe.settings
    assert probe.validation[settings.index(probe.setting)] == max(probe.validation)
    scale = Standardization.of(rows)
    weights, bias = train_probe(scale(rows), labels, ids.numpy(), 3, (probe.setting,), QUICK)
    assert torch.allclose(probe.weights, weights[0])
    assert torch.allclose(probe.bias, bias[0])


def test_the_sweep_grows_where_its_best_lies_on_a_border():
    rows, labels, ids = blobs(300, 5, 40, spread=5.0)
    low = ProbeSpec(learning_rates=(0.001, 0.01), weight_decays=(0.1, 1.0), epochs=5, batch_size=64)
    probe = linear_probe(rows, labels, ids, low)
    assert probe.settings[:4] == low.settings
    scores = dict(zip(probe.settings, probe.validation, strict=True))
    assert scores[probe.setting] == max(scores.values())
    first = dict(list(scores.items())[:4])
    on_border = max(scores, key=lambda s: scores[s]) not in first
    assert on_border or len(scores) > 4


def test_the_sweep_stays_where_its_best_lies_within():
    rows, labels, ids = blobs(300, 3, 8, spread=2.0, dtype=torch.float64)
    spec = ProbeSpec(learning_rates=(1e-9, 3.0, 1e38), weight_decays=(1e-3,), epochs=5)
    probe = linear_probe(rows, labels, ids, spec)
    assert probe.setting == (3.0, 1e-3)
    assert probe.settings == spec.settings


def test_the_sweep_grows_no_more_often_than_it_may():
    rows, labels, ids = blobs(200, 3, 8)
    for growth in (0, 2):
        spec = ProbeSpec(learning_rates=(1e-7, 1e-6), weight_decays=(0.1,), growth=growth, epochs=2)
        assert len(linear_probe(rows, labels, ids, spec).settings) <= 2 + growth


def test_linear_probe_does_not_depend_on_the_order_of_images():
    rows, labels, ids = blobs(200, 3, 5, spread=2.0, dtype=torch.float64)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    one = linear_probe(rows, labels, ids, QUICK)
    two = linear_probe(rows[order], labels[order], ids[order], QUICK)
    assert one.setting == two.setting
    assert torch.allclose(one.weights, two.weights, rtol=1e-8, atol=1e-10)


def test_linear_probe_scale_and_offset_of_features_do_not_matter():
    rows, labels, ids = blobs(200, 3, 5, dtype=torch.float64)
    moved = rows * torch.tensor([1e-3, 1.0, 50.0, 1e4, 7.0]) + 3
    one, two = (linear_probe(x, labels, ids, QUICK) for x in (rows, moved))
    assert torch.allclose(one.weights, two.weights, atol=1e-6)


def test_linear_probe_constant_dimension_counts_for_nothing():
    rows, labels, ids = blobs(100, 3, 5)
    rows[:, 2] = 4.2
    probe = linear_probe(rows, labels, ids, QUICK)
    assert torch.equal(probe.weights[2], torch.zeros(3))
    before = probe.predict(rows)
    rows[:, 2] = 1e6
    assert torch.equal(probe.predict(rows), before)


def test_standardization_rows_have_mean_squared_length_one():
    rows, _, _ = blobs(500, 3, 40)
    assert Standardization.of(rows)(rows).square().sum(1).mean().item() == pytest.approx(
        1, abs=1e-4
    )


def test_linear_probe_labels_may_have_gaps():
    rows, labels, ids = blobs(200, 3, 8, spread=0.3)
    named = torch.tensor([-7, 40, 1000])[labels]
    assert linear_probe(rows, named, ids, QUICK).accuracy(rows, named) > 0.98


def test_linear_probe_refuses_a_single_class():
    with pytest.raises(DataError, match="2 classes"):
        linear_probe(torch.randn(9, 3), torch.ones(9, dtype=torch.int64), torch.arange(9))


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rates": ()},
        {"learning_rates": (0.0,)},
        {"weight_decays": (-1.0,)},
        {"momentum": 1.0},
        {"epochs": 0},
        {"batch_size": 0},
        {"validation_share": 1.0},
        {"growth": -1},
    ],
)
def test_probe_spec_refuses_what_cannot_be_trained(fields):
    with pytest.raises(InvalidValue, match="probe needs"):
        ProbeSpec(**fields)
