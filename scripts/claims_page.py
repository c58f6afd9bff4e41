"""The claims that were tested here, as files of docs/claims/.

python scripts/claims_page.py STUDIES docs/claims      STUDIES: the folder of `coview study --out`

Writes one JSON file for each study, without its runs, and README.md with a row for each claim.
Studies that were written before from other folders stay.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from coview.core.files import read_json
from coview.core.version import VERSION
from coview.studies.ledger import WORDS, summary

KEPT = ("study", "claim", "source", "card", "ended", "claims", "tables", "drawings")


def collect(studies: Path, target: Path) -> None:
    """Copy what the studies of a folder say, with the name of the data in place of its path."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(studies.glob("*/study.json")):
        content = read_json(path)
        card = {**content["card"], "data": short(str(content["card"]["data"]))}
        card |= {"version": VERSION, "written": datetime.date.today().isoformat()}
        kept = {name: content[name] for name in KEPT if name in content} | {"card": card}
        text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
        (target / f"{path.parent.name}.json").write_text(text, encoding="utf-8")


def short(data: str) -> str:
    """A path by its last two parts; other words as they are.

    >>> short("/data/cifar10/train.parquet"), short("scenes")
    ('cifar10/train.parquet', 'scenes')
    """
    return "/".join(data.split("/")[-2:]) if data.startswith("/") else data


def rows_of(target: Path) -> list[dict[str, Any]]:
    """Every claim of the studies in docs/claims."""
    return [
        {"study": content["study"], "card": content["card"], "ended": content["ended"], **claim}
        for content in (read_json(path) for path in sorted(target.glob("*.json")))
        for claim in content["claims"]
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
        "decided.",
        "",
        "| study | claim | verdict | because | data, seeds, date |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        card = row["card"]
        measured = f"{card['data']}; seeds {card['seeds']}; {card['written']}"
        lines.append(
            f"| {row['study']} | {row['text']} | {WORDS[row['holds']]} | {row['because']} "
            f"| {measured} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    collect(Path(sys.argv[1]), Path(sys.argv[2]))
    Path(sys.argv[2], "README.md").write_text(page(Path(sys.argv[2])), encoding="utf-8")
