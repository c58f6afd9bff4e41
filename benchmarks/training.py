"""Training end to end, ResNet-18 with the small-image stem at 32 px: ours beside lightly's example.

    python benchmarks/training.py [--quick]

Both train SimCLR in batches of 256 on the same images and take turns, some steps each; a ratio is
the median of the ratios within a turn. lightly's side is its documented PyTorch example: float32,
SimCLRTransform at 32 px without blur on PIL images in two loader workers, SimCLRProjectionHead,
NTXentLoss, SGD; its network has the same small-image stem. Ours is `coview pretrain` without its
reports: what the machine's precision is, one thread that renders beside the step.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image

from coview.data import open_images
from coview.recipes import build, change, recipe
from coview.recipes.batches import make_loader
from coview.training import choose_device, choose_precision, train_step
from setting import setting

BATCH, IMAGES = 256, 10_000
Turn = Callable[[int], float]
"""Makes so many steps and tells the seconds."""


def ours() -> Turn:
    device = choose_device()
    chosen = change(recipe("simclr-cifar"), batch_size=BATCH, epochs=100)
    precision = choose_precision("auto", device)
    learner = build(chosen)
    precision.prepare(learner).train()
    optimizer = chosen.optimizer.build(learner)
    batches = iter(make_loader(chosen, open_images("scenes", limit=IMAGES), device))

    def turn(steps: int) -> float:
        start = time.perf_counter()
        for batch in itertools.islice(batches, steps):
            train_step(learner, batch, optimizer, 0.1, precision)
        return time.perf_counter() - start

    return turn


def lightly() -> Turn:
    import torchvision
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    body = torchvision.models.resnet18()
    body.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    body.maxpool, body.fc = torch.nn.Identity(), torch.nn.Identity()
    model = torch.nn.Sequential(body, SimCLRProjectionHead(512, 512, 128))
    criterion = NTXentLoss(temperature=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    loader = torch.utils.data.DataLoader(
        Pictures(SimCLRTransform(input_size=32, gaussian_blur=0.0)),
        batch_size=BATCH, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True,
    )  # fmt: skip
    batches = forever(loader)

    def turn(steps: int) -> float:
        start = time.perf_counter()
        for first, second in itertools.islice(batches, steps):
            loss = criterion(model(first), model(second))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - start

    return turn


class Pictures(torch.utils.data.Dataset):
    """The same scenes as PIL images, through lightly's transform."""

    def __init__(self, transform: Callable[[Image.Image], list[torch.Tensor]]) -> None:
        store = open_images("scenes", limit=IMAGES)
        self.images = [np.ascontiguousarray(store.image(row)) for row in range(len(store))]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> list[torch.Tensor]:
        return self.transform(Image.fromarray(self.images[row]))


def forever(loader: torch.utils.data.DataLoader) -> Iterator[list[torch.Tensor]]:
    while True:
        yield from loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn: does it run")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(f"SimCLR training, batch {BATCH}, 32 px, ResNet-18 small stem: {setting()}")
    turns = {"coview": ours(), "lightly's example": lightly()}
    steps, rounds = (1, 1) if quick else (2, 5)
    found: dict[str, list[float]] = {name: [] for name in turns}
    for count in range(rounds + 1):
        for name, turn in turns.items():
            speed = steps * BATCH / turn(steps)
            if count or quick:
                found[name].append(speed)
    ratios = [a / b for a, b in zip(*found.values(), strict=True)]
    print("\n| | images/s, median | ratio of the first row |\n|---|---:|---:|")
    for name, speeds in found.items():
        ratio = "1" if name == "coview" else f"{statistics.median(ratios):.2f}"
        print(f"| {name} | {statistics.median(speeds):.1f} | {ratio} |")


if __name__ == "__main__":
    main()
