"""docs/methods.md is made from the methods and recipes, and says all of them."""

import sys
from pathlib import Path

from coview.methods import list_methods
from coview.recipes import RECIPES, detection_recipes

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import methods_page  # noqa: E402
from methods_page import by_method, page  # noqa: E402

PAGE = ROOT / "docs" / "methods.md"


def test_page_says_what_methods_and_recipes_are():
    same = PAGE.read_text(encoding="utf-8") == page()
    assert same, "docs/methods.md is not what the methods and recipes are now: run `make docs`."


def test_page_has_every_method_and_every_recipe_once():
    sections = by_method()
    assert set(list_methods()) | {"logo", "multi_crop", "finetune", "distill"} == set(sections)
    told = [line.split("`")[1] for line in page().splitlines() if line.startswith("| `")]
    assert sorted(told) == sorted(set(RECIPES) - set(detection_recipes()))


def test_method_without_a_recipe_has_its_words(monkeypatch):
    monkeypatch.setattr(methods_page, "RECIPES", {})
    text = page()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(
        list_methods()
    )
    assert "| 1 × (0 → 1)" in text
    assert "optimizer |" not in text
