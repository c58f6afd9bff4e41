"""The official SimCLR checkpoints of TensorFlow: files that TensorFlow wrote, by SimCLR's own code.

tests/importing/make_simclr.py made the fixtures, with what TensorFlow computes from them.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import coview
from coview.core.errors import DamagedFile, InvalidValue
from coview.encoders import parse_encoder
from coview.importing.bundle import Bundle
from coview.importing.crc32c import crc32c
from coview.importing.simclr import creation_order
from coview.runs.load import load_subject

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.fixture
def unpacked(tmp_path):
    def unpack(name):
        folder = tmp_path / name
        with zipfile.ZipFile(FIXTURES / f"simclr-{name}.zip") as archive:
            archive.extractall(folder)
        expected = np.load(folder / "expected.npz")
        images = torch.from_numpy(expected["images"]).permute(0, 3, 1, 2)
        return folder, images, {k: torch.from_numpy(expected[k]) for k in expected.files}

    return unpack


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "label", "layer"),
    [
        ("v1", "ResNet-50 width 1/32, TensorFlow padding", None),
        ("v2-sk", "ResNet-50 width 1/32, selective kernels, TensorFlow padding", None),
        ("v2-layer1", "ResNet-18 width 1/32, projection in group 1, TensorFlow padding", 1),
        ("small", "ResNet-18 width 1/32, small stem, projection in group 1", None),
    ],
)  # fmt: skip
def test_every_layer_gives_what_tensorflow_computes(name, label, layer, unpacked, capsys):
    folder, images, expected = unpacked(name)
    out = coview.import_checkpoint(folder, out=folder / "encoder")
    config = json.loads((out / "config.json").read_text())
    assert (config["label"], config["mean"]) == (label, None)
    subject = load_subject(out)
    h = subject.encoder(images)
    torch.testing.assert_close(h, expected["h"], rtol=1e-4, atol=1e-5)
    if "layer3" in expected:
        outputs = subject.head.layer_outputs(h)
        for number in (1, 2, 3):
            theirs = expected[f"layer{number}"]
            torch.testing.assert_close(outputs[number], theirs, rtol=1e-4, atol=1e-5)
    said = capsys.readouterr().out
    if name == "v2-sk":
        assert "The classifier was left out: whether it stands on h" in said
        assert "the running mean of the network (ema_model) (6 tensors)" in said
    else:
        logits = coview.load(out)(images)
        torch.testing.assert_close(logits, expected["logits"], rtol=1e-4, atol=1e-5)
    assert (f"The classifier stands on layer {layer} of" in said) == (layer is not None)


def test_head_of_an_import_is_embedded_evaluated_and_fine_tuned_from(unpacked, tmp_path):
    folder, _, _ = unpacked("v2-sk")
    out = coview.import_checkpoint(folder / "model.ckpt-250228.index", out=tmp_path / "encoder")
    table = coview.embed(out, "scenes", limit=12, layers="h,z", device="cpu")
    assert len(table["z"][0]) == 8
    results = coview.evaluate(
        out, "scenes", limit=60, labels_from="column", protocols="knn", device="cpu",
        out=tmp_path / "figures",
    )  # fmt: skip
    assert {"h", "z"} <= {each.layer for each in results if each.subject == "encoder"}
    run = coview.finetune(
        out, "scenes", limit=60, labels_from="column", labels="100%", epochs=1, batch_size=16,
        size=32, from_layer=1, no_baselines=True, device="cpu", out=tmp_path / "tuned",
    )  # fmt: skip
    assert run.is_ended
    assert run.recipe.kept_head.layers == 1


WITHOUT_COVIEW = """
import sys
from safetensors.torch import load_file, save_file
sys.modules["coview"] = None
sys.path.insert(0, "")
names = {"images": load_file("images.safetensors")["images"]}
for block in open("blocks.txt").read().split("#####"):
    exec(block, names)
save_file({key: names[key].detach() for key in ("h", "z", "logits")}, "found.safetensors")
"""


def test_readme_of_an_import_gives_h_z_and_logits_without_coview(unpacked, tmp_path):
    folder, images, expected = unpacked("v2-layer1")
    out = coview.import_checkpoint(folder, out=tmp_path / "encoder")
    readme = (out / "README.md").read_text()
    assert "File: `model.ckpt-250228.index` (SHA-256 `" in readme
    assert "License of the original, as far as it is known: Apache-2.0" in readme
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (out / "blocks.txt").write_text("#####".join(blocks))
    save_file({"images": images.contiguous() / 255}, out / "images.safetensors")
    subprocess.run([sys.executable, "-I", "-c", WITHOUT_COVIEW], cwd=out, check=True)
    found = load_file(out / "found.safetensors")
    for name, theirs in {"h": "h", "z": "layer3", "logits": "logits"}.items():
        torch.testing.assert_close(found[name], expected[theirs], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "convolutions", "norms"),
    [("resnet50", 53, 53), ("resnet101", 104, 104), ("resnet152", 155, 155), ("resnet200", 203, 203),
     ("resnet50+sk", 87, 71), ("resnet101+sk", 172, 139), ("resnet152+sk", 257, 207)],
)  # fmt: skip
def test_number_of_layers_is_that_of_the_official_networks(name, convolutions, norms):
    order = creation_order(parse_encoder(name).build_on_meta())
    assert tuple(map(len, order)) == (convolutions, norms)
    assert tuple(len(set(names)) for names in order) == (convolutions, norms)


def test_changed_and_cut_files_are_refused(unpacked, tmp_path):
    folder, _, _ = unpacked("small")
    data = folder / "model.ckpt-250228.data-00000-of-00001"
    index = folder / "model.ckpt-250228.index"
    whole = data.read_bytes(), index.read_bytes()
    data.write_bytes(whole[0][:-40])
    with pytest.raises(DamagedFile, match="was cut short"):
        coview.import_checkpoint(folder, out=tmp_path / "encoder")
    changed = bytearray(whole[0])
    changed[-5] ^= 1
    data.write_bytes(changed)
    with pytest.raises(DamagedFile, match="does not have its recorded CRC-32C"):
        coview.import_checkpoint(folder, out=tmp_path / "encoder")
    data.write_bytes(whole[0])
    for place in (3, len(whole[1]) // 2):
        broken = bytearray(whole[1])
        broken[place] ^= 4
        index.write_bytes(broken)
        with pytest.raises(DamagedFile, match=r"block of .* does not have its recorded CRC"):
            coview.import_checkpoint(folder, out=tmp_path / "encoder")
    for cut in (0, 10, 60):
        index.write_bytes(whole[1][:cut])
        with pytest.raises(DamagedFile, match="is no index of a checkpoint, or was cut short"):
            coview.import_checkpoint(folder, out=tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 1 << 50}, "but its shape and type need 8: the index is damaged"),
        ({"shape": (1 << 47,), "size": 1 << 50}, "it was cut short"),
        ({"offset": 1 << 63}, "it was cut short"),
    ],
)
def test_impossible_sizes_are_refused_before_they_are_read(change, words, unpacked):
    folder, _, _ = unpacked("small")
    bundle = Bundle(folder / "model.ckpt-250228")
    bundle.entries["global_step"] = replace(bundle.entries["global_step"], **change)
    with pytest.raises(DamagedFile, match=words):
        bundle.read("global_step")


def test_wrong_words_for_a_tensorflow_checkpoint(unpacked, tmp_path):
    folder, _, _ = unpacked("small")
    with pytest.raises(InvalidValue, match="leave out `kind` and `encoder`"):
        coview.import_checkpoint(folder, out=tmp_path / "encoder", kind="moco")
    for name in list(folder.iterdir()):
        if ".ckpt" in name.name:
            shutil.copy(name, folder / name.name.replace("250228", "7"))
    with pytest.raises(InvalidValue, match="holds 2 checkpoints; name one of"):
        coview.import_checkpoint(folder, out=tmp_path / "encoder")


def test_every_variable_has_its_recorded_shape(unpacked):
    folder, _, _ = unpacked("v2-layer1")
    bundle = Bundle(folder / "model.ckpt-250228")
    assert bundle.read("global_step").item() == 250228
    for name, entry in bundle.entries.items():
        assert tuple(bundle.read(name).shape) == entry.shape, name


@pytest.mark.parametrize("size", [0, 1, 100, (1 << 16) + 1, 300_001])
def test_crc_of_long_content_equals_that_byte_by_byte(size):
    content = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8).tobytes()
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(content) == crc ^ 0xFFFFFFFF
