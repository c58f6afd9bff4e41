"""How long the cells of a study take on this machine, before the first of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from coview.encoders import EncoderSpec
from coview.planning.trial import Trial
from coview.recipes import change, recipe
from coview.studies.cell import Cell
from coview.training import choose_device

ENOUGH = 0.2  # seconds of a step that is measured
FORWARD_SHARE = 1 / 3  # of a training step, which the forward pass of a teacher takes


class Speeds:
    """Seconds of a cell, by small steps on noise through each of its encoders.

    ``images``: those of the data; ``device`` as everywhere.
    """

    def __init__(self, images: int, device: str) -> None:
        self.images, self.device = images, choose_device(device)
        self._seconds_of_view = cache(self._measure)

    def seconds(self, cell: Cell) -> float:
        """Of the training alone; 0 where the cell does not say what it trains."""
        total = 0.0
        for work in cell.work:
            views = self.images * work.share * work.passes * work.views
            each = self._seconds_of_view(work.encoder)
            if work.teacher is not None:
                each += FORWARD_SHARE * self._seconds_of_view(work.teacher)
            total += views * each
        return total

    def _measure(self, encoder: EncoderSpec) -> float:
        base = change(recipe("supervised-cpu"), encoder=encoder)
        one = replace(base.method.views, views=base.method.views.views[:1])
        trial = Trial(replace(base, method=replace(base.method, views=one)), self.device)
        images, seconds = trial.probe(most_images=base.batch_size, enough=ENOUGH)
        return seconds / images
