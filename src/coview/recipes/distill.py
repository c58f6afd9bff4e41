"""Recipes of distillation: a teacher's classes of one view of each image, crop and flip."""

from __future__ import annotations

from dataclasses import replace

from coview.encoders import EncoderSpec
from coview.methods import Distillation, Method, Teacher
from coview.recipes.finetune import WITHOUT_LARS, classifier_method
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec

SELF_TEMPERATURE, SMALLER_TEMPERATURE = 0.1, 1.0
"""SimCLRv2's temperatures: of a student like its teacher, and of a smaller one."""
WITH_LABELS = 0.5
"""The teacher's weight where labels have a part and the user has not said which: a choice of this
project, because the paper's is not known."""


def distillation_method(
    size: int, *, classes: int, temperature: float = SMALLER_TEMPERATURE,
    area: tuple[float, float] = (0.08, 1.0),
) -> Method:  # fmt: skip
    """Logits = W f(view) + b of one view, a random crop and flip, which a teacher classifies too:

        P(y|x) = softmax(logits(x) / tau)_y        loss = -mean_x sum_y P_T(y|x) log P_S(y|x)

    The teacher T is a trained classifier in evaluation mode. It needs no labels.

    Source: Chen et al., SimCLRv2, 2020, section 2.3, equations 2 and 3.
    """
    method = classifier_method(size, classes=classes, area=area)
    objective = Distillation(classes=classes, temperature=temperature)
    return replace(method, name="distill", objective=objective, target=Teacher())


def distill_imagenet() -> Recipe:
    """Distillation as SimCLRv2: ResNet-50, LARS, batch 4,096, 400 epochs, temperature 1."""
    return Recipe(
        name="distill-imagenet",
        # Temperature 1 of a smaller student, 0.1 of one like the teacher; unlabeled images alone.
        method=distillation_method(224, classes=1000),
        encoder=EncoderSpec(depth=50),
        # Rate, decay and batch are those of pretraining: 0.1 x sqrt(4,096) = 6.4. The released
        # code adds 1e-4 / 2 |w|^2 of the classifier to the loss; here it is not decayed.
        optimizer=OptimizerSpec(
            name="lars", learning_rate=0.1, scaling="sqrt", weight_decay=1e-4, exclude=WITHOUT_LARS
        ),
        schedule=ScheduleSpec(warmup_epochs=20),  # 5 % of the epochs
        batch_size=4096,
        epochs=400,
    )


def distill_cpu() -> Recipe:
    """Distillation on a CPU: AdamW, batch 128, 20 epochs of CIFAR-10, temperature 1."""
    return Recipe(
        name="distill-cpu",
        method=distillation_method(32, classes=10, area=(0.2, 1.0)),
        encoder=EncoderSpec(depth=10, width=0.25, stem="medium"),
        # Optimizer and views are those of finetune-cpu, the batch is that of the pretraining.
        optimizer=OptimizerSpec(
            name="adamw", learning_rate=2e-3, scaling="none", weight_decay=1e-2
        ),
        schedule=ScheduleSpec(warmup_epochs=1),
        batch_size=128,
        epochs=20,
    )
