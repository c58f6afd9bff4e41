"""Exports: whole, verified, and usable by somebody who does not have Coview."""

import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from coview.core.errors import DamagedFile, InvalidValue, RunError
from coview.encoders import EncoderSpec, export_encoder, load_encoder, parse_encoder, resnet

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def trained(name, seed=0):
    """An encoder whose running statistics are not those of a new one."""
    encoder = parse_encoder(name).build(seed)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    return encoder


@pytest.fixture
def folder(tmp_path):
    return export_encoder(
        trained("resnet18/8-small"), tmp_path / "encoder", image_size=16, mean=MEAN, std=STD
    )


def test_loaded_encoder_gives_bit_equal_features(tmp_path):
    encoder = trained("resnet18/8-small")
    export_encoder(encoder, tmp_path, image_size=16)
    images = torch.rand(3, 3, 21, 17)
    assert torch.equal(load_encoder(tmp_path)(images), encoder.eval()(images))


def test_loaded_encoder_normalizes_inside(tmp_path):
    encoder = trained("resnet18/8-small")
    export_encoder(encoder, tmp_path, image_size=16, mean=MEAN, std=STD)
    images = torch.rand(3, 3, 16, 16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded(images), encoder.eval()((images - mean) / std))
    assert (loaded.features, loaded.spec, loaded.training) == (64, encoder.spec, False)


def test_run_folder_stands_for_its_encoder(folder):
    assert load_encoder(folder.parent).features == 64


def test_export_leaves_the_encoder_as_it_was(tmp_path):
    encoder = trained("resnet18/8-small").train()
    encoder.layer1.eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    export_encoder(encoder, tmp_path, image_size=16)
    assert encoder.training
    assert not encoder.layer1.training
    assert encoder.layer2.training
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


def test_export_of_the_loaded_encoder_has_the_same_hash(folder, tmp_path):
    again = export_encoder(
        load_encoder(folder).encoder, tmp_path / "again", image_size=16, mean=MEAN, std=STD
    )
    hashes = [json.loads((f / "config.json").read_text())["weights_hash"] for f in (folder, again)]
    assert hashes[0] == hashes[1]


def test_config_says_what_the_weights_are(tmp_path):
    export_encoder(
        trained("resnet18/8-small"), tmp_path, image_size=16, metadata={"method": "simclr"}
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label"] == "ResNet-18 width 1/8, small stem"
    assert (config["features"], config["image_size"], config["layer"]) == (64, 16, "h")
    assert (config["mean"], config["std"], config["value_range"]) == (None, None, [0, 1])
    assert config["metadata"] == {"method": "simclr"}


def test_readme_of_an_encoder_without_a_run_says_what_is_not_known(folder):
    card = (folder / "README.md").read_text()
    assert "It has 175,752 parameters. It was trained on images of 16 x 16 pixels" in card
    assert "normalized with mean [0.5, 0.4, 0.3] and std [0.2, 0.25, 0.3]" in card
    assert "How it was trained is not recorded." in card
    assert "## How good it is\n\nNot measured." in card
    assert "The weights belong to the person who trained them" in card


def test_readme_shows_the_metadata_that_are_given(tmp_path):
    metadata = {
        "method": "simclr", "recipe": "mine", "data": "photos", "images": 1200,
        "labels_used": True, "steps": 1, "epochs": 0.5, "verdict": "Good.", "figures": ["kNN: 9%."],
    }  # fmt: skip
    export_encoder(trained("resnet18/8-small"), tmp_path, image_size=16, metadata=metadata)
    card = (tmp_path / "README.md").read_text()
    for line in (
        "- Method: simclr, recipe `mine`.", "- Images: 1,200 of `photos`, with their labels.",
        "- Length: 0.5 epochs, 1 step.", "Good.\n\n- kNN: 9%.", "which were not normalized",
    ):  # fmt: skip
        assert line in card


def test_changed_weights_are_found(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"model\.safetensors has hash"):
        load_encoder(folder)


@pytest.mark.parametrize("content", ["{}", "[]", "not json"])
def test_damaged_config_is_found(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(DamagedFile, match=r"config\.json"):
        load_encoder(folder)


def test_folder_without_export_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no exported encoder"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(8, 8), torch.zeros(1, 8, 8, 4), torch.zeros(1, 3, 8, 8, dtype=torch.int32)],
)
def test_images_of_another_kind_are_refused(folder, images):
    with pytest.raises(InvalidValue, match="The encoder takes images"):
        load_encoder(folder)(images)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 0}, "`image_size` is 0"),
        ({"mean": MEAN}, "both `mean` and `std`"),
        ({"mean": MEAN, "std": (1, 1)}, "three numbers"),
        ({"mean": MEAN, "std": (1, 0, 1)}, "std above 0"),
        ({"mean": (), "std": ()}, "three numbers"),
        ({"metadata": {"a": object()}}, "JSON values"),
        ({"metadata": {"a": float("nan")}}, "JSON values"),
    ],
)
def test_wrong_argument_is_refused_before_anything_is_written(tmp_path, options, words):
    with pytest.raises(InvalidValue, match=words):
        export_encoder(resnet(18, width=0.02), tmp_path, **{"image_size": 8, **options})
    assert list(tmp_path.iterdir()) == []


def test_export_of_a_loaded_export_asks_for_its_encoder(folder, tmp_path):
    with pytest.raises(InvalidValue, match=r"\.encoder"):
        export_encoder(load_encoder(folder), tmp_path / "x", image_size=16)


def test_weights_that_are_not_finite_fail_the_comparison(tmp_path):
    encoder = trained("resnet18/8-small")
    encoder.bn1.weight.data.fill_(torch.nan)
    with pytest.raises(InvalidValue, match="finite"):
        export_encoder(encoder, tmp_path, image_size=8)


def test_network_that_cannot_take_images_of_the_size_leaves_no_folder(tmp_path):
    encoder = EncoderSpec(kind="torchvision", name="vit_b_16").build()
    with pytest.raises(AssertionError, match="Wrong image"):
        export_encoder(encoder, tmp_path / "encoder", image_size=96)
    assert not (tmp_path / "encoder").exists()


WAYS = {
    "resnet18-small": ["torch and safetensors alone", "torchvision", "timm"],
    "resnet50/8+sk": ["torch and safetensors alone"],
    "torchvision:mobilenet_v3_small": ["torchvision"],
    "timm:resnet10t": ["timm"],
}
WITHOUT_COVIEW = """
import json, os, sys
from safetensors.torch import load_file, save_file
sys.modules["coview"] = None
sys.path.insert(0, "")
for folder, blocks in json.load(open("blocks.json")).items():
    os.chdir(folder)
    for way, block in enumerate(blocks):
        names = {"images": load_file("images.safetensors")["images"]}
        exec(block, names)
        save_file({"h": names["h"].detach()}, f"h{way}.safetensors")
    os.chdir("..")
    sys.modules.pop("encoder", None)
"""


def test_readme_loads_the_weights_without_coview(tmp_path):
    blocks = {}
    for number, (name, ways) in enumerate(WAYS.items()):
        folder = tmp_path / str(number)
        export_encoder(trained(name), folder, image_size=32, mean=MEAN, std=STD)
        readme = (folder / "README.md").read_text()
        assert re.findall(r"^With (.*):$", readme, re.MULTILINE) == ways
        blocks[folder.name] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        save_file({"images": torch.rand(2, 3, 32, 32)}, folder / "images.safetensors")
    (tmp_path / "blocks.json").write_text(json.dumps(blocks))
    subprocess.run([sys.executable, "-I", "-c", WITHOUT_COVIEW], cwd=tmp_path, check=True)
    for folder, code in blocks.items():
        images = load_file(tmp_path / folder / "images.safetensors")["images"]
        expected = load_encoder(tmp_path / folder)(images)
        for way in range(len(code)):
            found = load_file(tmp_path / folder / f"h{way}.safetensors")["h"]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_export_of_a_library_model_carries_no_code(tmp_path):
    export_encoder(trained("timm:resnet10t"), tmp_path, image_size=32)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
