"""SimCLR's studies of its training: batch, epochs and the rule for the learning rate."""

from pathlib import Path

import pytest

from coview.options import StudyOptions
from coview.recipes import recipe
from coview.studies import Setting
from coview.studies.simclr_objectives import temperature
from coview.studies.simclr_training import batch_epochs
from coview.studies.simclr_views import invariance
from coview.studies.simclrv2_parts import distill


def test_batches_differ_in_the_rate_of_their_rule_from_that_of_the_recipe():
    setting = Setting.of(StudyOptions(name="x", data="scenes", scale="cpu"))
    grid = batch_epochs(setting)
    made = {arm.name: dict(arm.cell(0).settings)["recipe"] for arm in grid.arms}
    base = recipe("simclr-cpu")
    assert base.batch_size == max(each.batch_size for each in made.values()) == 128
    for name, factor in (("linear", 1 / 16), ("sqrt", 1 / 4)):
        each = made[f"batch 8, 20 epochs, {name}"]
        assert each.optimizer.learning_rate == pytest.approx(factor * base.optimizer.learning_rate)
        assert (each.batch_size, each.epochs, each.encoder) == (8, 20, base.encoder)
    # At the recipe's own batch both rules give one run.
    assert made["batch 128, 20 epochs, linear"] == made["batch 128, 20 epochs, sqrt"]
    assert len({arm.cell(0).key for arm in grid.arms}) == 11


def test_temperatures_without_normalization_follow_the_width_of_z():
    """The paper's 10 and 100 are of rows with a mean squared length of 128."""
    setting = Setting.of(StudyOptions(name="x", data="scenes", scale="cpu"))
    grid = temperature(setting)
    made = {arm.name: dict(arm.cell(0).settings)["recipe"] for arm in grid.arms}
    accuracy, cosine, dot = grid.measures
    found = {
        arm.name: tuple(arm.published_of(each, first=not place)
                        for place, each in enumerate((accuracy, cosine, dot)))
        for arm in grid.arms
    }  # fmt: skip
    assert found == {
        "0.05": (59.7, 90.5, None), "0.1": (64.4, 87.8, None), "0.2": (None, None, None),
        "0.5": (60.7, 68.2, None), "1": (58.0, 59.1, None),
        "5, not normalized": (57.2, None, 91.7), "50, not normalized": (57.0, None, 92.1),
    }  # fmt: skip
    assert made["5, not normalized"].method.head.output == 64
    assert not made["5, not normalized"].method.objective.normalize
    assert made["1"].method.objective.normalize
    found, worse, *_ = grid.claims[1].comparisons
    assert [(term.arm, term.measure) for term in found.terms] == [
        ("5, not normalized", "contrastive, dot product"), ("0.1", "contrastive"),
    ]  # fmt: skip
    assert [term.arm for term in worse.terms] == ["0.1", "5, not normalized"]


def test_a_teacher_and_its_students_have_the_same_labels():
    setting = Setting.of(StudyOptions(name="x", data="scenes", scale="cpu"))
    teacher, *students = (dict(arm.cell(0).settings) for arm in distill(setting).arms)
    assert {each["labels"] for each in (teacher, *students)} == {"10%"}
    assert teacher["start"].protocols == ()  # nothing is read of the pretraining
    assert all(each["teacher"].key == students[0]["teacher"].key for each in students)


def test_a_large_batch_that_is_worse_has_no_advantage_that_shrinks():
    grid = batch_epochs(Setting.of(StudyOptions(name="x", data="scenes", scale="cpu")))
    shrinks = grid.claims[1].comparisons
    assert [each.terms[0].arm for each in shrinks] == ["batch 128, 20 epochs, linear"] * 2
    assert shrinks[0].terms[1].arm == "batch 8, 20 epochs, linear"


@pytest.mark.parametrize(("scale", "told"), [("cpu", True), ("gpu", False), ("paper", False)])
def test_the_card_tells_on_which_images_the_recipes_were_chosen(scale, told):
    setting = Setting.of(StudyOptions(name="x", data="scenes", scale=scale))
    grid = batch_epochs(setting)
    assert ("recipes" in grid.card(setting, grid.values(Path("none"), cells_of(grid)))) == told


def test_published_figures_stand_beside_the_measure_that_they_are_of(tmp_path):
    setting = Setting.of(StudyOptions(name="x", data="scenes", scale="cpu"))
    grid = temperature(setting)
    (table,) = grid.summarize(grid.values(tmp_path, cells_of(grid)))["tables"]
    assert table["columns"] == [
        "arm", "linear", "linear, published", "contrastive", "contrastive, published",
        "contrastive, dot product", "contrastive, dot product, published",
    ]  # fmt: skip
    assert table["rows"][0][2::2] == ["59.7", "90.5", "\N{EN DASH}"]
    grid = invariance(setting)
    (table,) = grid.summarize(grid.values(tmp_path, cells_of(grid)))["tables"]
    assert table["columns"] == ["figure", "SimCLR", "published"]  # one arm is a column
    assert table["rows"][4] == ["rotation, h", "\N{EN DASH}", "67.6"]


def cells_of(grid):
    return {(arm.name, 0): arm.cell(0) for arm in grid.arms}
