"""A trained encoder as a folder that loads with and without Coview.

model.safetensors   the tensors under the names of the network's library
config.json         specification, input, hash
encoder.py          the network's source, torch alone (residual networks only)
README.md           the model card: what they are, how good, how to load them
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.core.eval_mode import eval_mode
from coview.core.files import write_json, write_text
from coview.core.memory import PartSize
from coview.core.paths import local_path
from coview.core.version import VERSION
from coview.encoders.exchange.loading import InputNormalizer, load_encoder
from coview.encoders.exchange.readme import render_readme
from coview.encoders.exchange.weights import write_tensors
from coview.encoders.residual import Encoder, ResNet

EXAMPLES = 8
TOLERANCE = 1e-4


def export_encoder(
    encoder: Encoder,
    folder: str | Path,
    *,
    image_size: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    metadata: Mapping[str, Any] | None = None,
    example: Tensor | None = None,
) -> Path:
    """Write ``encoder`` into ``folder``, load it back, and compare; returns the folder.

    image_size: side of the training images in pixels. mean, std: three numbers each, if training
    normalized its images (in [0, 1]) with them. metadata: JSON values to store in config.json;
    the model card shows method, recipe, recipe_hash, start, data, data_fingerprint, images,
    labels_used, epochs, steps, verdict and figures, a list of sentences. example: images
    [n, 3, H, W] in [0, 1] for the comparison; None: random images. ``encoder`` does not change.
    Raises InvalidValue for a wrong argument, or if the loaded encoder gives other features.

    >>> import tempfile
    >>> from coview.encoders import resnet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export_encoder(resnet(10, width=0.125, stem="small"), folder, image_size=8)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['README.md', 'config.json', 'encoder.py', 'model.safetensors']
    """
    folder = local_path(folder)
    if isinstance(encoder, InputNormalizer):
        raise InvalidValue("This encoder was loaded from an export; export its .encoder instead.")
    check_arguments(image_size, mean, std, metadata)
    spec = encoder.spec
    images = example_images(image_size) if example is None else example
    device = next(encoder.parameters()).device
    expected = compute_features(InputNormalizer(encoder, mean, std).to(device), images.to(device))
    weights_hash = write_tensors(folder / "model.safetensors", encoder.network.state_dict())
    if spec.kind == "resnet":
        write_text(folder / "encoder.py", Path(inspect.getfile(ResNet)).read_text())
    elif spec.file_hash is not None:
        write_text(folder / "encoder.py", Path(str(spec.name).rpartition(":")[0]).read_text())
    write_text(folder / "README.md", render_readme(encoder, image_size, mean, std, metadata or {}))
    config = {
        "coview": VERSION,
        "label": spec.label(),
        "spec": spec.to_json(),
        "architecture": spec.architecture(),
        "features": encoder.features,
        "layer": "h",
        "image_size": int(image_size),
        "value_range": [0, 1],
        "mean": None if mean is None else [float(value) for value in mean],
        "std": None if std is None else [float(value) for value in std],
        "weights_hash": weights_hash,
        "metadata": dict(metadata or {}),
    }
    write_json(folder / "config.json", config)
    check_equal_features(
        expected, compute_features(load_encoder(folder).to(device), images.to(device)), str(folder)
    )
    return folder


def check_arguments(
    image_size: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    metadata: Mapping[str, Any] | None,
) -> None:
    """Raise InvalidValue for an argument that config.json cannot hold."""
    if not isinstance(image_size, int | np.integer) or image_size < 1:
        raise InvalidValue(f"`image_size` is {image_size!r}; expected a whole number of pixels.")
    if (mean is None) != (std is None):
        raise InvalidValue("Give both `mean` and `std`, or neither if images stay in [0, 1].")
    means, stds = list(mean or ()), list(std or ())
    if mean is not None and not (len(means) == len(stds) == 3 and min(stds) > 0):
        raise InvalidValue(
            f"`mean` is {means} and `std` is {stds}; expected three numbers each, std above 0."
        )
    try:
        json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"`metadata` must hold JSON values only ({error}).") from error


def example_images(size: int) -> Tensor:
    """Images [8, 3, size, size] of uniform noise in [0, 1), the same in every call."""
    return torch.rand(EXAMPLES, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def compute_features(network: nn.Module, images: Tensor) -> Tensor:
    """``network(images)`` in eval mode; restores the modes afterwards. Raises DoesNotFit."""
    with eval_mode(network):
        parts = PartSize(len(images), device=images.device).map(
            lambda part: network(images[part]), len(images)
        )
    return torch.cat(parts)


def check_equal_features(expected: Tensor, actual: Tensor, source: str) -> None:
    """Raise InvalidValue unless both are equal up to float32 arithmetic."""
    scale = max(1.0, float(expected.abs().max()))
    gap = float((expected.cpu() - actual.cpu()).abs().max()) / scale
    if not gap <= TOLERANCE:
        raise InvalidValue(
            f"The encoder loaded back from {source} gives other features (by {gap:.2g} of the "
            "largest), so the export is not usable; are the weights finite?"
        )
