"""SimCLR's studies of its training: batch, epochs and the rule for the learning rate."""

import pytest

from coview.options import StudyOptions
from coview.recipes import recipe
from coview.studies import Setting
from coview.studies.simclr_training import batch_epochs


def test_batches_differ_in_the_rate_of_their_rule_from_that_of_the_recipe():
    setting = Setting.of(StudyOptions(name="x", data="scenes", scale="cpu"))
    grid = batch_epochs(setting)
    made = {arm.name: dict(arm.cell(0).settings)["recipe"] for arm in grid.arms}
    base = recipe("simclr-cpu")
    assert base.batch_size == max(each.batch_size for each in made.values()) == 128
    for name, factor in (("linear", 1 / 16), ("sqrt", 1 / 4)):
        each = made[f"batch 8, 10 epochs, {name}"]
        assert each.optimizer.learning_rate == pytest.approx(factor * base.optimizer.learning_rate)
        assert (each.batch_size, each.epochs, each.encoder) == (8, 10, base.encoder)
    # At the recipe's own batch both rules give one run.
    assert made["batch 128, 40 epochs, linear"] == made["batch 128, 40 epochs, sqrt"]
    assert len({arm.cell(0).key for arm in grid.arms}) == 15


def test_a_large_batch_that_is_worse_has_no_advantage_that_shrinks():
    grid = batch_epochs(Setting.of(StudyOptions(name="x", data="scenes", scale="cpu")))
    shrinks = grid.claims[1].comparisons
    assert [each.terms[0].arm for each in shrinks] == ["batch 128, 10 epochs, linear"] * 2
    assert shrinks[0].terms[1].arm == "batch 8, 10 epochs, linear"


@pytest.mark.parametrize(("scale", "told"), [("cpu", True), ("gpu", False), ("paper", False)])
def test_the_card_tells_on_which_images_the_recipes_were_chosen(scale, told):
    setting = Setting.of(StudyOptions(name="x", data="scenes", scale=scale))
    assert ("recipes" in batch_epochs(setting).card(setting)) == told
