"""An experiment as arms that are trained with several seeds, compared by claims, and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue
from coview.recipes.catalogue import is_tuned_here
from coview.studies.arms import Arm, Values
from coview.studies.cell import Cell
from coview.studies.claims import Claim, decide
from coview.studies.execution import BEGUN, Study
from coview.studies.measure import LINEAR, Measure
from coview.studies.setting import OWN, Setting
from coview.studies.tables import arm_table, curves, histories, matrix
from coview.studies.training_card import begun, recipe_names, training_card

CARD_SELECTION = "none: the last epoch of every run counts"
TEST_PART = ("a part of the data", "a part of the data; what learns from labels has seen it")
"""What is tested on without test images; at the scale tiny."""
CARD_RECIPES = (
    "some of their numbers were chosen before, on the test images of CIFAR-10 (docs/lab/0001 to "
    "0003); the studies choose nothing on test images"
)
"""Of the recipes for a CPU; those of the other scales have the papers' numbers."""
CARD_TESTS = (
    "the claims were written down before the runs; Student's t over seeds, paired, one-sided at "
    "2.5 %; a claim of several comparisons holds if each of them is shown; Holm over the claims"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Arms, what is measured of each, and the claims about them.

    ``source`` says where the paper has it, ``published`` in words which figures stand in the column
    of published ones ("ResNet-50 on ImageNet, 100 epochs").
    ``drawn``: "matrix" (rows and columns), "curve" (over ``axis``), "history" (the first measure
    while training, over epochs and over ``axis``) or "" (a table alone). ``row_mean``: the head of
    a column of a matrix with the mean of each row, where its cells are of one kind. ``data`` names
    the images where they are not those of the options, ``test`` those of the test.
    Raises InvalidValue for arms of one name, and for claims about arms that are not there.
    """

    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    source: str = ""
    measures: tuple[Measure, ...] = (LINEAR,)
    published: str = ""
    drawn: str = ""
    axis: str = ""
    row_mean: str = ""
    notes: tuple[str, ...] = ()
    data: str = ""
    test: str = ""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        measures = {"", *(measure.name for measure in self.measures)}
        for name in names:
            if names.count(name) > 1:
                raise InvalidValue(f"Two arms of a study are called {name!r}.")
        for claim in self.claims:
            for term in (term for each in claim.comparisons for term in each.terms):
                if term.arm not in names or term.measure not in measures:
                    of = f" in {term.measure!r}" if term.measure else ""
                    raise InvalidValue(
                        f"The claim {claim.text!r} is about {term.arm!r}{of}; expected arms among "
                        f"{', '.join(names)} and measures among {', '.join(sorted(measures))}."
                    )

    def study(self, name: str, question: str, setting: Setting) -> Study:
        """The runs of all arms and seeds, and how they are summarized; ``question``: one sentence.

        Seeds come first, so that what is stopped has compared all arms with some of them.
        """
        cells = {(arm.name, seed): arm.cell(seed) for seed in setting.seeds for arm in self.arms}
        return Study(
            name=name, claim=question, claims=tuple(each.text for each in self.claims),
            cells=tuple(each for cell in cells.values() for each in with_needs(cell)),
            summarize=lambda root: self.summarize(self.values(root, cells)),
            images=setting.count_images,
            card=lambda root: self.card(setting, self.values(root, cells)),
            scale="" if setting.scale == OWN else setting.scale,
        )  # fmt: skip

    def values(self, root: Path, cells: Mapping[tuple[str, int], Cell]) -> Values:
        return Values(root=root, arms=self.arms, measures=self.measures, cells=cells)

    def summarize(self, values: Values) -> dict[str, Any]:
        """Figures, tables, pictures and claims of the runs that have ended."""
        return {
            "rows": values.rows(), "source": self.source,
            "measures": [measure.name for measure in self.measures],
            "drawings": self.drawings(values),
            "tables": [arm_table(values, self.published)], "claims": decide(self.claims, values.of),
        }  # fmt: skip

    def drawings(self, values: Values) -> list[dict[str, Any]]:
        """The pictures of what has ended; see ``coview.studies.drawings``."""
        if self.drawn == "matrix":
            return [matrix(values, self.axis, self.row_mean)]
        draw = {"curve": curves, "history": histories}.get(self.drawn)
        return [] if draw is None else draw(values, self.axis)

    def card(self, setting: Setting, values: Values) -> dict[str, Any]:
        """How it was measured, for the page."""
        cells = [each for cell in values.cells.values() for each in with_needs(cell)]
        images, days = setting.amount.images, begun(cells, values.root)
        card = {
            "source": self.source,
            "scale": "" if setting.scale == OWN else ", ".join((setting.scale, *setting.changes)),
            "data": self.data or str(setting.source),
            "training images": "all" if images is None else f"{images:,}",
            "test images": self.test or str(setting.test or TEST_PART[setting.scale == "tiny"]),
            **training_card(cells),
            "seeds": ", ".join(str(seed) for seed in setting.seeds),
            "selection": CARD_SELECTION,
            "recipes": CARD_RECIPES if any(map(is_tuned_here, recipe_names(cells))) else "",
            "tests": CARD_TESTS if self.claims else "",
            "published figures": self.published,
            **{f"note {number}": note for number, note in enumerate(self.notes, start=1)},
            BEGUN: days,
        }
        return {name: text for name, text in card.items() if text}


def with_needs(cell: Cell) -> list[Cell]:
    """The cell after those that it needs."""
    return [*(each for need in cell.needs for each in with_needs(need)), cell]
