"""From an export folder to one file for another library, read back and compared."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from coview.core.errors import MissingExtra, UnknownName
from coview.core.files import write_bytes
from coview.core.paths import local_path
from coview.encoders.exchange.classifier import Classifier, load_classifier
from coview.encoders.exchange.detectron2 import write_detectron2
from coview.encoders.exchange.export import check_equal_features, compute_features, example_images
from coview.encoders.exchange.libraries import to_timm, to_torchvision
from coview.encoders.exchange.loading import InputNormalizer, empty_encoder, load_encoder
from coview.encoders.exchange.weights import (
    find_export,
    load_state,
    read_config,
    read_tensors,
    write_tensors,
)

Network = InputNormalizer | Classifier
CLASSIFIER = "classifier."


def export_to(folder: str | Path, to: str, path: str | Path) -> Path:
    """Write the network in an export or run folder as one file for ``to``; returns its path.

    "torchvision", "timm": safetensors of the state dict that their network of the same name loads
    strictly: a classifier with its number of classes, an encoder once the classifier is an Identity
    (timm: num_classes=0). "safetensors": the same for any network, with Coview's names, those of a
    classifier under "classifier.". These networks take normalized images; mean, std and size are in
    the file's header. "onnx": images [B, 3, H, W] in [0, 1] -> h or logits, for any B, and any H
    and W if the network takes any. "detectron2": a .pth of the backbone's tensors under the names
    of detectron2's ResNet, compared in torchvision's network.

    The file is read back into the target library and must give the network's outputs for eight
    images. Raises InvalidValue if it does not, or if the library has no such network; UnknownName
    for another ``to``; MissingExtra without timm or the ONNX packages.

    >>> import tempfile
    >>> from coview.encoders import export_encoder, resnet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     encoder = resnet(10, width=0.125, stem="small")
    ...     _ = export_encoder(encoder, folder, image_size=8)
    ...     export_to(folder, "safetensors", f"{folder}/resnet.safetensors").name
    'resnet.safetensors'
    """
    if to not in TARGETS:
        raise UnknownName("export target", to, TARGETS)
    folder, path = find_export(folder), local_path(path)
    network, config = load_network(folder), read_config(folder)
    images = example_images(config["image_size"])
    outputs = TARGETS[to](network, config, path, images)
    expected = encoder_of(network) if to == "detectron2" else network
    check_equal_features(compute_features(expected, images), outputs, str(path))
    return path


def load_network(folder: Path) -> Network:
    """The encoder in an export folder, with its classifier where it has one."""
    encoder = load_encoder(folder)
    return load_classifier(folder, encoder) if "classifier" in read_config(folder) else encoder


def write_library(
    convert: Callable[..., nn.Module], network: Network, config: dict[str, Any], path: Path,
    images: Tensor,
) -> Tensor:  # fmt: skip
    """Write the state of the library's network; returns its outputs after a strict load."""
    encoder = encoder_of(network)
    linear = network.linear if isinstance(network, Classifier) else None
    converted = convert(encoder.encoder, linear)
    write_tensors(path, converted.state_dict(), file_metadata(config))
    for parameter in converted.parameters():
        nn.init.zeros_(parameter)  # so that the outputs depend on the file
    converted.load_state_dict(safetensors.torch.load_file(path), strict=True)
    return compute_features(converted, encoder.normalize(images))


def write_safetensors(
    network: Network, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    """Write the tensors; returns the outputs of a new network that loads them."""
    encoder, tensors = encoder_of(network), dict(encoder_of(network).network.state_dict())
    if isinstance(network, Classifier):
        tensors |= {f"{CLASSIFIER}{name}": t for name, t in network.layers.state_dict().items()}
    write_tensors(path, tensors, file_metadata(config))
    loaded = read_tensors(path)
    reloaded = empty_encoder(encoder.spec)
    load_state(reloaded, {n: t for n, t in loaded.items() if not n.startswith(CLASSIFIER)}, path)
    h = compute_features(reloaded, encoder.normalize(images))
    if not isinstance(network, Classifier):
        return h
    layers = copy.deepcopy(network.layers)
    layers.load_state_dict(
        {n.removeprefix(CLASSIFIER): t for n, t in loaded.items() if n.startswith(CLASSIFIER)}
    )
    return compute_features(layers, h)


def write_onnx(network: Network, config: dict[str, Any], path: Path, images: Tensor) -> Tensor:
    """Write an ONNX program that normalizes its images; returns the outputs by onnxruntime."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "onnx", "Export to ONNX")
    import onnxruntime

    output = "logits" if isinstance(network, Classifier) else "h"
    spec = encoder_of(network).spec
    # The margins of "SAME" convolutions depend on the size: for a free one the program is not done
    # in minutes.
    resizable = spec.kind == "resnet" and not spec.same_convolutions
    axes = {0: "batch", 2: "height", 3: "width"} if resizable else {0: "batch"}
    program = torch.onnx.export(
        network, (images,), input_names=["images"], output_names=[output],
        dynamic_shapes={"images": axes}, dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    write_bytes(path, program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([output], {"images": images.numpy()})[0])


def write_for_detectron2(
    network: Network, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    """Write the backbone; returns the outputs of torchvision's network with what the file holds.

    A classifier has no place in a backbone and is left out.
    """
    if isinstance(network, Classifier):
        network = network.encoder
    encoder = network.encoder
    converted = to_torchvision(encoder)
    for parameter in converted.parameters():
        nn.init.zeros_(parameter)  # so that the outputs depend on the file
    converted.load_state_dict(write_detectron2(encoder, path), strict=True)
    return compute_features(converted, network.normalize(images))


def encoder_of(network: Network) -> InputNormalizer:
    """The encoder of a classifier, or the encoder itself."""
    return network.encoder if isinstance(network, Classifier) else network


def file_metadata(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of config.json that the header of a file repeats."""
    names = ("coview", "label", "layer", "image_size", "value_range", "mean", "std")
    class_names = config.get("classifier", {}).get("class_names")
    return {name: config[name] for name in names} | (
        {"class_names": class_names} if class_names else {}
    )


TARGETS: dict[str, Callable[[Network, dict[str, Any], Path, Tensor], Tensor]] = {
    "torchvision": lambda *how: write_library(to_torchvision, *how),
    "timm": lambda *how: write_library(to_timm, *how),
    "safetensors": write_safetensors,
    "onnx": write_onnx,
    "detectron2": write_for_detectron2,
}
