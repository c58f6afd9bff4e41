"""What is looked at during a run: health figures, and neighbors where there are labels."""

from __future__ import annotations

import math

import torch

from coview.core.images import ImageStore
from coview.core.rng import Stream, permutation
from coview.diagnosis.health import measure
from coview.evaluation import knn_monitor
from coview.methods import Learner
from coview.recipes import Recipe
from coview.training import MetricsLog
from coview.views import ViewPlan, views_of

MOST_IMAGES = 512
# A run of very many short epochs is looked at this often, not more.
MOST_HEALTH_REPORTS, MOST_KNN_REPORTS = 100, 20
KNN_K = 10


class Monitor:
    """Looks at ``learner`` after epochs and writes "health" and "knn" lines.

    ``untrained`` is the network before the first step, on the CPU; None where it is not known.

    The sample is fixed: at most 512 held-out images as they are, and two views of each, drawn once.
    """

    def __init__(
        self,
        learner: Learner,
        untrained: Learner | None,
        recipe: Recipe,
        training: ImageStore,
        held_out: ImageStore,
        metrics_log: MetricsLog,
    ) -> None:
        rows = permutation(recipe.seed, Stream.HEALTH, held_out.ids, epoch=0)[:MOST_IMAGES]
        self.learner, self.recipe, self.metrics_log = learner, recipe, metrics_log
        self.untrained = untrained
        self.training, self.held_out = training, held_out
        self.plain = recipe.eval_view
        plan = recipe.method.views
        self.images = views_of(
            held_out, rows, ViewPlan(views=(self.plain,)), seed=recipe.seed, epoch=0
        )[0]
        first, second = views_of(
            held_out, rows, ViewPlan(views=plan.views[:2]), seed=recipe.seed, epoch=0
        )
        self.views = (first, second)
        labels = None if held_out.labels is None else held_out.labels[rows]
        self.labels = None if labels is None else torch.from_numpy(labels)
        steps_per_epoch = len(training) // recipe.batch_size
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = recipe.total_steps(len(training))
        epochs = math.ceil(self.total_steps / steps_per_epoch)
        self.health_every = math.ceil(epochs / MOST_HEALTH_REPORTS)
        self.knn_every = math.ceil(epochs / MOST_KNN_REPORTS)

    def __call__(self, step: int) -> None:
        """After ``step`` steps, at the end of an epoch or of the run; step 0 is the untrained."""
        epoch, last = step // self.steps_per_epoch, step == self.total_steps
        if last or epoch % self.health_every == 0:
            self.health(step)
        if self.labeled and (last or epoch % self.knn_every == 0):
            self._knn(step)

    @property
    def labeled(self) -> bool:
        """Whether there are labels on both sides to vote with."""
        sides = (self.training.labels, self.held_out.labels)
        return all(labels is not None and bool((labels >= 0).any()) for labels in sides)

    def health(self, step: int) -> None:
        """Measure after ``step`` steps and write a line."""
        figures = measure(self.learner.embed, self.images, self.views, self._objective,
                          groups=self._groups())  # fmt: skip
        learned = self.learner.temperature
        self.metrics_log.write(
            "health", step, epoch=step / self.steps_per_epoch, figures=figures.to_json(),
            parameter_change=None
            if self.untrained is None
            else parameter_change(self.untrained, self.learner),
            **({} if learned is None else {"temperature": learned.value}),
        )  # fmt: skip

    def _knn(self, step: int) -> None:
        h, _ = self.learner.embed(self.images)
        if not torch.isfinite(h).all():  # diverged: there are no neighbors, and health says so
            return
        device = next(self.learner.parameters()).device
        accuracy = knn_monitor(
            self.learner.encoder, self.training, self.held_out, self.plain,
            seed=self.recipe.seed, device=device,
        )  # fmt: skip
        self.metrics_log.write(
            "knn", step, epoch=step / self.steps_per_epoch, k=KNN_K, accuracy=accuracy, layer="h"
        )

    def _objective(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.recipe.method.health_objective([first, second], self.labels)

    def _groups(self) -> torch.Tensor | None:
        return self.labels if self.recipe.method.needs_labels else None


@torch.no_grad()
def parameter_change(before: Learner, now: Learner) -> float:
    """|now - before| / |before| over all parameters that are trained."""
    then = dict(before.named_parameters())
    moved = length = 0.0
    for name, parameter in now.named_parameters():
        if not parameter.requires_grad:
            continue
        start = then[name].double()
        moved += float((parameter.cpu().double() - start).square().sum())
        length += float(start.square().sum())
    return math.sqrt(moved / max(length, 1e-300))
