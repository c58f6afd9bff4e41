"""Steps a second of SimCLR on a CPU: networks of which a budget chooses, and some of torchvision's.

    python benchmarks/encoders.py [--size 32 --size 64] [--rounds 3]

Batch 128, two views of noise, the machine's precision. In a round every network makes steps for a
second or more, at least one; the first round warms up. A ratio is the median of the ratios within a
round. Threads: those of OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch

from coview.planning.trial import Trial, example_batch
from coview.recipes import change, recipe
from coview.training import train_step
from setting import setting

DEFAULT = "resnet10/4-medium"
LOADABLE = {
    "resnet18": "torchvision, timm",
    "resnet18-small": "Coview",
    "torchvision:shufflenet_v2_x0_5": "torchvision",
    "torchvision:mobilenet_v3_small": "torchvision",
}
NETWORKS = (
    DEFAULT, "resnet18/4-medium", "resnet10/2-medium", "resnet18/2-medium", "resnet18/4",
    "resnet18/2", *LOADABLE,
)  # fmt: skip
BATCH, ENOUGH = 128, 1.0


class Contender:
    """A network that makes steps."""

    def __init__(self, encoder: str, size: int) -> None:
        chosen = change(recipe("simclr-cpu"), encoder=encoder, size=size, batch_size=BATCH)
        self.trial = Trial(chosen, torch.device("cpu"))
        self.learner = self.trial.learner
        self.optimizer = chosen.optimizer.build(self.learner)
        self.batch = self.trial.precision.place(example_batch(chosen, BATCH))

    def seconds(self) -> float:
        """Of one step, on average."""
        start, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - start < ENOUGH:
            train_step(self.learner, self.batch, self.optimizer, 0.0, self.trial.precision)
            steps += 1
        return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{setting()}; {os.environ.get('OMP_NUM_THREADS', 'all')} threads\n")
    for size in options.size or (32, 64):
        contenders = {name: Contender(name, size) for name in NETWORKS}
        rounds = [
            {name: each.seconds() for name, each in contenders.items()}
            for _ in range(options.rounds + 1)
        ][1:]
        print(f"| network at {size} px | features | parameters | steps/s | step time | loads in |")
        print("|---|---:|---:|---:|---:|---|")
        for name, each in contenders.items():
            speed = statistics.median(1 / times[name] for times in rounds)
            ratio = statistics.median(times[name] / times[DEFAULT] for times in rounds)
            encoder = each.learner.encoder
            count = sum(parameter.numel() for parameter in encoder.parameters())
            print(
                f"| {name} | {encoder.features} | {count / 1e6:.1f} M | {speed:.2f} | "
                f"{ratio:.1f} x | {LOADABLE.get(name, 'Coview')} |",
                flush=True,
            )
        print()


if __name__ == "__main__":
    main()
