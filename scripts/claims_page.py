"""The claims that were tested here, as files of docs/claims/.

python scripts/claims_page.py STUDIES docs/claims      STUDIES: the folder of `coview study --out`
python scripts/claims_page.py docs/claims              the pages again, of the files that are there

Writes for each study one JSON file, without its runs, a page with its figures, and README.md with a
row for each claim. Studies that were written before from other folders stay, and so do the verdicts
that a study had before with other settings or claims. What came out
differently from the paper, and why, is written by hand in docs/lab: a page there that names
`coview study NAME` is linked from that of the study.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from coview.core.files import read_json
from coview.core.version import VERSION
from coview.reports.curves import (
    CURVE_CLASSES,
    Chart,
    draw_chart,
    level_names,
    level_shade,
)
from coview.reports.formatting import MISSING
from coview.reports.html import Markup, tag
from coview.studies.claims import (
    COMPARED,
    EARLIER,
    EARLIER_COLUMNS,
    WORDS,
    comparison_rows,
    earlier_rows,
    p_values,
)
from coview.studies.drawings import chart_of, row_mean
from coview.studies.execution import verdicts_of
from coview.studies.ledger import summary
from coview.studies.page import is_tiny

KEPT = ("study", "claim", "source", "card", "ended", "claims", "tables", "drawings", "earlier")
SETTINGS = (
    "scale", "data", "training images", "test images", "labels", "draws", "seeds", "epochs",
    "encoder", "student", "fine-tuning", "distillation", "detection", "what is swept",
    "what is measured",
)  # fmt: skip
"""What of a card tells one try of a study from another."""
WIDTH, HEIGHT, LINE_HEIGHT, LETTER = 690, 400, 20, 6.6
"""Of a figure, in its own units; the width of a letter of the legend is about 6.6 of them."""


def collect(studies: Path, target: Path) -> None:
    """Copy what the studies of a folder say, with the name of the data in place of its path.

    Left out are those that have not ended, which have no verdict, and those of the scale tiny."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(studies.glob("*/study.json")):
        content = read_json(path)
        if not content["ended"] or is_tiny(content["card"]):
            why = "has the scale tiny" if is_tiny(content["card"]) else "has not ended"
            print(f"{content['study']} is left out: {path} {why}.")
            continue
        card = {key: short(str(value)) for key, value in content["card"].items()}
        card |= {"version": VERSION, "written": datetime.date.today().isoformat()}
        kept = {name: content[name] for name in KEPT if name in content} | {"card": card}
        place = target / f"{path.parent.name}.json"
        if place.exists():
            kept["earlier"] = earlier(read_json(place), kept)
        text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
        place.write_text(text, encoding="utf-8")


def earlier(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdicts before that of ``now``: those that both files know, and that of ``before`` where
    it was decided with other settings or by other claims."""
    known = list(before.get("earlier", ()))
    known += [each for each in now.get("earlier", ()) if each not in known]
    if what_was_decided(before) == what_was_decided(now):
        return known
    card = {name: value for name, value in before["card"].items() if name in SETTINGS}
    last = verdicts_of({**before, "card": card}, now["card"], None)
    there = any(
        each["claims"] == last["claims"] and last["with"].items() <= each["with"].items()
        for each in known
    )
    return known if there else [*known, last]


def what_was_decided(content: Mapping[str, Any]) -> tuple[Any, ...]:
    """Settings and claims of a study. Its notes and dates decide nothing."""
    settings = {name: content["card"].get(name) for name in SETTINGS}
    return settings, [claim["text"] for claim in content["claims"]]


def short(text: str) -> str:
    """A path by its last two parts; other words as they are.

    >>> short("/data/cifar10/train.parquet"), short("scenes")
    ('cifar10/train.parquet', 'scenes')
    """
    return re.sub(r"(?<![\w.])/[\w./+-]+", lambda found: "/".join(found[0].split("/")[-2:]), text)


def contents(target: Path) -> dict[str, dict[str, Any]]:
    """The name of each study's files -> what its JSON file says."""
    return {path.stem: read_json(path) for path in sorted(target.glob("*.json"))}


def rows_of(target: Path) -> list[dict[str, Any]]:
    """Every claim of the studies in docs/claims."""
    return [
        {"file": name, "study": content["study"], "card": content["card"], **claim}
        for name, content in contents(target).items()
        for claim in content["claims"]
    ]


def files(target: Path) -> dict[str, str]:
    """The name of each file that is made of the JSON files -> its text."""
    made = {"README.md": page(target)}
    for name, content in contents(target).items():
        figures = dict(drawn(name, content))
        made |= {f"figures/{file}": text for file, (_, text) in figures.items()}
        titles = {file: title for file, (title, _) in figures.items()}
        explained = lab_pages(target.parent / "lab", content["study"])
        made[f"{name}.md"] = study_page(content, titles, explained)
    return made


def lab_pages(lab: Path, study: str) -> list[str]:
    """Links to the pages of ``lab`` that speak of the study."""
    pages = [(path, path.read_text(encoding="utf-8")) for path in sorted(lab.glob("*.md"))]
    return [
        f"[{text.splitlines()[0].lstrip('# ')}](../lab/{path.name})"
        for path, text in pages
        if f"`coview study {study}`" in text
    ]


def page(target: Path) -> str:
    """README.md: the ledger of claims in words."""
    rows = rows_of(target)
    lines = [
        "# Claims that were tested here",
        "",
        f"{summary(rows)} All others have no verdict yet: [all studies](../studies.md).",
        "",
        "Made by `python scripts/claims_page.py` from the studies' own files, which lie beside "
        "this page; a test compares. [A paper's experiment](../papers.md) says how a claim is "
        "decided. A number that a claim needs and that its paper does not have, such as 15 points, "
        "is the project's own.",
        "",
        "| study | claim | verdict | because | p, corrected | data, seeds, date |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        card = row["card"]
        day = card.get("runs begun", card["written"])
        amount = ", ".join(
            f"{card[name]} {word}"
            for name, word in (("training images", "images"), ("epochs", "epochs"))
            if name in card
        )
        measured = f"{card['data']}{f' ({amount})' if amount else ''}; seeds {card['seeds']}; {day}"
        lines.append(
            f"| [{row['study']}]({row['file']}.md) | {row['text']} | {WORDS[row['holds']]} "
            f"| {row['because']} | {p_values(row)} | {measured} |"
        )
    return "\n".join(lines) + "\n"


def study_page(content: Mapping[str, Any], figures: Mapping[str, str], lab: list[str]) -> str:
    """The page of one study: claims, links to what explains them, tables, figures, and how it was
    measured."""
    parts = [f"# {content['study']}", content["claim"]]
    for claim in content["claims"]:
        source = f" ({claim['source']})" if claim.get("source") else ""
        verdict = f"**{claim['text']}{source}: {WORDS[claim['holds']]}.**"
        parts.append(f"{verdict} {claim['because']} {p_values(claim)}.")
    if lab:
        parts.append(f"What was found besides, and why: {', '.join(lab)}.")
    for table in content.get("tables", ()):
        if table["rows"]:
            rows = markdown_table(table["columns"], table["rows"])
            parts += [f"## {table['title']}", table["note"], rows]
    matrices = [each for each in content.get("drawings", ()) if each["kind"] == "matrix"]
    for each in matrices:
        parts += [f"## {each['title']}, as a matrix", each["axis"], matrix_table(each, "values")]
        if has_published(each):
            parts += ["Published:", matrix_table(each, "published")]
    if figures:
        notes = dict.fromkeys(each.get("note", "") for each in content["drawings"])
        parts += ["## Drawings", *filter(None, notes)]
        parts += [f"![{title}](figures/{file})" for file, title in figures.items()]
    compared = [(claim["text"], comparison_rows(claim)) for claim in content["claims"]]
    if any(len(rows) > 1 for _, rows in compared):
        parts += ["## All comparisons", "p is one-sided and not corrected."]
    for text, rows in compared:
        if len(rows) > 1:
            parts += [f"### {text}", markdown_table(list(COMPARED), rows)]
    if content.get("earlier"):
        rows = earlier_rows(content["earlier"])
        parts += ["## Earlier verdicts", EARLIER, markdown_table(list(EARLIER_COLUMNS), rows)]
    card = [f"- {name}: {value}" for name, value in content["card"].items()]
    parts += ["## How it was measured", "\n".join(card)]
    return "\n\n".join(parts) + "\n"


def markdown_table(columns: list[str], rows: list[list[Any]]) -> str:
    """A table whose columns but the first are numbers."""
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def matrix_table(content: Mapping[str, Any], key: str) -> str:
    """A matrix of numbers under the names of its columns; with the means of its rows where it has
    a head for them."""
    mean = content.get("mean", "")
    rows = [
        [name, *(MISSING if value is None else f"{value:.1f}" for value in row),
         *([row_mean(row)] if mean else [])]
        for name, row in zip(content["rows"], content[key], strict=True)
    ]  # fmt: skip
    return markdown_table(["", *content["columns"], *([mean] if mean else [])], rows)


def drawn(name: str, content: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name of the file -> title and SVG, of every drawing that shows something."""
    for number, each in enumerate(content.get("drawings", ()), start=1):
        if each["kind"] == "matrix":
            yield f"{name}-{number}.svg", (each["title"], heat_maps(each))
        elif not (chart := chart_of(each)).is_empty:
            yield f"{name}-{number}.svg", (chart.title, svg(chart))


def has_published(matrix: Mapping[str, Any]) -> bool:
    return any(value is not None for row in matrix["published"] for value in row)


def heat_maps(matrix: Mapping[str, Any]) -> str:
    """A matrix as a file of its own, and that of the published numbers below it: the higher a
    number among those of its matrix, the darker its cell."""
    kinds = ["values", "published"] if has_published(matrix) else ["values"]
    names = {"values": "here", "published": "published"}
    rows = [*(names[kind] for kind in kinds), *matrix["rows"]]
    left = round(LETTER * max(map(len, rows))) + 16
    wide, high = (WIDTH - left) / max(1, len(matrix["columns"])), 28
    block = high * (len(matrix["rows"]) + 2)
    parts = [tag("text", matrix["title"], x=8, y=16, style="font-weight:650;fill:var(--ink)")]
    for place, kind in enumerate(kinds):
        top = 24 + place * block
        parts += [tag("text", names[kind], x=8, y=top + high - 9)]
        parts += [
            tag("text", text, x=f"{left + (at + 0.5) * wide:.1f}", y=top + high - 9,
                text_anchor="middle")
            for at, text in enumerate(matrix["columns"])
        ]  # fmt: skip
        parts += [
            tag("text", text, x=8, y=top + (at + 2) * high - 9)
            for at, text in enumerate(matrix["rows"])
        ]
        parts += _cells(matrix[kind], left, top + high, wide, high)
    paper = tag("rect", width="100%", height="100%", style="fill:var(--card)")
    whole = tag(
        "svg", tag("style", Markup(style())), paper, parts, class_="plot",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {24 + block * len(kinds) + 8 - high}",
    )  # fmt: skip
    return whole + "\n"


def _cells(
    values: Sequence[Sequence[float | None]], left: float, top: float, wide: float, high: float
) -> Iterator[Markup]:
    known = [value for row in values for value in row if value is not None]
    low, span = min(known, default=0.0), (max(known, default=0.0) - min(known, default=0.0)) or 1.0
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            place = {"x": f"{left + x * wide:.1f}", "y": f"{top + y * high:.1f}"}
            if value is not None:
                shade = f"fill:var(--good);fill-opacity:{0.04 + 0.46 * (value - low) / span:.2f}"
                yield tag("rect", **place, width=f"{wide:.1f}", height=high, style=shade)
            yield tag(
                "text", MISSING if value is None else f"{value:.1f}", text_anchor="middle",
                x=f"{left + (x + 0.5) * wide:.1f}", y=f"{top + (y + 1) * high - 9:.1f}",
                style="fill:var(--ink)",
            )  # fmt: skip


def svg(chart: Chart) -> str:
    """A chart as a file of its own: its title, legend, curves, and the style sheet's colors."""
    drawn = [
        (line.name, f"curve {CURVE_CLASSES[place % len(CURVE_CLASSES)]}")
        for place, line in enumerate(chart.lines)
    ]
    drawn += [
        (name, f"level {level_shade(chart, place)}")
        for place, name in enumerate(level_names(chart))
    ]
    drawn = [(name, kind) for name, kind in drawn if name]
    places, rows = legend_places([name for name, _ in drawn])
    top = LINE_HEIGHT * (rows + 1) + 8
    legend = [
        tag(
            "g", tag("line", x1=0, x2=18, y1=-4, y2=-4, class_=kind), tag("text", name, x=24),
            transform=f"translate({x} {y})",
        )
        for (name, kind), (x, y) in zip(drawn, places, strict=True)
    ]  # fmt: skip
    plot = re.sub(r' (data-points|tabindex)="[^"]*"', "", draw_chart(chart, WIDTH, HEIGHT))
    plot = plot.replace("<svg", f'<svg y="{top}" width="{WIDTH}" height="{HEIGHT}"', 1)
    title = tag("text", chart.title, x=8, y=16, style="font-weight:650;fill:var(--ink)")
    paper = tag("rect", width="100%", height="100%", style="fill:var(--card)")
    whole = tag(
        "svg", tag("style", Markup(style())), paper, title, legend, Markup(plot), class_="plot",
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {HEIGHT + top + 8}",
    )  # fmt: skip
    return whole + "\n"


def legend_places(names: list[str]) -> tuple[list[tuple[int, int]], int]:
    """Where each name stands below the title, and how many rows they take."""
    x, row, places = 8, 0, []
    for name in names:
        width = round(24 + LETTER * len(name) + 18)
        if x > 8 and x + width > WIDTH:
            x, row = 8, row + 1
        places.append((x, 16 + LINE_HEIGHT * (row + 1)))
        x += width
    return places, row + 1


def style() -> str:
    """The rules of the reports that a drawing needs."""
    text = resources.files("coview.reports").joinpath("report.css").read_text("utf-8")
    head = text[: text.index("* {")]
    needed = re.compile(r"^(\.plot|\.grid|\.level|\.curve|\.whisker|path\.|line\.|\.dot)")
    rules = [line for line in text.splitlines() if needed.match(line)]
    return "\n".join([head, *rules])


if __name__ == "__main__":
    folder = Path(sys.argv[-1])
    if len(sys.argv) > 2:
        collect(Path(sys.argv[1]), folder)
    (folder / "figures").mkdir(exist_ok=True)
    for name, text in files(folder).items():
        (folder / name).write_text(text, encoding="utf-8")
