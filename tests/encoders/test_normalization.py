"""Weights are fed with images normalized as in their own training."""

import pytest
from safetensors.torch import save_file

import coview
from coview.encoders import EncoderSpec, export_encoder, export_to, parse_encoder, resnet
from coview.encoders.exchange.normalization import IMAGENET, normalization_of
from coview.runs.run import Run

OWN = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("torchvision:resnet18", IMAGENET), ("resnet18", IMAGENET), ("resnet18-small", None),
     ("timm:resnet18", IMAGENET), ("timm:vit_tiny_patch16_224", ((0.5,) * 3, (0.5,) * 3))],
)  # fmt: skip
def test_file_without_a_header_of_ours_is_taken_for_the_librarys(tmp_path, name, expected):
    save_file({}, tmp_path / "weights.safetensors")
    assert normalization_of(tmp_path / "weights.safetensors", parse_encoder(name)) == expected


@pytest.mark.parametrize("own", [OWN, None])
def test_export_says_it_as_a_folder_and_as_a_file(tmp_path, own):
    mean, std = own or (None, None)
    encoder = resnet(10, width=0.125, stem="small")
    folder = export_encoder(encoder, tmp_path / "encoder", image_size=8, mean=mean, std=std)
    file = export_to(folder, "safetensors", tmp_path / "one.safetensors")
    for source in (folder, file):
        assert normalization_of(source, EncoderSpec()) == own


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"mean": 1, "std": null}', '{"mean": [1]}'])
def test_a_header_that_another_program_wrote_is_none_of_ours(tmp_path, text):
    save_file({}, tmp_path / "weights.safetensors", metadata={"coview": text})
    source = tmp_path / "weights.safetensors"
    assert normalization_of(source, parse_encoder("resnet18")) == IMAGENET


def test_run_from_such_weights_normalizes_and_exports_so(tmp_path):
    encoder = resnet(10, width=0.125, stem="small")
    export_encoder(encoder, tmp_path / "encoder", image_size=8, mean=OWN[0], std=OWN[1])
    small = {"limit": 64, "size": 8, "epochs": 1, "batch_size": 16, "device": "cpu"}
    run = coview.pretrain(
        "scenes", weights=tmp_path / "encoder", out=tmp_path / "run", keep_every=1, **small
    )
    assert of_views(run) == OWN
    assert coview.load(run.path).normalizes
    again = coview.pretrain(
        "scenes", weights=run.path, checkpoint=run.checkpoint_steps[0], out=tmp_path / "again",
        **small,
    )  # fmt: skip
    assert of_views(again) == OWN


def of_views(run):
    view = Run.open(run.path).recipe.method.views.views[0]
    return view.mean, view.std
