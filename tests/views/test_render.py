"""Both renderings against torchvision's float operations with the same numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import LARGE, MIXED, SMALL, all_rows, photographs
from torchvision_oracle import torchvision_views

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore, store_from_arrays
from coview.views import (
    Blur,
    Crop,
    Jitter,
    ViewPlan,
    ViewSpec,
    eval_view,
    render,
    render_reference,
    sample_params,
    simclr_views,
    views_of,
)

GRAY_LEVEL = 1 / 255
TOLERANCE = 0.05 * GRAY_LEVEL
RENDERERS = [render, render_reference]


def drawn(store: ImageStore, spec: ViewSpec, seed: int = 0, view: int = 0) -> np.ndarray:
    return sample_params(
        spec, store.ids, store.heights, store.widths, seed=seed, epoch=0, view=view
    )


def largest_error(renderer, store: ImageStore, spec: ViewSpec, table: np.ndarray) -> float:
    rows = all_rows(store)
    expected = torchvision_views(store, rows, table, spec)
    return (renderer(store, rows, table, spec) - expected).abs().max().item()


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    # The fused kernel computes rows of fewer pixels than its lanes one by one: 3 and 12.
    ("size", "shapes"),
    [(3, SMALL), (12, MIXED), (32, SMALL), (32, MIXED), (48, MIXED), (224, LARGE)],
    ids=str,
)
def test_render_equals_torchvision(renderer, interpolation, size, shapes):
    store = photographs(shapes)
    spec = simclr_views(size, blur=0.5).views[0]
    spec = replace(spec, crop=Crop(interpolation=interpolation))
    for seed in range(2 if size == 224 else 10):
        assert largest_error(renderer, store, spec, drawn(store, spec, seed)) <= TOLERANCE


OPERATIONS = {
    "crop": {},
    "flip": {"flip": 1.0},
    "brightness": {"jitter": Jitter(probability=1, contrast=0, saturation=0, hue=0)},
    "contrast": {"jitter": Jitter(probability=1, brightness=0, saturation=0, hue=0)},
    "saturation": {"jitter": Jitter(probability=1, brightness=0, contrast=0, hue=0)},
    "hue": {"jitter": Jitter(probability=1, brightness=0, contrast=0, saturation=0, hue=0.5)},
    "grayscale": {"grayscale": 1.0},
    "blur": {"blur": Blur(probability=1.0)},
    "wide blur": {"blur": Blur(probability=1.0, sigma=(3.0, 9.0))},
    "short blur": {"blur": Blur(probability=1.0, kernel_size=3)},
    "blur of one pixel": {"blur": Blur(probability=1.0, kernel_size=1)},
    "normalize": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
}


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_equals_torchvision(renderer, name):
    store = photographs(SMALL + MIXED)
    spec = ViewSpec(size=32, crop=Crop(), **OPERATIONS[name])
    scale = 1 if spec.std is None else 1 / min(spec.std)
    assert largest_error(renderer, store, spec, drawn(store, spec)) <= TOLERANCE * scale


@pytest.mark.parametrize("renderer", RENDERERS)
def test_solarize_equals_torchvision_away_from_the_threshold(renderer):
    store = photographs(SMALL)
    spec = ViewSpec(size=32, crop=Crop(), solarize=1.0)
    table, rows = drawn(store, spec), all_rows(store)
    plain = torchvision_views(store, rows, table, replace(spec, solarize_threshold=1.0))
    expected = torchvision_views(store, rows, table, spec)
    clear = (plain - 0.5).abs() > TOLERANCE
    error = (renderer(store, rows, table, spec) - expected).abs()
    assert error[clear].max() <= TOLERANCE
    assert clear.float().mean() > 0.99


@pytest.mark.parametrize("renderer", RENDERERS)
def test_contrast_turns_about_the_mean_after_brightness(renderer):
    store = photographs(SMALL)
    spec = ViewSpec(size=32, crop=Crop(), jitter=Jitter(probability=1))
    table = drawn(store, spec)
    table["order"], table["factor"] = (0, 1, 2, 3), (1.7, 0.0, 1.0, 0.0)
    views = renderer(store, all_rows(store), table, spec)
    bright = replace(spec, jitter=None)
    expected = renderer(store, all_rows(store), drawn(store, bright), bright)
    expected = (1.7 * expected).clamp(max=1)
    weights = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    mean = (expected * weights).sum(1).mean((1, 2))
    assert (views - mean[:, None, None, None]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("renderer", RENDERERS)
def test_hue_by_a_whole_turn_is_the_identity(renderer):
    store = photographs(SMALL)
    spec = ViewSpec(size=32, crop=Crop(), jitter=Jitter(probability=1))
    table = drawn(store, spec)
    table["order"], table["factor"] = (3, 3, -1, -1), (1, 1, 1, 0.5)
    plain = drawn(store, replace(spec, jitter=None))
    rows = all_rows(store)
    turned, straight = (renderer(store, rows, numbers, spec) for numbers in (table, plain))
    assert (turned - straight).abs().max() <= TOLERANCE


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_views_stay_in_range(renderer, interpolation):
    board = photographs(MIXED)
    for row in range(len(board)):
        height, width = board.image(row).shape[:2]
        checkers = np.arange(height * width).reshape(height, width) % 2 * 255
        board.image(row)[:] = checkers[..., None]
    spec = replace(simclr_views(32, blur=0.5).views[0], crop=Crop(interpolation=interpolation))
    views = renderer(board, all_rows(board), drawn(board, spec), spec)
    assert views.min() >= -1e-6
    assert views.max() <= 1 + 1e-6


@pytest.mark.parametrize("renderer", RENDERERS)
def test_gray_views_have_equal_channels(renderer):
    store = photographs(SMALL + MIXED)
    spec = replace(simclr_views(32).views[0], grayscale=1.0)
    views = renderer(store, all_rows(store), drawn(store, spec), spec)
    assert torch.equal(views[:, 0], views[:, 1])
    assert torch.equal(views[:, 0], views[:, 2])


@pytest.mark.parametrize("renderer", RENDERERS)
def test_identity_returns_the_image_of_that_size(renderer):
    ramp = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    store, spec = store_from_arrays([ramp]), eval_view(16)
    view = renderer(store, np.array([0]), drawn(store, spec), spec)
    assert np.array_equal((view[0].permute(1, 2, 0) * 255).round().numpy(), ramp)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_identity_takes_the_central_square(renderer):
    store, spec = photographs([(40, 60)]), eval_view(40)
    view = renderer(store, np.array([0]), drawn(store, spec), spec)
    middle = store.image(0)[:, 10:50].astype(np.float32).transpose(2, 0, 1) / 255
    assert np.abs(view[0].numpy() - middle).max() <= 1e-6


@pytest.mark.parametrize("size", [32, 96, 224])
def test_blur_covers_its_largest_sigma(size):
    blur = Blur()
    offsets = np.arange(-blur.radius(size), blur.radius(size) + 1)
    kept = np.exp(-0.5 * (offsets / blur.sigma[1]) ** 2).sum()
    whole = np.exp(-0.5 * (np.arange(-100, 101) / blur.sigma[1]) ** 2).sum()
    assert kept / whole >= 0.99


def test_blur_kernel_size_follows_simclr_at_224_pixels():
    assert 2 * Blur().radius(224) + 1 == 23


@pytest.mark.parametrize("threads", [2, 3, 7, 100])
def test_view_is_the_same_for_any_number_of_threads(threads):
    store = photographs(SMALL + MIXED)
    plan, rows = simclr_views(32, blur=0.5), all_rows(store)
    alone = views_of(store, rows, plan, seed=1, epoch=2)
    shared = views_of(store, rows, plan, seed=1, epoch=2, threads=threads)
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_views_are_written_into_what_is_given_and_nothing_else_fits(threads):
    store = photographs(SMALL)
    plan, rows = simclr_views(32), all_rows(store)
    out = [torch.empty(len(rows), 3, 32, 32) for _ in plan.views]
    views = views_of(store, rows, plan, seed=1, epoch=2, threads=threads, out=out)
    fresh = views_of(store, rows, plan, seed=1, epoch=2)
    for view, target, expected in zip(views, out, fresh, strict=True):
        assert view.data_ptr() == target.data_ptr()
        assert torch.equal(view, expected)
    with pytest.raises(
        InvalidValue, match=rf"expected a contiguous float32 tensor \({len(rows)}, 3"
    ):
        views_of(store, rows, plan, seed=1, epoch=2, threads=threads, out=[o[1:] for o in out])
    with pytest.raises(InvalidValue, match="`threads` is 0"):
        views_of(store, rows, plan, seed=1, epoch=2, threads=0)


def test_view_does_not_depend_on_its_batch():
    store = photographs(SMALL + LARGE)
    plan, rows = simclr_views(48), all_rows(store)
    (whole, _) = views_of(store, rows, plan, seed=1, epoch=2)
    for row in rows:
        (single, _) = views_of(store, rows[row : row + 1], plan, seed=1, epoch=2)
        assert torch.equal(single[0], whole[row])


def test_view_does_not_depend_on_the_order_of_rows():
    store = photographs(MIXED)
    plan, rows = simclr_views(32), all_rows(store)
    (forward, _) = views_of(store, rows, plan, seed=1, epoch=2)
    (backward, _) = views_of(store, rows[::-1].copy(), plan, seed=1, epoch=2)
    assert torch.equal(forward, backward.flip(0))


def test_view_does_not_depend_on_the_other_images_of_the_store():
    store = photographs(SMALL)
    plan, few = simclr_views(32), np.array([7, 3])
    (whole, _) = views_of(store, few, plan, seed=1, epoch=2)
    (part, _) = views_of(store.subset(few), np.array([0, 1]), plan, seed=1, epoch=2)
    assert torch.equal(whole, part)


def test_views_differ_between_seeds_epochs_views_and_images():
    store = photographs([(32, 32)])
    twin = photographs([(32, 32)])
    object.__setattr__(twin, "ids", twin.ids + 1)
    plan, row = ViewPlan(views=simclr_views(32).views * 2), np.array([0])
    views = [
        *views_of(store, row, plan, seed=1, epoch=0),
        *views_of(store, row, plan, seed=1, epoch=1),
        *views_of(store, row, plan, seed=2, epoch=0),
        *views_of(twin, row, plan, seed=1, epoch=0),
    ]
    assert len({view.numpy().tobytes() for view in views}) == len(views)


def test_views_of_device_path_equals_the_kernel():
    store = photographs(SMALL)
    plan, rows = simclr_views(32), all_rows(store)
    fused = views_of(store, rows, plan, seed=1, epoch=0)[0]
    table = drawn(store, plan.views[0], seed=1)
    batched = render_reference(store, rows, table, plan.views[0])
    assert (fused - batched).abs().max() <= TOLERANCE


def test_reference_is_the_same_in_pieces(monkeypatch):
    store, spec = photographs(LARGE), simclr_views(32).views[0]
    table, rows = drawn(store, spec), all_rows(store)
    whole = render_reference(store, rows, table, spec)
    monkeypatch.setattr("coview.views.reference.CHUNK_PIXELS", 1)
    assert (render_reference(store, rows, table, spec) - whole).abs().max() <= 1e-6


def test_render_reads_a_store_that_cannot_be_written():
    store, spec = photographs(SMALL), simclr_views(32).views[0]
    table, rows = drawn(store, spec), all_rows(store)
    expected = render(store, rows, table, spec)
    store.image(0).base.flags.writeable = False
    assert torch.equal(render(store, rows, table, spec), expected)
    assert (render_reference(store, rows, table, spec) - expected).abs().max() <= TOLERANCE


def test_render_writes_into_out():
    store, spec = photographs(SMALL), simclr_views(32).views[0]
    out = torch.empty(len(store), 3, 32, 32)
    table, rows = drawn(store, spec), all_rows(store)
    assert render(store, rows, table, spec, out=out) is out
    assert torch.equal(out, render(store, rows, table, spec))


@pytest.mark.parametrize(
    "out", [torch.empty(12, 3, 32, 31), torch.empty(12, 3, 32, 32).double(),
            torch.empty(12, 32, 32, 3).permute(0, 3, 1, 2)],
    ids=["shape", "dtype", "strides"],
)  # fmt: skip
def test_render_refuses_an_out_that_does_not_fit(out):
    store, spec = photographs(SMALL), simclr_views(32).views[0]
    with pytest.raises(InvalidValue, match="contiguous float32"):
        render(store, all_rows(store), drawn(store, spec), spec, out=out)


def test_render_refuses_a_crop_outside_its_image():
    store, spec = photographs([(32, 32), (8, 8)]), eval_view(32)
    with pytest.raises(InvalidValue, match="not inside image"):
        render(store, np.array([1, 0]), drawn(store, spec), spec)


def test_render_refuses_a_table_of_another_length():
    store, spec = photographs(SMALL), simclr_views(32).views[0]
    with pytest.raises(InvalidValue, match="12 rows for 2 images"):
        render(store, np.array([0, 1]), drawn(store, spec), spec)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_render_of_no_rows_is_empty(renderer):
    store, spec = photographs(SMALL), simclr_views(32).views[0]
    none = np.array([], dtype=np.int64)
    assert renderer(store, none, drawn(store, spec)[:0], spec).shape == (0, 3, 32, 32)
