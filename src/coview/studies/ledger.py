"""The ledger: every claim of the studies in one folder, with what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coview.core.files import entries, write_bytes, write_json
from coview.core.run_folder import RunFolder, read_object
from coview.core.text import plural
from coview.reports.html import Child, Markup, tag
from coview.reports.tables import cut_table
from coview.studies.claims import NOT_YET, WORDS, p_values
from coview.studies.page import document, is_tiny


def write_ledger(root: Path) -> Path:
    """Write claims.json and claims.html of all studies whose study.json lies in ``root``.

    Returns the place of the page.
    """
    rows = ledger_rows(root)
    write_json(root / "claims.json", {"summary": summary(rows), "claims": rows})
    write_bytes(root / "claims.html", ledger_page(rows).encode("utf-8", "replace"))
    return root / "claims.html"


def ledger_rows(root: Path) -> list[dict[str, Any]]:
    """Every claim with its study, verdict (None before all its runs have ended), reason, scale and
    seeds, whether all runs have "ended", and how often it was decided "earlier"."""
    rows = []
    for name in (name for name in entries(root) if (root / name).is_dir()):
        content = read_object(root / name / "study.json") or {}
        for claim in content.get("claims", ()):
            card = content.get("card", {})
            rows.append({
                "study": content["study"], "folder": name, "claim": claim["text"],
                "source": claim.get("source", ""),
                "holds": claim["holds"] if content["ended"] else None,
                "because": claim["because"], "p": claim.get("p"), "ended": content["ended"],
                "scale": card.get("scale", ""), "data": card.get("data", ""),
                "seeds": card.get("seeds", ""), "earlier": len(content.get("earlier", ())),
            })  # fmt: skip
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The ledger in a sentence, and how many claims wait for runs.

    >>> summary([{"holds": True}, {"holds": None}])
    "2 claims about the papers' methods were tested here: 1 holds, 0 do not hold, 1 is undecided."
    """
    real = [row for row in rows if not is_tiny(row)]
    tiny = plural(len(rows) - len(real), "claim") if len(real) < len(rows) else ""
    beside = f" Of the scale tiny, whose figures mean nothing: {tiny}." if tiny else ""
    count, rows = len(real), [row for row in real if row.get("ended", True)]
    waiting = f" {count - len(rows)} more not decided yet." if len(rows) < count else ""
    counts = Counter(row["holds"] for row in rows)
    yes, no, open_ = (counts[key] for key in (True, False, None))
    tested = (
        f"{plural(len(rows), 'claim')} about the papers' methods "
        f"{_verb(len(rows), 'was', 'were')} tested"
    )
    return (
        f"{tested} here: {yes} {_verb(yes, 'holds', 'hold')}, "
        f"{no} {_verb(no, 'does', 'do')} not hold, {open_} {_verb(open_, 'is', 'are')} undecided."
        + waiting
        + beside
    )


def _verb(number: int, one: str, more: str) -> str:
    return one if number == 1 else more


def page_of(folder: str) -> str:
    """The address of a study's page from that of the ledger."""
    return RunFolder(Path(folder)).report_path.as_posix()


def ledger_page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The ledger as a page that loads nothing, with a link to each study."""
    table: list[tuple[Child, ...]] = [
        (
            tag("a", row["study"], href=page_of(row["folder"])), row["claim"],
            tag("b", WORDS[row["holds"]] if row["ended"] else NOT_YET), row["because"],
            p_values(row), f"scale {row['scale'] or '?'}, seeds {row['seeds']}"
            + (f", decided {plural(row['earlier'], 'time')} before" if row["earlier"] else ""),
        )
        for row in rows
    ]  # fmt: skip
    heads = ("study", "claim", "verdict", "because", "p, corrected", "measured")
    body: Markup = tag("main", tag("section", cut_table(heads, table)))
    return document(
        "Claims about the papers' methods", tag("p", summary(rows), class_="lead"), body
    )
