"""The baseline of a distillation with labels: the same student, trained on the labels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.values import decode, encode, fingerprint
from coview.methods import CrossEntropy, Passes
from coview.planning.defaults import batch_for, default_finetuning
from coview.recipes import Recipe, for_classes, known_values
from coview.recipes.changes import with_input
from coview.recipes.finetune import for_label_share
from coview.runs.duration import Duration, durations_of
from coview.runs.job import Parts
from coview.runs.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsAlone:
    """A recipe of fine-tuning for the student, on the ``images`` that have a label."""

    recipe: Recipe
    images: int

    @classmethod
    def beside(cls, student: Recipe, parts: Parts, device: str, world: int) -> LabelsAlone:
        """That of the device for the network and the views' size of ``student``, whose batches have
        an image for each of ``world`` processes. Raises InvalidValue where there are too few."""
        images = len(labeled_rows(parts.training))
        base = for_label_share(default_finetuning(device), images / max(1, parts.labeled_images))
        first = student.first_view
        base = with_input(base, size=first.size, mean=first.mean, std=first.std)
        micro_batch = student.passes.micro_batch
        recipe = replace(
            base, name=f"{base.name}-labels-alone", encoder=student.encoder,
            kept_head=student.kept_head, seed=student.seed, precision=student.precision,
            batch_size=min(max(batch_for(images, base), world), images),
        )  # fmt: skip
        if micro_batch is not None and micro_batch >= recipe.batch_size:
            micro_batch = None
        passes = Passes(
            micro_batch=micro_batch,
            activation_checkpointing=student.passes.activation_checkpointing,
        )
        recipe = for_classes(replace(recipe, passes=passes), len(parts.training.class_names))
        alone = cls(recipe=recipe, images=images)
        alone.check(world)
        return alone

    @classmethod
    def of(cls, run: Run) -> LabelsAlone:
        """As run.json has it."""
        value = decode(run.description["labels_alone"], [*known_values(), LabelsAlone])
        assert isinstance(value, LabelsAlone)
        return value

    def check(self, world: int) -> None:
        """Raise InvalidValue where a batch has fewer images than there are processes."""
        if self.recipe.batch_size < world:
            raise InvalidValue(
                f"The same student is trained on the {self.images:,} labels alone beside it, "
                f"{self.recipe.batch_size} images a step, which are fewer than the {world} "
                "processes. Start fewer; a new run can leave that training out by `no_baselines`."
            )

    @property
    def note(self) -> str:
        return (
            f"The same student is trained on the {self.images:,} labels alone beside it, for "
            f"{self.recipe.epochs:g} epochs; `no_baselines` leaves that out."
        )

    def trainings(self, student: Recipe, images: int) -> float:
        """1, and the images that this training sees as a share of those of ``student``; 2 at most.

        ``images``: those that the student learns from.
        """
        seen = self.recipe.total_steps(self.images) * self.recipe.batch_size
        return 1.0 + min(1.0, seen / (student.total_steps(images) * student.batch_size))

    def describe(self, run: Run, parts: Parts) -> dict[str, Any]:
        """run.json of this training inside ``run``, on the labeled images of ``parts``."""
        recipe, objective = self.recipe, self.recipe.method.objective
        assert isinstance(objective, CrossEntropy)
        steps = recipe.total_steps(len(parts.training))
        outer = durations_of(run.description)[-1]
        duration = Duration(
            epochs=recipe.epochs, total_steps=steps, budget=outer.budget,
            follows_clock=outer.follows_clock, created=outer.created,
            most_steps=steps if outer.follows_clock else None,
        )  # fmt: skip
        data = {
            **run.description["data"], "images": len(parts.training), "parts": parts.fingerprint,
        }  # fmt: skip
        others = ("teacher", "labels_alone", "caveats")
        kept = {key: value for key, value in run.description.items() if key not in others}
        return {
            **kept, "kind": "finetune", "name": recipe.name, "recipe": encode(recipe),
            "hash": fingerprint(recipe), "needs_labels": True, "data": data,
            "chance_level": math.log(objective.classes), "lower_bound": 0.0,
            "steps_per_epoch": recipe.steps_per_epoch(len(parts.training)), "total_steps": steps,
            "epochs": recipe.epochs, "durations": [encode(duration)], "plan": [],
            "estimate_seconds": 0.0, "baselines": False, "nested": True, "exact": False,
            "baseline": "The labels alone",
        }  # fmt: skip


def labeled_rows(store: ImageStore) -> npt.NDArray[np.int64]:
    """The rows that have a label, ascending, int64."""
    labels = np.full(len(store), -1) if store.labels is None else store.labels
    return np.flatnonzero(labels >= 0)
