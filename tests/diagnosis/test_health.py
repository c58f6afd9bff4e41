"""Every figure against a slow float64 loop that is written from its definition."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from coview.core.errors import InvalidValue
from coview.core.figures import FIGURES, REFERENCE_FIGURES
from coview.core.images import store_from_arrays
from coview.diagnosis.health import (
    HealthFigures,
    mean_negative_similarity,
    mean_positive_similarity,
    measure,
    piece_view,
    reference_losses,
)
from coview.diagnosis.shortcuts import (
    color_instance_accuracy,
    identical_share,
    thumbnail_instance_accuracy,
)
from coview.embeddings.geometry import (
    alignment,
    feature_std,
    instance_accuracy,
    rank_me,
    uniformity,
)
from coview.views import ViewPlan, eval_view, views_of
from short_of_memory import room_for

N, WIDTH, TEMPERATURE = 37, 9, 0.5


def rows(seed: int, offset: float = 0.0) -> torch.Tensor:
    return torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(seed)) + offset


def unit_lists(matrix: torch.Tensor) -> list[list[float]]:
    lists = [[float(x) for x in row] for row in matrix]
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in lists]


def dot(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def nt_xent(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    both, n = normalize(torch.cat([first, second]), dim=1), len(first)
    logits = (both @ both.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return cross_entropy(logits, (torch.arange(2 * n) + n) % (2 * n))


def test_feature_std_is_the_length_that_the_mean_lacks() -> None:
    matrix = rows(0, offset=0.7)
    unit = unit_lists(matrix)
    mean = [sum(column) / N for column in zip(*unit, strict=True)]
    assert feature_std(matrix) == pytest.approx(math.sqrt(1 - dot(mean, mean)), abs=1e-9)


def test_feature_std_is_root_width_times_the_rms_of_the_standard_deviations() -> None:
    matrix = rows(1, offset=0.3)
    deviations = normalize(matrix.double(), dim=1).std(dim=0, correction=0)
    by_deviations = math.sqrt(WIDTH) * float(deviations.square().mean().sqrt())
    assert feature_std(matrix) == pytest.approx(by_deviations, abs=1e-12)


def test_feature_std_is_zero_for_one_direction_and_one_for_opposite_ones() -> None:
    direction = torch.ones(4, WIDTH) * torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert feature_std(direction) == pytest.approx(0, abs=1e-7)
    assert feature_std(torch.cat([direction, -direction])) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", [(37, 9), (9, 37)])
def test_rank_me_matches_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).normal(size=shape) + 0.5
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = [value / sum(values) + 1e-7 for value in values]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert rank_me(torch.from_numpy(matrix).float()) == pytest.approx(expected, rel=1e-5)


def test_rank_me_of_a_known_spectrum() -> None:
    basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64))[0]
    left = torch.linalg.qr(torch.randn(N, WIDTH, dtype=torch.float64))[0]
    for count in (1, 3, WIDTH):
        spectrum = torch.zeros(WIDTH, dtype=torch.float64)
        spectrum[:count] = 2.5
        assert rank_me((left * spectrum) @ basis) == pytest.approx(count, rel=1e-4)


def test_alignment_matches_a_loop() -> None:
    one, two = rows(2), rows(3)
    pairs = zip(unit_lists(one), unit_lists(two), strict=True)
    expected = sum(sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for u, v in pairs) / N
    assert alignment(one, two) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("chunk", [1024, 10])
def test_uniformity_matches_a_loop_over_pairs(chunk: int) -> None:
    unit = unit_lists(rows(4))
    kernel = [
        math.exp(-2 * sum((a - b) ** 2 for a, b in zip(unit[i], unit[j], strict=True)))
        for i in range(N)
        for j in range(i)
    ]
    expected = math.log(sum(kernel) / len(kernel))
    assert uniformity(rows(4), chunk=chunk) == pytest.approx(expected, abs=1e-6)


def test_cosines_match_loops() -> None:
    one, two = unit_lists(rows(5, 0.2)), unit_lists(rows(6, 0.2))
    positive = sum(dot(one[i], two[i]) for i in range(N)) / N
    negative = [dot(one[i], two[j]) for i in range(N) for j in range(N) if i != j]
    assert mean_positive_similarity(rows(5, 0.2), rows(6, 0.2)) == pytest.approx(positive, abs=1e-7)
    expected = sum(negative) / len(negative)
    assert mean_negative_similarity(rows(5, 0.2), rows(6, 0.2)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("chunk", [1024, 10])
def test_instance_accuracy_counts_the_queries_that_find_their_key(chunk: int) -> None:
    queries = rows(7)
    keys = queries + 0.8 * rows(8)
    one, two = unit_lists(queries), unit_lists(keys)
    found = [max(range(N), key=lambda j, i=i: dot(one[i], two[j])) == i for i in range(N)]
    assert 3 < sum(found) < N
    assert instance_accuracy(queries, keys, chunk=chunk) == pytest.approx(sum(found) / N, abs=1e-12)


def test_instance_accuracy_of_identical_rows_is_chance() -> None:
    same = torch.ones(N, WIDTH) * 0.3
    noise = 1e-8 * rows(9)
    assert instance_accuracy(same, same) == pytest.approx(1 / N)
    assert instance_accuracy(same + noise, same) == pytest.approx(1 / N)


def test_instance_accuracy_of_two_directions_shares_the_hit_within_each() -> None:
    signs = torch.tensor([1.0] * 5 + [-1.0] * 3)[:, None] * torch.ones(8, WIDTH)
    assert instance_accuracy(signs, signs) == pytest.approx((5 / 5 + 3 / 3) / 8)


def test_figures_of_embeddings_that_are_not_finite_are_nan() -> None:
    broken = rows(10)
    broken[0, 0] = math.nan
    values = (
        feature_std(broken),
        rank_me(broken),
        instance_accuracy(broken, rows(0)),
        uniformity(broken),
    )
    assert all(math.isnan(value) for value in values)


def test_reference_losses_of_nt_xent_follow_its_closed_forms() -> None:
    n, width = 256, 128
    chance, random_loss, lower_bound = reference_losses(nt_xent, torch.arange(n), width)
    lift = 1 / (2 * width * TEMPERATURE**2)
    assert chance == pytest.approx(math.log(2 * n - 1), abs=1e-5)
    assert random_loss == pytest.approx(chance + lift, abs=0.01)
    aligned = math.log(1 + (2 * n - 2) * math.exp(-1 / TEMPERATURE + lift))
    assert lower_bound == pytest.approx(aligned, abs=0.01)


def test_reference_losses_align_the_members_of_a_group() -> None:
    seen: list[torch.Tensor] = []

    def objective(first: torch.Tensor, second: torch.Tensor) -> float:
        seen.append(first)
        return 0.0

    reference_losses(objective, torch.tensor([7, 4, 7]), WIDTH)
    aligned = seen[-1]
    assert torch.equal(aligned[0], aligned[2])
    assert not torch.equal(aligned[0], aligned[1])
    reference_losses(objective, torch.tensor([-1, 4, -1]), WIDTH)
    assert not torch.equal(seen[-1][0], seen[-1][2]), "images without a label are not alike"


def sample(n: int = 24) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    images = torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(11))
    return images, (images.flip(-1), images.flip(-2) * 0.9)


def embed(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    h = images.flatten(1)[:, :20].relu()
    return h, h[:, :10] - 0.4


def test_measure_gives_each_figure_of_the_right_embeddings() -> None:
    images, views = sample()
    found = measure(embed, images, views, nt_xent, pieces=views)
    (h, z), (h1, z1), (h2, z2) = embed(images), embed(views[0]), embed(views[1])
    assert (found.images, found.width_h, found.width_z) == (24, 20, 10)
    assert found.loss == pytest.approx(float(nt_xent(z1, z2)))
    assert (found.feature_std_z, found.feature_std_h) == (feature_std(z), feature_std(h))
    assert found.rank_h == rank_me(normalize(h, dim=1))
    assert found.rank_z == rank_me(normalize(z, dim=1))
    assert found.alignment == alignment(z1, z2)
    assert found.uniformity == uniformity(z)
    assert (found.instance_accuracy_z, found.instance_accuracy_h) == (
        instance_accuracy(z1, z2),
        instance_accuracy(h1, h2),
    )
    assert found.mean_positive_similarity == mean_positive_similarity(z1, z2)
    assert found.mean_negative_similarity == mean_negative_similarity(z1, z2)
    assert found.color_instance_accuracy == color_instance_accuracy(*views)
    assert found.thumbnail_instance_accuracy == thumbnail_instance_accuracy(*views)


def test_a_loss_whose_bounds_are_the_same_has_no_position() -> None:
    """As SupCon's on held-out images of which none has a label."""
    images, views = sample()
    known = measure(embed, images, views, nt_xent, pieces=views)
    assert math.isfinite(known.position)
    flat = replace(known, lower_bound=known.chance_level - 1e-6)
    assert math.isnan(flat.position)


def test_measure_does_not_depend_on_the_chunk_and_keeps_to_it() -> None:
    images, views = sample()
    sizes: list[int] = []

    def counted(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(batch))
        return embed(batch)

    assert measure(counted, images, views, nt_xent, pieces=views, chunk=7) == measure(
        embed, images, views, nt_xent, pieces=views
    )
    assert max(sizes) == 7


def test_measure_takes_smaller_chunks_where_memory_is_short() -> None:
    images, views = sample()

    class Network(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return embed(batch)

    network = Network()
    with room_for(9, network) as given:
        figures = measure(network, images, views, nt_xent, pieces=views)
    assert figures == measure(embed, images, views, nt_xent, pieces=views)
    assert given[0] == len(images)
    assert max(given[given.index(max(n for n in given if n <= 9)) :]) <= 9


def test_measure_leaves_no_gradient_and_no_random_state() -> None:
    images, views = sample()
    weight = torch.ones(10, requires_grad=True)
    state = torch.get_rng_state()
    measure(lambda x: (embed(x)[0], embed(x)[1] * weight), images, views, nt_xent, pieces=views)
    assert weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_measure_refuses_samples_that_do_not_fit_together() -> None:
    images, views = sample()
    with pytest.raises(InvalidValue, match="24 images and 24 and 20 views"):
        measure(embed, images, (views[0], views[1][:20]), nt_xent, pieces=views)
    with pytest.raises(InvalidValue, match="at least 2"):
        measure(embed, images[:1], (views[0][:1], views[1][:1]), nt_xent, pieces=views)


def test_position_is_zero_at_chance_and_one_at_the_floor() -> None:
    images, views = sample()
    found = measure(embed, images, views, nt_xent, pieces=views)
    assert replace(found, loss=found.chance_level).position == 0
    assert replace(found, loss=found.lower_bound).position == 1
    assert math.isnan(replace(found, lower_bound=found.chance_level).position)


def test_separation_is_zero_at_chance_and_one_for_equal_views() -> None:
    images, views = sample()
    found = measure(embed, images, views, nt_xent, pieces=views)
    alike = replace(found, mean_positive_similarity=0.4, mean_negative_similarity=0.4)
    assert alike.separation == 0
    assert replace(alike, mean_positive_similarity=1.0).separation == 1
    assert replace(alike, mean_positive_similarity=0.7).separation == pytest.approx(0.5)
    same = replace(alike, mean_positive_similarity=1.0, mean_negative_similarity=1.0)
    assert same.separation == 0


def test_pieces_are_gray_and_compared_by_features_h() -> None:
    store = store_from_arrays(np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8))
    view = piece_view(eval_view(12))
    rows = np.arange(24)
    one, two = views_of(store, rows, ViewPlan(views=(view, view)), seed=0, epoch=0)
    assert torch.allclose(one[:, 0], one[:, 2], atol=1e-5)
    images, views = sample()
    found = measure(embed, images, views, nt_xent, pieces=(one, two))
    (h1, _), (h2, _) = embed(one), embed(two)
    assert found.piece_accuracy_h == instance_accuracy(h1, h2)
    assert found.piece_accuracy_pixels == thumbnail_instance_accuracy(one, two)
    assert found.piece_accuracy_levels == color_instance_accuracy(one, two)


def test_health_figures_survive_json() -> None:
    images, views = sample()
    found = measure(embed, images, views, nt_xent, pieces=views)
    again = HealthFigures.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found
    lost = HealthFigures.from_json(replace(found, feature_std_z=math.nan, loss=math.inf).to_json())
    assert math.isnan(lost.feature_std_z)
    assert math.isnan(lost.loss)
    assert not lost.finite
    assert found.finite


def test_health_figures_name_what_is_missing() -> None:
    with pytest.raises(InvalidValue, match="instance_accuracy_h"):
        HealthFigures.from_json({"loss": 1.0})


def test_identical_share_counts_equal_views() -> None:
    images, _ = sample()
    changed = images.clone()
    changed[:6, 0, 0, 0] += 0.1
    assert identical_share(images, changed) == 18 / 24
    assert identical_share(images, images[..., :8]) == 0


def test_color_instance_accuracy_finds_colors_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(12)
    tints = torch.rand(16, 3, 1, 1, generator=generator)
    levels = torch.rand(16, 1, 16, 16, generator=generator)
    flat = torch.rand(16, 3, 16, 16, generator=generator)
    order = torch.randperm(256, generator=generator)
    shuffled = flat.flatten(2)[..., order].view_as(flat)
    assert color_instance_accuracy(flat, shuffled) == 1
    assert (
        color_instance_accuracy(tints.expand(16, 3, 8, 8), tints.roll(1, 0).expand(16, 3, 8, 8))
        < 0.2
    )
    alike = levels.expand(16, 3, 16, 16).mean(dim=0, keepdim=True).expand(16, 3, 16, 16)
    assert color_instance_accuracy(alike, alike) == pytest.approx(1 / 16)


def test_thumbnail_instance_accuracy_finds_layout_whatever_the_brightness() -> None:
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(13))
    assert thumbnail_instance_accuracy(images, 0.5 * images + 0.2) == 1
    assert thumbnail_instance_accuracy(images, images.roll(1, 0)) == 0


def test_catalogue_explains_every_figure_once() -> None:
    names = {field.name for field in fields(HealthFigures)}
    assert FIGURES.keys() | REFERENCE_FIGURES.keys() == names
    assert not FIGURES.keys() & REFERENCE_FIGURES.keys()
