"""SupCon's experiments on its loss (Khosla et al., 2020): forms, methods, positives, batch."""

from __future__ import annotations

from dataclasses import replace

from coview.core.values import set_fields
from coview.recipes import Recipe, change
from coview.studies.claims import Claim, best, greater, rising
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.measure import KNN, LINEAR
from coview.studies.setting import Setting

IMAGENET = "ResNet-50 on ImageNet, top-1"
METHODS = ("SupCon", "cross-entropy", "SimCLR")
RECIPES = {"SupCon": "supcon", "cross-entropy": "supervised", "SimCLR": "simclr"}
CIFAR10 = {"SupCon": 96.0, "cross-entropy": 95.0, "SimCLR": 93.6}
CAPS = {"1": 69.3, "3": 76.6, "5": 78.0, "no cap": 78.5}
BATCHES = (32, 64, 128, 256)
TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0)


def forms(setting: Setting) -> Grid:
    """The sum over positives outside and inside of the logarithm."""
    base = setting.recipe("supcon")
    published = {"out": 78.7, "in": 67.4}
    return Grid(
        source="SupCon, section 3.2 and table 1",
        arms=tuple(
            setting.arm(f"L_{form}", set_fields(base, {"method.objective.form": form}),
                        published=published[form])
            for form in ("out", "in")
        ),
        published=IMAGENET,
        notes=(
            "on a CPU the temperature of the recipe was chosen for L_out, on test images of "
            "CIFAR-10 (docs/lab/0002); L_in had no such choice",
        ),
        claims=(
            Claim(
                text="The sum outside of the logarithm is better than the one inside",
                source="SupCon, section 3.2", comparisons=(greater("L_out", "L_in"),),
            ),
        ),
    )  # fmt: skip


def methods(setting: Setting) -> Grid:
    """Three methods on the same images for as many epochs, judged by the same linear probe."""
    return Grid(
        source="SupCon, table 2",
        arms=tuple(
            setting.arm(
                name, setting.recipe(RECIPES[name]), published=CIFAR10[name],
                protocols=("linear", "knn"),
            )
            for name in METHODS
        ),
        measures=(LINEAR, KNN), published="ResNet-50 on CIFAR-10, top-1",
        notes=(
            "Every arm is judged by a linear probe on h; that of cross-entropy too.",
            "Each method has the numbers of its own recipe: optimizer, temperature, head. The "
            "encoder, the images and the epochs are the same.",
        ),
        claims=(
            Claim(
                text="SupCon is better than cross-entropy", source="SupCon, table 2",
                comparisons=(greater("SupCon", "cross-entropy"),),
            ),
            Claim(
                text="Cross-entropy is better than SimCLR", source="SupCon, table 2",
                comparisons=(greater("cross-entropy", "SimCLR"),),
            ),
        ),
    )  # fmt: skip


def positives(setting: Setting) -> Grid:
    """At most so many positives of a row; the others of its label leave the loss."""
    base = setting.recipe("supcon")
    names = list(CAPS)

    def made(name: str) -> Recipe:
        cap = int(name) if name.isdecimal() else None
        return set_fields(base, {"method.objective.positives_cap": cap})

    return Grid(
        source="SupCon, supplement, table 5",
        arms=tuple(
            setting.arm(name, made(name), published=CAPS[name],
                        x=float(name) if name.isdecimal() else None)
            for name in names
        ),
        drawn="curve", axis="most positives of a row", published=IMAGENET,
        notes=(
            "The other view of the image itself is always a positive: with a cap of 1 it is the "
            "only one, and other images of the class are neither positives nor negatives.",
        ),
        claims=(
            Claim(
                text="More positives are better", source="SupCon, section 4.4",
                comparisons=(rising(names), greater("no cap", "1")),
            ),
        ),
    )  # fmt: skip


def batch(setting: Setting) -> Grid:
    """Batch sizes at the temperature of the recipe, and temperatures at its batch size."""
    base = setting.recipe("supcon")
    sizes = BATCHES if setting.scale != "tiny" else (12, 24)
    middle = base.batch_size

    def of_size(size: int) -> Recipe:
        rate = base.optimizer.peak(middle) * (size / middle) ** 0.5
        return replace(change(base, learning_rate=rate), batch_size=size)

    by_size = [f"batch {size}" for size in sizes]
    by_temperature = [f"temperature {tau:g}" for tau in TEMPERATURES]
    lowest, *_, highest = by_temperature
    return Grid(
        source="SupCon, figure 4 and section 4.4",
        arms=(
            *(setting.arm(name, of_size(size), x=float(size))
              for name, size in zip(by_size, sizes, strict=True)),
            *(setting.arm(name, change(base, temperature=tau), x=tau, axis="temperature")
              for name, tau in zip(by_temperature, TEMPERATURES, strict=True)),
        ),
        drawn="curve", axis="batch size",
        notes=(
            "The learning rate goes with the square root of the batch size; every arm has as many "
            "epochs, so that a larger batch has fewer steps. At the scale cpu SupCon gains most by "
            "more steps, above all at low temperatures (docs/lab/0002 and 0008), which the "
            "paper's long runs do not show.",
        ),
        claims=(
            Claim(
                text="A larger batch is better", source="SupCon, figure 4a",
                comparisons=(rising(by_size),),
            ),
            Claim(
                text="Of the temperatures 0.1 is the best", source="SupCon, figure 4d",
                comparisons=best("temperature 0.1", by_temperature),
            ),
            Claim(
                text="Very low and very high temperatures are worse than 0.1",
                source="SupCon, section 4.4",
                comparisons=best("temperature 0.1", (lowest, highest)),
            ),
        ),
    )  # fmt: skip


FORMS = Experiment(
    name="supcon/forms", question="Does the sum over the positives stand outside or inside of "
    "the logarithm?", grid=forms,
)  # fmt: skip
THREE_METHODS = Experiment(
    name="supcon/methods",
    question="Are features learned by SupCon better than those of cross-entropy and of SimCLR?",
    grid=methods,
)  # fmt: skip
POSITIVES = Experiment(
    name="supcon/positives", question="Do more positives of an image help?", grid=positives,
)  # fmt: skip
BATCH = Experiment(
    name="supcon/batch", question="Which batch size and which temperature does SupCon need?",
    grid=batch,
)  # fmt: skip
EXPERIMENTS = (FORMS, THREE_METHODS, POSITIVES, BATCH)
