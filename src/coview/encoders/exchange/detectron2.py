"""An encoder as a file of weights for detectron2, under the names of its ResNet.

detectron2's DetectionCheckpointer reads a .pth by torch.load, takes the entry "model", and matches
names by their ends, so that they fit behind "backbone." and "backbone.bottom_up." (its source,
checkpoint/detection_checkpoint.py). The file holds a dict of tensors and nothing else, so that it
reads with torch's weights-only reader as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.files import write_bytes
from coview.encoders.exchange.libraries import in_torchvision, to_torchvision
from coview.encoders.residual import Encoder

BLOCK = re.compile(r"layer(\d)\.(\d+)\.(.+)")
NORM = re.compile(r"^bn(\d)")
SHORTCUT = (("downsample.0.", "shortcut."), ("downsample.1.", "shortcut.norm."))

FIRST_BOTTLENECK = 50
CONFIG = """\
MODEL:
  WEIGHTS: "{path}"
  PIXEL_MEAN: {mean}
  PIXEL_STD: {std}
  RESNETS:
    DEPTH: {depth}
    STRIDE_IN_1X1: False
    RES2_OUT_CHANNELS: {channels}
INPUT:
  FORMAT: "RGB"
"""


def detectron2_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet under detectron2's names; without BatchNorm's counters.

    >>> state = {name: torch.zeros(1) for name in ("bn1.bias", "layer2.0.downsample.1.weight")}
    >>> list(detectron2_names(state))
    ['stem.conv1.norm.bias', 'res3.0.shortcut.norm.weight']
    """
    return {
        _name(name): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


def _name(name: str) -> str:
    block = BLOCK.fullmatch(name)
    place, part = "stem", name
    if block is not None:
        place, part = f"res{int(block[1]) + 1}.{block[2]}", block[3]
    for theirs, ours in SHORTCUT:
        part = part.replace(theirs, ours)
    part = NORM.sub(r"conv\1.norm", part)
    return f"{place}.{part}"


def write_detectron2(encoder: Encoder, path: Path) -> dict[str, Tensor]:
    """Write the weights; returns the tensors read back, under torchvision's names.

    Raises InvalidValue for a network that detectron2's ResNet is not.
    """
    spec = encoder.spec
    is_resnet = spec.kind == "resnet" or str(spec.name).startswith("resnet")
    if not (in_torchvision(spec) and is_resnet and spec.stem == "large"):
        raise InvalidValue(
            f"detectron2 has no {spec.label()}: its ResNets are those of torchvision of depth 18 "
            "to 152, with a 7x7 stem. Export it to safetensors."
        )
    state = {name: t.detach().cpu() for name, t in to_torchvision(encoder).state_dict().items()}
    renamed = {name: tensor.clone() for name, tensor in detectron2_names(state).items()}
    buffer = io.BytesIO()
    torch.save({"model": renamed}, buffer)
    write_bytes(path, buffer.getvalue())
    loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]
    counters = {name: t for name, t in state.items() if name.endswith("num_batches_tracked")}
    return {name: loaded[_name(name)] for name in state if name not in counters} | counters


def detectron2_config(encoder: Encoder, path: Path, config: Mapping[str, Any]) -> str:
    """The lines of a detectron2 configuration for the file; its images are of 0 to 255.

    ``config``: the config.json of the export.
    """
    mean, std = config["mean"] or (0.0,) * 3, config["std"] or (1.0,) * 3
    spec = encoder.spec
    depth = spec.depth if spec.kind == "resnet" else int(str(spec.name)[len("resnet") :])
    return CONFIG.format(
        path=path,
        depth=depth,
        channels=64 if depth < FIRST_BOTTLENECK else 256,
        mean=[round(255 * value, 3) for value in mean],
        std=[round(255 * value, 3) for value in std],
    )
