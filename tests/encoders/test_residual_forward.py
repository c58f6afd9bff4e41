"""What the residual networks compute, against torchvision and slow loops in float64."""

import math

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from coview.encoders import resnet
from coview.encoders.residual import SamePool, SelectiveKernels, ShortcutPool


def scrambled(network, seed=0):
    """The network in eval mode with every value, running statistics included, drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "num_batches" in name:
                continue
            tensor.uniform_(0.5, 1.5, generator=generator) if tensor.ndim == 1 else tensor.normal_(
                std=0.1, generator=generator
            )
    return network.eval()


@pytest.mark.parametrize("depth", [18, 50])
def test_network_equals_torchvisions_after_strict_loading(depth):
    ours = scrambled(resnet(depth))
    theirs = torchvision.models.get_model(f"resnet{depth}", weights=None)
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.rand(2, 3, 65, 48)
    torch.testing.assert_close(ours(images), theirs.eval()(images), rtol=1e-5, atol=1e-6)


def test_small_stem_equals_torchvision_with_its_stem_replaced():
    ours = scrambled(resnet(18, stem="small"))
    theirs = torchvision.models.resnet18(weights=None)
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool, theirs.fc = nn.Identity(), nn.Identity()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs.eval()(images), rtol=1e-5, atol=1e-6)


def test_training_gradients_equal_torchvisions():
    ours = resnet(18, width=1, zero_init_residual=False)
    theirs = torchvision.models.resnet18(weights=None)
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.rand(4, 3, 33, 33)
    for network in (ours, theirs):
        network(images).square().sum().backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize(
    ("options", "size", "features"),
    [
        ({"depth": 18}, (64, 64), 512),
        ({"depth": 18, "width": 0.25, "stem": "small"}, (32, 32), 128),
        ({"depth": 18, "width": 0.25, "stem": "small"}, (7, 19), 128),
        ({"depth": 34, "width": 0.25, "projection_in_first_group": True}, (1, 1), 128),
        ({"depth": 50, "width": 0.25, "selective_kernels": True}, (33, 47), 512),
        ({"depth": 50, "width": 0.25, "selective_kernels": True, "stem": "small"}, (15, 9), 512),
        ({"depth": 101, "width": 0.125, "same_padding": True}, (45, 32), 256),
    ],
)
def test_forward_gives_one_row_of_features_an_image(options, size, features):
    network = resnet(**options).eval()
    h = network(torch.rand(2, 3, *size))
    assert h.shape == (2, features) == (2, network.features)
    assert h.isfinite().all()


@pytest.mark.parametrize("selective", [False, True])
def test_channels_last_gives_the_same_features(selective):
    network = scrambled(resnet(50, width=0.125, selective_kernels=selective)).double()
    images = torch.rand(2, 3, 40, 40, dtype=torch.float64)
    plain = network(images)
    network = network.to(memory_format=torch.channels_last)
    last = network(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, last, rtol=1e-9, atol=1e-9)


def slow_convolution(x, weight, stride):
    """3x3 with one zero around, or 1x1; x [C, H, W], weight [O, C, k, k], by loops in float64."""
    k = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    rows, columns = (math.ceil(n / stride) for n in x.shape[1:])
    y = np.empty((len(weight), rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = padded[:, i * stride : i * stride + k, j * stride : j * stride + k]
            y[:, i, j] = [(kernel * window).sum() for kernel in weight]
    return y


def slow_norm(x, norm):
    mean, variance, scale, shift = (
        t.detach().double().numpy().reshape(-1, 1, 1)
        for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift


@pytest.mark.parametrize("stride", [1, 2])
def test_selective_kernels_equal_a_slow_loop(stride):
    unit = scrambled(SelectiveKernels(4, stride))
    image = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    weights = {k: v.double().numpy() for k, v in unit.state_dict().items()}
    x = image[0].double().numpy()
    y = np.maximum(slow_norm(slow_convolution(x, weights["conv.weight"], stride), unit.bn), 0)
    a, b = y[:4], y[4:]
    u = (a + b).mean((1, 2)).reshape(4, 1, 1)
    s = slow_norm(slow_convolution(u, weights["squeeze.weight"], 1), unit.squeeze_bn)
    s = slow_convolution(np.maximum(s, 0), weights["select.weight"], 1)
    expected = np.empty_like(a)
    for c in range(4):
        share_a, share_b = np.exp(s[c, 0, 0]), np.exp(s[4 + c, 0, 0])
        expected[c] = (share_a * a[c] + share_b * b[c]) / (share_a + share_b)
    assert len(weights["squeeze.weight"]) == 32
    np.testing.assert_allclose(unit(image)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def slow_mean(x, stride):
    """2x2 means of x [H, W]: stride 1 over what exists, stride 2 with a zero row and column."""
    height, width = x.shape
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    y = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            inside = [
                x[r, c]
                for r in (i * stride, i * stride + 1)
                for c in (j * stride, j * stride + 1)
                if r < height and c < width
            ]
            y[i, j] = sum(inside) / (len(inside) if stride == 1 else 4)
    return y


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (5, 4), (1, 3), (1, 1)])
def test_shortcut_pool_equals_a_slow_loop(stride, size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    y = ShortcutPool(stride)(x)
    for image in range(2):
        for channel in range(3):
            expected = slow_mean(x[image, channel].double().numpy(), stride)
            np.testing.assert_allclose(y[image, channel].numpy(), expected, atol=1e-6)


def test_shortcut_pool_leaves_the_padding_out_of_the_mean():
    assert torch.equal(ShortcutPool(1)(torch.ones(1, 1, 3, 5)), torch.ones(1, 1, 3, 5))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (8, 5), (1, 2)])
def test_same_pool_pads_as_tensorflow_does(size):
    x = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(3))
    rows, columns = (math.ceil(n / 2) for n in size)
    before = [
        max((out - 1) * 2 + 3 - n, 0) // 2 for out, n in zip((rows, columns), size, strict=True)
    ]
    expected = torch.empty(rows, columns)
    for i in range(rows):
        for j in range(columns):
            top, left = 2 * i - before[0], 2 * j - before[1]
            expected[i, j] = x[0, 0, max(top, 0) : top + 3, max(left, 0) : left + 3].max()
    assert torch.equal(SamePool()(x)[0, 0], expected)


def test_same_padding_changes_even_sizes_only_in_the_pool():
    torch_pool = nn.MaxPool2d(3, 2, padding=1)
    even, odd = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 9, 9)
    assert not torch.equal(SamePool()(even), torch_pool(even))
    assert torch.equal(SamePool()(odd), torch_pool(odd))
    assert isinstance(resnet(18, width=0.1, same_padding=True).maxpool, SamePool)


@pytest.mark.parametrize(("stem", "side"), [("small", 32), ("medium", 16), ("large", 8)])
def test_stem_divides_the_side(stem, side):
    network = resnet(18, width=1 / 16, stem=stem)
    images = torch.zeros(2, 3, 32, 32)
    assert network.network.maxpool(network.network.conv1(images)).shape[-1] == side
