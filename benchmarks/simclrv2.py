"""SimCLRv2's pipeline on CIFAR-10 at CPU size: its tables as they are published.

    python benchmarks/simclrv2.py TRAIN TEST --out FOLDER [--pretrained RUN] [--distill-epochs 20]
    python benchmarks/simclrv2.py TRAIN TEST --out FOLDER --print    what has ended, trains nothing

It is `coview study simclrv2/chain TRAIN --test TEST` with the options below, which goes on where it
was stopped. Nothing is chosen by the test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import coview
from coview.studies.execution import place_of
from setting import setting

NAME = "simclrv2/chain"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--distill-epochs", type=float)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--print", action="store_true", dest="only_print")
    given = parser.parse_args()
    if not given.only_print:
        coview.study(
            NAME, given.train, test=given.test, out=given.out, draws=given.draws,
            pretrained=given.pretrained, distill_epochs=given.distill_epochs,
        )  # fmt: skip
    print(f"simclrv2: {setting()}\n")
    print(page(json.loads((place_of(NAME, given.out) / "study.json").read_text()), given.out))


def page(study: dict[str, Any], folder: Path) -> str:
    """The tables and claims of a study.json in Markdown, and the runs that are missing."""
    missing = [cell["name"] for cell in study["cells"] if not cell["ended"]]
    blocks = [
        *(f"{claim['text']}: {WORDS[claim['holds']]}. {claim['because']}"
          for claim in study["claims"]),
        *(f"**{table['title']}.** {table['note']}\n\n{markdown(table)}"
          for table in study["tables"]),
        "\n".join([f"{len(study['cells']) - len(missing)} of {len(study['cells'])} runs have ended."
                   f"{' Missing:' if missing else ''}", *(f"- {name}" for name in missing)]),
        "\n".join(f"- {name}: {value}" for name, value in study["card"].items()),
        f"Training took {minutes(study, folder):.0f} minutes in all, as the logs of the runs say.",
    ]  # fmt: skip
    return "\n\n".join(blocks)


def markdown(table: dict[str, Any]) -> str:
    rules = ["---", *["---:"] * (len(table["columns"]) - 1)]
    lines = [table["columns"], rules, *table["rows"]]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def minutes(study: dict[str, Any], folder: Path) -> float:
    """Of the steps of all runs, the nested ones included, without evaluation."""
    seconds = 0.0
    for cell in study["cells"]:
        for log in (folder / cell["folder"]).glob("**/metrics.jsonl"):
            rows = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
            seconds += max((row.get("seconds") or 0.0 for row in rows), default=0.0)
    return seconds / 60


WORDS = {True: "yes", False: "no", None: "not decided"}

if __name__ == "__main__":
    main()
