"""Networks of torchvision and timm as encoders."""

import sys

import pytest
import torch

from coview.core.errors import InvalidValue, MissingExtra, UnknownName
from coview.encoders import parse_encoder


@pytest.mark.parametrize(
    ("name", "features", "classifier"),
    [
        ("torchvision:resnet18", 512, "fc"),
        ("torchvision:mobilenet_v3_small", 1024, "classifier.3"),
        ("torchvision:vit_b_16", 768, "heads.head"),
        ("torchvision:swin_t", 768, "head"),
        ("timm:resnet10t", 512, "fc"),
        ("timm:vit_tiny_patch16_224", 192, "head"),
    ],
)
def test_adapter_knows_features_and_classifier(name, features, classifier):
    encoder = parse_encoder(name).build_on_meta()
    assert (encoder.features, encoder.classifier) == (features, classifier)


@pytest.mark.parametrize(
    "name", ["torchvision:shufflenet_v2_x0_5", "torchvision:mobilenet_v3_small", "timm:resnet10t"]
)
def test_forward_gives_rows_of_the_promised_width(name):
    encoder = parse_encoder(name).build().eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, encoder.features)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_classifier_is_gone_and_keys_are_bare(name):
    keys = parse_encoder(name).build_on_meta().network.state_dict().keys()
    assert "conv1.weight" in keys
    assert not any(key.startswith("fc") for key in keys)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("torchvision:resnet49", "resnet34"),
        ("timm:vit_smal_patch16_224", "vit_small_patch16_224"),
        ("timm:hf-hub:somebody/resnet18", None),
    ],
)
def test_unknown_model_offers_the_nearest(name, nearest):
    with pytest.raises(UnknownName) as caught:
        parse_encoder(name).build()
    if nearest is not None:
        assert caught.value.nearest.startswith(nearest[:6])


@pytest.mark.parametrize(
    ("name", "words"), [("squeezenet1_1", "no linear layer"), ("googlenet", "several outputs")]
)
def test_network_without_features_is_refused(name, words):
    with pytest.raises(InvalidValue, match=words):
        parse_encoder(f"torchvision:{name}").build_on_meta()


def test_timm_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'coview\[timm\]'"):
        parse_encoder("timm:resnet18").build()
