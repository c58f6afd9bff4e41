"""Encoders as networks of torchvision and timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from coview.core.errors import InvalidValue
from coview.encoders.adapters import build_torchvision, require_timm
from coview.encoders.residual import BASIC, Encoder
from coview.encoders.spec import EncoderSpec

MISSING_NETWORK = (
    "{library} has no {label}. Use the exported folder: its README.md says how to load it without "
    "Coview. A network that {library} has is chosen before training, as by `encoder` resnet18."
)


def to_torchvision(encoder: Encoder, classifier: nn.Linear | None = None) -> nn.Module:
    """torchvision's own network with this encoder's weights, loaded strictly; images -> h.

    With a ``classifier`` of h, which takes the place of torchvision's: images -> logits. A small or
    medium stem replaces torchvision's (conv1 3x3, no maxpool). The copy is on the CPU.
    Raises InvalidValue if torchvision has no such network.

    >>> from coview.encoders import resnet
    >>> type(to_torchvision(resnet(18, stem="small"))).__module__
    'torchvision.models.resnet'
    """
    if not in_torchvision(encoder.spec):
        raise InvalidValue(
            MISSING_NETWORK.format(library="torchvision", label=encoder.spec.label())
        )
    name = encoder.spec.name or f"resnet{encoder.spec.depth}"
    if classifier is None:
        return load_into(build_torchvision(name, 0, encoder.spec.image_size).model, encoder)
    from torchvision import models  # slow to import

    size = {} if encoder.spec.image_size is None else {"image_size": encoder.spec.image_size}
    with torch.random.fork_rng(devices=[]):
        model = models.get_model(name, weights=None, num_classes=classifier.out_features, **size)
    return load_into(model, encoder, classifier)


def to_timm(encoder: Encoder, classifier: nn.Linear | None = None) -> nn.Module:
    """timm's own network with this encoder's weights, loaded strictly; images -> h, or logits.

    Raises as :func:`to_torchvision`, and MissingExtra without timm.

    >>> from coview.encoders import resnet
    >>> type(to_timm(resnet(18, stem="small"))).__module__  # doctest: +SKIP
    'timm.models.resnet'
    """
    timm = require_timm("Export to timm")
    spec = encoder.spec
    if not (spec.kind == "timm" or is_standard_resnet(spec)):
        raise InvalidValue(MISSING_NETWORK.format(library="timm", label=spec.label()))
    with torch.random.fork_rng(devices=[]):
        classes = 0 if classifier is None else classifier.out_features
        size = {} if spec.image_size is None else {"img_size": spec.image_size}
        name = spec.name or f"resnet{spec.depth}"
        model = timm.create_model(name, num_classes=classes, **size)
    return load_into(model, encoder, classifier)


def load_into(model: Any, encoder: Encoder, classifier: nn.Linear | None = None) -> nn.Module:
    """``model`` with the encoder's stem and weights and the classifier's, in the encoder's mode.

    Raises InvalidValue if the model has no single linear layer for the classifier.
    """
    if encoder.spec.stem != "large":
        stride = 2 if encoder.spec.stem == "medium" else 1
        padding = 2 if encoder.spec.stem == "padded" else 1
        conv1 = nn.Conv2d(3, 64, 3, stride, padding=padding, bias=False, device="meta")
        model.conv1 = conv1.to_empty(device="cpu")
        model.maxpool = nn.Identity()
    state = dict(encoder.network.state_dict())
    if classifier is not None:
        name = classifier_name(model, classifier)
        state |= {f"{name}.{key}": value for key, value in classifier.state_dict().items()}
    model.load_state_dict(state, strict=True)
    network: nn.Module = model.train(encoder.training)
    return network


def is_standard_resnet(spec: EncoderSpec) -> bool:
    """Whether this is a residual network as in torchvision and timm, except for the stem."""
    return (
        spec.kind == "resnet"
        and spec.width == 1
        and not spec.selective_kernels
        and not (spec.projection_in_first_group and spec.depth in BASIC)
        and not (spec.same_padding or spec.same_convolutions)
        and spec.norm == "batch"
        and spec.depth != 10
    )


def in_torchvision(spec: EncoderSpec) -> bool:
    """Whether torchvision has this network (it has no ResNet-200)."""
    return spec.kind == "torchvision" or (is_standard_resnet(spec) and spec.depth != 200)


def classifier_name(model: nn.Module, classifier: nn.Linear) -> str:
    """The linear layer of ``model`` with the classifier's shape that is not the encoder's.

    Raises InvalidValue if there is none.
    """
    shape = classifier.weight.shape
    names: list[str] = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.shape == shape
    ]
    if not names:
        raise InvalidValue(
            f"{type(model).__name__} has no linear layer of {shape[1]} to {shape[0]} for the "
            "classifier; export it to onnx or safetensors."
        )
    return names[-1]
