"""Whole images with their objects or label maps, as a step takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from coview.core.batches import Batch
from coview.core.images import ImageStore
from coview.core.rng import Stream, uniforms
from coview.data.annotations import UNKNOWN, AnnotatedStore
from coview.data.label_maps import check_map
from coview.data.outlines import fill_outline
from coview.dense.method import DenseMethod, Detector, Segmenter
from coview.views import ViewSpec

Rows = npt.NDArray[np.int64]
MULTIPLE = 32
"""Padded sides are a multiple of the coarsest stride."""


def images_of(store: ImageStore, rows: Rows) -> list[Tensor]:
    """The images of these rows, uint8 [3, H, W] each."""
    window = store.window(rows)
    images = []
    for start, height, width in zip(window.starts, window.heights, window.widths, strict=True):
        pixels = window.pixels[start : start + int(height) * int(width)]
        image = torch.from_numpy(np.array(pixels[:, :3]).reshape(height, width, 3))
        images.append(image.permute(2, 0, 1))
    return images


def output_size(method: Detector, size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) of an image of ``size`` at the short side ``factor`` x the method's.

    The long side is at most ``max_ratio`` times the wanted short side.
    """
    wanted = method.view.size * factor
    scale = min(wanted / min(size), method.max_ratio * wanted / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def draw_scale(method: DenseMethod, number: float) -> float:
    """The factor of a size from a uniform number: one of ``scales`` equal steps, or any."""
    low, high = method.scale
    if not isinstance(method, Detector):
        return low + number * (high - low)
    if method.scales == 1:
        return high
    step = min(int(number * method.scales), method.scales - 1)
    return low + (high - low) * step / (method.scales - 1)


def resize(image: Tensor, size: Sequence[int]) -> Tensor:
    """An image [3, H, W] at the size (height, width): bilinear, with antialiasing.

    >>> resize(torch.zeros(3, 8, 6), (4, 3)).shape
    torch.Size([3, 4, 3])
    """
    return F.interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]


def normalize(image: Tensor, view: ViewSpec) -> Tensor:
    """uint8 [3, H, W] -> float32, by mean and standard deviation of the view."""
    values = image.to(torch.float32) / 255
    if view.mean is None or view.std is None:
        return values
    mean, std = (torch.tensor(triple)[:, None, None] for triple in (view.mean, view.std))
    return (values - mean) / std


def pad_together(images: Sequence[Tensor], multiple: int = MULTIPLE) -> Tensor:
    """[3, H, W] each -> [B, 3, H', W'], padded at the bottom and the right with zeros."""
    height, width = (
        -(-max(image.shape[axis] for image in images) // multiple) * multiple for axis in (1, 2)
    )
    padded = torch.zeros(len(images), 3, height, width)
    for place, image in enumerate(images):
        padded[place, :, : image.shape[1], : image.shape[2]] = image
    return padded


def render_objects(
    store: AnnotatedStore, rows: Rows, method: Detector, *, seed: int, epoch: int
) -> tuple[Tensor, ...]:
    """The training images of these rows and their objects.

    Returns images float32 [B, 3, H, W]; sizes int64 [B, 2], (height, width) without padding; of all
    M objects boxes float32 [M, 4], the image of each int64 [M], classes int64 [M] from 1, and with
    ``masks`` the pixels uint8 [M, H, W]. Sizes and flips are drawn by (seed, epoch, image id).
    Crowds are left out.
    """
    objects, ids = store.objects, store.ids[rows]
    draws = uniforms(seed, Stream.VIEWS, ids, epoch=epoch, view=0, count=2)
    images, sizes, boxes, owners, classes, masks = [], [], [], [], [], []
    for place, (row, image) in enumerate(zip(rows, images_of(store, rows), strict=True)):
        annotated = int(objects.heights[row]), int(objects.widths[row])
        scale = draw_scale(method, float(draws[place, 1]))
        size = output_size(method, annotated, scale)
        flip = bool(draws[place, 0] < method.view.flip)
        image = resize(image, size)
        images.append(normalize(image.flip(2) if flip else image, method.view))
        sizes.append(size)
        own = np.arange(objects.of(int(row)).start, objects.of(int(row)).stop)
        own = own[~objects.crowd[own]]
        boxes.append(scaled_boxes(objects.boxes[own], annotated, size, flip=flip))
        owners += [place] * len(own)
        classes.append(objects.classes[own] + 1)
        if method.masks:
            for number in own:
                mask = fill_outline(objects.outlines[int(number)], size, annotated)
                masks.append(mask[:, ::-1] if flip else mask)
    padded = pad_together(images)
    rendered = (
        padded, torch.tensor(sizes), torch.from_numpy(np.concatenate(boxes).astype(np.float32)),
        torch.tensor(owners, dtype=torch.int64), torch.from_numpy(np.concatenate(classes)),
    )  # fmt: skip
    if not method.masks:
        return rendered
    pixels = torch.zeros(len(masks), *padded.shape[-2:], dtype=torch.uint8)
    for place, mask in enumerate(masks):
        pixels[place, : mask.shape[0], : mask.shape[1]] = torch.from_numpy(mask.copy())
    return (*rendered, pixels)


def scaled_boxes(
    boxes: npt.NDArray[np.float64], annotated: tuple[int, int], size: tuple[int, int], *, flip: bool
) -> npt.NDArray[np.float64]:
    """Boxes [G, 4] of an image of the size ``annotated`` in one of ``size``, perhaps flipped.

    >>> scaled_boxes(np.array([[1.0, 0, 3, 4]]), (4, 4), (8, 8), flip=True).tolist()
    [[2.0, 0.0, 6.0, 8.0]]
    """
    factors = np.array([size[1] / annotated[1], size[0] / annotated[0]] * 2)
    scaled: npt.NDArray[np.float64] = boxes * factors
    if flip:
        scaled = np.stack(
            [size[1] - scaled[:, 2], scaled[:, 1], size[1] - scaled[:, 0], scaled[:, 3]], axis=1
        )
    return scaled


def render_test_images(
    store: ImageStore, rows: Rows, method: Detector, annotated: Sequence[tuple[int, int]]
) -> tuple[Tensor, list[tuple[int, int]]]:
    """The images as they are tested, [B, 3, H, W], and their (height, width) without padding."""
    sizes = [output_size(method, size, 1.0) for size in annotated]
    images = [
        normalize(resize(image, size), method.view)
        for image, size in zip(images_of(store, rows), sizes, strict=True)
    ]
    return pad_together(images), sizes


def render_maps(
    store: AnnotatedStore, rows: Rows, method: Segmenter, *, seed: int, epoch: int
) -> tuple[Tensor, Tensor]:
    """Random squares of images at random sizes, flipped at random, and their label maps.

    Returns float32 [B, 3, S, S] and uint8 [B, S, S]; what lies outside of an image is zero,
    which is the mean color of the normalization, and of no class (255).
    """
    side, ids = method.view.size, store.ids[rows]
    draws = uniforms(seed, Stream.VIEWS, ids, epoch=epoch, view=0, count=4)
    images = torch.zeros(len(rows), 3, side, side)
    maps = torch.full((len(rows), side, side), UNKNOWN, dtype=torch.uint8)
    for place, (row, image) in enumerate(zip(rows, images_of(store, rows), strict=True)):
        labels = label_map(store, int(row), method.classes)
        # Sizes are factors of the square, so that small and large images are seen alike.
        factor = draw_scale(method, float(draws[place, 1])) * side / max(labels.shape)
        size = [max(1, round(n * factor)) for n in labels.shape]
        image = normalize(resize(image, size), method.view)
        label = torch.from_numpy(labels)[None, None]
        label = F.interpolate(label, size, mode="nearest-exact")[0, 0]
        if draws[place, 0] < method.view.flip:
            image, label = image.flip(2), label.flip(1)
        cut, put = zip(
            *(_crop(n, side, float(draw)) for n, draw in zip(size, draws[place, 2:], strict=True)),
            strict=True,
        )
        images[place, :, put[0], put[1]] = image[:, cut[0], cut[1]]
        maps[place, put[0], put[1]] = label[cut[0], cut[1]]
    return images, maps


def _crop(length: int, side: int, draw: float) -> tuple[slice, slice]:
    """Where a window of ``side`` is cut from an axis, and where it lies in the window."""
    if length <= side:
        first = int(draw * (side - length + 1))
        return slice(0, length), slice(first, first + length)
    first = int(draw * (length - side + 1))
    return slice(first, first + side), slice(0, side)


def label_map(store: AnnotatedStore, row: int, classes: int) -> npt.NDArray[np.uint8]:
    """The label map of an image. Raises DataError for a number that is no class."""
    maps = store.label_maps
    labels = maps.read(row)
    check_map(labels, classes, maps.paths[row])
    return labels


EXAMPLE_OBJECTS, EXAMPLE_RATIO = 6, 4 / 3


def example_objects(method: DenseMethod, images: int) -> Batch:
    """Noise in place of ``images`` images with six objects each, at the largest size."""
    generator = torch.Generator().manual_seed(0)
    ids, size = torch.arange(images), method.largest_size
    if not isinstance(method, Detector):
        side = method.view.size
        noise = torch.rand(images, 3, side, side, generator=generator)
        maps = torch.zeros(images, side, side, dtype=torch.uint8)
        return Batch(step=0, epoch=0, views=(noise, maps), ids=ids)
    ratio = min(EXAMPLE_RATIO, method.max_ratio)
    height, width = (-(-n // MULTIPLE) * MULTIPLE for n in (size, round(size * ratio)))
    noise = torch.rand(images, 3, height, width, generator=generator)
    corners = torch.rand(images * EXAMPLE_OBJECTS, 2, generator=generator) * size * 0.5
    boxes = torch.cat([corners, corners + size * 0.3], dim=1)
    owners = ids.repeat_interleave(EXAMPLE_OBJECTS)
    views: tuple[Tensor, ...] = (
        noise,
        torch.tensor([[height, width]] * images),
        boxes,
        owners,
        owners * 0 + 1,
    )
    if method.masks:
        views = (*views, torch.ones(len(boxes), height, width, dtype=torch.uint8))
    return Batch(step=0, epoch=0, views=views, ids=ids)
