"""SimCLR's experiments on how it is trained (Chen et al., 2020): head, batch, length and size."""

from __future__ import annotations

from dataclasses import replace

from coview.heads import HeadSpec
from coview.recipes import Recipe, change
from coview.studies.arms import Arm
from coview.studies.claims import Claim, alike, gain, greater, rising, shrinking_gap
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.measure import LINEAR, LINEAR_Z
from coview.studies.setting import AMOUNTS, Setting

WIDTHS = (16, 64, 256)
PAPER_WIDTHS = (32, 64, 128, 256, 512, 1024, 2048)
"""Those of figure 8, at the scale paper."""
POINTS_ALIKE = 2.0
"""Of accuracy, within which widths of the output count as alike."""


def head(setting: Setting) -> Grid:
    """No head, a linear and a nonlinear one, with several widths of its output."""
    base = setting.recipe("simclr")
    widths = PAPER_WIDTHS if setting.scale == "paper" else WIDTHS

    def arm(name: str, spec: HeadSpec, row: str, width: int | None) -> Arm:
        made = replace(base, method=replace(base.method, head=spec))
        return setting.arm(name, made, runs=f"head {name}", row=row, x=width)

    own = base.method.head
    kinds = {"linear": 1, "nonlinear": 2}
    arms = [arm("none", HeadSpec(layers=0, output=1), "none", None)]
    arms += [
        arm(f"{kind} {width}", replace(own, layers=layers, output=width), kind, width)
        for kind, layers in kinds.items()
        for width in widths
    ]
    nonlinear = [f"nonlinear {width}" for width in widths]
    middle = WIDTHS[1]
    return Grid(
        source="SimCLR, section 4.2 and figure 8",
        arms=tuple(arms), measures=(LINEAR, LINEAR_Z), drawn="curve", axis="width of the output",
        claims=(
            Claim(
                text="A nonlinear head is better than a linear one, and that than none",
                source="SimCLR, figure 8",
                comparisons=(
                    greater(f"nonlinear {middle}", f"linear {middle}"),
                    greater(f"linear {middle}", "none"),
                ),
            ),
            Claim(
                text=f"The width of the output matters by less than {POINTS_ALIKE:g} points",
                source="SimCLR, figure 8", comparisons=alike(nonlinear, within=POINTS_ALIKE),
            ),
            Claim(
                text="Features before the head are better than those after it",
                source="SimCLR, section 4.2",
                comparisons=tuple(gain(arm, LINEAR.name, LINEAR_Z.name) for arm in nonlinear),
            ),
        ),
    )  # fmt: skip


BATCHES = {"tiny": (12, 24), "cpu": (8, 32, 128), "gpu": (256, 1024, 4096),
           "paper": (256, 512, 1024, 2048, 4096, 8192)}  # fmt: skip
"""Of 5,000 images batch 128 has 38 steps an epoch, 760 in the shortest run. Larger batches would be
compared by their few steps alone, where the paper's shortest run has 15,600."""
LENGTHS = {"tiny": (0.5, 1.0), "cpu": (0.5, 1.0, 2.0), "gpu": (0.25, 0.5, 1.0),
           "paper": (1.0, 2.0, 4.0, 8.0)}  # fmt: skip
"""Factors of the epochs of the scale."""
RULES = {"linear": 1.0, "sqrt": 0.5}
"""A rule for the learning rate -> the power of the batch that it grows with. At the scale cpu the
square root is tried with the fewest epochs alone, which its claim is about."""
TABLE_B1 = {
    (256, 100): (57.5, 62.8), (512, 100): (60.7, 63.8), (1024, 100): (62.8, 64.3),
    (2048, 100): (64.0, 64.7), (4096, 100): (64.6, 64.5), (8192, 100): (64.8, 64.8),
    (256, 200): (61.9, 64.3), (512, 200): (64.0, 65.6), (1024, 200): (65.3, 66.1),
    (2048, 200): (66.1, 66.8), (4096, 200): (66.5, 66.8), (8192, 200): (66.6, 67.0),
    (256, 400): (64.7, 65.7), (512, 400): (66.2, 66.7), (1024, 400): (67.2, 67.2),
    (2048, 400): (68.1, 67.9), (4096, 400): (68.2, 68.0), (8192, 400): (67.8, 68.3),
    (256, 800): (66.6, 66.5), (512, 800): (67.8, 67.4), (1024, 800): (68.5, 68.3),
    (2048, 800): (68.9, 68.8), (4096, 800): (68.9, 69.1), (8192, 800): (69.0, 69.1),
}  # fmt: skip
"""(batch, epochs) -> top-1 with the linear and with the square-root rule (SimCLR, table B.1)."""


def of_batch(base: Recipe, batch: int, rule: str) -> Recipe:
    """``base`` with a batch and the learning rate that the rule gives, from the base's own."""
    peak = base.optimizer.peak(base.batch_size)
    rate = peak * (batch / base.batch_size) ** RULES[rule]
    optimizer = replace(base.optimizer, learning_rate=rate, scaling="none")
    return replace(base, batch_size=batch, optimizer=optimizer)


def batch_epochs(setting: Setting) -> Grid:
    """Batch by epochs, with two rules for the learning rate."""
    batches, lengths = BATCHES[setting.scale], LENGTHS[setting.scale]
    base = setting.recipe("simclr")

    def arm(batch: int, length: float, rule: str) -> Arm:
        made = of_batch(setting.recipe("simclr", epochs=length), batch, rule)
        published = TABLE_B1.get((batch, round(made.epochs)), (None, None))
        name = _batch_name(batch, made.epochs, rule)
        return setting.arm(
            name, made, row=f"batch {batch}, {rule}", x=made.epochs,
            published=published[list(RULES).index(rule)] if setting.scale == "paper" else None,
        )  # fmt: skip

    epochs = [setting.recipe("simclr", epochs=length).epochs for length in lengths]
    short, long = epochs[0], epochs[-1]
    by_root = lengths[:1] if setting.scale == "cpu" else lengths
    few, many = batches[0], batches[-1]

    def name(batch: int, length: float, rule: str = "linear") -> str:
        return _batch_name(batch, length, rule)

    return Grid(
        source="SimCLR, figure 9 and table B.1",
        arms=tuple(
            arm(batch, length, rule)
            for rule, tried in (("linear", lengths), ("sqrt", by_root))
            for length in tried
            for batch in batches
        ),
        drawn="curve", axis="epochs", published="ResNet-50 on ImageNet, linear, top-1",
        notes=(
            f"The rates are that of the recipe at batch {base.batch_size}, by the rule. Every arm "
            "has as many epochs, so that a larger batch has fewer steps.",
            "BatchNorm has the statistics of the batch: a small batch changes them as well as the "
            "number of negatives. Networks are judged with the running statistics of their "
            "training, which are those of about the last ten batches.",
        ),
        claims=(
            Claim(
                text="With few epochs larger batches are better (linear rule)",
                source="SimCLR, figure 9",
                comparisons=(rising([name(batch, short) for batch in batches]),),
            ),
            Claim(
                text="The advantage of a large batch shrinks with the epochs",
                source="SimCLR, figure 9",
                comparisons=shrinking_gap(
                    (name(many, long), name(few, long)), (name(many, short), name(few, short))
                ),
            ),
            Claim(
                text="Longer training helps at every batch", source="SimCLR, figure 9",
                comparisons=tuple(greater(name(b, long), name(b, short)) for b in batches),
            ),
            Claim(
                text="The square-root rule is better for a small batch and few epochs",
                source="SimCLR, table B.1",
                comparisons=(greater(name(few, short, "sqrt"), name(few, short)),),
            ),
        ),
    )  # fmt: skip


def _batch_name(batch: int, epochs: float, rule: str) -> str:
    return f"batch {batch}, {epochs:g} epochs, {rule}"


ENCODERS = {
    "tiny": ("resnet10/8-small", "resnet10/4-small"),
    "cpu": ("resnet10/8-medium", "resnet10/4-medium", "resnet18/4-medium", "resnet18/2-medium"),
    "gpu": ("resnet18/4-small", "resnet18/2-small", "resnet18-small", "resnet50-small"),
    "paper": ("resnet18", "resnet34", "resnet50", "resnet101"),
}


def size(setting: Setting) -> Grid:
    """Networks of several depths and widths, by SimCLR and by labels."""
    encoders = ENCODERS[setting.scale]
    bases = {"SimCLR": setting.recipe("simclr"), "supervised": setting.recipe("supervised")}

    def arm(method: str, encoder: str, place: int) -> Arm:
        made = change(bases[method], encoder=encoder)
        return setting.arm(f"{method}, {encoder}", made, row=method, x=place)

    names = {method: [f"{method}, {encoder}" for encoder in encoders] for method in bases}
    smallest = (names["supervised"][0], names["SimCLR"][0])
    largest = (names["supervised"][-1], names["SimCLR"][-1])
    return Grid(
        source="SimCLR, section 4.1 and figure 7",
        arms=tuple(
            arm(method, encoder, place)
            for method in bases
            for place, encoder in enumerate(encoders, start=1)
        ),
        drawn="curve", axis="network, from small to large",
        claims=(
            Claim(
                text="SimCLR's features get better with depth and width",
                source="SimCLR, figure 7", comparisons=(rising(names["SimCLR"]),),
            ),
            Claim(
                text="The gap to supervised features shrinks as the network grows",
                source="SimCLR, section 4.1", comparisons=shrinking_gap(largest, smallest),
            ),
        ),
    )  # fmt: skip


HEAD = Experiment(
    name="simclr/head", grid=head, amounts={"cpu": replace(AMOUNTS["cpu"], seeds=5)},
    question="Which projection head is best, and are features before or after it better?",
)  # fmt: skip
BATCH_EPOCHS = Experiment(
    name="simclr/batch-epochs", grid=batch_epochs,
    # Four claims: a fifth seed would take more than 90 minutes on two cores.
    amounts={"cpu": replace(AMOUNTS["cpu"], seeds=4)},
    question="Do larger batches help, and how much of it does longer training give?",
)  # fmt: skip
SIZE = Experiment(
    name="simclr/size", grid=size, fixed=("encoder",),
    question="Does the gap to supervised training close as networks grow?",
    amounts={"cpu": replace(AMOUNTS["cpu"], epochs=30, encoder=None)},
)  # fmt: skip
EXPERIMENTS = (HEAD, BATCH_EPOCHS, SIZE)
