"""One drawn row at a time through torchvision's own float operations."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from coview.core.images import ImageStore
from coview.views import Table, ViewSpec

JITTER = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def torchvision_view(image: np.ndarray, row: np.void, spec: ViewSpec) -> torch.Tensor:
    view = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
    box = [int(row[name]) for name in ("top", "left", "height", "width")]
    mode = InterpolationMode(spec.interpolation)
    view = tv.resized_crop(view, *box, size=[spec.size] * 2, interpolation=mode, antialias=True)
    view = view.clamp(0, 1)  # torchvision leaves the overshoot of the cubic in a float image
    if row["flip"]:
        view = tv.horizontal_flip(view)
    for operation in row["order"]:
        if operation >= 0:
            view = JITTER[operation](view, float(row["factor"][operation]))
    if row["grey"]:
        view = tv.rgb_to_grayscale(view, num_output_channels=3)
    if row["sigma"] > 0:
        taps = 2 * spec.blur.radius(spec.size) + 1
        view = tv.gaussian_blur(view, [taps, taps], [float(row["sigma"])] * 2)
    if row["solarise"]:
        view = tv.solarize(view, spec.threshold)
    if spec.mean is not None:
        view = tv.normalize(view, list(spec.mean), list(spec.std))
    return view


def torchvision_views(
    store: ImageStore, rows: np.ndarray, table: Table, spec: ViewSpec
) -> torch.Tensor:
    return torch.stack(
        [
            torchvision_view(store.image(int(r)), row, spec)
            for r, row in zip(rows, table, strict=True)
        ]
    )
