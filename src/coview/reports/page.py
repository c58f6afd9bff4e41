"""The report of a run as one HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from coview.core.files import write_bytes
from coview.core.run_folder import RunFolder
from coview.reports import detection, figures, finetune, gallery, tables
from coview.reports.curves import Chart, chart_figure
from coview.reports.document import Section, build_document
from coview.reports.evaluation import confusion_block, evaluation_tables
from coview.reports.formatting import count
from coview.reports.html import Child, Markup, join, tag, with_code
from coview.reports.key_numbers import key_numbers
from coview.reports.pictures import picture_uri
from coview.reports.records import Record, number, part, read_record
from coview.reports.run_state import is_ended
from coview.reports.spelling import as_typed
from coview.reports.summary import page_header

RELOAD_SECONDS = 20
"""After which the page of a run that is going loads itself again."""


def write_report(
    run: Path | str, *, verdict: Mapping[str, Any] | None = None, running: bool | None = None
) -> Path:
    """Write the report into the folder of a run of any kind, and return its path.

    ``verdict``: that of a run whose verdict.json is written after the report. ``running``: whether
    the run is going, so that the page loads itself again; None looks at its lock.

    The page holds its style, script and pictures, forbids every request by its own policy, and
    opens offline. It shows what the folder holds, also for a run that is running or was killed.
    Raises RunError where the folder is not a run.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "run.json").write_text("{}")
    >>> write_report(folder).name
    'report.html'
    """
    record = read_record(run, running=running)
    if verdict is not None:
        record = replace(record, verdict=dict(verdict))
    path = RunFolder(record.folder).report_path
    # A file name may hold bytes that are not text; they are shown as question marks.
    write_bytes(path, build_page(record).encode("utf-8", "replace"))
    return path


def build_page(record: Record) -> str:
    record = as_typed(record)
    version = str(record.description.get("coview", ""))
    going = record.running and not is_ended(record)
    return build_document(
        f"{record.name}: Coview report", page_header(record), _sections(record), version=version,
        reload_seconds=RELOAD_SECONDS if going else None,
    )  # fmt: skip


def _sections(record: Record) -> list[Section]:
    """What a reader looks for first stands first; the numbers for specialists are folded away."""
    return [
        _optional("accuracy", "Accuracy", finetune.accuracy_section(record),
                  finetune.lead(record)),
        _optional("detection", "Detection", detection.detection_section(record),
                  detection.lead(record)),
        _evaluation(record),
        _optional("neighbors", "Most similar images", gallery.neighbor_rows(record), _near(record)),
        _optional("map-of-images", "Map of the images", gallery.embedding_map(record),
                  _map_note(record)),
        _views(record), ("curves", "How the training went", _curves(record)),
        _optional("pairs", "Hardest pairs", gallery.hardest_pairs(record), _hard(record)),
        ("numbers", "Numbers for specialists", _numbers(record)),
        ("files", "Files left out", _quarantine(record)) if record.quarantine else None,
        ("events", "Events", _events(record)) if record.events or record.skipped else None,
        ("making", "How it was made", _making(record)),
    ]  # fmt: skip


_FRAMES = " A solid frame marks the class of the first image, a dashed one another class."


def _near(record: Record) -> str:
    among = gallery.searched_images(record)
    return (
        "At the left an image that the network has never seen, beside it those that are most "
        f"similar to it{f' among {among}' if among else ''}. The number is their similarity, the "
        "cosine of the features: compare those within a row. All may be near 1."
        f"{_FRAMES if record.class_names else ''}"
    )


def _hard(record: Record) -> str:
    sample = record.gallery.get("pair_sample")
    of = f" of a sample of {count(sample[0])}" if sample is not None and len(sample) == 1 else ""
    return (
        f"The training images{of} whose two views the network matches the worst; the number is "
        "their cosine. If a person cannot match them either, the crops may be too small or the "
        "color changes too strong."
    )


def _optional(name: str, title: str, content: Child, lead: str) -> Section:
    return (name, title, [tag("p", lead, class_="lead"), content]) if content else None


def _curves(record: Record) -> Child:
    """The loss, and beside it what it is worth on images that are not trained on."""
    draw = (figures.knn_chart, figures.accuracy_chart, figures.detection_chart, figures.found_chart)
    beside = [chart for chart in (make(record) for make in draw) if not chart.is_empty]
    drawn = _charts("", [figures.loss_chart(record), *beside], "")
    return drawn or tag("p", "No step has been reported yet.", class_="lead")


def _numbers(record: Record) -> Child:
    details = str(record.verdict.get("details", ""))
    health = [c for c in figures.health_charts(record) if c.title != figures.FOUND.label]
    groups = [
        _charts("Health", health, _health_note(record)),
        _charts("Machine", figures.machine_charts(record), ""),
    ]
    content = [
        key_numbers(record), tag("p", details, class_="details") if details else None, groups,
    ]  # fmt: skip
    summary = "Sizes, speed, health figures, learning rate"
    return tag("details", tag("summary", summary), content, id="specialists")


def _charts(title: str, charts: list[Chart], note: str) -> Markup | None:
    drawings = [chart_figure(chart) for chart in charts if not chart.is_empty]
    if not drawings:
        return None
    return tag(
        "div", tag("h3", title) if title else None, tag("p", note, class_="lead") if note else None,
        tag("div", drawings, class_="charts"), class_="chart-group",
    )  # fmt: skip


def _health_note(record: Record) -> str:
    images = number(part(record.health[0], "figures").get("images")) if record.health else None
    on = f"on {count(images)} held-out images" if images else "on held-out images"
    word = figures.start_word(record)
    before = f"the {word} network" if word == "untrained" else f"the network {word}"
    return f"Measured {on}, without labels. The dashed line is {before}."


def _views(record: Record) -> Section:
    if record.views is None and record.kind != "pretrain":
        return None
    picture = None if record.views is None else picture_uri(record.views)
    if picture is None:
        state = "is missing" if record.views is None else "is damaged"
        return "views", "Views", tag("p", f"The contact sheet of this run {state}.", class_="lead")
    uri, width, height = picture
    what = (
        "Training images as the network gets them, with their objects."
        if record.kind == "detect"
        else "The input of the network: images and the views made of them."
    )
    lead = tag("p", what, class_="lead")
    sheet = tag("img", src=uri, alt="Contact sheet: images with views made of each", width=width,
                height=height, class_="sheet")  # fmt: skip
    return "views", "Views", [lead, sheet]


def _map_note(record: Record) -> str:
    shown = gallery.map_images(record)
    total = record.gallery.get("searched")
    images = int(total[1]) if total is not None and len(total) == 2 else shown
    sample = f"A random sample of {count(shown)} of {count(images)}" if images > shown else "All"
    return (
        f"{sample} training images, placed so that those with similar features lie together. Point "
        "at a mark to see the image, or focus the map and use the arrow keys."
    )


def _evaluation(record: Record) -> Section:
    own = (*finetune.MAIN, detection.PROTOCOL)
    others = [e for e in record.evaluations if e.get("protocol") not in own]
    evaluations = evaluation_tables(replace(record, evaluations=others))
    if not evaluations:
        return None
    lead = (
        "The trained encoder beside the same encoder before training and beside raw pixels. "
        "Small: the 95 % interval. Gain: how much better than the untrained encoder."
    )
    content = tag("div", evaluations, class_="evaluations")
    confused = confusion_block(others)
    return "evaluation", "Evaluation", [tag("p", lead, class_="lead"), content, confused]


def _quarantine(record: Record) -> Child:
    number_ = len(record.quarantine)
    lead = f"{count(number_)} {'file' if number_ == 1 else 'files'} could not be used."
    return [tag("p", lead, class_="lead"), tables.quarantine_table(record.quarantine)]


def _events(record: Record) -> Child:
    skipped = len(record.skipped)
    lead = f"{count(skipped)} {'step was' if skipped == 1 else 'steps were'} skipped."
    return [
        tag("p", lead, class_="lead") if skipped else None,
        tables.event_table(record.events, record.skipped),
    ]


def _making(record: Record) -> Child:
    run = record.description
    data = {k: v for k, v in part(run, "data").items() if k != "class_names"}
    if record.class_names:
        data["classes"] = f"{len(record.class_names)}: " + ", ".join(record.class_names[:30])
        data["classes"] += " ..." if len(record.class_names) > 30 else ""
    plan = run.get("plan")
    why = (
        [tag("li", with_code(str(sentence))) for sentence in plan] if isinstance(plan, list) else []
    )
    recipe = part(run, "recipe")
    blocks = [
        ("Command", tag("pre", tag("code", str(run["command"]))) if run.get("command") else None),
        ("Why", tag("ul", why) if why else None),
        ("Data", tables.object_list(data) if data else None),
        ("Environment", tables.object_list(part(run, "environment")) or None),
        ("Recipe", _recipe(recipe, run.get("hash")) if recipe else None),
    ]
    folded = {"Data", "Environment", "Recipe"}
    shown = [
        tag("details", tag("summary", title), content) if title in folded
        else tag("div", tag("h3", title), content, class_=f"block {title.lower()}")
        for title, content in blocks
        if content
    ]  # fmt: skip
    return tag("div", shown, class_="making")


def _recipe(recipe: dict[str, Any], hash_: Any) -> Markup:
    name = tag("p", "Hash ", tag("code", str(hash_)), class_="note") if hash_ else None
    return join([name, tables.recipe_table(recipe)])
