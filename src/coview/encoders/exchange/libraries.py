"""Encoders as networks and files of other libraries, each compared with the original."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from coview.core.errors import InvalidValue
from coview.encoders.adapters import build_torchvision, require_timm
from coview.encoders.residual import BASIC, Encoder
from coview.encoders.spec import EncoderSpec

NOT_THERE = (
    "{library} has no {label}, so its weights have no place there. Use the exported folder: its "
    "README.md says how to load it without Coview."
)


def to_torchvision(encoder: Encoder) -> nn.Module:
    """torchvision's own network with this encoder's weights, loaded strictly; images -> h.

    A small or medium stem takes the place of torchvision's (conv1 3x3, no maxpool). The copy is
    on the CPU.
    Raises InvalidValue where torchvision has no such network.
    """
    if not in_torchvision(encoder.spec):
        raise InvalidValue(NOT_THERE.format(library="torchvision", label=encoder.spec.label()))
    name = encoder.spec.name or f"resnet{encoder.spec.depth}"
    return filled(build_torchvision(name, 0).model, encoder)


def to_timm(encoder: Encoder) -> nn.Module:
    """timm's own network with this encoder's weights, loaded strictly; images -> h.

    Raises as :func:`to_torchvision`, and MissingExtra without timm.
    """
    timm = require_timm("Export to timm")
    spec = encoder.spec
    if not (spec.kind == "timm" or standard(spec)):
        raise InvalidValue(NOT_THERE.format(library="timm", label=spec.label()))
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(spec.name or f"resnet{spec.depth}", num_classes=0)
    return filled(model, encoder)


def filled(model: Any, encoder: Encoder) -> nn.Module:
    """``model`` with the encoder's stem and weights, in the encoder's mode."""
    if encoder.spec.stem != "large":
        stride = 2 if encoder.spec.stem == "medium" else 1
        conv1 = nn.Conv2d(3, 64, 3, stride, padding=1, bias=False, device="meta")
        model.conv1 = conv1.to_empty(device="cpu")
        model.maxpool = nn.Identity()
    model.load_state_dict(encoder.network.state_dict(), strict=True)
    network: nn.Module = model.train(encoder.training)
    return network


def standard(spec: EncoderSpec) -> bool:
    """Whether this is a residual network as torchvision and timm build it, but for the stem."""
    return (
        spec.kind == "resnet"
        and spec.width == 1
        and not spec.selective_kernels
        and not (spec.projection_in_first_group and spec.depth in BASIC)
        and not spec.same_padding
        and spec.norm == "batch"
        and spec.depth != 10
    )


def in_torchvision(spec: EncoderSpec) -> bool:
    """Whether torchvision has this network (it has no ResNet-200)."""
    return spec.kind == "torchvision" or (standard(spec) and spec.depth != 200)
