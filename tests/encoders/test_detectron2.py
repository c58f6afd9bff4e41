"""Weights for detectron2, in a network with the modules and names of its ResNet."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import coview
from coview.core.errors import InvalidValue
from coview.encoders import export_encoder, export_to, load_encoder, parse_encoder
from coview.encoders.exchange.classifier import export_classifier
from coview.encoders.exchange.detectron2 import detectron2_config, write_detectron2
from coview.encoders.exchange.weights import read_config

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Conv2d(nn.Conv2d):
    """detectron2's layers.Conv2d: a convolution that owns its norm."""

    def __init__(self, channels_in, channels, size, stride=1):
        super().__init__(channels_in, channels, size, stride, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(super().forward(x))


class Block(nn.Module):
    """detectron2's BasicBlock or BottleneckBlock with STRIDE_IN_1X1 False."""

    def __init__(self, channels_in, inner, stride, bottleneck):
        super().__init__()
        channels = inner * (4 if bottleneck else 1)
        if bottleneck:
            self.conv1 = Conv2d(channels_in, inner, 1)
            self.conv2 = Conv2d(inner, inner, 3, stride)
            self.conv3 = Conv2d(inner, channels, 1)
        else:
            self.conv1 = Conv2d(channels_in, inner, 3, stride)
            self.conv2 = Conv2d(inner, inner, 3)
        self.shortcut = None
        if channels_in != channels or stride != 1:
            self.shortcut = Conv2d(channels_in, channels, 1, stride)

    def forward(self, x):
        y = self.conv2(F.relu(self.conv1(x)))
        if hasattr(self, "conv3"):
            y = self.conv3(F.relu(y))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Backbone(nn.Module):
    """detectron2's ResNet: stem, res2, ..., res5."""

    def __init__(self, counts, bottleneck):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv1 = Conv2d(3, 64, 7, 2)
        wide = 64
        for number, count in enumerate(counts):
            inner = 64 << number
            blocks = []
            for index in range(count):
                stride = 2 if number and not index else 1
                blocks.append(Block(wide, inner, stride, bottleneck))
                wide = inner * (4 if bottleneck else 1)
            setattr(self, f"res{number + 2}", nn.Sequential(*blocks))

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.stem.conv1(images)), 3, 2, padding=1)
        return self.res5(self.res4(self.res3(self.res2(x)))).mean((2, 3))


@torch.no_grad()
@pytest.mark.parametrize(("name", "counts", "bottleneck"), [
    ("resnet18", (2, 2, 2, 2), False), ("torchvision:resnet50", (3, 4, 6, 3), True),
])  # fmt: skip
def test_detectron2s_network_gives_the_same_features(name, counts, bottleneck, tmp_path):
    encoder = parse_encoder(name).build().eval()
    for index, tensor in enumerate(encoder.state_dict().values()):
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(0.1 + 0.01 * (index % 7))
    export_encoder(encoder, tmp_path, image_size=64, mean=MEAN, std=STD)
    path = export_to(tmp_path, "detectron2", tmp_path / "d2.pth")
    state = torch.load(path, weights_only=True)["model"]
    theirs = Backbone(counts, bottleneck).eval()
    result = theirs.load_state_dict(state, strict=False)
    assert result.unexpected_keys == []
    assert all(name.endswith("num_batches_tracked") for name in result.missing_keys)
    # detectron2 normalizes images of 0 to 255 by the mean and std of the configuration.
    pixels = 255 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    ours = load_encoder(tmp_path)(pixels / 255)
    torch.testing.assert_close(theirs((pixels - mean) / std), ours, rtol=1e-3, atol=1e-3)
    config = detectron2_config(encoder, path, read_config(tmp_path))
    assert "PIXEL_MEAN: [123.675, 116.28, 103.53]" in config
    assert f"DEPTH: {50 if bottleneck else 18}" in config


def test_classifier_is_left_out_of_a_backbone(tmp_path):
    export_encoder(parse_encoder("resnet18").build(), tmp_path, image_size=32)
    export_classifier(tmp_path, nn.Sequential(nn.Linear(512, 2)), ["a", "b"])
    path = coview.export(tmp_path, to="detectron2", out=tmp_path / "backbone.pth")
    assert "fc.weight" not in torch.load(path, weights_only=True)["model"]


@pytest.mark.parametrize(
    "name", ["resnet18/4", "resnet18-small", "torchvision:shufflenet_v2_x0_5", "resnet50+tf"]
)
def test_network_that_detectron2_lacks_is_refused(name, tmp_path):
    with pytest.raises(InvalidValue, match="detectron2 has no"):
        write_detectron2(parse_encoder(name).build_on_meta(), tmp_path / "x.pth")
