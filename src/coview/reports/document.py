"""One HTML page with style, script and policy inside, which loads nothing and opens offline."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from coview.reports.html import Child, Markup, tag

Section = tuple[str, str, Child] | None
"""Identifier, title and content; None is left out."""


def build_document(
    title: str, header: Child, sections: Sequence[Section], *, version: str = "",
    reload_seconds: float | None = None,
) -> str:  # fmt: skip
    """A page with links to its sections, where there are several.

    ``version``: of the Coview that made what it shows.
    ``reload_seconds``: the page loads itself again after so long; None: it stays.

    >>> build_document("Two runs", None, [("a", "A", "text")])[:15]
    '<!doctype html>'
    """
    shown = [section for section in sections if section]
    links = [tag("a", name, href=f"#{identifier}") for identifier, name, _ in shown]
    script = resources.files(__package__).joinpath("report.js").read_text("utf-8")
    content = (
        header, tag("nav", links, aria_label="Sections") if len(links) > 1 else None,
        tag("main", [_section(*entry) for entry in shown]),
        tag("footer", f"Written by Coview {version}. This page loads nothing and opens offline."),
        tag("div", id="tip", role="status", aria_live="polite", hidden=True),
        tag("script", Markup(script)),
    )  # fmt: skip
    body = tag("body", content, data_reload=reload_seconds)
    document = tag("html", _head(title, script), body, lang="en")
    return f"<!doctype html>\n{document}\n"


def _section(identifier: str, title: str, content: Child) -> Markup:
    heading = tag("h2", title, id=f"{identifier}-title")
    return tag("section", heading, content, id=identifier, aria_labelledby=f"{identifier}-title")


def _head(title: str, script: str) -> Markup:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Only this script runs, and nothing is fetched, even if a file name holds markup.
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    style = resources.files(__package__).joinpath("report.css").read_text("utf-8")
    return tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title), tag("style", Markup(style)),
    )  # fmt: skip
