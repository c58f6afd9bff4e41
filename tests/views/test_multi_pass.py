"""Operations beyond the fused kernel: both renderings against oracles with the same numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import LARGE, MIXED, SMALL, all_rows, photographs
from torchvision.transforms.v2 import functional as tv
from torchvision_oracle import torchvision_views

from coview.core.errors import InvalidValue
from coview.core.images import store_from_arrays
from coview.core.rng import philox
from coview.views import (
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    Jitter,
    Noise,
    RandAugment,
    Rotate90,
    ViewPlan,
    ViewSpec,
    auto_augmented,
    composition,
    render,
    render_reference,
    sample_params,
    views_of,
)
from coview.views.multi_pass.tensor_operations import draw_normals, philox_words, sobel

TOLERANCE = 0.05 / 255
RENDERERS = [render, render_reference]
PLAIN = ViewSpec(size=32, crop=Crop(), flip=0.5)
ALL = ViewSpec(
    size=32, crop=Crop(), second_crop=Crop(area=(0.5, 1.0)), flip=0.5, jitter=Jitter(), grayscale=0.2,
    blur=Blur(), rotate90=Rotate90(), sobel=0.5, noise=Noise(probability=0.5),
    cutout=Cutout(probability=0.5, height=(0.1, 0.5), width=(0.2, 0.6)),
    mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4),
)  # fmt: skip
EVERY_STAGE = replace(ALL, augment=RandAugment(operations=3))


def drawn(store, spec, seed=0, view=0):
    return sample_params(
        spec, store.ids, store.heights, store.widths, seed=seed, epoch=0, view=view
    )


MULTI_PASS = {
    "rotate90": {"rotate90": Rotate90()},
    "sobel": {"sobel": 1.0},
    "noise": {"noise": Noise()},
    "square": {"cutout": Cutout()},
    "rectangle": {"cutout": Cutout(height=(0.1, 0.9), width=(0.01, 1.0), fill=0.0)},
}


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("name", MULTI_PASS)
def test_operation_equals_its_oracle(renderer, name):
    store = photographs(SMALL[:4] + MIXED)
    spec, rows = replace(PLAIN, **MULTI_PASS[name]), all_rows(store)
    table = drawn(store, spec)
    expected = torchvision_views(store, rows, table, spec)
    assert (renderer(store, rows, table, spec) - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("seed", range(3))
def test_all_operations_together_equal_their_oracles(renderer, seed):
    store = photographs(SMALL[:4] + MIXED + [(70, 90)])
    table, rows = drawn(store, ALL, seed), all_rows(store)
    expected = torchvision_views(store, rows, table, ALL)
    error = (renderer(store, rows, table, ALL) - expected).abs().max()
    assert error <= TOLERANCE / min(ALL.std)


def test_turns_are_counter_clockwise_as_torchvisions():
    store = photographs([(32, 32)])
    spec = replace(PLAIN, flip=0.0, rotate90=Rotate90(turns=(1,)))
    (turned,), (straight,) = (
        render(store, np.array([0]), drawn(store, s), s)
        for s in (spec, replace(spec, rotate90=None))
    )
    assert torch.equal(turned, tv.rotate(straight, 90))


def test_sobel_of_known_edges():
    flat, step, corner = torch.full((3, 8, 8), 0.7), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    step[:, :, 4:] = 1
    corner[:, 4:, 4:] = 1
    corner[:, 3, 4:] = 1
    corner[:, 4:, 3] = 1
    flat_edges, step_edges, corner_edges = sobel(torch.stack([flat, step, corner]))
    assert flat_edges.max() == 0
    inside = (4 / 20**0.5) * (0.2989 + 0.587 + 0.114)
    assert torch.allclose(step_edges[:, :, 3:5], torch.tensor(inside), atol=1e-6)
    assert step_edges[:, :, :3].max() == 0
    assert 0.9 < corner_edges.max() <= 1


def test_sobel_never_exceeds_one():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(0, 2, (4096, 1, 3, 3), generator=generator).float()
    edges = sobel(patches.expand(-1, 3, -1, -1))
    assert edges.max() <= 1
    assert edges.max() > 0.99


def test_normals_follow_the_philox_of_core_under_any_key():
    keys = np.array([[0, 0], [1, 2], [2**32 - 1, 2**31 + 5]], np.uint32)
    words = philox_words(keys, 5, torch.device("cpu"))
    counter = np.zeros((5, 4), np.uint64)
    counter[:, 0] = np.arange(5)
    for key, ours in zip(keys.tolist(), words, strict=True):
        assert np.array_equal(ours.numpy(), philox(counter, tuple(key)).astype(np.int64))


def test_normals_are_standard_normal_and_independent_of_the_key_beside():
    from scipy import stats

    keys = np.arange(8, dtype=np.uint32).reshape(4, 2)
    numbers = draw_normals(keys, 30_000, torch.device("cpu")).double().numpy()
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 5 / 30_000**0.5
    neighbors = np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]
    assert abs(neighbors) < 5 / 120_000**0.5
    assert np.abs(numbers).max() > 3.5


def test_fewer_normals_are_the_first_of_more():
    keys = np.array([[7, 9]], np.uint32)
    few, many = (draw_normals(keys, count, torch.device("cpu")) for count in (13, 100))
    assert torch.equal(few, many[:, :13])


def torchvision_fed(monkeypatch, image, augment, blocks):
    """torchvision's own transform, with our uniforms in place of its random numbers."""
    from torchvision.transforms import v2

    if isinstance(augment, AutoAugment):
        theirs = v2.AutoAugment(v2.AutoAugmentPolicy(augment.policy))
        choice, fed = [blocks[2, 2]], []
        for k, (name, probability, _) in enumerate(theirs._policies[int(blocks[2, 2] * 25)]):
            fed.append(blocks[4 + k, 1])
            if blocks[4 + k, 1] <= probability and theirs._AUGMENTATION_SPACE[name][1]:
                fed.append(blocks[4 + k, 2])
    else:
        theirs = v2.RandAugment(augment.operations, augment.magnitude, augment.bins)
        names = list(theirs._AUGMENTATION_SPACE)
        choice = list(blocks[4 : 4 + augment.operations, 0])
        signed = [theirs._AUGMENTATION_SPACE[names[int(u * len(names))]][1] for u in choice]
        fed = [blocks[4 + k, 2] for k, has in enumerate(signed) if has]
    choices, numbers = iter(choice), iter(fed)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randint", lambda n, _: torch.tensor(int(next(choices) * n)))
        patch.setattr(torch, "rand", lambda _: torch.tensor(float(next(numbers))))
        out = theirs(image)
    assert next(choices, None) is None
    assert next(numbers, None) is None
    return out


def blocks_of(ids, view=0, seed=0, count=12):
    """Uniforms [N, count, 4] of blocks 16 on."""
    from coview.core.rng import Stream, uniforms

    numbers = uniforms(seed, Stream.VIEWS, ids, epoch=0, view=view, count=4 * (16 + count))
    return numbers.reshape(len(ids), -1, 4)[:, 16:].astype(np.float64)


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize(
    "augment",
    [
        AutoAugment(policy="imagenet"),
        AutoAugment(policy="cifar10"),
        RandAugment(),
        RandAugment(operations=3, magnitude=30),
        RandAugment(operations=1, magnitude=5, bins=10),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [32, 48])
def test_augmented_view_is_that_of_torchvisions_transform(monkeypatch, renderer, augment, size):
    store = photographs([(40, 36)] * 150)
    rows, spec = all_rows(store), replace(PLAIN, size=size, augment=augment)
    plain = replace(spec, augment=None)
    crops = (renderer(store, rows, drawn(store, plain), plain) * 255).round().to(torch.uint8)
    views = renderer(store, rows, drawn(store, spec), spec)
    assert views.dtype == torch.float32
    for crop, view, blocks in zip(crops, views, blocks_of(store.ids), strict=True):
        expected = torchvision_fed(monkeypatch, crop, augment, blocks)
        assert torch.equal((view * 255).round(), expected.float())
        assert (view * 255 - expected).abs().max() < 1e-4


def test_augmented_view_goes_on_through_the_other_operations():
    store = photographs(SMALL)
    rows, spec = all_rows(store), replace(EVERY_STAGE, blur=None)
    table = drawn(store, spec)
    whole, reference = (renderer(store, rows, table, spec) for renderer in RENDERERS)
    close = (whole - reference).abs() <= TOLERANCE / min(spec.std)
    assert close.float().mean() > 0.99  # a crop within rounding of half a level may differ by one


def test_view_without_a_drawn_augmentation_is_only_rounded():
    store = photographs(SMALL)
    spec = replace(PLAIN, augment=AutoAugment())
    table = drawn(store, spec)
    table["operation"] = 0
    views = render(store, all_rows(store), table, spec)
    plain = replace(PLAIN, augment=None)
    crops = render(store, all_rows(store), drawn(store, plain), plain)
    assert torch.allclose(views, (crops * 255).round() / 255, atol=1e-6)


@pytest.mark.parametrize("size", [32, 224])
def test_multi_pass_view_does_not_depend_on_its_batch_nor_on_threads(size):
    store = photographs(SMALL + LARGE)
    spec = replace(EVERY_STAGE, size=size)
    plan, rows = ViewPlan(views=(spec,)), all_rows(store)
    (whole,) = views_of(store, rows, plan, seed=1, epoch=2)
    (shared,) = views_of(store, rows, plan, seed=1, epoch=2, threads=3)
    assert torch.equal(whole, shared)
    for row in rows[::3]:
        (single,) = views_of(store, rows[row : row + 1], plan, seed=1, epoch=2)
        assert torch.equal(single[0], whole[row])


def test_multi_pass_view_does_not_depend_on_torchs_threads():
    store = photographs(LARGE)
    plan, rows = ViewPlan(views=(replace(EVERY_STAGE, size=224),)), all_rows(store)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(views_of(store, rows, plan, seed=1, epoch=2)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_noise_in_pieces_is_the_same(monkeypatch):
    store, spec = photographs(SMALL), replace(PLAIN, noise=Noise())
    table, rows = drawn(store, spec), all_rows(store)
    whole = render(store, rows, table, spec)
    monkeypatch.setattr("coview.views.multi_pass.tensor_operations.NUMBERS_AT_ONCE", 1)
    assert torch.equal(render(store, rows, table, spec), whole)


def test_noise_differs_between_views_of_one_image():
    gray = store_from_arrays([np.full((32, 32, 3), 128, np.uint8)])
    spec = replace(PLAIN, noise=Noise(sigma=(0.1, 0.1)))
    plan, row = ViewPlan(views=(spec, spec)), np.array([0])
    first, second = views_of(gray, row, plan, seed=0, epoch=0)
    other, _ = views_of(gray, row, plan, seed=0, epoch=1)
    again, _ = views_of(gray, row, plan, seed=0, epoch=0)
    assert torch.equal(first, again)
    for unlike in (second, other):
        correlation = torch.corrcoef(torch.stack([first.flatten(), unlike.flatten()]))[0, 1]
        assert abs(correlation) < 5 / first.numel() ** 0.5
    assert first.std() == pytest.approx(0.1, rel=0.05)


def test_multi_pass_render_writes_into_out():
    store, plan = photographs(SMALL), auto_augmented(32, RandAugment())
    out = torch.empty(len(store), 3, 32, 32)
    table = drawn(store, plan.views[0])
    assert render(store, all_rows(store), table, plan.views[0], out=out) is out
    assert torch.equal(out, render(store, all_rows(store), table, plan.views[0]))


@pytest.mark.parametrize("renderer", RENDERERS)
def test_multi_pass_render_refuses_the_rows_of_a_plain_view(renderer):
    store, spec = photographs(SMALL), replace(PLAIN, noise=Noise())
    with pytest.raises(InvalidValue, match="rows of another view"):
        renderer(store, all_rows(store), drawn(store, PLAIN), spec)


def test_plain_view_renders_from_wider_rows():
    store, spec = photographs(SMALL), replace(PLAIN, noise=Noise())
    rows = all_rows(store)
    wide = render(store, rows, drawn(store, spec), PLAIN)
    assert torch.equal(wide, render(store, rows, drawn(store, PLAIN), PLAIN))


@pytest.mark.parametrize("renderer", RENDERERS)
def test_multi_pass_render_of_no_rows_is_empty(renderer):
    store, none = photographs(SMALL), np.array([], dtype=np.int64)
    table = drawn(store, EVERY_STAGE)[:0]
    assert renderer(store, none, table, EVERY_STAGE).shape == (0, 3, 32, 32)


def test_both_branches_of_a_composition_look_at_the_same_place():
    store = photographs(SMALL + LARGE)
    plan = composition(32, "noise")
    branch, plain = plan.views
    views = views_of(store, all_rows(store), plan, seed=3, epoch=1)
    quiet = ViewPlan(views=(replace(branch, noise=None), plain))
    first, second = views_of(store, all_rows(store), quiet, seed=3, epoch=1)
    assert torch.equal(first, second)
    assert torch.equal(views[1], second)
    assert not torch.equal(views[0], second)
