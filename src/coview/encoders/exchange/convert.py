"""From an export folder to one file of another library, read back there and compared."""

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
from coview.encoders.exchange.export import agree, answer, example_images
from coview.encoders.exchange.libraries import to_timm, to_torchvision
from coview.encoders.exchange.loading import InputNormalizer, bare_encoder, load_encoder
from coview.encoders.exchange.weights import (
    export_folder,
    load_state,
    read_config,
    read_tensors,
    write_tensors,
)


def export_to(folder: str | Path, to: str, path: str | Path) -> Path:
    """Write the encoder in an export or run folder as one file for ``to``; returns its path.

    "torchvision", "timm": safetensors of the state dict that their network of the same name loads
    strictly once its classifier is an Identity (timm: num_classes=0). "safetensors": the same
    for any network, under Coview's names. These take images that are normalized already; mean, std
    and size stand in the file's header. "onnx": images [B, 3, H, W] in [0, 1] -> h, any B, and
    for networks that take any, any H and W.

    The file is read back into the target library and must answer as the encoder does on eight
    images. Raises InvalidValue where it does not, or where the library has no such network;
    UnknownName for another ``to``; MissingExtra without timm or the ONNX packages.
    """
    if to not in TARGETS:
        raise UnknownName("export target", to, TARGETS)
    folder, path = export_folder(Path(folder)), Path(path)
    encoder, config = load_encoder(folder), read_config(folder)
    images = example_images(config["image_size"])
    found = TARGETS[to](encoder, config, path, images)
    agree(answer(encoder, images), found, str(path))
    return path


def through_torchvision(
    encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    return through_network(to_torchvision(encoder.encoder), encoder, config, path, images)


def through_timm(
    encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    return through_network(to_timm(encoder.encoder), encoder, config, path, images)


def through_network(
    network: nn.Module, encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    """Write the state of the library's ``network``; what it answers after strict reading."""
    write_tensors(path, network.state_dict(), header(config))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)  # so that an answer can only come from the file
    network.load_state_dict(safetensors.torch.load_file(path), strict=True)
    return answer(network, (images - encoder.mean) / encoder.std)


def through_safetensors(
    encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    """Write the bare tensors; what a new encoder with them answers."""
    write_tensors(path, encoder.network.state_dict(), header(config))
    again = bare_encoder(encoder.spec)
    load_state(again, read_tensors(path), path)
    return answer(again, (images - encoder.mean) / encoder.std)


def through_onnx(
    encoder: InputNormalizer, config: dict[str, Any], path: Path, images: Tensor
) -> Tensor:
    """Write an ONNX program, normalization inside; what onnxruntime answers."""
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


def header(config: dict[str, Any]) -> dict[str, Any]:
    """What a file says of its encoder."""
    names = ("coview", "label", "tap", "image_size", "value_range", "mean", "std")
    return {name: config[name] for name in names}


TARGETS: dict[str, Callable[[InputNormalizer, dict[str, Any], Path, Tensor], Tensor]] = {
    "torchvision": through_torchvision,
    "timm": through_timm,
    "safetensors": through_safetensors,
    "onnx": through_onnx,
}
