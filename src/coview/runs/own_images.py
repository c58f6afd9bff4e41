"""The images of a run, for commands that take them where no others are named."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

from coview.core.errors import RunError
from coview.core.places import Kind, place_of
from coview.data.spec import DataSpec
from coview.options import DataOptions
from coview.runs.run import Run


def images_of(options: Any, field: str) -> tuple[Any, DataOptions]:
    """The images that ``options`` names as ``field``, or those of its run, and what opens them."""
    data = getattr(options, field)
    if data is not None:
        return data, options
    own = own_images(options.run, options, field)
    return source_in(own), own


def own_images(run: str | Path, options: DataOptions, field: str) -> DataSpec:
    """The images of ``run``, opened as it opened them but for the options that are given.

    ``field``: the option by which a user names images instead. Raises RunError where the run does
    not know its images: those in memory, and those of an exported encoder.
    """
    if place_of(run).kind is not Kind.RUN:
        raise RunError(f"{run} does not say which images are its own; name them by `{field}`.")
    spec = with_given(Run.open(run).data.images, options)
    if spec.source is None:
        raise RunError(f"The images of the run were in memory; give the same ones as `{field}`.")
    return spec


def with_given(spec: DataSpec, options: DataOptions) -> DataSpec:
    """``spec`` with the options that are given in place of its own."""
    given = {
        each.name: getattr(options, each.name)
        for each in dataclasses.fields(DataOptions)
        if getattr(options, each.name) != each.default
    }
    return replace(spec, needs_labels=None, **given)


def source_in(spec: DataSpec) -> Any:
    """The source of ``spec`` as a user would give it."""
    return list(spec.source) if isinstance(spec.source, tuple) else spec.source
