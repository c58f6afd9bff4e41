"""Which images to label: a linear probe on chosen labels beside one on labels drawn at random.

    python benchmarks/selection.py vectors RUN TRAIN TEST FILE [--checkpoint STEP]
    python benchmarks/selection.py accuracy FILE [--pool 10000]
    python benchmarks/selection.py speed FILE [--number 200]

`vectors` writes the features h of all images to FILE (.npz).

`accuracy`: each of 5 seeds draws a pool from TRAIN (--pool images, or a share of them below 1);
each strategy chooses 10, 40 and 200 images of the pool by their features alone; their labels train
the few-label probe of `coview evaluate`; its accuracy on all of TEST counts. The pools are the same
for all strategies, so differences are paired. The figure of random of a pool is the mean of 5
draws. Intervals are Student's over the seeds. Nothing is chosen on TEST.

`speed`: FILE is one of `benchmarks/map.py vectors`. The seconds of the processor for choosing
--number of all its rows, and the memory beyond that of the rows.
"""

from __future__ import annotations

import argparse
import resource
import time

from coview.cli.main import share_cores

share_cores()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from coview.data.spec import DataSpec  # noqa: E402
from coview.embeddings.neighbors import neighbors  # noqa: E402
from coview.embeddings.selection import STRATEGIES, select_rows  # noqa: E402
from coview.evaluation import extract  # noqa: E402
from coview.evaluation.features import Features  # noqa: E402
from coview.evaluation.few_labels import few_label_classifier  # noqa: E402
from coview.evaluation.statistics import mean_interval  # noqa: E402
from coview.runs.load import load_subject  # noqa: E402
from setting import setting  # noqa: E402

NUMBERS, SEEDS, RANDOM_DRAWS = (10, 40, 200), 5, 5
NESTED = ("coverage", "k-center", "random")
"""Strategies whose first 10 of 200 are their 10."""


def vectors(given: argparse.Namespace) -> None:
    subject = load_subject(given.run, given.checkpoint)
    arrays = {}
    for part in ("train", "test"):
        spec = DataSpec.of(getattr(given, part), None, needs_labels=True, size=subject.view.size)
        features = extract(subject, spec.open(), layers=("h",))
        arrays |= {f"{part}_h": features.layers["h"].numpy(), f"{part}_labels": features.labels}
    np.savez(given.file, **arrays)


def accuracy(given: argparse.Namespace) -> None:
    content = np.load(given.file)
    train, test = (
        Features(
            layers={"h": torch.from_numpy(content[f"{part}_h"])},
            ids=torch.arange(len(content[f"{part}_h"])),
            labels=torch.from_numpy(content[f"{part}_labels"]),
        )
        for part in ("train", "test")
    )
    count = round(given.pool * len(train)) if given.pool < 1 else int(given.pool)
    print(f"selection: {setting()}\n")
    print(f"{given.file}: pools of {count:,} of {len(train):,} images, {len(test):,} test images")
    print(f"kNN accuracy with all labels (k = 20): {knn(train, test):.1f} %\n", flush=True)
    scores: dict[tuple[str, int], list[float]] = {}
    classes: dict[tuple[str, int], list[float]] = {}
    for seed in range(SEEDS):
        drawn = np.random.default_rng([seed, 7]).choice(len(train), count, replace=False)
        pool = torch.from_numpy(np.sort(drawn))
        for strategy in STRATEGIES:
            results = [
                chosen_scores(train, test, pool, strategy, draw)
                for draw in range(seed * RANDOM_DRAWS, seed * RANDOM_DRAWS + RANDOM_DRAWS)
                if strategy == "random" or draw == seed * RANDOM_DRAWS
            ]
            for number in NUMBERS:
                values = [result[number] for result in results]
                key = strategy, number
                scores.setdefault(key, []).append(100 * float(np.mean([v for v, _ in values])))
                classes.setdefault(key, []).append(float(np.mean([n for _, n in values])))
    table(scores, classes)


def knn(train: Features, test: Features) -> float:
    _, rows = neighbors(train.layers["h"], test.layers["h"], 20)
    votes = torch.nn.functional.one_hot(train.labels[rows]).sum(1)
    return 100 * float((votes.argmax(1) == test.labels).double().mean())


def chosen_scores(
    train: Features, test: Features, pool: torch.Tensor, strategy: str, seed: int
) -> dict[int, tuple[float, int]]:
    """Number of labels -> (test accuracy, classes among them)."""
    rows, result = train.layers["h"][pool], {}
    longest = select_rows(rows, max(NUMBERS), strategy, seed=seed) if strategy in NESTED else []
    for number in NUMBERS:
        choices = longest[:number] or select_rows(rows, number, strategy, seed=seed)
        chosen = pool[torch.tensor([choice.row for choice in choices])]
        labels = train.labels[chosen]
        kinds = len(labels.unique())
        if kinds == 1:
            value = float((test.labels == labels[0]).double().mean())
        else:
            classifier, _ = few_label_classifier(
                train.layers["h"][chosen], labels, train.ids[chosen], seed=0
            )
            value = classifier.accuracy(test.layers["h"], test.labels)
        result[number] = value, kinds
    return result


def table(
    scores: dict[tuple[str, int], list[float]], classes: dict[tuple[str, int], list[float]]
) -> None:
    print("Accuracy in % (mean over the seeds, ± half of the 95 % interval); in brackets the")
    print("difference to random of the same pool, ± likewise; then classes among the labels.\n")
    print(f"| strategy | {' | '.join(f'{n} labels' for n in NUMBERS)} | classes |")
    print(f"|---|{'---:|' * len(NUMBERS)}---:|")
    for strategy in STRATEGIES:
        cells = []
        for number in NUMBERS:
            values = np.array(scores[strategy, number])
            text = plus_minus(values)
            if strategy != "random":
                text += f" ({plus_minus(values - scores['random', number], signed=True)})"
            cells.append(text)
        kinds = " / ".join(f"{np.mean(classes[strategy, number]):.1f}" for number in NUMBERS)
        print(f"| {strategy} | {' | '.join(cells)} | {kinds} |")


def plus_minus(values: np.ndarray, *, signed: bool = False) -> str:
    low, high = mean_interval(values.tolist())
    mean = (low + high) / 2
    return f"{mean:+.1f} ± {(high - low) / 2:.1f}" if signed else (
        f"{mean:.1f} ± {(high - low) / 2:.1f}"
    )  # fmt: skip


def speed(given: argparse.Namespace) -> None:
    rows = torch.from_numpy(np.load(given.file)["h"])
    print(f"selection: {setting()}; {torch.get_num_threads()} threads\n")
    print(f"{given.number} of {len(rows):,} vectors of {rows.shape[1]} numbers\n")
    print(
        "| strategy | seconds of the processor | peak memory beyond the vectors |\n|---|---:|---:|"
    )
    for strategy in STRATEGIES:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        select_rows(rows, given.number, strategy)
        seconds = time.process_time() - start
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"| {strategy} | {seconds:.1f} | {peak:,.0f} MB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("vectors")
    for name in ("run", "train", "test", "file"):
        writing.add_argument(name)
    writing.add_argument("--checkpoint", type=int)
    judging, timing = (verbs.add_parser(name) for name in ("accuracy", "speed"))
    for verb in (judging, timing):
        verb.add_argument("file")
    judging.add_argument("--pool", type=float, default=10_000)
    timing.add_argument("--number", type=int, default=200)
    given = parser.parse_args()
    {"vectors": vectors, "accuracy": accuracy, "speed": speed}[given.verb](given)


if __name__ == "__main__":
    main()
