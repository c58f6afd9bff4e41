"""Files that lightly and lightly-train wrote: tests/importing/make_lightly.py made the fixtures."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import coview
from coview.core.errors import InvalidValue
from coview.heads import HeadSpec
from coview.runs.load import load_subject

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.fixture
def unpacked(tmp_path):
    def unpack(name):
        with zipfile.ZipFile(FIXTURES / f"{name}.zip") as archive:
            archive.extractall(tmp_path)
        (file,) = (path for path in tmp_path.iterdir() if path.suffix in (".ckpt", ".pt"))
        expected = np.load(tmp_path / "expected.npz")
        return file, {key: torch.from_numpy(expected[key]) for key in expected.files}

    return unpack


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("lightly-cifar", HeadSpec(hidden=32, output=8, last_affine="both", init="torch")),
        ("lightly-simsiam",
         HeadSpec(layers=3, hidden=32, output=8, last_affine="none", init="torch")),
        ("lightly-byol",
         HeadSpec(hidden=24, output=8, batch_norm="hidden", bias="last", init="torch")),
    ],
)  # fmt: skip
def test_module_of_lightly_gives_its_own_h_and_z(name, head, unpacked, tmp_path, capsys):
    file, expected = unpacked(name)
    folder = coview.import_checkpoint(file, out=tmp_path / "encoder")
    said = capsys.readouterr().out
    assert "is a checkpoint of lightly: ResNet-10" in said
    assert ("Left out: the momentum encoder" in said) == (name == "lightly-byol")
    assert (
        HeadSpec.from_json(json.loads((folder / "config.json").read_text())["head"]["spec"]) == head
    )
    subject = load_subject(folder)
    h = subject.encoder(expected["images"])
    torch.testing.assert_close(h, expected["h"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(subject.head(h), expected["z"], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_export_of_lightly_train_gives_its_own_h(unpacked, tmp_path, capsys):
    file, expected = unpacked("lightly-train")
    folder = coview.import_checkpoint(file, out=tmp_path / "encoder", kind="lightly-train")
    assert "the last layer, which pretraining does not train (2 tensors)" in capsys.readouterr().out
    h = coview.load(folder)(expected["images"])
    torch.testing.assert_close(h, expected["h"], rtol=1e-4, atol=1e-5)
    assert "covers the weights" in (folder / "README.md").read_text()


def test_backbone_without_a_relu_behind_its_stem_is_refused(unpacked, tmp_path):
    file, _ = unpacked("lightly-cifar")
    content = torch.load(file, weights_only=True)
    children = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    content["state_dict"] = {
        name.replace(f"backbone.{child}.", f"backbone.{number}."): value
        for number, child in enumerate(children)
        for name, value in content["state_dict"].items()
        if name.startswith(f"backbone.{child}.")
    } | {"projection_head.layers.0.weight": torch.zeros(8, 64)}
    torch.save(content, file)
    with pytest.raises(InvalidValue, match="without a ReLU after bn1"):
        coview.import_checkpoint(file, out=tmp_path / "encoder")
