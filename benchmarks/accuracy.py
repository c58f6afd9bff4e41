"""What a run reaches, and in what time: the demo, and CIFAR-10 without labels on a CPU.

    python benchmarks/accuracy.py demo
    python benchmarks/accuracy.py cifar TRAIN TEST [--recipe simclr-cpu] [--budget 30m] [--seed 0]

Each is the command that a user would type, timed from its start to its end. TRAIN and TEST are
anything that `coview pretrain` takes, with labels for the evaluation; training never sees them.
The weights are those at the end of training; within a run nothing is chosen by the test part. The
settings of simclr-cpu themselves were compared on it (docs/lab/0003).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from setting import setting


def timed(*words: str) -> float:
    """Run coview; its output goes to the error stream. Returns the seconds.

    Raises CalledProcessError where the command fails.
    """
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "coview", *words], check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def accuracies(run: Path) -> None:
    """The table of kNN (k = 10 and 20, votes weighted) and linear accuracy on h."""
    print("\n| | trained | untrained | raw pixels |\n|---|---:|---:|---:|")
    for protocol in ("knn", "linear"):
        result = json.loads((run / "evaluation" / f"{protocol}.json").read_text())
        rows: dict[str, dict[str, float]] = {}
        for row in result["results"]:
            setting_ = row["setting"]
            if row["layer"] not in ("h", "pixels") or setting_.get("k", 10) not in (10, 20):
                continue
            if protocol == "knn" and setting_["temperature"] is None:
                continue
            name = f"kNN, k = {setting_['k']}" if protocol == "knn" else "linear probe"
            rows.setdefault(name, {})[row["subject"]] = row["value"]
        for name, values in rows.items():
            cells = [f"{100 * values[s]:.1f} %" for s in ("trained", "untrained", "pixels")]
            print(f"| {name} | {' | '.join(cells)} |")
    about = json.loads((run / "run.json").read_text())
    verdict = json.loads((run / "verdict.json").read_text())
    print(f"\n{about['encoder']}, {about['epochs']:g} epochs, {about['total_steps']:,} steps. ")
    print(f"Verdict: {verdict['sentence']}")


def demo(folder: Path) -> None:
    seconds = timed("demo", "--out", str(folder / "demo"))
    print(f"coview demo: {seconds:.0f} s, evaluation and report included")
    accuracies(folder / "demo")


def cifar(folder: Path, given: argparse.Namespace) -> None:
    run = folder / "cifar"
    words = [f"--recipe={given.recipe}", f"--budget={given.budget}", f"--seed={given.seed}"]
    seconds = timed("pretrain", given.train, "--out", str(run), *words)
    judged = timed("evaluate", str(run), given.train, "--test", given.test)
    print(f"coview pretrain {' '.join(words)}: {seconds / 60:.1f} min from start to report;")
    print(f"coview evaluate: {judged / 60:.1f} min")
    accuracies(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("demo", "cifar"))
    parser.add_argument("train", nargs="?")
    parser.add_argument("test", nargs="?")
    parser.add_argument("--recipe", default="simclr-cpu")
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new folder for the run, to look at")
    given = parser.parse_args()
    if given.what == "cifar" and given.test is None:
        parser.error("cifar needs TRAIN and TEST")
    print(f"{given.what}: {setting()}\n")
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "demo":
            demo(given.keep or Path(folder))
        else:
            cifar(given.keep or Path(folder), given)


if __name__ == "__main__":
    main()
