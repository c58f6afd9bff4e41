"""SimCLR's studies of augmentation: their recipes, and what their claims say of figures."""

import json

import numpy as np
import pytest
import torch

from coview.data.spec import DataSpec
from coview.options import StudyOptions
from coview.studies import STUDIES, Setting, decide
from coview.studies.execution import place_of, run_study
from coview.studies.measure import CONTRASTIVE
from coview.studies.measurement import measured
from coview.studies.simclr_color import color
from coview.studies.simclr_histograms import histograms, retrieval
from coview.studies.simclr_views import (
    PUBLISHED_PAIRS,
    branches,
    invariance,
    pair,
    pair_claims,
    pairs,
)
from coview.views import OrderedViewSpec


def setting(scale="tiny", **changes):
    return Setting.of(StudyOptions(name="x", data="scenes", scale=scale, **changes))


def recipe_of(arm):
    return dict(arm.cell(0).settings)["recipe"]


def test_every_pair_has_a_run_of_its_own_in_both_orders():
    grid = pairs(setting())
    assert len(grid.arms) == 49
    assert len({arm.cell(0).key for arm in grid.arms}) == 49
    by_place = {(arm.row, arm.column): recipe_of(arm).method.views.views for arm in grid.arms}
    first, plain = by_place["crop", "color"]
    assert isinstance(first, OrderedViewSpec)
    assert first.order == ("second_crop", "jitter", "grayscale")
    assert by_place["color", "crop"][0].order == ("jitter", "grayscale", "second_crop")
    assert by_place["blur", "blur"][0].order == ("blur",)
    assert plain.share_crop_with == 0
    assert first.crop == plain.crop == first.second_crop
    assert first.crop == setting().recipe("simclr").method.views.views[0].crop
    assert {arm.published for arm in grid.arms if arm.row == "crop"} == set(PUBLISHED_PAIRS["crop"])


def test_the_published_rows_have_the_means_that_the_paper_prints():
    means = {"crop": 39.2, "cutout": 29.4, "color": 25.7, "sobel": 18.8, "noise": 15.5, "blur": 14.5,
             "rotate": 13.8}  # fmt: skip
    for name, row in PUBLISHED_PAIRS.items():
        assert np.mean(row) == pytest.approx(means[name], abs=0.06)


def test_the_claims_about_pairs_on_the_published_matrix():
    """With a little noise over seeds the paper's own figures support what it says of them."""
    names = tuple(PUBLISHED_PAIRS)
    random = np.random.default_rng(0)

    def figures(arm, measure):
        one, _, other = arm.partition(", ")
        if measure == CONTRASTIVE.name:
            return [80.0, 80.2, 79.9] if {one, other} == {"crop", "color"} else [99.1, 99.2, 98.9]
        value = PUBLISHED_PAIRS[one][names.index(other or one)]
        return (value + 0.1 * random.standard_normal(3)).tolist()

    decided = decide(pair_claims(names), figures)
    assert [claim["holds"] for claim in decided] == [True] * 4
    assert len(decided[0]["comparisons"]) == 27
    assert len(decided[3]["comparisons"]) == 7

    def worse(arm, measure):
        lifted = 60.0 if arm in (pair("sobel", "blur"), pair("blur", "sobel")) else 0.0
        return [value + lifted * (0 if measure else 1) for value in figures(arm, measure)]

    assert decide(pair_claims(names), worse)[0]["holds"] is False


def test_one_branch_and_two_differ_in_nothing_else():
    two, one = (recipe_of(arm) for arm in branches(setting()).arms)
    assert one.method.views.views[0] == two.method.views.views[0] == two.method.views.views[1]
    assert one.method.views.views[1].jitter is None
    assert one.method.views.views[1].crop == two.method.views.views[1].crop


def test_invariance_reads_each_task_and_layer(tmp_path):
    grid = invariance(setting(seeds=1))
    study = grid.study("mine", "?", setting(seeds=1))
    (cell,) = study.cells
    for view in recipe_of(grid.arms[0]).method.views.views:
        assert (view.sobel, view.noise.probability, view.rotate90.turns) == (0.5, 0.5, (0, 1, 2, 3))
    folder = cell.folder(tmp_path)
    (folder / "evaluation").mkdir(parents=True)
    rows = [
        {"subject": "trained", "metric": "accuracy", "layer": layer, "setting": {"task": task},
         "value": 0.5 + 0.01 * place + 0.1 * (layer == "h")}
        for place, task in enumerate(("color", "rotation", "noise", "sobel"))
        for layer in ("h", "z")
    ]  # fmt: skip
    for name, content in (
        ("run", {"data": {"fingerprint": "abc"}}),
        ("verdict", {"label": "learned", "sentence": "It.", "causes": [], "remedy": "", "step": 1}),
        ("evaluation/invariance", {"results": rows, "headline": {}}),
        ("evaluation/linear", {"results": [{**rows[0], "setting": {}}], "headline": {}}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (row,) = study.summarize(tmp_path)["rows"]
    assert row["rotation, h"] == pytest.approx(61.0)
    assert row["rotation, z"] == pytest.approx(51.0)
    assert row["sobel, z"] == pytest.approx(53.0)


def test_color_changes_the_jitter_alone_and_the_learned_policy_replaces_it():
    grid = color(setting())
    assert len(grid.arms) == 10
    views = {arm.name: recipe_of(arm).method.views.views for arm in grid.arms}
    for method in ("SimCLR", "supervised"):
        strengths = [
            views[f"{method}, {each}"][0].jitter.brightness for each in ("1/8", "1/2", "1")
        ]
        assert strengths == pytest.approx([0.1, 0.4, 0.8])
        learned = views[f"{method}, AutoAugment"][0]
        assert (learned.augment.policy, learned.jitter, learned.grayscale) == ("cifar10", None, 0)
        assert f"{method}, 1 and blur" not in views
    assert all(len(set(each)) == 1 for each in views.values())


def test_blur_is_a_column_of_its_own_above_32_px():
    grid = color(setting("paper"))
    arms = {arm.name: arm for arm in grid.arms}
    assert len(arms) == 12
    assert recipe_of(arms["SimCLR, 1 and blur"]).method.views.views[0].blur.probability == 0.5
    assert (arms["SimCLR, 1 and blur"].published, arms["SimCLR, AutoAugment"].published) == (
        64.5, 61.1,
    )  # fmt: skip
    gains = grid.claims[0].comparisons[0]
    assert gains.terms[-1].arm == "SimCLR, 1 and blur"


def test_histograms_count_every_value_once():
    views = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    views[0] = 1.0
    expected = [np.histogram(view.numpy(), bins=64, range=(0, 1))[0] / 192 for view in views]
    assert np.allclose(histograms(views).numpy(), expected, atol=1e-6)


def test_retrieval_equals_a_plain_loop():
    random = torch.Generator().manual_seed(1)
    known = torch.rand(20, 5, generator=random)
    asked = known + 0.3 * torch.rand(20, 5, generator=random)
    hits = 0
    for row in range(20):
        distances = [(asked[row] - other).abs().sum() for other in known]
        hits += int(min(range(20), key=distances.__getitem__) == row)
    assert 0 < hits < 20
    assert retrieval(asked, known) == pytest.approx(5 * hits)


def test_histograms_are_measured_once_and_drawn_again(tmp_path, monkeypatch):
    options = StudyOptions(name="simclr/histograms", data="scenes", limit=60, seeds=3)
    study = STUDIES["simclr/histograms"].study(options)
    first = run_study(study, tmp_path, {})
    place = place_of("simclr/histograms", tmp_path)
    assert first["ended"]
    assert {claim["holds"] for claim in first["claims"]} == {True}
    assert len(first["rows"]) == 6
    found = {row["arm"]: row["found"] for row in first["rows"] if row["seed"] == 0}
    assert found["crops"] > 2 * found["crops and color"] > 2 * 100 / 60
    assert len(first["drawings"]) == 4
    assert len({tuple(each["reach"]) for each in first["drawings"]}) == 1
    for line in first["drawings"][1]["lines"]:
        assert sum(y for _, y in line["points"]) == pytest.approx(100, abs=0.01)
    page = (place / "report.html").read_text()
    assert "nothing is trained" in page
    store = DataSpec.of("scenes", limit=60, size=32).open()
    assert measured(place)["fingerprint"] == store.fingerprint
    monkeypatch.setattr("coview.studies.simclr_histograms.measure", None)
    again = run_study(STUDIES["simclr/histograms"].study(options), tmp_path, {})
    assert again["rows"] == first["rows"]
    other = STUDIES["simclr/histograms"].study(
        StudyOptions(name="simclr/histograms", data="scenes", limit=61, seeds=3)
    )
    with pytest.raises(TypeError):
        run_study(other, tmp_path, {})
