"""What a study without runs measures: once, and kept in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coview.core.errors import RunError
from coview.core.files import digest, write_json
from coview.core.run_folder import read_object

MEASURED = "measured.json"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """``measure`` returns the JSON object that is kept; ``of`` is, as JSON, all that decides what
    comes out, by which it is known again.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "study")
    >>> Measurement(of=[1, 2], measure=lambda: {"sum": 3}).keep(folder)
    >>> measured(folder)["sum"], Measurement(of=[1, 3], measure=dict).is_in(folder)
    (3, False)
    """

    of: Any
    measure: Callable[[], Mapping[str, Any]]

    @cached_property
    def key(self) -> str:
        return digest(json.dumps(self.of, sort_keys=True).encode())

    def is_in(self, folder: Path) -> bool:
        """Whether ``folder`` has it."""
        return (read_object(folder / MEASURED) or {}).get("key") == self.key

    def keep(self, folder: Path) -> None:
        """Measure, unless ``folder`` has it."""
        if not self.is_in(folder):
            write_json(folder / MEASURED, {"key": self.key, **self.measure()})


def measured(folder: Path) -> dict[str, Any]:
    """What is kept in ``folder``. Raises RunError where nothing is."""
    content = read_object(folder / MEASURED)
    if content is None:
        raise RunError(f"{folder} has no {MEASURED}; run the study first.")
    return content
