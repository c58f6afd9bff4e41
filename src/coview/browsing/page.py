"""The page over images as HTML: the one that a server gives out, and one file that holds it all."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from coview.browsing.collection import Collection
from coview.browsing.requests import MAX_BODY
from coview.browsing.thumbnails import SHEET_COLUMNS, Thumbnails
from coview.core.errors import InvalidValue
from coview.core.files import write_bytes
from coview.core.progress import progress
from coview.core.text import plural
from coview.core.version import VERSION
from coview.embeddings.search import nearest_rows, unit_vectors
from coview.reports.html import Child, Markup, script_data, tag
from coview.reports.pictures import data_uri

SCRIPTS = ("points.js", "source.js", "map.js", "browse.js")
MAX_STATIC = 10_000
"""Images of one file: of 48 pixels each they take about 20 MB."""
STATIC_NEIGHBORS, SHEET_IMAGES, CHUNK = 24, 256, 512


def served_page(collection: Collection, version: str) -> str:
    """The page of a server: it asks for points, pictures and neighbors as they are needed.

    ``version``: what it names in each request, so that rows are not those of another start.
    """
    about = describe(collection) | {"version": version, "maxBytes": MAX_BODY}
    return build_page(about, policy="connect-src 'self'; img-src 'self' data: blob:; ")


def write_page(collection: Collection, path: Path) -> Path:
    """Write one HTML file with everything inside, which opens offline, and return ``path``.

    It holds a picture of each image (96 pixels of up to 1,000 images, 64 up to 3,000, else 48) and
    its 24 nearest neighbors. Raises InvalidValue for more than 10,000 images.
    """
    number = len(collection)
    if number > MAX_STATIC:
        raise InvalidValue(
            f"One file holds at most {MAX_STATIC:,} images, and these are {number:,}. Take some of "
            "them by `limit`, or leave out `out`: the server shows all."
        )
    side = 96 if number <= 1000 else 64 if number <= 3000 else 48
    about = describe(collection) | {
        "canEncode": False,  # the file has no encoder
        "static": {
            "arrays": _text(collection.arrays()), "side": side, "perSheet": SHEET_IMAGES,
            "sheets": _sheets(collection, side), "names": [str(n) for n in collection.store.names],
            "paths": ["" if path is None else str(path) for path in collection.paths],
            **_neighbors(collection),
        }
    }  # fmt: skip
    page = build_page(about, policy="img-src data: blob:; ")
    # A file name may hold bytes that are not text; they are shown as question marks.
    write_bytes(path, page.encode("utf-8", "replace"))
    return path


def describe(collection: Collection) -> dict[str, Any]:
    """What a page knows of a collection before it asks for anything."""
    store = collection.store
    return {
        "title": collection.title,
        "count": len(collection),
        "canEncode": collection.encode is not None,
        "classes": list(store.class_names),
        "columns": SHEET_COLUMNS,
        "facets": [
            {"name": f.name, "title": f.title, "values": list(f.values), "counts": f.counts,
             "marks": f.marks}
            for f in collection.facets
        ],
        "scores": list(collection.scores),
    }  # fmt: skip


def build_page(about: dict[str, Any], *, policy: str) -> str:
    """The document around ``about``; only its own script runs in it."""
    texts = (_file(name) for name in SCRIPTS)
    script = '(() => {\n"use strict";\n' + "\n".join(texts) + "\n})();"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; {policy}style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    style = resources.files("coview.reports").joinpath("report.css").read_text("utf-8")
    head = tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{about['title']}: Coview"),
        tag("style", Markup(style + _file("browse.css"))),
    )  # fmt: skip
    body = tag(
        "body", _header(about), _filters(), _stage(about), _panel(about), _keys(),
        tag("div", id="tip", hidden=True), tag("div", id="drop", hidden=True),
        tag("div", id="status", role="status", aria_live="polite"),
        script_data("about", about), tag("script", Markup(script)), class_="browse",
    )  # fmt: skip
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _header(about: dict[str, Any]) -> Markup:
    images = plural(about["count"], "image")
    search = tag(
        "form",
        tag("input", type="search", id="find", placeholder="Find by name", autocomplete="off",
            aria_label="Show the images whose names hold this text"),
        role="search",
    )  # fmt: skip
    return tag(
        "header", tag("h1", about["title"]), tag("p", images, class_="state", id="shown"), search,
        _button("by-file", "Search by image", "Or drop an image file anywhere on the page")
        if about["canEncode"] else None,
        tag("input", type="file", id="file", accept="image/*", hidden=True,
            aria_label="Image file") if about["canEncode"] else None,
        _button("help", "Keys", "The keys of this page"),
    )  # fmt: skip


def _filters() -> Markup:
    return tag(
        "details", tag("summary", "Filters and colors"), tag("div", id="facets"),
        class_="filters", id="filters", open=True,
    )  # fmt: skip


def _stage(about: dict[str, Any]) -> Markup:
    marks = [
        tag("label", tag("input", type="radio", name="marks", value=value, checked=value == "near"),
            text, title=title)
        for value, text, title in (
            ("dots", "Dots", "A dot for each image"),
            ("near", "Auto", "Dots, and pictures where there is space for them"),
            ("pictures", "Pictures", "Pictures at every zoom; one stands for all around it"),
        )
    ]  # fmt: skip
    tools = tag(
        "div", tag("fieldset", tag("legend", "Marks"), marks, class_="segments"),
        _button("lasso", "Lasso", "Draw around images to select them", pressed=True),
        _button("select-view", "Select all in view", "Every image that the map shows now"),
        tag("span", _button("zoom-out", "\N{MINUS SIGN}", "Zoom out"),
            _button("zoom-in", "+", "Zoom in"), _button("fit", "Fit", "The whole map"),
            class_="zoom"),
        class_="tools",
    )  # fmt: skip
    label = (
        f"Map of {plural(about['count'], 'image')}. Arrow keys move from image to image, Enter "
        "shows neighbors, plus and minus zoom, x selects."
    )
    return tag(
        "main", tools,
        tag("div", tag("canvas", id="dots"),
            tag("canvas", id="map", tabindex=0, role="application", aria_label=label),
            class_="frame"),
        tag("noscript", tag("p", "This page needs its script, which your browser does not run.")),
        class_="stage",
    )  # fmt: skip


def _panel(about: dict[str, Any]) -> Markup:
    tabs = tag(
        "div", [
            tag("button", text, type="button", role="tab", id=f"tab-{name}", data_tab=name,
                aria_controls="list", aria_selected="true" if name == "image" else "false",
                tabindex=0 if name == "image" else -1)
            for name, text in TABS
        ], role="tablist", aria_label="What the list shows", class_="tabs",
    )  # fmt: skip
    save = "Tags and labels are written at once"
    if "static" in about:
        save = "This page keeps tags and labels until it is closed; download them as a table"
    write = tag(
        "form", tag("p", id="target", class_="target"),
        tag("div", tag("label", "Label", for_="label"),
            tag("input", id="label", list="classes", autocomplete="off", maxlength=200),
            tag("button", "Set", type="submit", id="set-label"), class_="field"),
        tag("div", tag("label", "Tag", for_="tag"),
            tag("input", id="tag", list="tags", autocomplete="off", maxlength=200),
            tag("button", "Add", type="submit", id="add-tag"),
            _button("remove-tag", "Remove", "Take this tag away"), class_="field"),
        tag("div", _button("undo", "Undo", "Take the last change back"),
            _button("download", "Download table", "CSV of the selected images, else of all shown"),
            class_="field"),
        tag("p", save, class_="note", id="saved"),
        tag("datalist", id="classes"), tag("datalist", id="tags"),
        id="write", aria_label="Tags and labels",
    )  # fmt: skip
    return tag(
        "aside", tag("div", id="image", aria_live="polite"), write, tabs,
        tag("div", id="list-tools", class_="field"),
        tag("div", id="list", role="tabpanel", tabindex=-1), class_="panel",
        aria_label="Image, neighbors and lists",
    )  # fmt: skip


TABS = (("image", "Neighbors"), ("selection", "Selection"), ("shown", "Shown"))
KEYS: tuple[tuple[str, str], ...] = (
    ("Arrow keys", "the next image in that direction"),
    ("Shift + arrow keys", "move the map"),
    ("+ and \N{MINUS SIGN}, 0", "zoom in and out, the whole map"),
    ("Enter", "show the image and its neighbors"),
    ("x", "select the image, or take it out of the selection"),
    ("v", "select all images in view"),
    ("l", "lasso on or off; with Shift it adds, with Alt it takes away"),
    ("1 to 9", "set the label to the first, second ... class"),
    ("t", "write a tag"),
    ("u", "take the last change back"),
    ("n", "more like the selected images"),
    ("/", "find by name"),
    ("Escape", "leave a field, end the lasso, clear the selection"),
)  # fmt: skip


def _keys() -> Markup:
    rows: list[Child] = [[tag("dt", key), tag("dd", text)] for key, text in KEYS]
    return tag(
        "dialog", tag("h2", "Keys"), tag("dl", rows, class_="facts"),
        tag("form", tag("button", "Close", class_="switch"), method="dialog"),
        tag("p", f"Coview {VERSION}. This page asks nothing of any other machine.", class_="note"),
        id="keys", aria_label="Keys",
    )  # fmt: skip


def _button(name: str, text: str, title: str, *, pressed: bool = False) -> Markup:
    return tag("button", text, type="button", id=name, title=title, class_="switch",
               aria_pressed="false" if pressed else None)  # fmt: skip


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _sheets(collection: Collection, side: int) -> list[str]:
    thumbnails, number = Thumbnails(collection.store, cache_bytes=0), len(collection)
    sheets = []
    with progress("Thumbnails", number) as advance:
        for start in range(0, number, SHEET_IMAGES):
            rows = range(start, min(start + SHEET_IMAGES, number))
            sheets.append(data_uri(thumbnails.sheet(rows, side), "image/jpeg"))
            advance(len(rows))
    return sheets


def _neighbors(collection: Collection) -> dict[str, Any]:
    """The nearest rows and their cosines, [N, k] each, as base64 of int32 and float32."""
    number = len(collection)
    k = min(STATIC_NEIGHBORS, number - 1)
    if k < 1:
        return {"k": 0, "neighbors": "", "cosines": ""}
    unit = unit_vectors(collection.vectors)
    rows = np.empty((number, k), dtype="<i4")
    cosines = np.empty((number, k), dtype="<f4")
    with progress("Neighbors", number) as advance:
        for start in range(0, number, CHUNK):
            values, nearest = nearest_rows(unit, unit[start : start + CHUNK], k + 1)
            for row in range(start, start + len(nearest)):
                # Of k + 1 the image itself goes, or the last, where k copies of it come before.
                others = np.flatnonzero(nearest[row - start] != row)[:k]
                rows[row], cosines[row] = nearest[row - start, others], values[row - start, others]
            advance(len(nearest))
    return {"k": k, "neighbors": _text(rows.tobytes()), "cosines": _text(cosines.tobytes())}
