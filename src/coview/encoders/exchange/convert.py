"""From an export folder to one file for another library, read back and compared."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from coview.core.errors import MissingExtra, UnknownName
from coview.core.files import write_bytes
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


def export_to(folder: str | Path, to: str, path: str | Path) -> Path:
    """Write the encoder in an export or run folder as one file for ``to``; returns its path.

    "torchvision", "timm": safetensors of the state dict that their network of the same name loads
    strictly once its classifier is an Identity (timm: num_classes=0). "safetensors": the same
    for any network, with Coview's names. These networks take normalized images; mean, std and size
    are in the file's header. "onnx": images [B, 3, H, W] in [0, 1] -> h, for any B, and any H and W
    if the network takes any.

    The file is read back into the target library and must give the encoder's features of eight
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
    folder, path = find_export(Path(folder)), Path(path)
    encoder, config = load_encoder(folder), read_config(folder)
    images = example_images(config["image_size"])
    h = TARGETS[to](encoder, config, path, images)
    check_equal_features(compute_features(encoder, images), h, str(path))
    return path


def write_torchvision(
    encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    return write_network(to_torchvision(encoder.encoder), encoder, config, path, images)


def write_timm(
    encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    return write_network(to_timm(encoder.encoder), encoder, config, path, images)


def write_network(
    network: nn.Module, encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    """Write the state of the library's ``network``; returns its features after a strict load."""
    write_tensors(path, network.state_dict(), file_metadata(config))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)  # so that the features depend on the file
    network.load_state_dict(safetensors.torch.load_file(path), strict=True)
    return compute_features(network, encoder.normalize(images))


def write_safetensors(
    encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    """Write the tensors; returns the features of a new encoder that loads them."""
    write_tensors(path, encoder.network.state_dict(), file_metadata(config))
    reloaded = empty_encoder(encoder.spec)
    load_state(reloaded, read_tensors(path), path)
    return compute_features(reloaded, encoder.normalize(images))


def write_onnx(
    encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    """Write an ONNX program that normalizes its images; returns the features by onnxruntime."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "onnx", "Export to ONNX")
    import onnxruntime

    axes = {0: "batch", 2: "height", 3: "width"} if encoder.spec.kind == "resnet" else {0: "batch"}
    program = torch.onnx.export(
        encoder, (images,), input_names=["images"], output_names=["h"],
        dynamic_shapes={"images": axes}, dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    write_bytes(path, program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["h"], {"images": images.numpy()})[0])


def file_metadata(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of config.json that the header of a file repeats."""
    names = ("coview", "label", "layer", "image_size", "value_range", "mean", "std")
    return {name: config[name] for name in names}


TARGETS: dict[str, Callable[[InputNormalizer, dict[str, Any], Path, Tensor], Tensor]] = {
    "torchvision": write_torchvision,
    "timm": write_timm,
    "safetensors": write_safetensors,
    "onnx": write_onnx,
}
