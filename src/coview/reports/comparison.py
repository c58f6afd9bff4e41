"""The page of an evaluation of several subjects: one section for each protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coview.core.files import entries, write_bytes
from coview.core.run_folder import read_object
from coview.core.version import VERSION
from coview.reports.document import Section, build_document
from coview.reports.evaluation import evaluation_section
from coview.reports.html import Child, tag
from coview.reports.results import by_interest, images_of, title_of

PAGE = "comparison.html"


def write_comparison(folder: Path) -> Path:
    """Write comparison.html of the JSON files in ``folder``, and return its path.

    Raises DamagedFile for a file that holds no results, StorageError.

    >>> from coview.core.files import write_json
    >>> results = [{"subject": "a", "layer": "h", "metric": "accuracy", "value": 0.5}]
    >>> write_json(Path("both/knn.json"), {"protocol": "knn", "results": results})
    >>> write_comparison(Path("both")).name
    'comparison.html'
    """
    names = [name for name in entries(folder) if name.endswith(".json") and name[0] != "."]
    evaluations = by_interest(each for name in names if (each := read_object(folder / name)))
    page = build_document(
        f"{folder.resolve().name}: Coview comparison", _header(folder, evaluations),
        [_evaluation(evaluation) for evaluation in evaluations], version=VERSION,
    )  # fmt: skip
    path = folder / PAGE
    write_bytes(path, page.encode("utf-8", "replace"))
    return path


def _header(folder: Path, evaluations: list[dict[str, Any]]) -> Child:
    images = {images_of(each) for each in evaluations}
    judged_on = images.pop() if len(images) == 1 else ""
    text = f"Judged on {judged_on}" if judged_on else ""
    return tag(
        "header", tag("h1", tag("bdi", folder.resolve().name)), tag("p", text, class_="state")
    )


def _evaluation(evaluation: dict[str, Any]) -> Section:
    name = str(evaluation.get("protocol", "evaluation"))
    section = evaluation_section(evaluation, titled=False)
    return name, title_of(evaluation), section
