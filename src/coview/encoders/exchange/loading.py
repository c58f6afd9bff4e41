"""Load an exported encoder, for images in [0, 1]."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.encoders.exchange.weights import find_export, load_state, read_config, read_export
from coview.encoders.residual import Encoder
from coview.encoders.spec import EncoderSpec

Transform = Callable[[Any], Tensor]
"""A picture (of Pillow, a path, an array or a tensor) -> float32 [3, S, S] in [0, 1]."""

EXPECTED = (
    "The encoder takes images [B, 3, H, W] as floats in [0, 1] or as bytes, one such image, or a "
    "list of images, paths or Pillow's images"
)
# Beyond these no resize of images in [0, 1] goes, nor of those in [0, 255] beyond the last.
LEAST, MOST, BRIGHTEST = -0.5, 2.0, 400.0


def batch_of(images: Any, transform: Transform | None) -> Tensor:
    """Images as floats [B, 3, H, W] in [0, 1], on any device.

    A tensor or an array keeps its size: [B, 3, H, W], [B, H, W, 3] or one image of these; bytes are
    divided by 255. A list of equal tensors is stacked; other lists, paths and Pillow's images go
    through ``transform``. Raises InvalidValue for anything else.

    >>> batch_of(np.full((2, 8, 8, 3), 255, np.uint8), None).mean()
    tensor(1.)
    """
    if isinstance(images, list | tuple) and len(images) > 0:
        shapes = {each.shape if isinstance(each, Tensor) else None for each in images}
        if len(shapes) == 1 and None not in shapes:
            return batch_of(torch.stack(list(images)), transform)
        if transform is not None:
            return torch.stack([transform(each) for each in images])
    if isinstance(images, np.ndarray) and images.dtype.kind in "uif":
        images = torch.from_numpy(np.array(images))
    if isinstance(images, Tensor):
        return _floats(_channels_second(images[None] if images.ndim == 3 else images))
    if transform is None or isinstance(images, list | tuple) or images is None:
        raise InvalidValue(f"{EXPECTED}; got a {type(images).__name__}.")
    return transform(images)[None]


def _channels_second(images: Tensor) -> Tensor:
    if images.ndim == 4 and images.shape[1] == 3:
        return images
    if images.ndim == 4 and images.shape[3] == 3:
        return images.permute(0, 3, 1, 2)
    raise InvalidValue(f"{EXPECTED}; got {images.dtype} {list(images.shape)}.")


def _floats(images: Tensor) -> Tensor:
    if images.is_floating_point():
        return images
    if images.dtype == torch.uint8:
        return images.float() / 255
    raise InvalidValue(f"{EXPECTED}; got {images.dtype}.")


def unit_range(images: Tensor, *, say: bool = True) -> Tensor:
    """Images as floats in [0, 1]: those of 0 to 255 are divided by 255, which is warned of.

    They are recognized by a value above 2 and none below -0.5, in each batch by itself; images that
    are nearly black in every pixel are taken for [0, 1]. Values of any other range, as those that
    are normalized already, raise InvalidValue. ``say``: warn and raise, for which the host waits
    for the device; without it images are only divided, on their device.

    >>> unit_range(torch.full((1, 3, 2, 2), 0.5)).amax(), unit_range(torch.zeros(0, 3, 2, 2)).shape
    (tensor(0.5000), torch.Size([0, 3, 2, 2]))
    """
    if images.numel() == 0:
        return images
    low, high = torch.aminmax(images.detach())
    are_bytes = (high > MOST) & (low >= LEAST)
    if not say:
        return images / torch.where(are_bytes, 255.0, 1.0).to(images)
    if low < LEAST or high > BRIGHTEST:
        raise InvalidValue(
            f"The images have values from {low:.3g} to {high:.3g}; the encoder expects [0, 1] and "
            "normalizes by itself. Leave out your own normalization."
        )
    if not are_bytes:
        return images
    warnings.warn(
        f"The images are floats up to {high:.3g} and are divided by 255: the encoder expects "
        "[0, 1], or bytes.",
        stacklevel=3,
    )
    return images / 255


class InputNormalizer(Encoder):
    """Images [B, 3, H, W] in [0, 1] -> h [B, features]: (images - mean) / std, then the encoder.

    ``image_size`` is the side of the training images. ``transform`` makes one such image [3, S, S]
    of a picture; it is None for an encoder that is not loaded by :func:`coview.load`. What is not
    yet a batch of floats in [0, 1] (see :func:`batch_of`, :func:`unit_range`) is made one.

    >>> from coview.encoders import resnet
    >>> normalizer = InputNormalizer(resnet(10, width=0.125, stem="small"), (0.5,) * 3, (0.25,) * 3)
    >>> normalizer(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 64])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, encoder: Encoder, mean: Sequence[float] | None, std: Sequence[float] | None,
        image_size: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = encoder
        self.spec, self.features = encoder.spec, encoder.features
        self.normalizes = mean is not None
        self.image_size = image_size
        self.transform: Transform | None = None
        self._range_is_known = False
        self.register_buffer("mean", torch.tensor(mean or (0.0,) * 3).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std or (1.0,) * 3).view(3, 1, 1))

    @property
    def network(self) -> torch.nn.Module:
        return self.encoder.network

    def forward(self, images: Any) -> Tensor:
        batch = batch_of(images, self.transform).to(self.mean)
        if not torch.compiler.is_compiling():
            # A GPU is waited for at the first batch only.
            say = batch.device.type == "cpu" or not self._range_is_known
            batch = unit_range(batch, say=say)
            self._range_is_known = True
        h: Tensor = self.encoder(self.normalize(batch))
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
    return InputNormalizer(encoder, config["mean"], config["std"], config["image_size"]).eval()


def empty_encoder(spec: EncoderSpec) -> Encoder:
    """An encoder to load a state into; ours is not initialized, since its state has all values."""
    if spec.kind == "resnet":
        return spec.build_on_meta().to_empty(device="cpu")
    return spec.build()
