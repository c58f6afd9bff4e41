"""coview pretrain DATA"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from coview.cli.options import argument, option, parse


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Learn a representation of images without labels, say whether it worked, leave an encoder
    and a report. What is not said is chosen for this data and this machine."""

    data: str = argument(
        "a folder of images (any nesting), Parquet file(s) or a folder of them, a torchvision data "
        "set by name, or scenes (the built-in set)"
    )
    out: Path | None = option("the run's folder (default: runs/NAME of the data)")
    recipe: str = option(
        "a recipe by name, or a method: simclr, simclr-v2, supcon, moco, byol, simsiam, supervised",
        "simclr",
    )
    budget: str | None = option("time for training, as 30m or 2h: chooses what fits into it")
    dry_run: bool = option("print the plan and the estimate, train nothing", False)

    size: int | None = option("side of the views in pixels", group="what is learned")
    encoder: str | None = option(
        "as resnet18, resnet50, resnet18/4, torchvision:NAME, timm:NAME", group="what is learned"
    )
    weights: Path | None = option(
        "start from these weights: an encoder folder, a run, or safetensors",
        group="what is learned",
    )
    temperature: float | None = option("of the loss", group="what is learned")
    learn_temperature: bool = option(
        "train the temperature too, from its first value", False, group="what is learned"
    )
    jitter_strength: float | None = option(
        "of the color jitter, SimCLR's s", group="what is learned"
    )

    local_crops: int | None = option(
        "add so many small crops, which are drawn to the two large ones (multi-crop)",
        group="what is learned",
    )
    affinity: str | None = option(
        "of local crops, LoGo's second game: learned, cosine or none; adds two where none are",
        group="what is learned",
    )

    epochs: float | None = option("passes over the images", group="how it is trained")
    batch: int | None = option(
        "images in a step", group="how it is trained", also=("--batch-size",)
    )
    classes_per_batch: int | None = option(
        "make every batch of so many classes, equally many images of each",
        group="how it is trained",
    )
    micro_batch: int | None = option(
        "images that go through the network at a time; the loss is still the whole batch's",
        group="how it is trained",
    )
    activation_checkpointing: bool = option(
        "keep less for the backward pass and compute it again: exact, about a third slower",
        False,
        group="how it is trained",
    )
    optimizer: str | None = option("sgd, adamw or lars", group="how it is trained")
    learning_rate: float | None = option(
        "the peak, not scaled by the batch", group="how it is trained"
    )
    warmup_epochs: float | None = option("epochs of linear warm-up", group="how it is trained")
    weight_decay: float | None = option("of kernels", group="how it is trained")
    seed: int | None = option("of weights, order and views", group="how it is trained")

    labels: str = option(
        "where labels come from: auto, none, folders, column. Self-supervised methods use them "
        "only to show kNN accuracy on the way",
        "auto",
        group="the data",
    )
    short_side: int | None = option("keep images at this short side", group="the data")
    limit: int | None = option("use only so many images", group="the data")
    download: bool = option("allow a torchvision data set to be fetched", False, group="the data")
    allow_broken: bool = option(
        "go on with more than 1 %% of broken files", False, group="the data"
    )
    memory_share: float = option(
        "share of RAM for decoded images; beyond it they lie on disk", 0.25, group="the data"
    )

    device: str = option("auto, cpu or cuda", "auto", group="the machine")
    precision: str | None = option("auto, bf16 or fp32", group="the machine")
    workers: int | None = option("threads that render views ahead", group="the machine")


def main(words: Sequence[str]) -> int:
    options = parse(Pretrain, "pretrain", list(words))
    from coview.cli.exit_codes import exit_code
    from coview.runs import pretrain

    return exit_code(pretrain(**asdict(options)))
