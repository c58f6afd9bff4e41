"""The contract of views: what is drawn is keyed, what is rendered is in range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from coview.core.images import ImageStore
from coview.core.values import decode, encode
from coview.recipes import known_values
from coview.testing.contract import run_checks
from coview.views import ViewPlan, ViewSpec, views_of
from coview.views.reference import render_reference
from coview.views.sample import sample_params

SIZES = ((20, 30), (40, 25), (33, 33), (9, 60), (1, 1), (50, 50))


def check_view(view: ViewSpec) -> None:
    """Every check of VIEW_CHECKS; AssertionError names those that fail."""
    run_checks(VIEW_CHECKS, view)


def store() -> ImageStore:
    """Six random images, a tiny and a long one among them."""
    from coview.data import open_images

    generator = np.random.default_rng(0)
    return open_images(
        [generator.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in SIZES], seed=0
    )


def rendered(
    view: ViewSpec, *, rows: list[int] | None = None, epoch: int = 0, index: int = 0
) -> torch.Tensor:
    """The view of the images in those rows, as view ``index`` of a plan."""
    plan = ViewPlan(views=(view,) * (index + 1))
    chosen = np.arange(len(SIZES)) if rows is None else np.array(rows)
    return views_of(store(), chosen, plan, seed=3, epoch=epoch)[index]


def is_a_plain_value(view: ViewSpec) -> None:
    """Hashable, and its JSON gives it back."""
    assert decode(encode(view), known_values()) == view
    assert hash(view) == hash(decode(encode(view), known_values()))


def has_its_shape(view: ViewSpec) -> None:
    """float32 [B, 3, size, size], finite."""
    found = rendered(view)
    assert found.shape == (len(SIZES), 3, view.size, view.size)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


def stays_in_range(view: ViewSpec) -> None:
    """0 to 1 before mean and standard deviation."""
    found = rendered(view)
    if view.mean is not None and view.std is not None:
        mean, std = (torch.tensor(triple)[:, None, None] for triple in (view.mean, view.std))
        found = found * std + mean
    assert float(found.min()) >= -1e-5
    assert float(found.max()) <= 1 + 1e-5


def is_the_same_twice(view: ViewSpec) -> None:
    """One key, one view, bit for bit."""
    assert torch.equal(rendered(view), rendered(view))


def does_not_see_the_batch(view: ViewSpec) -> None:
    """An image has the same view alone as among others, in whatever order."""
    together = rendered(view, rows=[5, 2, 0])
    for place, row in enumerate((5, 2, 0)):
        assert torch.equal(together[place], rendered(view, rows=[row])[0])


def is_keyed_by_epoch_and_index(view: ViewSpec) -> None:
    """A view that is drawn differs between epochs and between views; one that is not never does."""
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


def fast_rendering_is_the_specification(view: ViewSpec) -> None:
    """The kernel and the batched arithmetic of the reference differ by less than 1e-3.

    A learned policy works on 8-bit values, where half a gray level may be rounded either way: there
    up to 1 % of the values may differ by more.
    """
    images = store()
    rows = np.arange(len(SIZES))
    table = sample_params(view, images.ids, images.heights, images.widths, seed=3, epoch=0, view=0)
    expected = render_reference(images, rows, table, view)
    apart = (rendered(view) - expected).abs() > 1e-3
    assert float(apart.float().mean()) <= (0.0 if view.augment is None else 0.01)


VIEW_CHECKS: tuple[Callable[[ViewSpec], None], ...] = (
    is_a_plain_value,
    has_its_shape,
    stays_in_range,
    is_the_same_twice,
    does_not_see_the_batch,
    is_keyed_by_epoch_and_index,
    fast_rendering_is_the_specification,
)
