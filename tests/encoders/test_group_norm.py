"""Encoders with GroupNorm and standardized weights."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from coview.core.errors import InvalidValue
from coview.encoders import EncoderSpec, export_encoder, load_encoder, parse_encoder, resnet
from coview.encoders.exchange.libraries import in_torchvision, is_standard_resnet
from coview.encoders.residual import StandardizedConv2d, norm_layer


@pytest.mark.parametrize("name", ["resnet18/4", "resnet18/4-small", "resnet50/4+sk", "resnet50/4"])
def test_parameters_have_the_names_and_shapes_of_the_batch_normed_network(name):
    plain = parse_encoder(name).build_on_meta()
    grouped = parse_encoder(f"{name}+gn").build_on_meta()
    shapes = {key: value.shape for key, value in plain.named_parameters()}
    assert {key: value.shape for key, value in grouped.named_parameters()} == shapes
    assert list(grouped.buffers()) == []


@pytest.mark.parametrize("name", ["resnet18/4-small+gn", "resnet50/4+sk+gn"])
def test_no_image_depends_on_the_others(name):
    network = parse_encoder(name).build().train()
    images = torch.rand(3, 3, 33, 33)
    one_by_one = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), one_by_one, rtol=1e-4, atol=1e-5)
    assert one_by_one.std(0).max() > 1e-4  # and yet they differ


def test_standardized_convolution_equals_the_formula_filter_by_filter():
    layer = StandardizedConv2d(4, 3, 3, stride=2, padding=1, bias=False, dtype=torch.float64)
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    filters = []
    for weight in layer.weight:
        values = weight.flatten()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        filters.append((weight - mean) / (variance + 1e-10).sqrt())
    expected = F.conv2d(x, torch.stack(filters), stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_standardized_convolution_ignores_scale_and_shift_of_its_filters():
    layer = StandardizedConv2d(4, 3, 3, dtype=torch.float64, bias=False)
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(3).add_(0.7)
    torch.testing.assert_close(layer(x), before, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 32), (256, 32), (48, 24), (16, 8), (21, 7), (37, 1), (1, 1)]
)
def test_groups_are_32_or_the_most_that_divide_into_pairs(channels, groups):
    assert norm_layer(channels, "group").num_groups == groups


def test_norm_of_the_squeezed_map_is_over_all_channels():
    norms = [
        module.squeeze_bn
        for module in parse_encoder("resnet50/4+sk+gn").build_on_meta().modules()
        if hasattr(module, "squeeze_bn")
    ]
    assert {norm.num_groups for norm in norms} == {1}


@pytest.mark.parametrize("zero_init_residual", [True, False])
def test_last_norm_of_every_branch_starts_at_zero_where_asked(zero_init_residual):
    network = resnet(50, width=0.25, norm="group", zero_init_residual=zero_init_residual)
    norms = {name: m for name, m in network.named_modules() if isinstance(m, nn.GroupNorm)}
    for name, norm in norms.items():
        wanted = 0.0 if zero_init_residual and name.endswith("bn3") else 1.0
        assert (norm.weight == wanted).all(), name
        assert (norm.bias == 0).all(), name


def test_network_learns_in_bfloat16():
    network = resnet(18, width=0.25, stem="small", norm="group")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = network(torch.rand(2, 3, 32, 32))
    h.float().square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
    assert network.conv1.weight.grad.abs().sum() > 0


def test_specification_names_labels_and_json():
    spec = EncoderSpec(depth=18, width=0.25, norm="group")
    assert parse_encoder("resnet18/4+gn") == spec
    assert spec.label() == "ResNet-18 width 1/4, GroupNorm with standardized weights"
    assert EncoderSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    older = EncoderSpec(depth=18).to_json()
    del older["norm"]
    assert EncoderSpec.from_json(older) == EncoderSpec(depth=18)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"norm": "layer"}, "norm='layer'"),
        ({"depth": 18, "width": 1 / 64, "norm": "group"}, "1 channels after the stem"),
        ({"kind": "timm", "name": "resnet18", "norm": "group"}, "norm='group' has no effect"),
    ],
)
def test_contradicting_norm_is_refused(fields, words):
    with pytest.raises(InvalidValue, match=words):
        EncoderSpec(**fields)


def test_other_libraries_have_no_such_network():
    spec = EncoderSpec(depth=50, norm="group")
    assert not is_standard_resnet(spec)
    assert not in_torchvision(spec)


def test_export_loads_with_coview_and_with_torch_alone(tmp_path):
    encoder = parse_encoder("resnet18/4-small+gn").build(3)
    export_encoder(encoder, tmp_path, image_size=16)
    images = torch.rand(2, 3, 16, 16)
    expected = encoder.eval()(images)
    assert torch.equal(load_encoder(tmp_path)(images), expected)
    source: dict = {}
    exec((tmp_path / "encoder.py").read_text(), source)
    config = json.loads((tmp_path / "config.json").read_text())
    alone = source["ResNet"](**config["architecture"])
    alone.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(alone.eval()(images), expected)
