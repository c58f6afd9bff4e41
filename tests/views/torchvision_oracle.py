"""One drawn row at a time through torchvision's own float operations."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from coview.core.images import ImageStore
from coview.core.rng import philox
from coview.views import OrderedViewSpec, ViewParams, ViewSpec

JITTER = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def torchvision_view(image: np.ndarray, row: np.void, spec: ViewSpec) -> torch.Tensor:
    view = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
    box = [int(row[name]) for name in ("top", "left", "height", "width")]
    mode = InterpolationMode(spec.interpolation)
    view = tv.resized_crop(view, *box, size=[spec.size] * 2, interpolation=mode, antialias=True)
    view = view.clamp(0, 1)  # torchvision leaves the overshoot of the cubic in a float image
    if row["flip"]:
        view = tv.horizontal_flip(view)
    if isinstance(spec, OrderedViewSpec):
        for name in spec.order:
            view = one_operation(name, view, row, spec)
        return view if spec.mean is None else tv.normalize(view, list(spec.mean), list(spec.std))
    for operation in row["order"]:
        if operation >= 0:
            view = JITTER[operation](view, float(row["factor"][operation]))
    if row["grayscale"]:
        view = tv.rgb_to_grayscale(view, num_output_channels=3)
    if row["sigma"] > 0:
        size = 2 * spec.blur.radius(spec.size) + 1
        view = tv.gaussian_blur(view, [size, size], [float(row["sigma"])] * 2)
    if row["solarize"]:
        view = tv.solarize(view, spec.solarize_threshold)
    if spec.multi_pass:
        view = finished(view, row, spec)
    if spec.mean is not None:
        view = tv.normalize(view, list(spec.mean), list(spec.std))
    return view


def one_operation(name: str, view: torch.Tensor, row: np.void, spec: ViewSpec) -> torch.Tensor:
    """The operation of one field alone, on a view as it has become."""
    if name == "second_crop":
        box = [int(number) for number in row["inner"]]
        mode = InterpolationMode(spec.second_crop.interpolation)
        view = tv.resized_crop(view, *box, size=[spec.size] * 2, interpolation=mode, antialias=True)
        return view.clamp(0, 1)
    if name == "jitter":
        for operation in row["order"]:
            if operation >= 0:
                view = JITTER[operation](view, float(row["factor"][operation]))
        return view
    if name == "grayscale":
        return tv.rgb_to_grayscale(view, num_output_channels=3) if row["grayscale"] else view
    if name == "blur":
        size = 2 * spec.blur.radius(spec.size) + 1
        sigma = float(row["sigma"])
        return tv.gaussian_blur(view, [size, size], [sigma] * 2) if sigma > 0 else view
    if name == "solarize":
        return tv.solarize(view, spec.solarize_threshold) if row["solarize"] else view
    alone = row.copy()
    fields = {"rotate90": "rotate90", "sobel": "sobel", "noise": "noise", "cutout": "cut_height"}
    for other in fields.keys() - {name}:
        alone[fields[other]] = 0
    return finished(view, alone, spec)


def finished(view: torch.Tensor, row: np.void, spec: ViewSpec) -> torch.Tensor:
    """The multi-pass operations after solarize; plain loops where torchvision has none."""
    if row["rotate90"]:
        view = torch.from_numpy(np.rot90(view.numpy(), row["rotate90"], (1, 2)).copy())
    if row["sobel"]:
        view = torch.from_numpy(slow_sobel(view.double().numpy())).float()
    if row["noise"] > 0:
        noise = slow_normals(row["noise_key"], view.numel()).reshape(view.shape)
        view = (view + float(row["noise"]) * torch.from_numpy(noise).float()).clamp(0, 1)
    if row["cut_height"]:
        place = [int(row[f"cut_{name}"]) for name in ("top", "left", "height", "width")]
        view = tv.erase(view, *place, v=torch.tensor(spec.cutout.fill))
    return view


def slow_sobel(view: np.ndarray) -> np.ndarray:
    """Sobel's gradient magnitude over its largest value, pixel by pixel in float64."""
    gray = 0.2989 * view[0] + 0.587 * view[1] + 0.114 * view[2]
    side, out = len(gray), np.zeros_like(view)
    weights = {-1: 1.0, 0: 2.0, 1: 1.0}
    for y in range(side):
        for x in range(side):
            slope_x = slope_y = 0.0
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    value = gray[min(max(y + dy, 0), side - 1), min(max(x + dx, 0), side - 1)]
                    slope_x += dx * weights[dy] * value
                    slope_y += dy * weights[dx] * value
            out[:, y, x] = (slope_x**2 + slope_y**2) ** 0.5 / 20**0.5
    return out


def slow_normals(key: np.ndarray, count: int) -> np.ndarray:
    """The keyed noise one number at a time, from the Philox of core and an exact quantile."""
    normal, numbers = NormalDist(), []
    counter = np.zeros(((count + 7) // 8, 4), np.uint64)
    counter[:, 0] = np.arange(len(counter))
    words = philox(counter, (int(key[0]), int(key[1]))).tolist()
    for n in range(count):
        word = words[n // 8][n % 8 // 2]
        half = word & 0xFFFF if n % 2 == 0 else word >> 16
        numbers.append(normal.inv_cdf((half + 0.5) / 65536))
    return np.array(numbers)


def torchvision_views(
    store: ImageStore, rows: np.ndarray, table: ViewParams, spec: ViewSpec
) -> torch.Tensor:
    return torch.stack(
        [
            torchvision_view(store.image(int(r)), row, spec)
            for r, row in zip(rows, table, strict=True)
        ]
    )
