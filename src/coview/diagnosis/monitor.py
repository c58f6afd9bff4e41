"""Health figures during a run, and kNN accuracy where there are labels."""

from __future__ import annotations

import math

import numpy as np
import torch

from coview.core.images import ImageStore
from coview.core.rng import HEALTH_IMAGES, Stream, permutation
from coview.diagnosis.health import embed_all, measure, piece_view
from coview.evaluation import knn_monitor, pixel_subject
from coview.evaluation.knn import MAX_QUERIES, MONITOR_K
from coview.methods import Learner
from coview.methods.untrained import settled
from coview.recipes import Recipe
from coview.training import MetricsLog
from coview.views import ViewPlan, views_of

MAX_IMAGES = 512
# Of a run with many short epochs, not every epoch is reported.
MAX_HEALTH_REPORTS, MAX_KNN_REPORTS = 50, 20
PIXELS_SIDE = 32


class HealthMonitor:
    """The callback of a pretraining run: measures ``learner`` and writes "health" and "knn" lines.

    ``untrained`` is the network before the first step, on the CPU, or None if it is unknown. The
    sample is fixed: at most 512 held-out images without augmentation, and two views of each. The
    figures of step 0 are those of a copy of the network whose BatchNorm statistics are settled on
    training images, so that later figures differ from them by what was learned.
    """

    def __init__(
        self, learner: Learner, untrained: Learner | None, recipe: Recipe, training: ImageStore,
        held_out: ImageStore, metrics_log: MetricsLog,
    ) -> None:  # fmt: skip
        rows = permutation(recipe.seed, Stream.HEALTH, held_out.ids, draw_index=HEALTH_IMAGES)[
            :MAX_IMAGES
        ]
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
        piece = piece_view(self.plain)
        one, two = views_of(
            held_out, rows, ViewPlan(views=(piece, piece)), seed=recipe.seed, epoch=0
        )
        self.pieces = (one, two)
        self.copied_images = copied_share(held_out.subset(rows), training)
        labels = None if held_out.labels is None else held_out.labels[rows]
        self.labels = None if labels is None else torch.from_numpy(labels)
        steps_per_epoch = recipe.steps_per_epoch(len(training))
        self.steps_per_epoch = steps_per_epoch
        epochs = math.ceil(recipe.total_steps(len(training)) / steps_per_epoch)
        self.health_every = math.ceil(epochs / MAX_HEALTH_REPORTS)
        self.knn_every = math.ceil(epochs / MAX_KNN_REPORTS)

    def __call__(self, step: int, last: bool = False) -> bool:
        """Measure after ``step`` steps, at the end of an epoch or of the run; 0 before training.

        Returns whether all was measured that is measured at the end.
        """
        epoch = step // self.steps_per_epoch
        network = self.learner if step else settled(
            self.learner, self.training, self.plain, seed=self.recipe.seed
        )  # fmt: skip
        health = last or epoch % self.health_every == 0
        knn = self.labeled and (last or epoch % self.knn_every == 0)
        if health:
            self.health(step, network)
        if knn:
            self._knn(step, network)
        return health and (knn or not self.labeled)

    @property
    def labeled(self) -> bool:
        """Whether some training images and some held-out images have labels."""
        parts = (self.training.labels, self.held_out.labels)
        return all(labels is not None and bool((labels >= 0).any()) for labels in parts)

    def health(self, step: int, network: Learner | None = None) -> None:
        """Measure ``network``, the learner if None, and write a line."""
        network = network or self.learner
        figures = measure(network.embed, self.images, self.views, self._objective,
                          pieces=self.pieces, copied_images=self.copied_images,
                          groups=self._groups())  # fmt: skip
        temperature = self.learner.temperature
        self.metrics_log.write(
            "health", step, epoch=step / self.steps_per_epoch, figures=figures.to_json(),
            parameter_change=None
            if self.untrained is None
            else parameter_change(self.untrained, self.learner),
            **({} if temperature is None else {"temperature": temperature.value}),
        )  # fmt: skip

    def _knn(self, step: int, network: Learner) -> None:
        h, _ = embed_all(network.embed, self.images)
        if not torch.isfinite(h).all():  # diverged, which the health figures report
            return
        device = next(self.learner.parameters()).device
        accuracy = knn_monitor(
            network.encoder, self.training, self.held_out, self.plain,
            seed=self.recipe.seed, device=device,
        )  # fmt: skip
        self.metrics_log.write(
            "knn", step, epoch=step / self.steps_per_epoch, k=MONITOR_K, accuracy=accuracy,
            layer="h", images=self.queries, **({} if step else {"pixels": self._knn_of_pixels()}),
        )  # fmt: skip

    @property
    def queries(self) -> int:
        """The number of held-out images that the kNN accuracy is of."""
        labels = self.held_out.labels
        return 0 if labels is None else min(MAX_QUERIES, int((labels >= 0).sum()))

    def _knn_of_pixels(self) -> float:
        pixels = pixel_subject(min(PIXELS_SIDE, self.plain.size))
        return knn_monitor(
            pixels.encoder, self.training, self.held_out, pixels.view, seed=self.recipe.seed
        )

    def _objective(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.recipe.method.health_objective([first, second], self.labels)

    def _groups(self) -> torch.Tensor | None:
        return self.labels if self.recipe.method.needs_labels else None


def copied_share(sample: ImageStore, training: ImageStore) -> float:
    """Share of ``sample`` with the pixels of another image of it, or of one of ``training``.

    On such images no figure is of unseen data.
    """
    _, group, counts = np.unique(sample.content, return_inverse=True, return_counts=True)
    return float(np.mean((counts[group] > 1) | np.isin(sample.content, training.content)))


@torch.no_grad()
def parameter_change(before: Learner, now: Learner) -> float:
    """|now - before| / |before| over all trained parameters. ``before`` lies on the CPU."""
    initial = dict(before.named_parameters())
    change = norm = 0.0
    for name, parameter in now.named_parameters():
        if not parameter.requires_grad:
            continue
        start = initial[name].double()
        change += float((parameter.cpu().double() - start).square().sum())
        norm += float(start.square().sum())
    return math.sqrt(change / max(norm, 1e-300))
