"""Recipes for a CPU, and for the built-in demonstration; their numbers are our own measurements."""

from __future__ import annotations

from dataclasses import replace

from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods import simclr
from coview.recipes.recipe import Recipe
from coview.training import OptimiserSpec, ScheduleSpec
from coview.views import simclr as simclr_views


def simclr_cpu() -> Recipe:
    """SimCLR at 32 px on two CPU cores: a half-width ResNet-10, half an hour for CIFAR-10."""
    return Recipe(
        name="simclr-cpu",
        method=simclr(
            32,
            views=simclr_views(32, area=(0.2, 1.0)),
            temperature=0.2,
            head=HeadSpec(hidden=256, output=64),
        ),
        # A stem of stride 2 costs a quarter of the small one, one block a group half of two.
        encoder=EncoderSpec(depth=10, width=0.5, stem="medium"),
        optimiser=OptimiserSpec(
            name="adamw", learning_rate=2e-3, scaling="none", weight_decay=1e-4
        ),
        schedule=ScheduleSpec(warmup_epochs=1),
        batch_size=256,
        epochs=17,
    )


def simclr_demo() -> Recipe:
    """SimCLR on the built-in scenes in about two minutes on two cores."""
    base = simclr_cpu()
    # Strength 1 rather than 0.5: the colours of a scene say nothing of what it shows.
    views = simclr_views(32, area=(0.2, 1.0), strength=1.0)
    return replace(
        base,
        name="simclr-demo",
        method=replace(base.method, views=views),
        # Half the width of simclr-cpu: three times the views, which teach more in two minutes.
        encoder=replace(base.encoder, width=0.25),
        schedule=ScheduleSpec(warmup_epochs=0.5),
        batch_size=128,
        epochs=20,
    )
