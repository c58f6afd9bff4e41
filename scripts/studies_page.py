"""Every study with its question and claims: ``make docs`` writes docs/studies.md.

python scripts/studies_page.py docs      writes studies.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from coview.options import StudyOptions
from coview.studies import STUDIES

INTRODUCTION = """\
# Studies and their claims

Made by `make docs` from the studies themselves; a test compares. [A paper's experiment](papers.md)
says how they are run and how a claim is decided. The claims stand here before there are runs: they
are part of the study."""


def page() -> str:
    """The whole page, ending in a line break."""
    parts = [INTRODUCTION]
    for name, experiment in STUDIES.items():
        given = {need: ("scenes:test",) for need in experiment.needs}
        study = experiment.study(StudyOptions(name=name, data="scenes", scale="cpu", **given))
        runs = len({cell.key for cell in study.cells})
        cells = [cell for cell in study.cells if cell.verb != "detect"]  # has images of its own
        limits = {dict(cell.settings).get("limit") for cell in cells}
        images = " or ".join(sorted("all" if each is None else f"{each:,}" for each in limits))
        lines = [f"## {name}", "", experiment.question, ""]
        lines += [f"- {text}" for text in study.claims]
        needs = "".join(f" It needs `--{need}`." for need in experiment.needs)
        count = f"{runs} runs on {images} images" if runs else "No run"
        lines += ["" if study.claims else None, f"{count} at the scale `cpu`.{needs}"]
        parts.append("\n".join(line for line in lines if line is not None))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1], "studies.md").write_text(page(), encoding="utf-8")
