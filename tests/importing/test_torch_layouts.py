"""Checkpoints in the layouts of torch programs, beside the networks that they were saved from."""

import json
from argparse import Namespace

import numpy as np
import peer_layouts as peers
import pytest
import torch
from import_parity import assert_parity, images, import_content, normalized
from peer_layouts import (
    features_of,
    moco,
    moco_v3,
    resnet10,
    shake,
    simsiam,
    supcontrast,
)
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import coview
from coview.core.errors import InvalidValue, UnknownName
from coview.encoders.exchange.classifier import Classifier
from coview.encoders.exchange.normalization import IMAGENET
from coview.heads import HeadSpec
from coview.importing import torch_files

CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("version", [1, 2])
def test_moco_gives_what_its_query_encoder_gives(version, tmp_path, capsys):
    content, layers = moco(version)
    folder = import_content(content, tmp_path)
    assert_parity(folder, layers, 64)
    said = capsys.readouterr().out
    assert "peer.pth is a checkpoint of MoCo v1 or v2: ResNet-10, h of 512 values" in said
    assert "Left out: the queue of keys (2 tensors)." in said
    imported = config_of(folder)["metadata"]["imported"]
    assert imported["tensors"] == len(content["state_dict"])
    assert sum(imported["left_out"].values()) == len(content["state_dict"]) // 2 + 1
    head = HeadSpec.from_json(config_of(folder)["head"]["spec"])
    assert (head.layers, head.output, head.batch_norm) == (version, 16, "none")


def test_moco_v3_and_simsiam_give_what_their_encoders_give(tmp_path):
    for name, (content, layers) in {"v3": moco_v3(), "simsiam": simsiam()}.items():
        place = tmp_path / name
        place.mkdir()
        folder = import_content(content, place)
        assert_parity(folder, layers, 64)
        assert config_of(folder)["head"]["spec"]["last_affine"] == "none"


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_supcontrast_is_read_though_it_pickles_its_options(head, tmp_path):
    content, layers = supcontrast(head)
    folder = import_content(content, tmp_path)
    assert_parity(folder, layers, 32, CIFAR10)
    config = config_of(folder)
    assert (config["image_size"], config["mean"]) == (32, list(CIFAR10[0]))
    assert config["metadata"]["license"] == "BSD-2-Clause"


@torch.no_grad()
def test_solo_learn_gives_what_its_backbone_with_two_pixels_of_padding_gives(tmp_path, capsys):
    content, layers, logits = peers.solo_learn()
    folder = import_content(content, tmp_path, "simclr-cifar10-ep=999.ckpt")
    said = capsys.readouterr().out
    assert "ResNet-10, padded stem" in said
    assert "CIFAR-10's mean and std of solo-learn are taken" in said
    norm = ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
    assert_parity(folder, layers, 32, norm)
    theirs = logits(normalized(images(32), norm))
    torch.testing.assert_close(coview.load(folder)(images(32)), theirs, rtol=1e-4, atol=1e-5)


def test_vissl_gives_what_its_trunk_and_head_give(tmp_path):
    content, layers = peers.vissl()
    folder = import_content(content, tmp_path, "model_final_checkpoint_phase99.torch")
    assert_parity(folder, layers, 64)
    trunk = content["classy_state_dict"]["base_model"]["model"]["trunk"]
    torch.save({"model_state_dict": trunk}, tmp_path / "zoo.torch")
    folder = coview.import_checkpoint(tmp_path / "zoo.torch", out=tmp_path / "zoo")
    assert_parity(folder, {"h": layers["h"]}, 64)
    assert config_of(folder)["metadata"]["imported"]["kind"] == "vissl"


def test_chained_heads_of_vissl_are_left_out_and_said(tmp_path, capsys):
    content, layers = peers.vissl()
    model = content["classy_state_dict"]["base_model"]["model"]
    heads = model["heads"]
    model["heads"] = {
        name.replace("0.clf.2.", "1.clf.0."): tensor for name, tensor in heads.items()
    }
    folder = import_content(content, tmp_path)
    said = capsys.readouterr().out
    assert "Left out: the projection head (it is of several heads" in said
    assert sum(config_of(folder)["metadata"]["imported"]["left_out"].values()) == len(heads)
    assert_parity(folder, {"h": layers["h"]}, 64)


def test_official_byol_pads_as_its_own_network(tmp_path, capsys):
    content, layers = peers.official_byol()
    folder = import_content(content, tmp_path, kind="byol")
    assert "TensorFlow padding everywhere" in capsys.readouterr().out
    assert_parity(folder, layers, 64)
    plain = coview.import_checkpoint(tmp_path / "peer.pth", out=tmp_path / "plain")
    assert "import it with `kind` byol" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="not close"):
        assert_parity(plain, layers, 64)


@pytest.mark.parametrize("name", ["byol_pytorch", "pytorch_byol"])
def test_byol_of_others_gives_what_the_online_network_gives(name, tmp_path):
    content, layers = getattr(peers, name)()
    folder = import_content(content, tmp_path)
    kind = config_of(folder)["metadata"]["imported"]["kind"]
    assert kind == name.replace("_", "-")
    assert_parity(folder, layers, 64, None if kind == "pytorch-byol" else IMAGENET)


def test_supcontrast_on_other_images_says_that_their_normalization_is_a_guess(tmp_path, capsys):
    content, layers = supcontrast(dataset="path")
    folder = import_content(content, tmp_path)
    assert "does not say how its images were normalized" in capsys.readouterr().out
    assert_parity(folder, layers, 32)
    folder = coview.import_checkpoint(
        tmp_path / "peer.pth", out=tmp_path / "told", mean="0.4,0.5,0.6", std="0.2,0.2,0.3"
    )
    assert_parity(folder, layers, 32, ((0.4, 0.5, 0.6), (0.2, 0.2, 0.3)))
    folder = coview.import_checkpoint(tmp_path / "peer.pth", out=tmp_path / "plain", mean="none")
    assert_parity(folder, layers, 32, None)


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5"])
def test_torchvisions_own_file_gives_its_logits(name, tmp_path):
    network = shake(models.get_model(name, weights=None, num_classes=7))
    folder = import_content(network.state_dict(), tmp_path)
    loaded = coview.load(folder)
    assert isinstance(loaded, Classifier)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(images(64)), network(normalized(images(64))), rtol=1e-4, atol=1e-5
        )
    assert config_of(folder)["metadata"]["imported"]["kind"] == "torchvision"


@pytest.mark.parametrize("how", ["script", "hub", "told"])
def test_timms_file_gives_its_logits(how, tmp_path):
    timm = pytest.importorskip("timm")
    name = "vit_tiny_patch16_224" if how == "hub" else "resnet10t"
    network = shake(timm.create_model(name, num_classes=5))
    state = network.state_dict()
    if how == "script":  # timm's train.py
        content = {"epoch": 3, "arch": name, "state_dict": state, "args": Namespace(lr=0.1),
                   "version": 2, "metric": 70.1}  # fmt: skip
        folder = import_content(content, tmp_path)
    elif how == "hub":
        (tmp_path / "config.json").write_text(json.dumps({"architecture": name, "num_classes": 5}))
        save_file(state, tmp_path / "model.safetensors")
        folder = coview.import_checkpoint(tmp_path / "model.safetensors", out=tmp_path / "encoder")
    else:
        folder = import_content(state, tmp_path, encoder=f"timm:{name}")
    config = config_of(folder)
    library = timm.get_pretrained_cfg(name)
    assert config["metadata"]["imported"]["kind"] == "timm"
    assert (config["image_size"], config["mean"]) == (library.input_size[1], list(library.mean))
    pixels = images(config["image_size"], 2)
    with torch.no_grad():
        theirs = network(normalized(pixels, (library.mean, library.std)))
        torch.testing.assert_close(coview.load(folder)(pixels), theirs, rtol=1e-4, atol=1e-5)


TOLD = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 64, 64]}
DINO = {"mean": list(IMAGENET[0]), "std": list(IMAGENET[1])}
USUAL = "Nothing says which weights of"


@pytest.mark.parametrize(
    ("config", "expected", "size", "is_noted"),
    [
        ({"pretrained_cfg": {"tag": "mine", **TOLD}}, TOLD, 64, False),
        (TOLD, TOLD, 64, False),
        ({"pretrained_cfg": {"tag": "tv_in1k"}}, DINO, 224, False),
        ({"pretrained_cfg": {"tag": "mine"}}, DINO, 224, True),
        ({"pretrained_cfg": None}, DINO, 224, True),
        ({"pretrained_cfg": {"mean": [0.5], "std": "none", "input_size": 3}}, DINO, 224, True),
    ],
)
def test_timms_file_takes_the_images_that_its_config_says(
    config, expected, size, is_noted, tmp_path, capsys
):
    timm = pytest.importorskip("timm")
    name = "resnext50_32x4d"
    save_file(timm.create_model(name, num_classes=5).state_dict(), tmp_path / "net.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name, **config}))
    folder = coview.import_checkpoint(tmp_path / "net.safetensors", out=tmp_path / "encoder")
    ours = config_of(folder)
    assert (ours["mean"], ours["std"]) == (expected["mean"], expected["std"])
    assert ours["image_size"] == size
    assert (USUAL in capsys.readouterr().out) == is_noted


def test_timms_weights_go_by_their_tag(tmp_path, capsys):
    timm = pytest.importorskip("timm")
    name, tag = "vit_small_patch16_224", "dino"
    assert timm.get_pretrained_cfg(name).mean != timm.get_pretrained_cfg(f"{name}.{tag}").mean
    path = tmp_path / "net.safetensors"
    save_file(timm.create_model(name, num_classes=0).state_dict(), path)
    config = {"architecture": name, "pretrained_cfg": {"tag": tag}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = coview.import_checkpoint(path, out=tmp_path / "beside")
    assert config_of(folder)["mean"] == list(IMAGENET[0])
    (tmp_path / "config.json").unlink()
    assert USUAL not in capsys.readouterr().out
    folder = coview.import_checkpoint(path, out=tmp_path / "usual", encoder=f"timm:{name}")
    assert config_of(folder)["mean"] == [0.5, 0.5, 0.5]
    assert f"{USUAL} {name}" in capsys.readouterr().out


def test_timms_network_that_is_ours_takes_the_images_that_its_config_says(tmp_path):
    save_file(models.resnet18().state_dict(), tmp_path / "net.safetensors")
    config = {"architecture": "resnet18", "pretrained_cfg": TOLD}
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = coview.import_checkpoint(tmp_path / "net.safetensors", out=tmp_path / "encoder")
    assert config_of(folder)["mean"] == TOLD["mean"]
    assert config_of(folder)["image_size"] == 64


def test_network_of_one_size_is_imported_for_the_size_that_is_said(tmp_path):
    timm = pytest.importorskip("timm")
    name = "vit_tiny_patch16_224"
    network = shake(timm.create_model(name, num_classes=0, img_size=96))
    folder = import_content(network.state_dict(), tmp_path, encoder=f"timm:{name}", size=96)
    pixels = images(96, 2)
    with torch.no_grad():
        theirs = network(normalized(pixels, ((0.5,) * 3, (0.5,) * 3)))
        torch.testing.assert_close(coview.load(folder)(pixels), theirs, rtol=1e-4, atol=1e-5)
    state = timm.create_model(name, num_classes=0).state_dict()
    (tmp_path / "other").mkdir()
    with pytest.raises(InvalidValue, match=r"differently shaped: pos_embed"):
        import_content(state, tmp_path / "other", encoder=f"timm:{name}", size=96)
    assert not (tmp_path / "other" / "encoder").exists()


def test_network_of_one_size_is_trained_further(tmp_path):
    timm = pytest.importorskip("timm")
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    folder = import_content(state, tmp_path, encoder="timm:test_vit")
    assert config_of(folder)["spec"]["image_size"] == config_of(folder)["image_size"] == 160
    photos = np.random.default_rng(0).integers(0, 255, (32, 8, 8, 3), np.uint8)
    usual = {"device": "cpu", "batch_size": 8, "epochs": 1, "dry_run": True}
    for size in (None, 160):
        assert coview.pretrain(photos, weights=folder, size=size, **usual) is None
    labels = ["cat", "dog"] * 16
    assert coview.finetune(folder, (photos, labels), size=160, **usual) is None


def test_classifier_of_several_layers_is_left_out_and_said(tmp_path, capsys):
    network = resnet10()
    network.fc = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 3))
    folder = import_content(network.state_dict(), tmp_path, encoder="resnet10")
    said = capsys.readouterr().out
    assert "Left out: a last part that is not one linear layer (4 tensors)." in said
    assert "classifier" not in config_of(folder)


def test_encoder_without_last_layer_and_counters_of_old_torch(tmp_path):
    network = shake(resnet10())
    state = {
        name: value
        for name, value in network.state_dict().items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
    folder = import_content(state, tmp_path)
    assert_parity(folder, {"h": features_of(network)}, 64)


def test_half_precision_and_safetensors_and_compiled_names(tmp_path):
    network = shake(resnet10())
    halved = {f"_orig_mod.{name}": value.half() for name, value in network.state_dict().items()
              if value.is_floating_point()}  # fmt: skip
    save_file(halved, tmp_path / "peer.safetensors")
    folder = coview.import_checkpoint(tmp_path / "peer.safetensors", out=tmp_path / "encoder")
    exact = shake(resnet10())
    exact.load_state_dict({n: v.half().float() if v.is_floating_point() else v
                           for n, v in network.state_dict().items()})  # fmt: skip
    subject = coview.load(folder)
    with torch.no_grad():
        torch.testing.assert_close(
            subject(images(64)), exact(normalized(images(64))), rtol=1e-4, atol=1e-5
        )


def test_file_of_the_format_before_torch_1_6_is_read(tmp_path):
    content, layers = supcontrast()
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    folder = coview.import_checkpoint(tmp_path / "old.pth", out=tmp_path / "encoder")
    assert_parity(folder, layers, 32, CIFAR10)


def test_no_code_of_the_file_is_executed(tmp_path):
    flag = tmp_path / "executed"

    class Trap:
        def __reduce__(self):
            return (open, (str(flag), "w"))

    class Shell:
        def __reduce__(self):
            import os

            return (os.system, (f"touch {flag}",))

    content, _ = moco(1)
    folder = import_content({**content, "args": Trap()}, tmp_path)
    assert folder.exists()
    assert not flag.exists()
    torch.save({**content, "args": Shell()}, tmp_path / "shell.pth")
    with pytest.raises(InvalidValue, match="without running its code"):
        coview.import_checkpoint(tmp_path / "shell.pth", out=tmp_path / "shell")
    assert not flag.exists()
    assert not (tmp_path / "shell").exists()


def test_whole_module_is_refused_in_words(tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "whole.pth")
    with pytest.raises(InvalidValue, match=r"has no tensors of a network; it holds objects of"):
        coview.import_checkpoint(tmp_path / "whole.pth", out=tmp_path / "encoder")


def test_tensor_that_fits_no_rule_is_refused_with_its_name(tmp_path):
    content, _ = moco(2)
    content["state_dict"]["module.decoder.weight"] = torch.zeros(2)
    with pytest.raises(InvalidValue, match=r"no such tensors as decoder\.weight \(1 in all\)"):
        import_content(content, tmp_path)
    del content["state_dict"]["module.decoder.weight"]
    del content["state_dict"]["module.encoder_q.layer1.0.bn1.weight"]
    with pytest.raises(InvalidValue, match="of no network that is known"):
        import_content(content, tmp_path)
    with pytest.raises(InvalidValue, match=r"missing: layer1\.0\.bn1\.weight"):
        import_content(content, tmp_path, encoder="resnet10")
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.reshape(-1), r"differently shaped: conv1\.weight \[9408\]"),
        (lambda t: t.long(), r"conv1\.weight \[64, 3, 7, 7\] of torch\.int64"),
        (lambda t: t.to(torch.complex64), r"of torch\.complex64"),
        (lambda t: t * float("nan"), r"holds NaN or infinity in conv1\.weight"),
    ],
)
def test_tensor_of_another_kind_is_refused_and_nothing_is_written(change, words, tmp_path):
    state = resnet10().state_dict()
    state["conv1.weight"] = change(state["conv1.weight"])
    with pytest.raises(InvalidValue, match=words):
        import_content(state, tmp_path, encoder="resnet10")
    assert not (tmp_path / "encoder").exists()


def test_classifier_that_is_not_finite_is_refused(tmp_path):
    state = models.resnet18(num_classes=3).state_dict()
    state["fc.bias"][1] = float("inf")
    with pytest.raises(InvalidValue, match=r"NaN or infinity in classifier\.0\.bias"):
        import_content(state, tmp_path)
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("content", ['{"lr": 0.1}', "[1]", "no JSON"])
def test_config_of_another_program_beside_the_file_is_of_no_concern(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    folder = import_content(models.resnet18(num_classes=3).state_dict(), tmp_path)
    assert config_of(folder)["metadata"]["imported"]["kind"] == "torchvision"


def test_pickle_of_too_many_bytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_files, "LARGEST_PICKLE", 1000)
    monkeypatch.setattr(torch_files, "global_names", None)
    with pytest.raises(InvalidValue, match=r"^The objects around .* expected at most 1000\. Save"):
        import_content({"text": "a" * 2000, "weight": torch.ones(2)}, tmp_path)


def test_wrong_words_are_answered_with_the_right_ones(tmp_path):
    content, _ = moco(2)
    with pytest.raises(UnknownName, match="simsiam"):
        import_content(content, tmp_path, kind="simsiem")
    with pytest.raises(InvalidValue, match=r"`sha256` is 0000, but that of peer\.pth"):
        import_content(content, tmp_path, sha256="0000")
    with pytest.raises(InvalidValue, match=r"`mean` is .0\.5.; expected three numbers"):
        import_content(content, tmp_path, mean="0.5", std="1,1,1")
    with pytest.raises(InvalidValue, match="`size` is 0"):
        import_content(content, tmp_path, size=0)
    with pytest.raises(InvalidValue, match="is missing; expected a checkpoint"):
        coview.import_checkpoint(tmp_path / "none.pth", out=tmp_path / "encoder")
    (tmp_path / "text.pth").write_text("no weights here")
    with pytest.raises(InvalidValue, match="no torch or safetensors file"):
        coview.import_checkpoint(tmp_path / "text.pth", out=tmp_path / "encoder")


def test_head_that_coview_cannot_describe_is_left_out_and_said(tmp_path, capsys):
    content, layers = moco(2)
    state = content["state_dict"]
    state["module.encoder_q.fc.1.weight"] = torch.zeros(4, 4, 3, 3)
    folder = import_content(content, tmp_path)
    assert (
        "the projection head (layer 1 is neither dense nor a BatchNorm)" in capsys.readouterr().out
    )
    assert_parity(folder, {"h": layers["h"]}, 64)
