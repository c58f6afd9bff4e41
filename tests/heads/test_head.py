"""Projection heads: published sizes, placement of BatchNorm, outputs of layers, initialization."""

import math

import pytest
import torch

from coview.core.errors import InvalidValue, UnknownName
from coview.core.files import digest
from coview.heads import HeadSpec

SIMCLR = {  # width of h: 2, 3, 4 layers
    512: (328_832, 592_000, 855_168),
    2048: (4_460_672, 8_659_072, 12_857_472),
    4096: (17_309_824, 34_095_232, 50_880_640),
    6144: (38_547_584, 76_308_608, 114_069_632),
    8192: (68_173_952, 135_299_200, 202_424_448),
}
PLAIN = {"batch_norm": "none", "bias": "all", "init": "torch"}
BYOL = {"hidden": 4096, "output": 256, "batch_norm": "hidden", "bias": "hidden", "init": "torch"}
OTHERS = {
    "SupCon, ImageNet": (
        2048,
        {"layers": 1, "batch_norm": "none", "normalize_input": True},
        262_144,
    ),
    "SupContrast": (2048, PLAIN, 4_458_624),
    "MoCo v1": (2048, {"layers": 1, **PLAIN}, 262_272),
    "MoCo v2, R18": (512, PLAIN, 328_320),
    "SimSiam projector": (
        2048,
        {"layers": 3, "output": 2048, "last_affine": "none", "init": "torch"},
        12_591_104,
    ),
    "SimSiam predictor": (
        2048,
        {"hidden": 512, "output": 2048, "batch_norm": "hidden", "bias": "last", "init": "torch"},
        2_100_224,
    ),
    "BYOL projector": (2048, BYOL, 9_449_472),
    "BYOL predictor": (256, BYOL, 2_109_440),
}
SPECS = [
    HeadSpec(layers=0),
    HeadSpec(layers=1),
    HeadSpec(),
    HeadSpec(layers=4, hidden=24, output=6),
    HeadSpec(**PLAIN, normalize_input=True),
    HeadSpec(layers=3, batch_norm="hidden", bias="last"),
]


def trainable(head):
    return sum(parameter.numel() for parameter in head.parameters())


def features(rows=16, width=12, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", SIMCLR)
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_simclr_head_has_the_derived_parameters(width, layers):
    assert trainable(HeadSpec(layers=layers).outline(width)) == SIMCLR[width][layers - 2]


@pytest.mark.parametrize("name", OTHERS)
def test_other_head_has_its_published_parameters(name):
    width, fields, count = OTHERS[name]
    assert trainable(HeadSpec(**fields).outline(width)) == count


def test_first_layer_kept_for_fine_tuning_has_its_derived_parameters():
    assert trainable(HeadSpec(layers=3).outline(2048).truncated(1)) == 4_198_400


def test_simclr_head_has_no_bias_and_its_last_norm_only_scales():
    first, last = HeadSpec().build(12).layers
    assert [name for name, _ in first.named_children()] == ["dense", "norm", "relu"]
    assert [name for name, _ in last.named_children()] == ["dense", "norm"]
    assert first.dense.bias is None
    assert last.dense.bias is None
    assert first.norm.bias is not None
    assert last.norm.bias is None
    assert last.norm.weight is not None
    assert (last.norm.eps, last.norm.momentum) == (1e-5, 0.1)


def test_simclr_head_equals_its_equations():
    head = HeadSpec(output=5).build(12).double()
    h = features().double()
    w1, g1, b1, w2, g2 = (parameter.detach() for parameter in head.parameters())
    for parameter in (g1, b1, g2):
        parameter.uniform_(0.5, 1.5)

    def norm(x):
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()

    hidden = (norm(h @ w1.T) * g1 + b1).clamp(min=0)
    expected = norm(hidden @ w2.T) * g2
    torch.testing.assert_close(head(h), expected, rtol=1e-9, atol=1e-9)


def test_plain_head_equals_its_equations():
    head = HeadSpec(**PLAIN, output=5, normalize_input=True).build(12).double()
    h = features().double()
    w1, b1, w2, b2 = (parameter.detach() for parameter in head.parameters())
    unit = h / h.square().sum(1, keepdim=True).sqrt()
    expected = (unit @ w1.T + b1).clamp(min=0) @ w2.T + b2
    torch.testing.assert_close(head(h), expected, rtol=1e-9, atol=1e-9)


def test_norm_without_affine_part_gives_zero_mean_and_unit_variance():
    z = HeadSpec(layers=3, output=7, last_affine="none", init="torch").build(12)(features(256))
    torch.testing.assert_close(z.mean(0), torch.zeros(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, correction=0), torch.ones(7), atol=1e-3, rtol=0)


@pytest.mark.parametrize("spec", SPECS)
def test_layer_outputs_run_from_the_features_to_the_embedding(spec):
    head = spec.build(12).eval()
    h = features()
    outputs = head.layer_outputs(h)
    assert outputs[0] is h
    assert torch.equal(outputs[-1], head(h))
    assert tuple(output.shape[1] for output in outputs) == head.widths == spec.widths(12)
    assert len(outputs) == spec.layers + 1
    assert head.features == head.widths[-1]


@pytest.mark.parametrize("spec", [s for s in SPECS if s.layers > 1])
def test_inner_outputs_come_after_relu_and_the_embedding_does_not(spec):
    *inner, z = spec.build(12).layer_outputs(features())[1:]
    assert all((output >= 0).all() and (output > 0).any() for output in inner)
    assert (z < 0).any()


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
def test_truncated_head_gives_the_output_of_that_layer_and_shares_parameters(layers):
    head = HeadSpec(layers=4, hidden=24, output=6, normalize_input=True).build(12).eval()
    truncated = head.truncated(layers)
    h = features()
    assert torch.equal(truncated(h), head.layer_outputs(h)[layers])
    assert truncated.widths == head.widths[: layers + 1]
    assert truncated.features == truncated(h).shape[1]
    assert not truncated.training
    shared = {id(parameter) for parameter in head.parameters()}
    assert all(id(parameter) in shared for parameter in truncated.parameters())
    assert len(list(truncated.parameters())) == 3 * layers - (layers == 4)


def test_truncated_head_equals_its_equations():
    """Each layer by hand: unit length, W, BatchNorm with the running statistics, ReLU."""
    head = HeadSpec(layers=3, hidden=10, output=6, normalize_input=True).build(12).double()
    h = features().double()
    head(h)  # moves the running statistics
    head.eval()
    expected = h / h.square().sum(1, keepdim=True).sqrt()
    for k, layer in enumerate(head.layers[:2], start=1):
        norm = layer.norm
        x = expected @ layer.dense.weight.T
        x = (x - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
        expected = x.clamp(min=0)
        torch.testing.assert_close(head.truncated(k)(h), expected, rtol=1e-9, atol=1e-9)


def test_truncated_at_zero_is_the_identity():
    head = HeadSpec(normalize_input=True).build(12).truncated(0)
    h = features()
    assert head(h) is h
    assert head.features == 12
    assert list(head.parameters()) == []


def test_training_a_truncated_head_trains_the_head():
    head = HeadSpec(layers=3, hidden=10).build(12)
    before = head.layers[0].dense.weight.detach().clone()
    truncated = head.truncated(1)
    truncated(features()).square().sum().backward()
    torch.optim.SGD(truncated.parameters(), lr=0.1).step()
    assert not torch.equal(head.layers[0].dense.weight, before)
    assert head.layers[0].norm.num_batches_tracked == 1
    assert head.layers[1].dense.weight.grad is None


def test_truncating_leaves_the_modes_of_the_layers():
    head = HeadSpec(layers=3).build(12)
    head.layers[0].eval()
    assert not head.truncated(2).layers[0].training
    assert head.layers[1].training


@pytest.mark.parametrize("layers", [-1, 3])
def test_head_cannot_be_truncated_to_more_layers_than_it_has(layers):
    with pytest.raises(InvalidValue, match="has 2 layers"):
        HeadSpec().build(12).truncated(layers)


def test_official_weights_are_normal_with_a_hundredth():
    head = HeadSpec().build(512)
    assert head.layers[0].dense.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert head.layers[0].dense.weight.abs().max().item() > 0.03
    assert (HeadSpec(batch_norm="none", bias="all").build(12).layers[0].dense.bias == 0).all()


def test_torch_weights_are_uniform_as_those_of_linear():
    dense = HeadSpec(**PLAIN).build(256).layers[0].dense
    bound = 1 / math.sqrt(256)
    for values in (dense.weight, dense.bias):
        assert 0.95 * bound < values.abs().max().item() <= bound
        assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("spec", SPECS[1:])
def test_first_values_depend_on_the_seed_alone(spec):
    def state(seed):
        return digest(
            b"".join(t.numpy().tobytes() for t in spec.build(12, seed).state_dict().values())
        )

    torch.manual_seed(1)
    first = state(3)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert state(3) == first
    assert state(4) != first
    assert torch.equal(torch.random.get_rng_state(), before)


def test_gradient_reaches_every_parameter():
    head = HeadSpec(layers=3).build(12)
    (head(features()) * features(width=128, seed=1)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


def test_head_survives_conversion_to_synchronized_norms():
    head = torch.nn.SyncBatchNorm.convert_sync_batchnorm(HeadSpec().build(12))
    assert head.layers[1].norm.bias is None
    assert head.layers[1].norm.weight is not None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batch_norm": "some"}, "`batch_norm` of HeadSpec is 'some';"),
        ({"bias": True}, "`bias` of HeadSpec is True;"),
        ({"last_affine": "shift"}, "`last_affine` of HeadSpec is 'shift';"),
        ({"init": "xavier"}, "`init` of HeadSpec is 'xavier';"),
        ({"layers": -1}, "`layers` of HeadSpec is -1;"),
        ({"layers": 1.5}, "`layers` of HeadSpec is 1.5;"),
        ({"hidden": 0}, "`hidden` of HeadSpec is 0;"),
        ({"output": None}, "`output` of HeadSpec is None;"),
    ],
)
def test_value_out_of_range_is_refused(fields, words):
    with pytest.raises(InvalidValue, match=words):
        HeadSpec(**fields)


@pytest.mark.parametrize("spec", SPECS)
def test_json_gives_an_equal_value_back(spec):
    assert HeadSpec.from_json(spec.to_json()) == spec


def test_json_with_an_unknown_key_names_the_nearest():
    with pytest.raises(UnknownName, match="'output'"):
        HeadSpec.from_json({"type": "HeadSpec", "outputs": 3})
    with pytest.raises(InvalidValue, match="JSON object"):
        HeadSpec.from_json(7)


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        (HeadSpec(), "2 layers to 128, BatchNorm"),
        (HeadSpec(layers=0), "no head"),
        (HeadSpec(layers=1, batch_norm="none"), "linear to 128"),
        (HeadSpec(hidden=64, batch_norm="hidden"), "2 layers of 64 to 128, BatchNorm inside"),
    ],
)
def test_label_is_for_a_reader(spec, label):
    assert spec.label() == label
