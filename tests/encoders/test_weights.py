"""Starting from weights that exist."""

import re

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from coview.core.errors import DamagedFile, InvalidValue, RunError
from coview.encoders import convert_checkpoint, export_encoder, load_weights, resnet


def tiny(seed=0, **options):
    return resnet(18, width=0.125, stem="small", seed=seed, **options)


def equal(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(mine[key], theirs[key]) for key in theirs)


@pytest.fixture
def weights_file(tmp_path):
    save_file(tiny(1).state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_safetensors_file_fills_the_encoder(weights_file):
    encoder = tiny(2)
    assert load_weights(encoder, weights_file) == ()
    assert equal(encoder, tiny(1))


@pytest.mark.parametrize("place", ["", "encoder"])
def test_export_or_run_folder_fills_the_encoder(tmp_path, place):
    export_encoder(tiny(1), tmp_path / place, image_size=8)
    encoder = tiny(2)
    load_weights(encoder, tmp_path)
    assert equal(encoder, tiny(1))


def test_torchvision_state_dict_loads_and_its_classifier_is_named(tmp_path):
    theirs = torchvision.models.resnet18(weights=None)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    encoder = resnet(18)
    assert set(load_weights(encoder, tmp_path / "theirs.safetensors")) == {"fc.weight", "fc.bias"}
    assert equal(theirs, encoder)


def test_missing_unexpected_and_misshapen_tensors_are_all_named(tmp_path):
    tensors = tiny(1).state_dict()
    tensors["backbone.bn1.bias"] = tensors.pop("bn1.bias")
    tensors["conv1.weight"] = torch.zeros(8, 3, 7, 7)
    save_file(tensors, tmp_path / "wrong.safetensors")
    encoder = tiny(2)
    with pytest.raises(InvalidValue) as caught:
        load_weights(encoder, tmp_path / "wrong.safetensors")
    message = str(caught.value)
    assert "missing: bn1.bias" in message
    assert "unexpected: backbone.bn1.bias" in message
    assert "conv1.weight [8, 3, 7, 7] instead of [8, 3, 3, 3]" in message
    assert equal(encoder, tiny(2))


def test_a_long_list_of_faults_is_cut_and_counted(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(
        InvalidValue, match=r"missing: conv1.weight, .* and \d+ more; unexpected: a"
    ):
        load_weights(tiny(), tmp_path / "none.safetensors")


def test_folder_of_another_architecture_is_refused_by_its_label(tmp_path):
    large = resnet(18, width=0.125)
    export_encoder(large, tmp_path, image_size=8)
    # Same tensors, another network: only the specification tells.
    padded = resnet(18, width=0.125, same_padding=True)
    with pytest.raises(InvalidValue, match="TensorFlow padding"):
        load_weights(padded, tmp_path)


def test_initialization_options_do_not_stand_in_the_way(tmp_path):
    export_encoder(tiny(1), tmp_path, image_size=8)
    encoder = tiny(2, zero_init_residual=False, init="fan-in")
    load_weights(encoder, tmp_path)
    assert equal(encoder, tiny(1))


def test_folder_without_encoder_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no exported encoder"):
        load_weights(tiny(), tmp_path)


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(InvalidValue, match="There is no file"):
        load_weights(tiny(), tmp_path / "absent.safetensors")


def test_absent_run_is_refused_with_one_that_is_near(tmp_path):
    export_encoder(tiny(), tmp_path / "photos", image_size=8)
    with pytest.raises(RunError, match=r"no run or exported encoder .* Did you mean .*photos\?"):
        load_weights(tiny(), tmp_path / "photo")


def test_damaged_safetensors_file_is_named(tmp_path, weights_file):
    (tmp_path / "cut.safetensors").write_bytes(weights_file.read_bytes()[:1000])
    with pytest.raises(DamagedFile, match=r"cut\.safetensors"):
        load_weights(tiny(), tmp_path / "cut.safetensors")


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "last.ckpt", "checkpoint.pth.tar"])
def test_pickled_checkpoint_is_refused_with_the_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"never read")
    with pytest.raises(InvalidValue, match=re.escape(f"{tmp_path / name}` makes an encoder")):
        load_weights(tiny(), tmp_path / name)


def test_converted_checkpoint_holds_the_tensors_of_the_entry_without_prefix(tmp_path):
    state = {f"module.encoder_q.{key}": t for key, t in tiny(1).state_dict().items()}
    state["module.queue"] = torch.zeros(4)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "moco.pth")
    names = convert_checkpoint(
        tmp_path / "moco.pth",
        tmp_path / "moco.safetensors",
        within="state_dict",
        prefix="module.encoder_q.",
    )
    assert set(names) == set(load_file(tmp_path / "moco.safetensors")) == set(tiny().state_dict())
    encoder = tiny(2)
    load_weights(encoder, tmp_path / "moco.safetensors")
    assert equal(encoder, tiny(1))


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ({"epoch": 3, "state_dict": {"w": torch.zeros(2)}}, {}, "it has epoch, state_dict"),
        ({"state_dict": {"w": torch.zeros(2)}}, {"within": "model"}, "no entry 'model'"),
        ({"w": torch.zeros(2)}, {"prefix": "module."}, "begins with 'module.'"),
        ([torch.zeros(2)], {}, "not a mapping"),
        ({"options": pytest.approx(1)}, {}, "more than plain tensors"),
    ],
)
def test_checkpoint_of_anything_but_tensors_is_refused(tmp_path, content, options, words):
    torch.save(content, tmp_path / "it.pth")
    with pytest.raises(InvalidValue, match=words):
        convert_checkpoint(tmp_path / "it.pth", tmp_path / "it.safetensors", **options)
    assert not (tmp_path / "it.safetensors").exists()


def test_absent_checkpoint_is_refused(tmp_path):
    with pytest.raises(InvalidValue, match="There is no checkpoint"):
        convert_checkpoint(tmp_path / "absent.pth", tmp_path / "it.safetensors")
