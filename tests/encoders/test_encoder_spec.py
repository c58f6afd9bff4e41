"""Specifications, their JSON form, labels and short names."""

import json
from pathlib import Path

import pytest

from coview.core.errors import InvalidValue, UnknownName
from coview.encoders import EncoderSpec, parse_encoder, resnet
from coview.encoders.spec import DEPTHS, MARKS

NAMES = {
    "resnet18": EncoderSpec(depth=18),
    "resnet18/4": EncoderSpec(depth=18, width=0.25),
    "resnet18/4-small": EncoderSpec(depth=18, width=0.25, stem="small"),
    "resnet50x2": EncoderSpec(depth=50, width=2),
    "resnet50x1.5": EncoderSpec(depth=50, width=1.5),
    "resnet152x3+sk": EncoderSpec(depth=152, width=3, selective_kernels=True),
    "resnet34+projection+tf": EncoderSpec(
        depth=34, projection_in_first_group=True, same_padding=True
    ),
    "resnet50-small+sk": EncoderSpec(depth=50, stem="small", selective_kernels=True),
    "torchvision:resnet50": EncoderSpec(kind="torchvision", name="resnet50"),
    "timm:vit_small_patch16_224": EncoderSpec(kind="timm", name="vit_small_patch16_224"),
}
LABELS = {
    "resnet18/4-small": "ResNet-18 width 1/4, small stem",
    "resnet50": "ResNet-50",
    "resnet152x3+sk": "ResNet-152 width 3, selective kernels",
    "resnet18/3+projection": "ResNet-18 width 1/3, projection in group 1",
    "resnet50x1.5+tf": "ResNet-50 width 1.5, TensorFlow padding",
    "timm:vit_small_patch16_224": "vit_small_patch16_224 (timm)",
}


@pytest.mark.parametrize(("name", "spec"), NAMES.items())
def test_short_name_gives_its_specification(name, spec):
    assert parse_encoder(name) == spec


@pytest.mark.parametrize(("name", "label"), LABELS.items())
def test_label_is_for_a_reader(name, label):
    assert parse_encoder(name).label() == label


def test_label_names_an_uncommon_initialization():
    spec = EncoderSpec(depth=18, zero_init_residual=False, init="fan-in")
    assert spec.label() == "ResNet-18, no zero initialization, fan-in initialization"


@pytest.mark.parametrize("spec", NAMES.values())
def test_json_gives_an_equal_value_back(spec):
    assert EncoderSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_json_with_an_unknown_key_names_the_nearest():
    data = EncoderSpec().to_json()
    data["widht"] = data.pop("width")
    with pytest.raises(UnknownName, match="'width'"):
        EncoderSpec.from_json(data)


@pytest.mark.parametrize("data", [[], 3, "resnet18", None])
def test_json_of_another_kind_is_refused(data):
    with pytest.raises(InvalidValue, match="JSON object"):
        EncoderSpec.from_json(data)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet19", "resnet18"),
        ("resnt50", "resnet50"),
        ("resnet18/0", "resnet18/4"),
        ("resnet18-smal", "resnet18-small"),
        ("tim:vit_small_patch16_224", "timm:vit_small_patch16_224"),
    ],
)
def test_unknown_name_offers_the_nearest(name, nearest):
    with pytest.raises(UnknownName) as caught:
        parse_encoder(name)
    assert caught.value.nearest == nearest


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "keras"}, "kind='keras'"),
        ({"depth": 19}, "depth=19"),
        ({"stem": "tiny"}, "stem='tiny'"),
        ({"init": "zeros"}, "init='zeros'"),
        ({"width": 0}, "width=0"),
        ({"width": float("nan")}, "width=nan"),
        ({"width": "wide"}, "width='wide'"),
        ({"name": "resnet50"}, "has name="),
        ({"depth": 18, "selective_kernels": True}, "selective_kernels"),
        ({"depth": 50, "projection_in_first_group": True}, "always has a projection"),
        ({"stem": "small", "same_padding": True}, "max-pool"),
        ({"kind": "timm"}, "needs the name"),
        ({"kind": "timm", "name": "resnet18", "width": 2}, "width=2 has no effect"),
        (
            {"kind": "torchvision", "name": "resnet18", "zero_init_residual": False},
            "zero_init_residual=False",
        ),
    ],
)
def test_contradicting_fields_are_refused(fields, words):
    with pytest.raises(InvalidValue, match=words):
        EncoderSpec(**fields)


def test_encoder_carries_its_specification():
    assert resnet(18, width=0.25, stem="small").spec == NAMES["resnet18/4-small"]


def test_encoder_on_meta_has_shapes_and_no_values():
    encoder = EncoderSpec(depth=152, width=3).build_on_meta()
    assert {tensor.device.type for tensor in encoder.state_dict().values()} == {"meta"}
    assert encoder.features == 3 * 2048


def test_the_page_on_encoders_has_every_word():
    page = Path(__file__).parents[2] / "docs" / "encoder.md"
    table = page.read_text().partition("## The words of `--encoder`")[2].partition("\n## ")[0]
    assert all(f"`{mark}`" in table for mark in MARKS)
    assert all(f"`resnet{depth}`" in table or f"`{depth}`" in table for depth in DEPTHS)
