"""Projection heads of other programs: a Sequential of dense layers, norms and ReLU as ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from coview.heads import HeadSpec


class NoHead(ValueError):
    """The tensors are no head that ``HeadSpec`` can describe; the message says why."""


@dataclass(slots=True)
class Layer:
    """One dense layer: its matrix [out, in], its bias, and the tensors of the norm behind it."""

    weight: Tensor
    bias: Tensor | None
    norm: dict[str, Tensor] | None = None


def read_head(
    tensors: Mapping[str, Tensor], in_features: int
) -> tuple[HeadSpec, dict[str, Tensor]]:
    """(the specification, the state of the head) of a Sequential's tensors, named by number.

    Between two dense layers is a ReLU, as every known head has it. Raises NoHead.

    >>> weights = {"0.weight": torch.ones(3, 4), "2.weight": torch.ones(2, 3)}
    >>> spec, state = read_head(weights, 4)
    >>> spec.label(), list(state)
    ('2 layers of 3 to 2', ['layers.0.dense.weight', 'layers.1.dense.weight'])
    """
    layers = _layers(tensors)
    spec = _spec(layers, in_features)
    state: dict[str, Tensor] = {}
    for number, layer in enumerate(layers):
        state[f"layers.{number}.dense.weight"] = layer.weight
        has_bias = spec.bias == "all" or spec.bias == (
            "last" if number == len(layers) - 1 else "hidden"
        )
        if has_bias:
            zeros = torch.zeros(len(layer.weight))
            state[f"layers.{number}.dense.bias"] = zeros if layer.bias is None else layer.bias
        if layer.norm is not None:
            state |= {f"layers.{number}.norm.{name}": t for name, t in layer.norm.items()}
    expected = spec.outline(in_features).state_dict()
    if {name: t.shape for name, t in expected.items()} != {n: t.shape for n, t in state.items()}:
        raise NoHead("its layers have norms of different kinds")
    return spec, {name: state[name] for name in expected}


def _layers(tensors: Mapping[str, Tensor]) -> list[Layer]:
    """The dense layers in order, each with the norm behind it."""
    modules: dict[tuple[int, ...], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        place, _, field = name.rpartition(".")
        parts = place.split(".") if place else []
        if not all(part.isdecimal() for part in parts):
            raise NoHead(f"{name} is no numbered layer")
        modules.setdefault(tuple(map(int, parts)), {})[field] = tensor
    layers: list[Layer] = []
    for numbers in sorted(modules):
        fields = modules[numbers]
        if "running_mean" in fields:
            if not layers or layers[-1].norm is not None:
                raise NoHead("a norm stands before the first layer")
            layers[-1].norm = {"num_batches_tracked": torch.tensor(0)} | fields
        elif "weight" in fields and _is_dense(fields):
            layers.append(Layer(fields["weight"], fields.get("bias")))
        else:
            raise NoHead(f"layer {'.'.join(map(str, numbers))} is neither dense nor a BatchNorm")
    if not layers:
        raise NoHead("it has no layers")
    return layers


def _is_dense(fields: Mapping[str, Tensor]) -> bool:
    weight, bias = fields["weight"], fields.get("bias")
    return (
        fields.keys() <= {"weight", "bias"}
        and weight.ndim == 2
        and weight.numel() > 0
        and (bias is None or bias.shape == weight.shape[:1])
        and all(tensor.is_floating_point() for tensor in fields.values())
    )


def _spec(layers: list[Layer], in_features: int) -> HeadSpec:
    widths = [len(layer.weight) for layer in layers]
    inputs = [layer.weight.shape[1] for layer in layers]
    if inputs != [in_features, *widths[:-1]]:
        raise NoHead(f"its layers take {inputs} values and give {widths}")
    hidden, last = layers[:-1], layers[-1]
    if len(set(widths[:-1])) > 1:
        raise NoHead(f"its middle layers have different widths, {widths[:-1]}")
    norms = [layer.norm is not None for layer in hidden]
    if (hidden and any(norms) != all(norms)) or (last.norm is not None and not all(norms)):
        raise NoHead("only some of its layers have a BatchNorm")
    hidden_bias = any(layer.bias is not None for layer in hidden)
    choices: dict[tuple[bool, bool], str] = {
        (True, True): "all", (True, False): "hidden", (False, True): "last",
        (False, False): "none",
    }  # fmt: skip
    more: dict[str, Any] = {}
    if last.norm is not None:
        affine = ("weight" in last.norm, "bias" in last.norm)
        names = {(True, True): "both", (True, False): "scale", (False, False): "none"}
        if affine not in names:
            raise NoHead("its last BatchNorm shifts but does not scale")
        more["last_affine"] = names[affine]
    return HeadSpec(
        layers=len(layers),
        hidden=widths[0] if hidden else None,
        output=widths[-1],
        batch_norm="all"
        if last.norm is not None
        else "hidden"
        if hidden and all(norms)
        else "none",
        bias=choices[hidden_bias, last.bias is not None],
        init="torch",
        **more,
    )
