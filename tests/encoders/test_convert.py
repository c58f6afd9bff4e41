"""Exports to other libraries, read back there."""

import importlib.util
import json

import pytest
import safetensors
import timm
import torch
import torchvision
from safetensors.torch import load_file

from coview.core.errors import InvalidValue, MissingExtra, UnknownName
from coview.encoders import (
    EncoderSpec,
    export_encoder,
    export_to,
    load_encoder,
    parse_encoder,
    to_timm,
    to_torchvision,
)
from coview.encoders.exchange.classifier import export_classifier
from coview.encoders.exchange.convert import load_network
from coview.encoders.exchange.readme import library_code
from coview.encoders.exchange.weights import read_config

HAS_ONNX = all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime")))
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
IMAGES = torch.rand(2, 3, 40, 33, generator=torch.Generator().manual_seed(0))


def exported(name, folder):
    return export_encoder(parse_encoder(name).build(), folder, image_size=32, mean=MEAN, std=STD)


@pytest.mark.parametrize("name", ["resnet18", "resnet18-small", "torchvision:resnet18"])
def test_torchvisions_network_gives_the_same_features(name):
    encoder = parse_encoder(name).build().eval()
    theirs = to_torchvision(encoder)
    assert type(theirs) is torchvision.models.ResNet
    torch.testing.assert_close(theirs(IMAGES), encoder(IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "resnet18-small", "timm:resnet10t"])
def test_timms_network_gives_the_same_features(name):
    encoder = parse_encoder(name).build().eval()
    theirs = to_timm(encoder)
    assert type(theirs).__module__.startswith("timm.")
    torch.testing.assert_close(theirs(IMAGES), encoder(IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("convert", [to_torchvision, to_timm])
def test_conversion_copies_and_leaves_the_global_generator_alone(convert):
    encoder = parse_encoder("resnet18-small").build()
    before = torch.random.get_rng_state()
    theirs = convert(encoder)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert theirs.training
    theirs.conv1.weight.data.zero_()
    assert encoder.conv1.weight.abs().sum() > 0


@pytest.mark.parametrize(
    "name",
    [
        "resnet18/4",
        "resnet50/8+sk",
        "resnet18+projection",
        "resnet18+tf",
        "resnet50x2",
        "resnet200",
    ],
)
def test_network_that_torchvision_lacks_is_refused(name):
    with pytest.raises(InvalidValue, match=r"torchvision has no ResNet-.*README\.md"):
        to_torchvision(parse_encoder(name).build_on_meta())


@pytest.mark.parametrize("name", ["resnet18/4", "torchvision:resnet18"])
def test_network_that_timm_lacks_is_refused(name):
    with pytest.raises(InvalidValue, match="timm has no"):
        to_timm(parse_encoder(name).build_on_meta())


def test_file_for_torchvision_loads_strictly_there(tmp_path):
    folder = exported("resnet18", tmp_path / "encoder")
    path = export_to(folder, "torchvision", tmp_path / "resnet18.safetensors")
    theirs = torchvision.models.resnet18(weights=None)
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(load_file(path), strict=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    expected = load_encoder(folder)(IMAGES)
    torch.testing.assert_close(theirs.eval()((IMAGES - mean) / std), expected, rtol=1e-5, atol=1e-6)


def test_file_for_timm_loads_as_a_checkpoint_there(tmp_path):
    folder = exported("resnet18", tmp_path / "encoder")
    path = export_to(tmp_path, "timm", tmp_path / "resnet18.safetensors")
    theirs = timm.create_model("resnet18", num_classes=0, checkpoint_path=str(path))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    expected = load_encoder(folder)(IMAGES)
    torch.testing.assert_close(theirs.eval()((IMAGES - mean) / std), expected, rtol=1e-5, atol=1e-6)


def test_bare_file_says_how_its_images_are_normalized(tmp_path):
    exported("resnet18/8-small", tmp_path / "encoder")
    path = export_to(tmp_path, "safetensors", tmp_path / "bare.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["coview"])
        assert "layer1.0.conv1.weight" in set(file.keys())
    assert header["mean"] == list(MEAN)
    assert header["label"] == "ResNet-18 width 1/8, small stem"


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", ["resnet18-small", "resnet18-medium", "resnet18"])
def test_printed_lines_load_the_file(tmp_path, library, name):
    encoder = parse_encoder(name).build()
    folder = export_encoder(encoder, tmp_path, image_size=32)
    file = export_to(folder, library, tmp_path / "file.safetensors")
    code = library_code(encoder, library, file, read_config(folder))
    names = {}
    exec(code, names)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(names["network"].eval()(images), encoder.eval()(images))


def test_printed_lines_load_a_classifier(tmp_path):
    encoder = parse_encoder("resnet18-small").build()
    folder = export_encoder(encoder, tmp_path, image_size=32)
    export_classifier(folder, torch.nn.Sequential(torch.nn.Linear(512, 3)), ("a", "b", "c"))
    for library in ("torchvision", "timm"):
        file = export_to(folder, library, tmp_path / f"{library}.safetensors")
        names = {}
        exec(library_code(encoder, library, file, read_config(folder)), names)
        assert names["network"].eval()(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_printed_lines_load_a_classifier_of_one_size_for_use(tmp_path):
    encoder = EncoderSpec(kind="torchvision", name="vit_b_16", image_size=32).build()
    folder = export_encoder(encoder, tmp_path, image_size=32)
    export_classifier(folder, torch.nn.Sequential(torch.nn.Linear(768, 3)), ("a", "b", "c"))
    file = export_to(folder, "torchvision", tmp_path / "file.safetensors")
    names = {}
    exec(library_code(encoder, "torchvision", file, read_config(folder)), names)
    assert not names["network"].training
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(names["network"](images), load_network(folder)(images))


def test_unknown_target_offers_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match="'torchvision'"):
        export_to(tmp_path, "torchvison", tmp_path / "x")


def test_conversion_with_other_features_is_refused(tmp_path, monkeypatch):
    exported("resnet18", tmp_path / "encoder")

    def broken(encoder, classifier=None):
        network = to_torchvision(encoder)
        network.maxpool = torch.nn.Identity()
        return network

    monkeypatch.setattr("coview.encoders.exchange.convert.to_torchvision", broken)
    with pytest.raises(InvalidValue, match="gives other features"):
        export_to(tmp_path, "torchvision", tmp_path / "x.safetensors")


@pytest.mark.skipif(HAS_ONNX, reason="the ONNX packages are installed")
def test_onnx_missing_says_how_to_install_it(tmp_path):
    exported("resnet18/8-small", tmp_path / "encoder")
    with pytest.raises(MissingExtra, match=r"pip install 'coview\[onnx\]'"):
        export_to(tmp_path, "onnx", tmp_path / "x.onnx")


@pytest.mark.skipif(not HAS_ONNX, reason="needs the extra onnx")
@pytest.mark.filterwarnings("default")
def test_onnx_program_of_same_convolutions_takes_its_one_size_only(tmp_path):
    """Their margins depend on the size; a program for any size would be wrong at odd ones."""
    import onnxruntime

    exported("resnet10/16+same", tmp_path / "encoder")
    path = export_to(tmp_path, "onnx", tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = torch.rand(3, 3, 33, 33)
    with pytest.raises(Exception, match="invalid dimensions"):
        session.run(["h"], {"images": images.numpy()})
    images = images[..., :32, :32].contiguous()
    found = torch.from_numpy(session.run(["h"], {"images": images.numpy()})[0])
    torch.testing.assert_close(found, load_encoder(tmp_path)(images), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not HAS_ONNX, reason="needs the extra onnx")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["resnet18/8-small", "resnet18/8+tf", "resnet50/8+sk"])
def test_onnx_program_takes_any_batch_and_size(tmp_path, name):
    import onnxruntime

    exported(name, tmp_path / "encoder")
    path = export_to(tmp_path, "onnx", tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    encoder = load_encoder(tmp_path)
    for images in (IMAGES, IMAGES[:1, :, :31, :]):
        found = torch.from_numpy(session.run(["h"], {"images": images.contiguous().numpy()})[0])
        torch.testing.assert_close(found, encoder(images), rtol=1e-4, atol=1e-5)
