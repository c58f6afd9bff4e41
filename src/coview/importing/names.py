"""Names of tensors: those of other programs' residual networks as torchvision's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from coview.core.errors import InvalidValue

State = dict[str, Tensor]

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module")
"""What DataParallel, torch.compile and FSDP put into a name."""
CHILDREN = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4", 9: "fc"}
"""The children of torchvision's ResNet in order; 2 is the ReLU, 3 and 8 are pools."""
SHORTCUT = re.compile(r"^(layer\d\.\d+)\.shortcut\.")


def state_of(content: Any) -> State:
    """The tensors of nested mappings, named without wrappers; what is no tensor is left out.

    >>> list(state_of({"module.conv1.weight": torch.zeros(1), "epoch": 3}))
    ['conv1.weight']
    """
    if not isinstance(content, Mapping):
        return {}
    state: State = {}
    for name, value in content.items():
        plain = ".".join(part for part in str(name).split(".") if part not in WRAPPERS)
        if isinstance(value, Tensor):
            state[plain] = value.detach()
        elif isinstance(value, Mapping):
            state |= {f"{plain}.{inner}": each for inner, each in state_of(value).items()}
    return state


def below(state: Mapping[str, Tensor], prefix: str) -> State:
    """The tensors whose names begin with ``prefix``, without it.

    >>> below({"fc.weight": torch.zeros(1), "conv1.weight": torch.zeros(1)}, "fc.")
    {'weight': tensor([0.])}
    """
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def as_torchvision(state: Mapping[str, Tensor]) -> State:
    """Names of a residual network as torchvision has them; other names as they are.

    Known are the children of torchvision's network by number, as in nn.Sequential, and "shortcut"
    for "downsample". BatchNorm counters that older files lack are added. Raises InvalidValue for
    the children of lightly's ResNet in a Sequential, which has no ReLU after its first norm.

    >>> names = as_torchvision({"0.weight": torch.zeros(1), "4.0.conv1.weight": torch.zeros(1)})
    >>> list(names)
    ['conv1.weight', 'layer1.0.conv1.weight']
    """
    numbers = {name.partition(".")[0] for name in state}
    renamed: State = {}
    if numbers and all(number.isdecimal() for number in numbers):
        _refuse_missing_relu(state)
        if {int(number) for number in numbers} <= CHILDREN.keys():
            state = {
                f"{CHILDREN[int(name.partition('.')[0])]}.{name.partition('.')[2]}": value
                for name, value in state.items()
            }
    for name, value in state.items():
        renamed[SHORTCUT.sub(r"\1.downsample.", name)] = value
    for name in list(renamed):
        if name.endswith(".running_var"):
            counter = f"{name.removesuffix('running_var')}num_batches_tracked"
            renamed.setdefault(counter, torch.tensor(0))
    return renamed


def _refuse_missing_relu(state: Mapping[str, Tensor]) -> None:
    if any(name.startswith(("2.0.conv1.", "3.0.conv1.")) for name in state):
        raise InvalidValue(
            "The backbone is a Sequential of conv1, bn1, layer1 to layer4 without a ReLU after "
            "bn1, as `nn.Sequential(*resnet.children())` of lightly's ResNetGenerator gives it; "
            "Coview has no such network. Train with a ReLU there, or keep the network whole."
        )


def as_float(state: Mapping[str, Tensor]) -> State:
    """Floating tensors in float32, others as they are."""
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }
