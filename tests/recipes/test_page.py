"""docs/methods.md is made from the methods and recipes, and says all of them."""

from pathlib import Path

from coview.methods import list_methods
from coview.recipes import RECIPES
from coview.recipes.page import by_method, page

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_page_says_what_methods_and_recipes_are():
    same = PAGE.read_text(encoding="utf-8") == page()
    assert same, "docs/methods.md is not what the methods and recipes are now: run `make docs`."


def test_page_has_every_method_and_every_recipe_once():
    sections = by_method()
    assert set(list_methods()) | {"logo", "multi_crop"} == set(sections)
    told = [line.split("`")[1] for line in page().splitlines() if line.startswith("| `")]
    assert sorted(told) == sorted(RECIPES)


def test_method_without_a_recipe_has_its_words(monkeypatch):
    monkeypatch.setattr("coview.recipes.page.RECIPES", {})
    text = page()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(list_methods())
    assert "| 1 × (0 → 1)" in text
    assert "optimizer |" not in text
