"""Few labels of CIFAR-10: fine-tuning, a linear probe and training from scratch, side by side.

    python benchmarks/finetuning.py TRAIN TEST [--run RUN] [--draws 3] [--labels 1% 10%]

RUN is a simclr-cpu run on TRAIN without labels; without it one is trained for half an hour. Each
row is `coview finetune RUN TRAIN --test TEST --labels L --label-draw D --seed D --from-layer K`.
The draws choose other labels and other first weights of the classifier. Nothing is chosen by the
test images; the settings of finetune-cpu were chosen on a part of TRAIN (docs/lab/0004).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from commands import coview, interval
from setting import setting

SUBJECTS = ("fine-tuned", "linear probe", "from scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--labels", nargs="+", default=["1%", "10%"])
    parser.add_argument("--layers", nargs="+", default=["0", "1"])
    parser.add_argument("--keep", type=Path, help="a new folder for the runs, to look at")
    given = parser.parse_args()
    print(f"finetuning: {setting()}\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        run = given.run or folder / "pretrained"
        if given.run is None:
            coview("pretrain", given.train, "--recipe", "simclr-cpu", "--budget", "30m",
                   "--out", str(run))  # fmt: skip
        description = json.loads((run / "run.json").read_text())
        print(
            f"Pretrained: {description['name']}, {description['encoder']}, "
            f"{description['epochs']:g} epochs without labels.\n"
        )
        print("| labels | layer | fine-tuned | linear probe | from scratch | verdicts | minutes |")
        print("|---|---:|---:|---:|---:|---|---:|")
        for labels in given.labels:
            for layer in given.layers:
                row(given, folder, run, labels, layer)


def row(given: argparse.Namespace, folder: Path, run: Path, labels: str, layer: str) -> None:
    """One line of the table: all draws of one number of labels and one layer."""
    values: dict[str, list[float]] = {subject: [] for subject in SUBJECTS}
    verdicts, seconds = set(), []
    for draw in range(given.draws):
        out = folder / f"{labels.rstrip('%')}-layer{layer}-draw{draw}"
        seconds.append(coview(
            "finetune", str(run), given.train, "--test", given.test, "--labels", labels,
            "--label-draw", str(draw), "--seed", str(draw), "--from-layer", layer,
            "--out", str(out),
        ))  # fmt: skip
        results = json.loads((out / "evaluation" / "finetune.json").read_text())["results"]
        for result in results:
            values[result["subject"]].append(result["value"])
        verdicts.add(json.loads((out / "verdict.json").read_text())["label"])
    cells = [interval(values[subject]) for subject in SUBJECTS]
    minutes = statistics.mean(seconds) / 60
    print(
        f"| {labels} | {layer} | {' | '.join(cells)} | {', '.join(sorted(verdicts))} "
        f"| {minutes:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
