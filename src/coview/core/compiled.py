"""Kernels in machine code: how numba compiles them, and where the code is kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from coview.core.errors import UnusablePackage
from coview.core.progress import say

try:
    import numba
except ImportError as error:  # it refuses a numpy that is newer than itself
    raise UnusablePackage("numba", error) from error

# Values are finite by construction; reassociation lets sums use vector lanes.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": {"nnan", "ninf", "nsz", "contract", "reassoc"},
}
inner = numba.njit(**OPTIONS)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator as numba.njit, whose machine code is kept from one start to the next.

    It lies in $NUMBA_CACHE_DIR, beside the source, in the user's cache folder or in $COVIEW_CACHE.
    Where none of them may be written, every start compiles anew: a folder for all users, as that of
    temporary files, is none for code. Kept code that cannot be read or written, on a full disk or
    cut short by a crash, is as good as none.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if _has_place(dispatcher):
            dispatcher._cache = _KeptCode(dispatcher._cache)
        return dispatcher

    return decorate


def _has_place(dispatcher: Any) -> bool:
    own, settings = os.environ.get("COVIEW_CACHE"), cast(Any, numba.config)
    places = [settings.CACHE_DIR]
    if own:
        places.append(str(Path(own, "compiled").absolute()))
    for settings.CACHE_DIR in places:
        try:
            dispatcher.enable_caching()
        except RuntimeError:  # no place may be written
            continue
        return True
    if not _said:
        _said.append(True)
        say(
            "No folder for compiled code may be written, so that every start compiles it anew; "
            "set NUMBA_CACHE_DIR to one that may.",
            detail=True,
        )
    return False


_said: list[bool] = []


class _KeptCode:
    """A cache of numba whose failures cost time only."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return self.cache.load_overload(*arguments)
        except Exception:  # whatever unpickling a damaged file raises
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            self.cache.save_overload(*arguments)
        except Exception:  # it reads the index first, which may be damaged
            # A damaged index would be read again at every start.
            with contextlib.suppress(OSError):
                self.cache.flush()


outer = compiled(**OPTIONS)
