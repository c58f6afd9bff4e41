"""A trained encoder back from its folder, ready for images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.encoders.exchange.weights import export_folder, load_state, read_config, read_export
from coview.encoders.residual import Encoder
from coview.encoders.spec import EncoderSpec


class InputNormalizer(Encoder):
    """Images [B, 3, H, W] in [0, 1] -> h [B, features]: (images - mean) / std, then the encoder."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, encoder: Encoder, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.spec, self.features = encoder.spec, encoder.features
        self.normalizes = mean is not None
        self.register_buffer("mean", torch.tensor(mean or (0.0,) * 3).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std or (1.0,) * 3).view(3, 1, 1))

    @property
    def network(self) -> torch.nn.Module:
        return self.encoder.network

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InvalidValue(
                f"The encoder takes floating images [B, 3, H, W] in [0, 1]; got {images.dtype} "
                f"{list(images.shape)}: divide bytes by 255 and put channels second."
            )
        if self.normalizes:
            images = (images - self.mean) / self.std
        h: Tensor = self.encoder(images)
        return h


def load_encoder(folder: str | Path) -> InputNormalizer:
    """The encoder in an export folder or a run folder, in eval mode, on the CPU.

    Takes images of any size that its network takes (all residual networks take any), in [0, 1].
    ``.encoder`` is the bare encoder, for training on. Raises RunError where there is none,
    DamagedFile where the weights do not have their recorded hash.
    """
    folder = export_folder(Path(folder))
    config = read_config(folder)
    encoder = bare_encoder(EncoderSpec.from_json(config["spec"]))
    load_state(encoder, read_export(folder), folder)
    return InputNormalizer(encoder, config["mean"], config["std"]).eval()


def bare_encoder(spec: EncoderSpec) -> Encoder:
    """An encoder to load into: without drawing first values where all values are in its state."""
    if spec.kind == "resnet":
        return spec.outline().to_empty(device="cpu")
    return spec.build()
