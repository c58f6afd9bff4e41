"""Every protocol on one encoder: figure and time; and lightly's evaluation on the same features.

    python benchmarks/protocols.py RUN TRAIN TEST [--checkpoint STEP] [--protocols knn,linear]
    python benchmarks/protocols.py RUN TRAIN TEST --protocols "" --peer /path/to/lightly/bin/python

The encoder of RUN stands beside the untrained one and raw pixels; each protocol judges all three,
every layer. Times are seconds of the processor, all threads together, and in brackets on the wall,
which are more on a machine with other work. OMP_NUM_THREADS limits the threads. With `--peer` a
Python that has lightly 1.5 or later classifies the features h of RUN by lightly's kNN and lightly's
linear classifier (SGD, 90 epochs), and Coview does the same beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from coview.cli.main import share_cores

share_cores()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from coview import evaluation  # noqa: E402
from coview.core.rng import Stream, permutation  # noqa: E402
from coview.evaluation.sgd_linear import SETTINGS, LayerTraining  # noqa: E402
from coview.options import EvaluateOptions  # noqa: E402
from coview.runs.evaluate import open_evaluation  # noqa: E402
from setting import setting  # noqa: E402

KNN_SETTINGS = ((20, 0.07), (200, 0.1))
Seconds = tuple[float, float]
"""Of the processor and on the wall."""
PEER = Path(__file__).with_name("protocols_peer.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--checkpoint", type=int)
    parser.add_argument("--protocols", help="names with commas (default: all but transfer)")
    parser.add_argument("--peer", help="a Python that has lightly")
    parser.add_argument("--epochs", type=int, default=90, help="of the peer's linear classifier")
    given = parser.parse_args()
    options = EvaluateOptions(
        subjects=(given.run,), data=given.train, test=given.test, checkpoint=given.checkpoint,
        device="cpu",
    )  # fmt: skip
    print(f"protocols: {setting()}; {torch.get_num_threads()} thread(s)\n", flush=True)
    benchmark = open_evaluation(options).benchmark
    shapes: dict[str, int] = {}
    seconds: dict[str, Seconds] = {}
    with timed(seconds, "features"):
        for train, _ in benchmark.features.values():
            shapes |= {f"{layer} columns": rows.shape[1] for layer, rows in train.layers.items()}
    print(
        f"{len(benchmark.train):,} training and {len(benchmark.test):,} test images; features of "
        f"all subjects and layers: {spent(seconds['features'])} s; {shapes}\n", flush=True,
    )  # fmt: skip
    if given.protocols is None:
        names = [name for name, protocol in evaluation.PROTOCOLS.items() if not protocol.needs]
    else:
        names = [name for name in given.protocols.split(",") if name]
    if names:
        print("| protocol | figure | trained | untrained | pixels | seconds |")
        print("|---|---|---:|---:|---:|---:|", flush=True)
    for name in names:
        print_protocol(benchmark, evaluation.PROTOCOLS[name])
    if given.peer:
        compare_with_peer(benchmark, given.peer, given.epochs)


def print_protocol(benchmark: evaluation.Benchmark, protocol: evaluation.Protocol) -> None:
    """One row for each metric and setting of the layer that represents a subject."""
    seconds: dict[str, Seconds] = {}
    with timed(seconds, "all"):
        results = protocol.evaluate(benchmark)
    columns = {
        subject.name: [
            r for r in results if r.subject == subject.name and r.layer == subject.encoder_layer
        ]
        for subject in benchmark.subjects
    }
    for row, first in enumerate(columns["trained"]):
        figures = [figure(column[row]) for column in columns.values()]
        words = ", ".join(f"{key} {text(value)}" for key, value in first.setting.items())
        end = spent(seconds["all"]) if row == 0 else ""
        print(
            f"| {protocol.name if row == 0 else ''} | {first.metric}, {words} | "
            f"{' | '.join(figures)} | {end} |", flush=True,
        )  # fmt: skip


def figure(result: evaluation.Result) -> str:
    """The value with its interval, in per cent where it is a share."""
    low, high = result.interval
    if result.metric in {"rankme", "alignment", "uniformity"}:
        return f"{result.value:.2f} ({low:.2f} to {high:.2f})"
    return f"{100 * result.value:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def spent(seconds: Sequence[float]) -> str:
    return f"{seconds[0]:.1f} ({seconds[1]:.1f})"


def text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def compare_with_peer(benchmark: evaluation.Benchmark, peer: str, epochs: int) -> None:
    """lightly's kNN and linear classifier on the features h of the trained encoder, and ours."""
    train, test = benchmark.features["trained"]
    rows, labels, queries = train.layers["h"], train.labels, test.layers["h"]
    assert labels is not None
    assert test.labels is not None
    ours: dict[str, tuple[float, Seconds]] = {}
    seconds: dict[str, Seconds] = {}
    for k, temperature in KNN_SETTINGS:
        name = f"kNN, k {k}, temperature {temperature:g}"
        with timed(seconds, name):
            accuracy = evaluation.knn_accuracy(
                rows, labels, queries, test.labels, k=k, temperature=temperature
            )
        ours[name] = accuracy, seconds[name]
    name = f"linear, SGD, {epochs} epochs"
    with timed(seconds, name):
        training = LayerTraining(SETTINGS["lightly"], tuple(rows.shape), int(labels.max()) + 1,
                                 epochs, benchmark.seed)  # fmt: skip
        for epoch in range(epochs):
            order = permutation(
                benchmark.seed, Stream.PROBE, train.ids.numpy(), draw_index=1000 + epoch
            )
            training.run_epoch(rows, labels, torch.from_numpy(order))
        predicted = training.linear(queries).argmax(1)
    ours[name] = float((predicted == test.labels).double().mean()), seconds[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npz"
        np.savez(
            path, train=rows.numpy(), train_labels=labels.numpy(), test=queries.numpy(),
            test_labels=test.labels.numpy(),
        )  # fmt: skip
        command = [peer, str(PEER), str(path), str(epochs), str(torch.get_num_threads())]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = json.loads(said.splitlines()[-1])
    print(f"\nOn the same features ({rows.shape[1]} columns), lightly {theirs.pop('version')}:\n")
    print("| | Coview | lightly | Coview, seconds | lightly, seconds |")
    print("|---|---:|---:|---:|---:|")
    for name, (accuracy, taken) in ours.items():
        accuracy_there, taken_there = theirs[name]
        print(
            f"| {name} | {100 * accuracy:.2f} % | {100 * accuracy_there:.2f} % | {spent(taken)} | "
            f"{spent(taken_there)} |"
        )


@contextmanager
def timed(seconds: dict[str, Seconds], name: str) -> Iterator[None]:
    starts = time.process_time(), time.perf_counter()
    yield
    seconds[name] = time.process_time() - starts[0], time.perf_counter() - starts[1]


if __name__ == "__main__":
    main()
