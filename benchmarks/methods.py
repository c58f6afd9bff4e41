"""Every method on CIFAR-10 at CPU size, with labels hidden: does it learn, and how much.

    python benchmarks/methods.py TRAIN TEST [--images 10000] [--views 400000] [--seeds 3]
                                 [--only NAME ...]

All runs have one network (ResNet-18, width 1/4, medium stem), one optimizer and schedule, batch 128
and the same number of views: a method with four views of an image makes half as many epochs as one
with two. TRAIN and TEST are files of CIFAR-10; training never sees the labels but for the two
supervised methods. kNN: k = 10, cosine, votes weighted, on h, weights at the end of training, the
images of training as neighbors, all of TEST judged.

Each run's result is written beside --keep as soon as it is there, so that a stopped measurement
goes on where it was. The table gives mean and 95 % interval (Student's t) over the seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from coview.cli.main import share_cores

share_cores()

import coview  # noqa: E402
from coview.encoders import parse_encoder  # noqa: E402
from coview.methods import logo, multi_crop  # noqa: E402
from coview.recipes import Recipe, change, recipe  # noqa: E402
from setting import setting  # noqa: E402

ENCODER = "resnet18/4-medium"
BASES = ("simclr", "simclr-v2", "moco", "byol", "simsiam")
LOGO_OVER = ("simclr", "moco", "byol", "simsiam")
# Two-sided 95 % points of Student's t at n - 1 degrees of freedom.
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def candidates() -> dict[str, Recipe]:
    """Every method as a recipe: alone, with local crops, and with LoGo's repulsion."""
    found = {name: recipe(f"{name}-cpu") for name in (*BASES, "supcon", "supervised")}
    # simclr-cpu has an optimizer and a temperature of its own.
    found["simclr"] = change(found["simclr"], temperature=0.2, learning_rate=2e-3)
    for name in LOGO_OVER:
        base = found[name]
        pairs = logo(base.method, affinity="none")
        found[f"{name}, multi-crop"] = replace(base, method=pairs)
        found[f"{name}, LoGo"] = replace(base, method=logo(base.method))
    found["simclr, multi-crop as a set"] = replace(
        found["simclr"], method=multi_crop(found["simclr"].method)
    )
    return found


def measured(name: str, chosen: Recipe, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """kNN accuracy trained and untrained, the verdict and the seconds of one run."""
    views = len(chosen.method.views.views)
    run_recipe = replace(
        chosen, encoder=parse_encoder(ENCODER), epochs=given.views / views / given.images,
        seed=seed, schedule=replace(chosen.schedule, warmup_epochs=1),
    )  # fmt: skip
    start = time.perf_counter()
    # What the runs say goes to the error stream, so that the table stands alone.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        out = Path(folder) / "run"
        run = coview.pretrain(given.train, recipe=run_recipe, out=out, limit=given.images)
        seconds = time.perf_counter() - start
        results = coview.evaluate(
            out, given.train, test=given.test, protocols=["knn"], limit=given.images
        )
        verdict = run.verdict or {"label": "not ended"}
    accuracies = {
        result.subject: result.value
        for result in results
        if result.layer in ("h", "pixels")
        and (result.setting["k"], bool(result.setting["temperature"])) == (10, True)
    }
    return {
        "accuracy": accuracies["trained"], "untrained": accuracies["untrained"],
        "pixels": accuracies["pixels"], "verdict": verdict["label"], "seconds": seconds,
    }  # fmt: skip


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The rows, best first."""
    lines = [
        "| method | kNN (k = 10) | untrained | gain | verdicts | minutes a run | seeds |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    rows = []
    for name, runs in results.items():
        values = [100 * run["accuracy"] for run in runs.values()]
        before = [100 * run["untrained"] for run in runs.values()]
        spread = (
            f" ± {STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values)):.1f}"
            if len(values) in STUDENT
            else ""
        )
        verdicts = sorted({str(run["verdict"]) for run in runs.values()})
        minutes = statistics.mean(run["seconds"] for run in runs.values()) / 60
        mean, start = statistics.mean(values), statistics.mean(before)
        figures = f"{mean:.1f}{spread} % | {start:.1f} % | {mean - start:+.1f}"
        words = f"{', '.join(verdicts)} | {minutes:.1f} | {len(values)}"
        rows.append((mean, f"| {name} | {figures} | {words} |"))
    return "\n".join([*lines, *(line for _, line in sorted(rows, reverse=True))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--views", type=int, default=400_000, help="of all images together")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=tuple(candidates()))
    parser.add_argument("--keep", type=Path, default=Path("runs/bench-methods.json"))
    given = parser.parse_args()
    about = setting()
    results = json.loads(given.keep.read_text()) if given.keep.exists() else {}
    wanted = {n: r for n, r in candidates().items() if given.only is None or n in given.only}
    for seed in range(given.seeds):
        for name, chosen in wanted.items():
            if str(seed) in results.get(name, {}):
                continue
            print(f"== {name}, seed {seed}", file=sys.stderr, flush=True)
            results.setdefault(name, {})[str(seed)] = measured(name, chosen, seed, given)
            given.keep.parent.mkdir(parents=True, exist_ok=True)
            given.keep.write_text(json.dumps(results, indent=1))
    print(f"methods: {about}\n")
    print(
        f"{parse_encoder(ENCODER).label()}, {given.images:,} images, {given.views:,} views a run, "
        "batch 128, AdamW; labels hidden but from supcon and supervised.\n"
    )
    print(table({name: results[name] for name in wanted}))


if __name__ == "__main__":
    main()
