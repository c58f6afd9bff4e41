"""The contract of views: keyed sampling, rendering in range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from coview.core.images import ImageStore
from coview.testing.contract import json_round_trip_gives_equal_value, run_checks
from coview.views import ViewPlan, ViewSpec, views_of
from coview.views.reference import render_reference
from coview.views.sample import sample_params

SIZES = ((20, 30), (40, 25), (33, 33), (9, 60), (1, 1), (50, 50))


def check_views(view: ViewSpec) -> None:
    """Run VIEW_CHECKS; raises AssertionError with the names of the failed checks.

    >>> from coview.views import eval_view
    >>> check_views(eval_view(16))
    """
    run_checks(VIEW_CHECKS, view)


def make_store() -> ImageStore:
    """Six random images, among them a tiny and a long one."""
    from coview.data import open_images

    generator = np.random.default_rng(0)
    return open_images(
        [generator.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in SIZES], seed=0
    )


def render_view(view: ViewSpec, *, rows: list[int] | None = None) -> torch.Tensor:
    """The view of the images in ``rows`` (None: all)."""
    selected = np.arange(len(SIZES)) if rows is None else np.array(rows)
    return views_of(make_store(), selected, ViewPlan(views=(view,)), seed=3, epoch=0)[0]


def view_has_shape_and_dtype(view: ViewSpec) -> None:
    """float32 [B, 3, size, size], finite."""
    images = render_view(view)
    assert images.shape == (len(SIZES), 3, view.size, view.size)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()


def values_are_in_range(view: ViewSpec) -> None:
    """0 to 1 before normalization with mean and standard deviation."""
    images = view.unnormalize(render_view(view))
    assert float(images.min()) >= -1e-5
    assert float(images.max()) <= 1 + 1e-5


def view_is_deterministic(view: ViewSpec) -> None:
    """The same key gives the same view, bit for bit."""
    assert torch.equal(render_view(view), render_view(view))


def view_does_not_depend_on_the_batch(view: ViewSpec) -> None:
    """An image has the same view alone and in any batch."""
    together = render_view(view, rows=[5, 2, 0])
    for place, row in enumerate((5, 2, 0)):
        assert torch.equal(together[place], render_view(view, rows=[row])[0])


def view_is_keyed_by_epoch_and_index(view: ViewSpec) -> None:
    """A random view differs between epochs and view indices; a deterministic one does not."""
    ids = np.arange(64, dtype=np.int64)
    sides = np.full(64, 40, dtype=np.int32)
    tables = [
        sample_params(view, ids, sides, sides, seed=0, epoch=epoch, view=index)
        for epoch, index in ((0, 0), (1, 0), (0, 1))
    ]
    chances = (view.flip, view.grayscale, view.solarize, view.sobel)
    parts = (view.crop, view.second_crop, view.jitter, view.blur, view.augment, view.rotate90,
             view.noise, view.cutout)  # fmt: skip
    drawn = any(0 < chance < 1 for chance in chances) or any(part is not None for part in parts)
    for other in tables[1:]:
        assert drawn == bool((tables[0] != other).any())


def kernel_agrees_with_the_reference(view: ViewSpec) -> None:
    """The kernel differs from the reference by less than 1e-3.

    A learned policy works on 8-bit values and may round half a gray level either way, so up to 1 %
    of its values may differ by more.
    """
    images = make_store()
    rows = np.arange(len(SIZES))
    table = sample_params(view, images.ids, images.heights, images.widths, seed=3, epoch=0, view=0)
    expected = render_reference(images, rows, table, view)
    differs = (render_view(view) - expected).abs() > 1e-3
    assert float(differs.float().mean()) <= (0.0 if view.augment is None else 0.01)


VIEW_CHECKS: tuple[Callable[[ViewSpec], None], ...] = (
    json_round_trip_gives_equal_value, view_has_shape_and_dtype, values_are_in_range,
    view_is_deterministic, view_does_not_depend_on_the_batch, view_is_keyed_by_epoch_and_index,
    kernel_agrees_with_the_reference,
)  # fmt: skip
