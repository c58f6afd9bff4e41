"""The report of a run as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from coview.core.files import write_bytes
from coview.reports import figures, gallery, tables
from coview.reports.curves import Chart, chart_figure
from coview.reports.formatting import count
from coview.reports.html import Child, Markup, join, tag
from coview.reports.pictures import picture_uri
from coview.reports.records import Record, number, part, read_record
from coview.reports.scores import evaluation_tables
from coview.reports.summary import first_screen


def write_report(run_folder: Path | str) -> Path:
    """Write ``report.html`` into the folder of a run and return its path.

    The page holds its style, script and pictures, forbids every request by its own policy, and
    opens offline. Only ``run.json`` must be there: a run that was killed gets a report of what it
    left. Raises RunError where the folder is not a run.
    """
    folder = Path(run_folder)
    path = folder / "report.html"
    # A file name may hold bytes that are no text; they are shown as question marks.
    write_bytes(path, page(read_record(folder)).encode("utf-8", "replace"))
    return path


def page(record: Record) -> str:
    """The whole HTML document."""
    sections = [found for found in _sections(record) if found]
    links = [tag("a", title, href=f"#{name}") for name, title, _ in sections]
    script = resources.files(__package__).joinpath("report.js").read_text("utf-8")
    body = (
        first_screen(record),
        tag("nav", links, aria_label="Sections"),
        tag("main", [_section(*entry) for entry in sections]),
        tag("footer", _made_by(record)),
        tag("div", id="tip", role="status", aria_live="polite", hidden=True),
        tag("script", Markup(script)),
    )
    document = tag("html", _head(record, script), tag("body", body), lang="en")
    return f"<!doctype html>\n{document}\n"


def _head(record: Record, script: str) -> Markup:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Only this script runs, and nothing is ever fetched, whatever a file name may contain.
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    style = resources.files(__package__).joinpath("report.css").read_text("utf-8")
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{record.name}: Coview report"),
        tag("style", Markup(style)),
    )


def _sections(record: Record) -> list[tuple[str, str, Child] | None]:
    return [
        ("curves", "Curves", _curves(record)),
        ("views", "Views", _views(record)),
        _unless_absent("neighbors", "Neighbors", gallery.neighbor_rows(record), _NEAR),
        _unless_absent("map-of-images", "Map", gallery.embedding_map(record), _map_note(record)),
        ("evaluation", "Evaluation", _evaluation(record)),
        _unless_absent("pairs", "Hardest pairs", gallery.hardest_pairs(record), _HARD),
        ("files", "Files left out", _quarantine(record)),
        ("events", "Events", _events(record)),
        ("making", "How it was made", _making(record)),
    ]


_NEAR = (
    "The images nearest to a query by the cosine of their features. "
    "Where labels are known, a solid frame marks the class of the query and a dashed one another."
)
_HARD = (
    "Two views of one image that the encoder finds least alike. Views that a person cannot match "
    "either are a sign that the crops are too small or the changes of color too strong."
)


def _section(name: str, title: str, content: Child) -> Markup:
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, content, id=name, aria_labeledby=f"{name}-title")


def _unless_absent(
    name: str, title: str, content: Markup | None, lead: str
) -> tuple[str, str, Child] | None:
    return (name, title, [tag("p", lead, class_="lead"), content]) if content else None


def _curves(record: Record) -> Child:
    knn, health = figures.knn_chart(record), figures.health_charts(record)
    beside = [knn, *health[:1]] if knn.drawable else health[:2]
    groups = [
        ("", [figures.loss_chart(record), *beside], ""),
        ("Health", [chart for chart in health if chart not in beside], _health_note(record)),
        ("Machine", figures.machine_charts(record), ""),
    ]
    shown = [_charts(*group) for group in groups]
    return shown if any(shown) else tag("p", "No step has been reported yet.", class_="lead")


def _charts(title: str, charts: list[Chart], note: str) -> Markup | None:
    found = [chart_figure(chart) for chart in charts if chart.drawable]
    if not found:
        return None
    return tag(
        "div",
        tag("h3", title) if title else None,
        tag("p", note, class_="lead") if note else None,
        tag("div", found, class_="charts"),
        class_="chart-group",
    )


def _health_note(record: Record) -> str:
    images = number(part(record.health[0], "figures").get("images")) if record.health else None
    on = f"on {count(images)} held-out images" if images else "on held-out images"
    return f"Measured {on}, without labels. The dashed line is the untrained network."


def _views(record: Record) -> Child:
    if record.views is None:
        return tag("p", "No contact sheet was saved with this run.", class_="lead")
    found = picture_uri(record.views)
    if found is None:
        return tag("p", "The contact sheet report/views.png is damaged.", class_="lead")
    uri, width, height = found
    return [
        tag("p", "What the model saw: images and the views that were made of them.", class_="lead"),
        tag("img", src=uri, alt="Contact sheet: images with views made of each", width=width,
            height=height, class_="sheet"),
    ]  # fmt: skip


def _map_note(record: Record) -> str:
    places = record.gallery.get("map")
    total = 0 if places is None else len(places)
    shown = f"{count(gallery.MAP_POINTS)} of {count(total)}" if total > gallery.MAP_POINTS else ""
    which = f"{shown or count(total)} images, laid out so that similar features lie together."
    return which + " Point at a mark to see the image, or focus the map and use the arrow keys."


def _evaluation(record: Record) -> Child:
    found = evaluation_tables(record)
    if not found:
        return tag("p", "Not evaluated yet: ", tag("code", "coview evaluate"), " adds tables here.",
                   class_="lead")  # fmt: skip
    lead = (
        "The trained encoder beside the same encoder before training and beside raw pixels. "
        "Gain: points above the untrained encoder."
    )
    return [tag("p", lead, class_="lead"), tag("div", found, class_="evaluations")]


def _quarantine(record: Record) -> Child:
    if not record.quarantine:
        return tag("p", "None: every file could be used.", class_="lead")
    number_ = len(record.quarantine)
    lead = f"{count(number_)} {'file' if number_ == 1 else 'files'} could not be used."
    return [tag("p", lead, class_="lead"), tables.quarantine_table(record.quarantine)]


def _events(record: Record) -> Child:
    if not record.events and not record.refused:
        return tag("p", "None: no step was refused and nothing else happened.", class_="lead")
    refused = len(record.refused)
    lead = f"{count(refused)} {'step was' if refused == 1 else 'steps were'} refused."
    return [
        tag("p", lead, class_="lead") if refused else None,
        tables.event_table(record.events, record.refused),
    ]


def _making(record: Record) -> Child:
    run = record.run
    data = {k: v for k, v in part(run, "data").items() if k != "class_names"}
    if record.class_names:
        data["classes"] = f"{len(record.class_names)}: " + ", ".join(record.class_names[:30])
        data["classes"] += " ..." if len(record.class_names) > 30 else ""
    plan = run.get("plan")
    why = [tag("li", str(sentence)) for sentence in plan] if isinstance(plan, list) else []
    recipe = part(run, "recipe")
    blocks = [
        ("Command", tag("pre", tag("code", str(run["command"]))) if run.get("command") else None),
        ("Why", tag("ul", why) if why else None),
        ("Data", tables.objects(data) if data else None),
        ("Environment", tables.objects(part(run, "environment")) or None),
        ("Recipe", _recipe(recipe, run.get("hash")) if recipe else None),
    ]
    shown = [
        tag("div", tag("h3", title), content, class_=f"block {title.lower()}")
        for title, content in blocks
        if content
    ]
    return tag("div", shown, class_="making")


def _recipe(recipe: dict[str, Any], hash_: Any) -> Markup:
    name = tag("p", "Hash ", tag("code", str(hash_)), class_="note") if hash_ else None
    values = tag("details", tag("summary", "Every value"), tables.recipe_table(recipe))
    return join([name, values])


def _made_by(record: Record) -> str:
    version = record.run.get("coview", "")
    return f"Written by Coview {version}. This page is complete in itself: it loads nothing."
