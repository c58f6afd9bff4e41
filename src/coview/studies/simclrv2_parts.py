"""SimCLRv2's experiments on the parts of its pipeline (Chen et al., 2020, "Big self-supervised
models"): size, head, memory and distillation. The whole pipeline is in ``simclrv2.py``."""

from __future__ import annotations

from dataclasses import replace

from coview.methods import InfoNCE, NTXent, SameNetwork
from coview.recipes import change, recipe
from coview.studies.arms import Arm
from coview.studies.cell import Cell, Work
from coview.studies.claims import Claim, Comparison, Term, best, gain, greater, shrinking_gap
from coview.studies.experiment import Experiment
from coview.studies.few_labels import SHARES, SMALL_AMOUNT, TUNED, tuned
from coview.studies.grid import Grid
from coview.studies.measure import Measure
from coview.studies.setting import Setting, ordered

STUDENT = Measure(name="student", protocol="distill", subject="student", layer="logits")
ALONE = Measure(name="labels alone", protocol="distill", subject="labels alone", layer="logits")
SIZES = {
    "tiny": ("resnet10/8-small", "resnet10/4-small"),
    "cpu": ("resnet10/8-medium", "resnet10/4-medium", "resnet18/2-medium"),
    "gpu": ("resnet18/4-small", "resnet18-small", "resnet50-small"),
    "paper": ("resnet50", "resnet101", "resnet152"),
}
FINETUNED = {"1%": (57.9, 62.1, 64.0), "10%": (68.4, 71.4, 73.0), "100%": (76.3, 78.2, 79.3)}
"""Share of the labels -> top-1 of ResNet-50, 101 and 152 on ImageNet (README of the authors' code,
table 1, width 1 without selective kernels)."""


def size_labels(setting: Setting) -> Grid:
    """Networks of several sizes, fine-tuned on shares of the labels."""
    base = setting.recipe("simclr-v2")
    shares, encoders = (*SHARES[setting.scale], "100%"), SIZES[setting.scale]

    def arm(encoder: str, labels: str, place: int) -> Arm:
        made = change(base, encoder=encoder)

        def cell(seed: int) -> Cell:
            pretrained = setting.pretrain(f"pretrain {encoder}", made, seed, protocols=())
            return tuned(setting, f"{encoder} on {labels}", pretrained, made, seed, labels, 1)

        # The tiny scale has two networks and other shares of the labels.
        published = FINETUNED[labels][place - 1] if labels in FINETUNED else None
        return Arm(name=f"{encoder}, {labels}", row=labels, x=place, cell=cell, published=published)

    def ends(labels: str) -> tuple[str, str]:
        return f"{encoders[-1]}, {labels}", f"{encoders[0]}, {labels}"

    return Grid(
        source="SimCLRv2, figures 1, 4",
        arms=tuple(
            arm(encoder, labels, place)
            for labels in shares
            for place, encoder in enumerate(encoders, start=1)
        ),
        measures=(TUNED,), drawn="curve", axis="network, from small to large",
        published="ResNet-50, 101 and 152 on ImageNet, fine-tuned, top-1, in place of the small, "
        "middle and large network here",
        claims=(
            Claim(
                text="Larger networks are better with few labels", source="SimCLRv2, figure 1",
                comparisons=(greater(*ends(shares[0])),),
            ),
            Claim(
                text="The fewer the labels, the more a larger network gains",
                source="SimCLRv2, figure 4",
                comparisons=shrinking_gap(ends("100%"), ends(shares[0])),
            ),
        ),
    )  # fmt: skip


DEPTHS = (2, 3, 4)


def head_layer(setting: Setting) -> Grid:
    """Heads of several depths, and the layer from which fine-tuning starts."""
    base = setting.recipe("simclr-v2")
    shares = SHARES[setting.scale]

    def arm(depth: int, layer: int, labels: str) -> Arm:
        spec = replace(base.method.head, layers=depth)
        made = replace(base, method=replace(base.method, head=spec))

        def cell(seed: int) -> Cell:
            pretrained = setting.pretrain(f"pretrain with {depth} layers", made, seed, protocols=())
            name = f"{depth} layers from layer {layer} on {labels}"
            return tuned(setting, name, pretrained, made, seed, labels, layer)

        return Arm(
            name=_layer_name(depth, layer, labels), row=f"{depth} layers, {labels}",
            column=f"layer {layer}", cell=cell,
        )  # fmt: skip

    arms = [
        arm(depth, layer, labels) for labels in shares for depth in DEPTHS for layer in range(depth)
    ]
    few, more = shares
    return Grid(
        source="SimCLRv2, figure 5",
        arms=tuple(arms), measures=(TUNED,), drawn="matrix",
        axis="Rows: layers of the head and share of the labels. Columns: the layer from which "
        "fine-tuning starts; 0 is the encoder's output.",
        claims=(
            Claim(
                text="With few labels the first layer of a deep head is the best to start from",
                source="SimCLRv2, figure 5",
                comparisons=best(
                    _layer_name(3, 1, few), [_layer_name(3, layer, few) for layer in (0, 2)]
                ),
            ),
            Claim(
                text="Deeper heads help with few labels", source="SimCLRv2, figure 5",
                comparisons=(greater(_layer_name(4, 1, few), _layer_name(2, 1, few)),),
            ),
            Claim(
                text="They help more, the fewer the labels", source="SimCLRv2, figure 5",
                comparisons=shrinking_gap(
                    (_layer_name(4, 1, more), _layer_name(2, 1, more)),
                    (_layer_name(4, 1, few), _layer_name(2, 1, few)),
                ),
            ),
        ),
    )  # fmt: skip


def _layer_name(depth: int, layer: int, labels: str) -> str:
    return f"{depth} layers, layer {layer}, {labels}"


MEMORY_BATCHES = {"tiny": (12, 24), "cpu": (32, 256), "gpu": (256, 2048), "paper": (1024, 4096)}


def memory(setting: Setting) -> Grid:
    """With and without a memory of keys, at a small and at a large batch."""
    base = setting.recipe("simclr-v2")
    batches = MEMORY_BATCHES[setting.scale]
    loss = base.method.objective
    assert isinstance(loss, InfoNCE)
    plain = replace(
        base.method, objective=NTXent(temperature=loss.temperature), target=SameNetwork(),
        memory=None,
    )  # fmt: skip

    def arm(with_memory: bool, batch: int) -> Arm:
        made = replace(base, batch_size=batch)
        if not with_memory:
            made = replace(made, method=plain)
        row, column = "memory" if with_memory else "no memory", f"batch {batch}"
        return setting.arm(f"{row}, {column}", made, row=row, column=column)

    few, many = batches
    return Grid(
        source="SimCLRv2, appendix D",
        arms=tuple(arm(on, batch) for on in (True, False) for batch in batches),
        drawn="matrix", axis="Rows: with and without memory. Columns: batch.",
        claims=(
            Claim(
                text="A memory helps a small batch", source="MoCo, section 3.1",
                comparisons=(greater(f"memory, batch {few}", f"no memory, batch {few}"),),
            ),
            Claim(
                text="It helps a large batch less", source="SimCLRv2, appendix D",
                comparisons=shrinking_gap(
                    (f"memory, batch {many}", f"no memory, batch {many}"),
                    (f"memory, batch {few}", f"no memory, batch {few}"),
                ),
            ),
        ),
    )  # fmt: skip


def distill(setting: Setting) -> Grid:
    """A small student: on labels alone, by a teacher, by both; and the teacher by itself."""
    base = setting.recipe("simclr-v2")
    share = SHARES[setting.scale][1]
    small = {"tiny": "resnet10/8-small", "cpu": "resnet10/8-medium", "gpu": "resnet18/4-small",
             "paper": "resnet50"}[setting.scale]  # fmt: skip
    teacher_recipe = recipe("distill-imagenet" if setting.scale == "paper" else "distill-cpu")

    def teacher_cell(seed: int) -> Cell:
        pretrained = setting.pretrain("pretrain", base, seed, protocols=())
        return tuned(setting, f"on {share}", pretrained, base, seed, share, 1)

    def cell(seed: int, student: str | None, weight: float) -> Cell:
        teacher = teacher_cell(seed)
        epochs = 1.0 if setting.scale == "tiny" else teacher_recipe.epochs
        settings = {
            **setting.data(), "teacher": teacher, "recipe": teacher_recipe.name, "seed": seed,
            "epochs": epochs, "teacher_weight": weight, "labels": share, "label_draw": seed,
            "no_baselines": student is None or weight < 1, "student": student,
        }  # fmt: skip
        made = base if student is None else change(base, encoder=student)
        return Cell(
            name=f"distill into {student or 'itself'}, teacher's share {weight:g}, seed {seed}",
            verb="distill",
            settings=ordered({name: to for name, to in settings.items() if to is not None}),
            work=(
                Work(recipe=replace(teacher_recipe, encoder=made.encoder), passes=epochs,
                     teacher=base.encoder),
            ),
        )  # fmt: skip

    arms = (
        Arm(name="teacher", cell=teacher_cell),
        Arm(name="itself", cell=lambda seed: cell(seed, None, 1.0)),
        Arm(
            name="small, unlabeled",
            cell=lambda seed: cell(seed, small, 1.0),
            published={STUDENT.name: 74.3, ALONE.name: 52.0},
        ),
        Arm(name="small, with labels", cell=lambda seed: cell(seed, small, 0.5), published=75.1),
    )
    return Grid(
        source="SimCLRv2, table 2",
        arms=arms, measures=(STUDENT, ALONE, TUNED),
        published="ResNet-50 of ResNet-50 2x+SK on ImageNet, 10 % of the labels, top-1, from "
        "memory, not checked",
        notes=(
            f"The teacher and the students have {share} of the labels: with 1 % the teacher here "
            "knows ten images of a class (simclrv2/chain has that).",
            "Labels alone: the small network by the recipe of fine-tuning, whose epochs are of the "
            "labeled images; a distilled one sees all images.",
        ),
        claims=_distill_claims(),
    )  # fmt: skip


def _distill_claims() -> tuple[Claim, ...]:
    itself = Comparison(
        text="itself - teacher",
        terms=(Term("itself", 1, STUDENT.name), Term("teacher", -1, TUNED.name)),
    )
    return (
        Claim(
            text="Distillation on unlabeled images is better than the labels alone",
            source="SimCLRv2, table 2",
            comparisons=(gain("small, unlabeled", STUDENT.name, ALONE.name),),
        ),
        Claim(
            text="Labels beside the teacher add less than 2 points",
            source="SimCLRv2, table 2",
            comparisons=(greater("small, unlabeled", "small, with labels", by=-2.0),),
        ),
        Claim(
            text="Distillation into itself improves the teacher",
            source="SimCLRv2, figure 6",
            comparisons=(itself,),
        ),
    )


SIZE_LABELS = Experiment(
    name="simclrv2/size-labels", grid=size_labels, amounts=SMALL_AMOUNT, fixed=("encoder",),
    question="Do larger networks gain more, the fewer labels there are?",
)  # fmt: skip
HEAD_LAYER = Experiment(
    name="simclrv2/head-layer", grid=head_layer, amounts=SMALL_AMOUNT,
    question="Which depth of the head, and which of its layers, is best for few labels?",
)  # fmt: skip
MEMORY = Experiment(
    name="simclrv2/memory", grid=memory, amounts=SMALL_AMOUNT,
    question="Does a memory of keys help, at a small and at a large batch?",
)  # fmt: skip
DISTILL = Experiment(
    name="simclrv2/distill", grid=distill,
    amounts={"cpu": replace(SMALL_AMOUNT["cpu"], seeds=5)},
    question="What does a student learn from a teacher that it does not from few labels?",
)  # fmt: skip
EXPERIMENTS = (SIZE_LABELS, HEAD_LAYER, MEMORY, DISTILL)
