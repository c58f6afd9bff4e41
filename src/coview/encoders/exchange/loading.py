"""Load an exported encoder, for images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.encoders.exchange.weights import find_export, load_state, read_config, read_export
from coview.encoders.residual import Encoder
from coview.encoders.spec import EncoderSpec


class InputNormalizer(Encoder):
    """Images [B, 3, H, W] in [0, 1] -> h [B, features]: (images - mean) / std, then the encoder.

    >>> from coview.encoders import resnet
    >>> normalizer = InputNormalizer(resnet(10, width=0.125, stem="small"), (0.5,) * 3, (0.25,) * 3)
    >>> normalizer(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 64])
    """

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
        h: Tensor = self.encoder(self.normalize(images))
        return h

    def normalize(self, images: Tensor) -> Tensor:
        """(images - mean) / std, or ``images`` if there are no mean and std."""
        return (images - self.mean) / self.std if self.normalizes else images


def load_encoder(folder: str | Path) -> InputNormalizer:
    """The encoder in an export folder or a run folder, in eval mode, on the CPU.

    It takes images in [0, 1], of any size that its network takes (residual networks take any).
    ``.encoder`` is the encoder without normalization, for further training. Raises RunError if the
    folder has no encoder, DamagedFile if the weights do not have their recorded hash.

    >>> import tempfile
    >>> from coview.encoders import export_encoder, resnet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export_encoder(resnet(10, width=0.125, stem="small"), folder, image_size=8)
    ...     load_encoder(folder).features
    64
    """
    folder = find_export(folder)
    config = read_config(folder)
    encoder = empty_encoder(EncoderSpec.from_json(config["spec"]))
    load_state(encoder, read_export(folder), folder)
    return InputNormalizer(encoder, config["mean"], config["std"]).eval()


def empty_encoder(spec: EncoderSpec) -> Encoder:
    """An encoder to load a state into; ours is not initialized, since its state has all values."""
    if spec.kind == "resnet":
        return spec.build_on_meta().to_empty(device="cpu")
    return spec.build()
