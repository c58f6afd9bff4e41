"""Recipes from files and from runs: exactly those that were written, or one sentence."""

import json

import pytest

from coview.cli import main
from coview.core.errors import CoviewError
from coview.core.values import encode, fingerprint
from coview.recipes import METHODS, RECIPES, find_recipe, list_recipes, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_printed_recipe_is_read_as_the_same(name, tmp_path, capsys):
    assert main(["recipes", name, "--json"]) == 0
    (tmp_path / "mine.json").write_text(capsys.readouterr().out)
    found = find_recipe(tmp_path / "mine.json")
    assert found == recipe(name)
    assert fingerprint(found) == fingerprint(recipe(name))


def test_the_recipe_of_a_run_is_found_in_its_folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"recipe": encode(recipe("moco-cpu"))}))
    assert find_recipe(str(tmp_path)) == recipe("moco-cpu")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bach_size": 3}, "There is no field of Recipe 'bach_size'. Did you mean 'batch_size'?"),
        (
            {"batch_size": "64"},
            "The field 'batch_size' of Recipe is \"64\"; expected a whole number",
        ),
        ({"batch_size": 64.0}, "expected a whole number"),
        ({"epochs": True}, "expected a number"),
        ({"epochs": -1}, "`epochs` is -1"),
        ({"schedule": {"type": "OptimizerSpec", "name": "sgd"}}, "has no field 'learning_rate'"),
        ({"encoder": None}, "expected a EncoderSpec"),
        ({"encoder": {"type": "EncoderSpek"}}, "is 'EncoderSpec' meant?"),
        ({"type": "HeadSpec", "layers": 2}, "no field of HeadSpec"),
    ],
)
def test_a_wrong_field_of_a_file_is_one_sentence(change, sentence, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**encode(recipe("simclr-cpu")), **change}))
    with pytest.raises(CoviewError) as caught:
        find_recipe(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_field_is_named(tmp_path):
    content = encode(recipe("simclr-cpu"))
    del content["encoder"]
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(CoviewError, match="The Recipe has no field 'encoder'"):
        find_recipe(tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"type": "HeadSpec"}', "holds no recipe"),
        ("[1]", "one JSON object"),
        ("{", "not readable JSON"),
    ],
)
def test_a_file_without_a_recipe_is_one_sentence(content, sentence, tmp_path):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(CoviewError, match=sentence):
        find_recipe(tmp_path / "mine.json")


def test_a_file_that_is_not_there_is_one_sentence():
    with pytest.raises(CoviewError, match="there is no such file or run"):
        find_recipe("mine.json")
    with pytest.raises(CoviewError, match="expected a name, a file, a run or a Recipe"):
        find_recipe(3)


def test_the_list_has_every_recipe_once_by_method():
    groups = list_recipes()
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(RECIPES)
    assert next(iter(groups)) == "simclr"
    assert set(groups) == {*METHODS, "finetune", "distill", "detect"}
    assert all(group[0].endswith("-cpu") for group in groups.values())
