"""The report of a study as one HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from coview.core.files import write_bytes
from coview.core.run_folder import RunFolder
from coview.core.text import duration, plural
from coview.core.version import VERSION
from coview.reports.formatting import MISSING
from coview.reports.html import Child, Markup, tag, with_code
from coview.reports.tables import cut_table, object_list
from coview.studies.claims import (
    COMPARED,
    EARLIER,
    EARLIER_COLUMNS,
    NOT_YET,
    WORDS,
    comparison_rows,
    earlier_rows,
    p_values,
)
from coview.studies.drawings import drawing

COLORS: Mapping[bool | None, str] = {True: "good", False: "bad", None: "open"}
"""Whether a claim holds -> the class of its color in the style sheet."""


LOST = "collapsed or diverged"
"""What the card of a study calls such runs of it. Figures that they have count like others."""
MEANINGLESS = "Of the scale tiny, whose figures mean nothing: that it runs is all it shows."


def is_tiny(card: Mapping[str, Any]) -> bool:
    """Whether the card of a study is of the scale tiny."""
    return str(card.get("scale", "")).startswith("tiny")


def write_page(path: Path, content: Mapping[str, Any]) -> None:
    """Write the page of a study.json; of a study that goes on, what there is of it."""
    write_bytes(path, build_page(content).encode("utf-8", "replace"))


def build_page(content: Mapping[str, Any]) -> str:
    """The page as HTML. It has no script and its policy forbids every request."""
    cells = content["cells"]
    ended = sum(bool(cell["ended"]) for cell in cells)
    state = f"{ended} of {len(cells)} runs have ended" if cells else "nothing is trained"
    head = [
        tag("p", state, class_="state"),
        tag("p", "What is tested: ", content["claim"], class_="lead"),
        tag("p", MEANINGLESS, class_="lead") if is_tiny(content["card"]) else None,
        tag("p", f"{LOST.capitalize()}: {content['card'][LOST]}.", class_="lead")
        if LOST in content["card"]
        else None,
        _claims(content),
    ]
    body = tag(
        "main", _figures(content), _earlier(content.get("earlier", ())),
        _section("Runs", _cells(cells)) if cells else None,
        _rows(content),
        _section("How it was measured", object_list(dict(content["card"]))),
    )  # fmt: skip
    return document(str(content["study"]), head, body)


def document(title: str, head: Child, main: Markup) -> str:
    """A page that loads nothing: title, what stands below it, and the main part."""
    body = tag(
        "body", tag("header", tag("h1", title), head), main,
        tag("footer", f"Written by Coview {VERSION}. This page loads nothing and opens offline."),
    )  # fmt: skip
    whole = tag("html", _head(title), body, lang="en")
    return f"<!doctype html>\n{whole}\n"


def _head(name: str) -> Markup:
    style = resources.files("coview.reports").joinpath("report.css").read_text("utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{name}: Coview study"), tag("style", Markup(style)),
    )  # fmt: skip


def claims_and_tables(content: Mapping[str, Any]) -> Markup:
    """The claims, drawings and tables alone, for a notebook; of several studies a table of them, of
    what is only planned the plan."""
    plan = tag("p", f"{content['study']}: {content['plan']}") if "plan" in content else None
    return tag("div", plan, _studies(content), _claims(content), _figures(content))


def _studies(content: Mapping[str, Any]) -> list[Markup]:
    """A row for each study of a list, or of those that were run: how far it is, and its claims."""
    rows: list[tuple[Child, ...]] = []
    for each in content.get("studies", ()):
        decided = "name" in each or each["ended"]
        claims = [
            tag("li", f"{claim['text']}: {_word(claim, decided)}")
            for claim in each.get("claims", ())
        ]
        rows.append((each.get("name", each.get("study")), _state(each), tag("ul", claims)))
    rows += [(name, sentence, "") for name, sentence in content.get("failed", {}).items()]
    return [cut_table(("study", "state", "claims"), rows)] if rows else []


def _word(claim: Mapping[str, Any], decided: bool) -> str:
    return WORDS[claim["holds"]] if decided and claim.get("tested", True) else NOT_YET


def _state(each: Mapping[str, Any]) -> str:
    """How far a study is."""
    if "error" in each:
        return str(each["error"])
    if "plan" in each:
        return str(each["plan"])
    if "runs" not in each:  # one that was run
        return "ended" if each["ended"] else "not ended"
    left = "" if each["ended"] == each["runs"] else f", about {duration(each['seconds'])} left"
    return f"{each['ended']} of {plural(each['runs'], 'run')}{left}"


def _claims(content: Mapping[str, Any]) -> list[Markup]:
    return [_claim(claim, content["ended"]) for claim in content.get("claims", ())]


def _figures(content: Mapping[str, Any]) -> list[Markup]:
    """The drawings and the tables that have rows."""
    tables = (table for table in content.get("tables", ()) if table["rows"])
    return [*map(drawing, content.get("drawings", ())), *map(_table, tables)]


def _claim(claim: Mapping[str, Any], ended: bool) -> Markup:
    word = WORDS[claim["holds"]] if ended else NOT_YET
    return tag(
        "div", tag("p", claim["text"], class_="headline"),
        tag("p", f"{word.capitalize()}.", class_="sentence"),
        tag("p", claim["because"], class_="measured"),
        tag("p", f"{p_values(claim)}.", class_="measured") if p_values(claim) else None,
        _comparisons(claim), class_=f"verdict {COLORS[claim['holds']]}",
    )  # fmt: skip


def _comparisons(claim: Mapping[str, Any]) -> Markup | None:
    """All comparisons of a claim that has several."""
    rows: list[tuple[Child, ...]] = [tuple(row) for row in comparison_rows(claim)]
    if len(rows) < 2:
        return None
    table = cut_table(COMPARED, rows, numeric=tuple(range(1, len(COMPARED))))
    return tag("details", tag("summary", f"All {len(rows)} comparisons; p not corrected"), table)


def _table(table: Mapping[str, Any]) -> Markup:
    rows: list[tuple[Child, ...]] = [tuple(row) for row in table["rows"]]
    heads = tuple(table["columns"])
    drawn = cut_table(heads, rows, numeric=tuple(range(1, len(heads))))
    return _section(table["title"], [tag("p", with_code(table["note"]), class_="lead"), drawn])


def _earlier(earlier: Sequence[Mapping[str, Any]]) -> Markup | None:
    """The verdicts of the same study with other runs, for what a repetition is worth."""
    if not earlier:
        return None
    rows: list[tuple[Child, ...]] = [tuple(row) for row in earlier_rows(earlier)]
    table = cut_table(EARLIER_COLUMNS, rows, numeric=(1,))
    return _section("Earlier verdicts", [tag("p", EARLIER, class_="lead"), table])


def _cells(cells: list[Mapping[str, Any]]) -> Markup:
    rows: list[tuple[Child, ...]] = [
        (
            cell["name"],
            tag(
                "a",
                cell["folder"],
                href=RunFolder(Path("..") / cell["folder"]).report_path.as_posix(),
            )
            if cell["ended"]
            else cell["folder"],
            (cell["verdict"] or {}).get("sentence", "not ended"),
        )
        for cell in cells
    ]
    return cut_table(("run", "folder", "verdict"), rows)


def _rows(content: Mapping[str, Any]) -> Markup | None:
    """The figures of every run, folded."""
    rows, names = content.get("rows", ()), content.get("measures", ())
    if not rows or not names:
        return None
    table = [
        (row["arm"], str(row["seed"]), *(
            MISSING if row[name] is None else f"{row[name]:.2f}" for name in names
        ))
        for row in rows
    ]  # fmt: skip
    drawn = cut_table(("arm", "seed", *names), table, numeric=tuple(range(1, 2 + len(names))))
    return tag("details", tag("summary", f"The figures of all {len(rows)} runs"), drawn)


def _section(title: str, content: Child) -> Markup:
    return tag("section", tag("h2", title), content)
