"""The normalization of images that weights were trained with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict, cast

import safetensors

from coview.core.places import place_of
from coview.core.values import misfit
from coview.encoders.adapters import require_timm
from coview.encoders.exchange.libraries import is_standard_resnet
from coview.encoders.exchange.weights import find_export, read_config
from coview.encoders.spec import EncoderSpec

Normalization = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and std of torchvision's weights (torchvision.transforms.Normalize in its documentation)."""


def normalization_of(source: str | Path, spec: EncoderSpec) -> Normalization | None:
    """(mean, std) of the images that the weights in ``source`` expect; None for [0, 1].

    An export says it, a folder in its config.json and a file in its header. Any other file for a
    network of torchvision or timm is taken for the library's own weights.
    """
    place = place_of(source)
    config = read_config(find_export(place.path)) if place.is_folder else _header(place.path)
    if config is not None:
        mean, std = config["mean"], config["std"]
        return None if mean is None or std is None else (_triple(mean), _triple(std))
    if spec.kind == "timm":
        timm = require_timm(f"The encoder timm:{spec.name}")
        library = timm.get_pretrained_cfg(str(spec.name))
        return IMAGENET if library is None else (_triple(library.mean), _triple(library.std))
    standard = spec.kind == "torchvision" or (is_standard_resnet(spec) and spec.stem == "large")
    return IMAGENET if standard else None


class _Header(TypedDict):
    mean: list[float] | None
    std: list[float] | None


def _header(path: Path) -> _Header | None:
    """What a file that Coview has exported says of its images; None for any other file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("coview", "{}"))
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError):
        return None  # reading the weights says why
    if misfit(header, _Header) or any(len(header[n] or (0,) * 3) != 3 for n in ("mean", "std")):
        return None
    return cast(_Header, header)


def _triple(values: list[float] | tuple[float, ...]) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
