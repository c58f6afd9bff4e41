"""Detection on a pretrained encoder beside the same network from scratch, at equal settings.

    python benchmarks/detection.py TRAINED DATA [--seeds 0 1] [more words of coview detect]

TRAINED is a run or an exported encoder, DATA annotated images. Each seed is one command, `coview
detect TRAINED DATA --recipe detect-cpu --seed S`, which trains both networks; the seed is of the
order, the flips and the first weights of what stands on the encoder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from commands import coview, interval
from setting import setting


def figures(run: Path) -> dict[tuple[str, str], dict[str, float]]:
    """(layer, metric) -> subject -> value, and those of the training images."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for subject, folder in (("fine-tuned", run), ("from scratch", run / "scratch")):
        content: dict[str, Any] = json.loads((folder / "evaluation/detect.json").read_text())
        for result in content["results"]:
            if result["subject"] == "fine-tuned":
                found.setdefault((result["layer"], result["metric"]), {})[subject] = result["value"]
        for name, value in content["training"].items():
            found.setdefault(("training images", name), {})[subject] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained")
    parser.add_argument("data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--recipe", default="detect-cpu")
    parser.add_argument("--keep", type=Path, help="a folder for the runs, to look at")
    given, more = parser.parse_known_args()
    print(f"detection: {setting()}\n")
    print(f"{given.recipe}, seeds {', '.join(map(str, given.seeds))} {' '.join(more)}\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        seconds, values = [], []
        for seed in given.seeds:
            out = folder / f"seed-{seed}"
            words = [given.trained, given.data, "--recipe", given.recipe, "--seed", str(seed),
                     "--out", str(out), *more]  # fmt: skip
            seconds.append(coview("detect", *words))
            values.append(figures(out))
            verdict = json.loads((out / "verdict.json").read_text())
            print(f"seed {seed}, {seconds[-1] / 60:.1f} minutes: {verdict['sentence']}\n")
    print("| of | figure | pretrained | from scratch |")
    print("|---|---|---:|---:|")
    for layer, metric in values[0]:
        cells = [
            interval([each[layer, metric][subject] for each in values])
            for subject in ("fine-tuned", "from scratch")
        ]
        print(f"| {layer} | {metric} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
