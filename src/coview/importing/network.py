"""Which network a state dict is of: ours by its shapes, or one of torchvision by its names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.encoders import EncoderSpec
from coview.encoders.exchange.weights import join_names
from coview.encoders.residual import BASIC, BOTTLENECK, Encoder

BLOCK = re.compile(r"^layer([1-4])\.(\d+)\.")
CLASSIFIERS = ("fc", "classifier", "head", "heads", "linear")
"""Where a network has its classifier: a first part of a name."""


FAMILIES: Mapping[str, tuple[str, ...]] = {
    "layer1.": ("resnet", "resnext", "wide_resnet"),
    "conv_proj.": ("vit_",),
    "stage2.": ("shufflenet",),
    "features.": (
        "alexnet", "convnext", "densenet", "efficientnet", "mobilenet", "swin", "vgg",
    ),
    "stem.": ("maxvit",),
}  # fmt: skip
"""A beginning of names -> the networks of torchvision that have it. Missing are those that cannot
be built without values (RegNet), load by a format of their own (MNASNet), have several outputs
(GoogLeNet, Inception) or no last linear layer (SqueezeNet)."""


def find_network(state: Mapping[str, Tensor]) -> EncoderSpec:
    """The network that has exactly these tensors. Raises InvalidValue where there is none.

    The stride and the pooling of a 3x3 stem are in no tensor: it counts as the small one, without
    either. A network of torchvision is one that is not ours.

    >>> from coview.encoders import parse_encoder
    >>> find_network(parse_encoder("resnet18/8-small").build().state_dict()).label()
    'ResNet-18 width 1/8, small stem'
    """
    spec = residual_network(state) or torchvision_network(state)
    if spec is None:
        raise InvalidValue(
            f"The {len(state)} tensors are of no network that is known by its names and shapes "
            f"({join_names(list(state))}). Name it with `encoder`, as timm:NAME or resnet50x2."
        )
    return spec


def residual_network(state: Mapping[str, Tensor]) -> EncoderSpec | None:
    """Ours, where its tensors have these names and shapes; None where another has them."""
    counts = [0, 0, 0, 0]
    for name in state:
        if match := BLOCK.match(name):
            group = int(match[1]) - 1
            counts[group] = max(counts[group], int(match[2]) + 1)
    bottleneck = "layer1.0.conv3.weight" in state
    known = BOTTLENECK if bottleneck else BASIC
    depth = next((depth for depth, blocks in known.items() if blocks == tuple(counts)), None)
    first = state.get("conv1.weight", state.get("conv1.0.weight"))
    norm = state.get("bn1.weight")
    if depth is None or first is None or norm is None or first.ndim != 4:
        return None
    selective = "layer1.0.conv2.select.weight" in state
    large = "conv1.0.weight" in state if selective else first.shape[2] == 7
    spec = EncoderSpec(
        depth=depth,
        width=norm.shape[0] / 64,
        stem="large" if large else "small",
        selective_kernels=selective,
        projection_in_first_group=not bottleneck and "layer1.0.downsample.0.weight" in state,
    )
    return spec if _has_tensors(spec.build_on_meta().network, state) else None


def torchvision_network(state: Mapping[str, Tensor]) -> EncoderSpec | None:
    """The network of torchvision with these tensors, but for its classifier; None if there is none.

    >>> from torchvision import models
    >>> with torch.device("meta"):
    ...     torchvision_network(models.get_model("shufflenet_v2_x0_5").state_dict()).name
    'shufflenet_v2_x0_5'
    """
    from torchvision import models  # slow to import

    shapes = {name: value.shape for name, value in state.items()}
    begins = (part for part in FAMILIES if any(name.startswith(part) for name in state))
    families = FAMILIES.get(next(begins, ""), ())
    for name in models.list_models(module=models):
        if not name.startswith(families):
            continue
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            theirs = models.get_model(name, weights=None).state_dict()
        common = theirs.keys() & shapes.keys()
        if len(common) < len(theirs) - 2 or len(shapes) > len(theirs):
            continue
        spec = EncoderSpec(kind="torchvision", name=name)
        if _has_tensors(spec.build_on_meta().network, state):
            return spec
    return None


def _has_tensors(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether ``state`` has all tensors of ``network``, shapes included, and no other ones.

    Two more may be those of a classifier.
    """
    theirs = network.state_dict()
    fits = all(name in state and state[name].shape == value.shape for name, value in theirs.items())
    more = [name for name in state if name not in theirs]
    return fits and len(more) <= 2 and all(name.split(".")[0] in CLASSIFIERS for name in more)


def outline(spec: EncoderSpec) -> Encoder:
    """The encoder without values where it can be built so, for its names, shapes and width."""
    try:
        return spec.build_on_meta()
    except NotImplementedError:
        return spec.build()
