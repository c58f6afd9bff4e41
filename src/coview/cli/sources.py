"""Images that a command names and that are not there, said before anything heavy is loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from coview.core.option_checks import IMAGE_NAMES
from coview.core.places import Kind, place_of


def check_sources(options: Any) -> None:
    """Raise the error of a path of images where nothing is, as opening it would."""
    from coview.data.refusals import refuse_place
    from coview.data.sources import NAMES

    for field in dataclasses.fields(options):
        if field.metadata.get("names") not in IMAGE_NAMES:
            continue
        value = getattr(options, field.name)
        words = value if isinstance(value, tuple) else (value,)
        names = NAMES if len(words) == 1 else ()
        for word in words:
            # "-" is the standard input, and braces are shards that are counted out.
            if not isinstance(word, str | Path) or word == "-" or "{" in str(word):
                continue
            place = place_of(word, names)
            if place.kind is Kind.MISSING:
                raise refuse_place(place, names)
