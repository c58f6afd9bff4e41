"""SimCLR's experiments on what features are worth (Chen et al., 2020): few labels, other data."""

from __future__ import annotations

from dataclasses import replace

from coview.recipes import Recipe, recipe
from coview.recipes.finetune import for_label_share
from coview.studies.arms import Arm
from coview.studies.cell import Cell, Work
from coview.studies.claims import Claim, Comparison, Term, gain, greater
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.measure import LINEAR, Measure
from coview.studies.setting import AMOUNTS, Setting, ordered

TUNED = Measure(name="fine-tuned", protocol="finetune", subject="fine-tuned", layer="logits")
SCRATCH = Measure(name="from scratch", protocol="finetune", subject="from scratch", layer="logits")
PROBE = Measure(name="linear probe", protocol="finetune", subject="linear probe", layer="logits")
TRANSFER = Measure(name="transfer", protocol="transfer", metric="transfer_mean")
FINETUNING = {"tiny": "finetune-cpu", "cpu": "finetune-cpu", "gpu": "finetune-cpu",
              "paper": "finetune-v2-imagenet"}  # fmt: skip
SHARES = {"tiny": ("25%", "50%"), "cpu": ("1%", "10%"), "gpu": ("1%", "10%"),
          "paper": ("1%", "10%")}  # fmt: skip
"""Of the labels, few and more; the tiny scale has too few images for 1 %."""


def tuned(
    setting: Setting, name: str, pretrained: Cell, made: Recipe, seed: int, labels: str,
    layer: int, *, baselines: bool = False,
) -> Cell:  # fmt: skip
    """Fine-tuning on this share of the labels, drawn by the seed, from a layer of the head."""
    share = float(labels.rstrip("%")) / 100
    base = for_label_share(recipe(FINETUNING[setting.scale]), share)
    epochs = 1.0 if setting.scale == "tiny" else base.epochs
    settings = {
        **setting.data(), "start": pretrained, "recipe": base.name, "epochs": epochs,
        "labels": labels, "label_draw": seed, "from_layer": layer, "seed": seed,
        "no_baselines": not baselines,
    }  # fmt: skip
    passes = epochs * (2 if baselines else 1)
    return Cell(
        name=f"fine-tune {name}, seed {seed}", verb="finetune", settings=ordered(settings),
        work=(Work(recipe=replace(base, encoder=made.encoder), passes=passes, share=share),),
    )  # fmt: skip


def few_labels(setting: Setting) -> Grid:
    """Fine-tuning on few labels beside the same network from scratch."""
    base = setting.recipe("simclr")

    def arm(labels: str) -> Arm:
        def cell(seed: int) -> Cell:
            pretrained = setting.pretrain("pretrain", base, seed, protocols=())
            return tuned(setting, f"on {labels}", pretrained, base, seed, labels, 0, baselines=True)

        return Arm(name=f"{labels} of the labels", cell=cell, published=PUBLISHED.get(labels, {}))

    shares = SHARES[setting.scale]
    arms = tuple(arm(labels) for labels in shares)
    few, more = (each.name for each in arms)
    larger = Comparison(
        text=f"gain at {few} - gain at {more}",
        terms=(
            Term(few, 1, TUNED.name), Term(few, -1, SCRATCH.name),
            Term(more, -1, TUNED.name), Term(more, 1, SCRATCH.name),
        ),
    )  # fmt: skip
    return Grid(
        source="SimCLR, tables 7 and B.5",
        arms=arms, measures=(TUNED, SCRATCH, PROBE),
        published="ResNet-50 on ImageNet, top-1",
        claims=(
            Claim(
                text="Fine-tuning a pretrained network is better than training from scratch",
                source="SimCLR, table 7",
                comparisons=tuple(gain(each.name, TUNED.name, SCRATCH.name) for each in arms),
            ),
            Claim(
                text="The gain is larger with fewer labels", source="SimCLR, table 7",
                comparisons=(larger,),
            ),
        ),
    )  # fmt: skip


PUBLISHED = {
    "1%": {TUNED.name: 48.3, SCRATCH.name: 25.4}, "10%": {TUNED.name: 65.6, SCRATCH.name: 56.4},
}  # fmt: skip


def transfer(setting: Setting) -> Grid:
    """A linear probe on other data, on features of SimCLR and of supervised training."""
    arms = tuple(
        setting.arm(
            name, setting.recipe(name), protocols=("linear", "transfer"), published=published,
            more={"transfer": setting.options.transfer},
        )
        for name, published in TRANSFERRED_ACCURACY.items()
    )  # fmt: skip
    return Grid(
        source="SimCLR, table B.5",
        arms=arms, measures=(TRANSFER, LINEAR),
        published="ResNet-50 of ImageNet, linear, mean over twelve data sets",
        notes=(
            "the paper's better known result, at least equal to supervised features, is that of "
            "fine-tuning a network four times as wide (table 8); it is not asked here",
        ),
        claims=(
            Claim(
                text="For a linear probe on other data, supervised features of a narrow network "
                "are better than SimCLR's",
                source="SimCLR, table B.5", comparisons=(greater("supervised", "simclr"),),
            ),
        ),
    )  # fmt: skip


TRANSFERRED_ACCURACY = {"simclr": 70.6, "supervised": 77.2}
"""Means of the twelve figures of ResNet-50 in the table."""
SMALL_AMOUNT = {"cpu": replace(AMOUNTS["cpu"], images=10_000, epochs=20)}
FEW_LABELS = Experiment(
    name="simclr/few-labels", grid=few_labels, amounts=SMALL_AMOUNT,
    question="How much better is a pretrained network with 1 % and 10 % of the labels?",
)  # fmt: skip
TRANSFERRED = Experiment(
    name="simclr/transfer", grid=transfer, needs=("transfer",), amounts=SMALL_AMOUNT,
    question="Are supervised features or SimCLR's better for a linear probe on other data?",
)  # fmt: skip
EXPERIMENTS = (FEW_LABELS, TRANSFERRED)
