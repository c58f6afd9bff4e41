import re

import numpy as np
import pytest
import torch

from coview.core.errors import InvalidValue, UnknownName
from coview.embeddings.selection import STRATEGIES, nearest_cosines, select_rows

NAMES = sorted(STRATEGIES)


def cloud(count=120, dim=6, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def unit_of(rows):
    return torch.nn.functional.normalize(rows.double(), dim=1).numpy()


def rows_of(*args, **settings):
    return [choice.row for choice in select_rows(*args, **settings)]


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("labeled", [None, np.array([3, 50, 51])])
def test_choices_are_distinct_unlabeled_repeatable_and_reasoned(strategy, labeled):
    rows = cloud()
    choices = select_rows(rows, 30, strategy, labeled=labeled)
    chosen = [choice.row for choice in choices]
    assert len(set(chosen)) == 30
    assert not set(chosen) & {3, 50, 51} or labeled is None
    assert chosen == rows_of(rows, 30, strategy, labeled=labeled)
    assert all(choice.reason for choice in choices)


@pytest.mark.parametrize("strategy", NAMES)
def test_all_images_can_be_chosen(strategy):
    rows = torch.cat([cloud(20), torch.zeros(2, 6), cloud(20)])  # copies, and vectors of length 0
    labeled = np.array([0, 20, 41])
    assert sorted(rows_of(rows, 39, strategy, labeled=labeled)) == sorted(
        set(range(42)) - {0, 20, 41}
    )


@pytest.mark.parametrize("strategy", NAMES)
def test_more_images_than_there_are_is_one_sentence(strategy):
    with pytest.raises(InvalidValue, match="expected 1 to 9"):
        select_rows(cloud(12), 10, strategy, labeled=np.array([1, 2, 2, 5]))
    with pytest.raises(InvalidValue, match="12 images: expected 1 to 12"):
        select_rows(cloud(12), 0, strategy)


def test_an_unknown_strategy_is_named():
    with pytest.raises(UnknownName, match="Did you mean 'coverage'"):
        select_rows(cloud(), 2, "coverag")


@pytest.mark.parametrize("labeled", [[], [7, 90]])
def test_k_center_is_farthest_first(labeled):
    rows = cloud()
    unit = unit_of(rows)
    chosen = list(labeled)
    if not chosen:
        chosen = [int((unit @ unit.mean(0)).argmax())]
    by_hand = [] if labeled else list(chosen)
    while len(by_hand) < 12:
        nearest = (unit @ unit[chosen].T).max(1)
        nearest[chosen] = np.inf
        by_hand.append(int(nearest.argmin()))
        chosen.append(by_hand[-1])
    assert rows_of(rows, 12, "k-center", labeled=np.array(labeled, np.int64)) == by_hand


@pytest.mark.parametrize("labeled", [[], [7, 90]])
def test_coverage_is_the_plain_greedy_of_facility_location(labeled, monkeypatch):
    monkeypatch.setattr("coview.embeddings.selection.GAIN_CHUNK", 5)
    rows = cloud()
    unit = unit_of(rows)
    cosines = unit @ unit.T
    chosen, by_hand = list(labeled), []
    covered = cosines[:, chosen].max(1) if chosen else np.full(len(unit), -1.0)
    while len(by_hand) < 12:
        gains = np.maximum(cosines - covered[:, None], 0).sum(0)
        gains[chosen] = -np.inf
        by_hand.append(int(gains.argmax()))
        chosen.append(by_hand[-1])
        covered = np.maximum(covered, cosines[:, by_hand[-1]])
    assert rows_of(rows, 12, "coverage", labeled=np.array(labeled, np.int64)) == by_hand


@pytest.mark.parametrize("labeled", [[], [7, 90]])
def test_the_shares_of_coverage_are_those_at_its_end(labeled):
    rows = cloud()
    choices = select_rows(rows, 12, "coverage", labeled=np.array(labeled, np.int64))
    unit, chosen = unit_of(rows), [*labeled, *(choice.row for choice in choices)]
    nearest = (unit @ unit[chosen].T).argmax(1)
    said = [float(re.search(r"stands for ([\d.]+) % of the images", c.reason)[1]) for c in choices]
    shares = np.bincount(nearest, minlength=len(chosen))[len(labeled) :] / len(rows)
    assert said == pytest.approx(100 * shares, abs=0.051)
    assert labeled or sum(said) == pytest.approx(100, abs=0.6)
    assert choices[0].reason.startswith("the most central") == (not labeled)
    distances = [choice.mean_distance for choice in choices]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == pytest.approx(1 - (unit @ unit[chosen].T).max(1).mean())


def test_coverage_of_a_drawn_part_is_nearly_that_of_all(monkeypatch):
    rows = cloud(600)
    unit = unit_of(rows)

    def distance(chosen):
        return 1 - (unit @ unit[chosen].T).max(1).mean()

    exact = distance(rows_of(rows, 20, "coverage"))
    monkeypatch.setattr("coview.embeddings.selection.DEMAND", 200)
    drawn = distance(rows_of(rows, 20, "coverage"))
    assert exact < drawn < 1.1 * exact


@pytest.mark.parametrize("strategy", ["coverage", "k-center"])
def test_a_longer_selection_begins_with_a_shorter_one(strategy):
    rows = cloud()
    assert rows_of(rows, 25, strategy)[:9] == rows_of(rows, 9, strategy)


@pytest.mark.parametrize("strategy", ["coverage", "typical", "k-center"])
def test_every_group_gets_one_and_labeled_groups_come_last(strategy):
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(90) % 6
    rows = torch.eye(6, 12)[labels] * 3 + 0.1 * torch.randn(90, 12, generator=generator)
    assert sorted(labels[rows_of(rows, 6, strategy)]) == [0, 1, 2, 3, 4, 5]
    left = rows_of(rows, 4, strategy, labeled=np.array([0, 1]))
    assert sorted(labels[left]) == [2, 3, 4, 5]


def test_typical_takes_the_densest_row_of_the_largest_cluster_first():
    generator = torch.Generator().manual_seed(0)
    rows = torch.eye(2, 8).repeat_interleave(torch.tensor([40, 15]), 0)
    rows = rows + 0.1 * torch.randn(55, 8, generator=generator)
    unit = unit_of(rows)[:40]
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    densest = int(np.sort(cosines, axis=1)[:, -20:].mean(1).argmax())
    choices = select_rows(rows, 2, "typical")
    assert choices[0].row == densest
    assert choices[1].row >= 40
    assert "40 images" in choices[0].reason


def test_typical_leaves_clusters_of_a_few_images_to_the_end():
    rows = torch.cat([torch.eye(3, 8).repeat(10, 1), -torch.eye(1, 8)])
    assert rows_of(rows, 31, "typical")[-1] == 30


def test_diverse_takes_from_each_cluster_by_its_size():
    generator = torch.Generator().manual_seed(0)
    rows = torch.eye(3, 8).repeat_interleave(torch.tensor([60, 30, 10]), 0)
    rows = rows + 0.05 * torch.randn(100, 8, generator=generator)
    groups = np.repeat([0, 1, 2], [60, 30, 10])
    counts = np.bincount(groups[rows_of(rows, 10, "diverse")], minlength=3)
    assert counts.tolist() == [6, 3, 1]


def test_nearest_cosines_are_those_of_all_pairs():
    unit = torch.nn.functional.normalize(cloud(40), dim=1)
    assert torch.allclose(nearest_cosines(unit, unit[:19]), (unit @ unit[:19].T).amax(1))
    assert (nearest_cosines(unit, unit[:0]) == -1).all()


def test_typical_passes_over_a_cluster_that_is_all_labeled():
    rows = torch.cat([torch.tensor([[1.0, 0.0]]).expand(3, 2), torch.tensor([[0.0, 1.0]])])
    rows = torch.cat([rows, cloud(2, 2) * 0.01 + torch.tensor([-1.0, 0.0])])
    assert sorted(rows_of(rows, 3, "typical", labeled=np.array([0, 1, 2]))) == [3, 4, 5]
