"""One picture as a trained network takes it: decoded, cropped and resized as everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from coview.core.errors import DataError
from coview.core.images import ImageStore, store_from_arrays
from coview.core.paths import local_path
from coview.data.arrays import read_arrays
from coview.data.decode import decode_image, strict_pillow
from coview.data.decode_spec import DecodeSpec
from coview.data.listing import Content, Rejected
from coview.data.sources import is_path
from coview.data.spec import default_short_side
from coview.views import ViewPlan, eval_view, views_of

FIRST = np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class EvalTransform:
    """A picture -> float32 [3, size, size] in [0, 1]: its center square, resized.

    The picture is one of Pillow's, a path, an array or a tensor [H, W, 3], [3, H, W] or [H, W] of
    bytes or of floats in [0, 1]. The result is what `coview embed` feeds to the network. Raises
    DataError for a file that is no image, InvalidValue for another value.

    >>> EvalTransform(8)(np.zeros((20, 30, 3), np.uint8)).shape
    torch.Size([3, 8, 8])
    """

    size: int

    def __call__(self, picture: Any) -> Tensor:
        store = one_image(_content(picture), str(picture), self.size)
        plan = ViewPlan(views=(eval_view(self.size),))
        (views,) = views_of(store, FIRST, plan, seed=0, epoch=0)
        return views[0]


def one_image(content: Content, name: str, size: int) -> ImageStore:
    """A store of one picture, kept as large as views of ``size`` pixels need it.

    ``content``: encoded bytes, or any other that the decoder takes. Raises DataError, which names
    the picture, where it cannot be decoded.

    >>> one_image(np.zeros((20, 30, 3), np.uint8), "a picture", 8).image(0).shape
    (20, 30, 3)
    """
    spec = DecodeSpec(short_side=default_short_side(None, size))
    with strict_pillow():
        decoded = decode_image(content, spec)
    if isinstance(decoded, Rejected):
        raise DataError(f"{name} cannot be used: {decoded.reason}.")
    pixels = np.frombuffer(decoded.pixels, np.uint8).reshape(decoded.height, decoded.width, 4)
    return store_from_arrays([pixels[..., :3]])


def _content(picture: Any) -> Content:
    if is_path(picture):
        return local_path(picture)
    ((content, _),) = read_arrays([picture], None, white=None).contents(FIRST)
    return content
