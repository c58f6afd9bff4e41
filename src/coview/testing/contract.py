"""Run all checks of a contract, then raise one error with all failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from coview.core.values import decode, encode
from coview.recipes import known_values

Subject = TypeVar("Subject")
Check = Callable[[Subject], None]


def run_checks(checks: Iterable[Check[Subject]], subject: Subject) -> None:
    """Raise AssertionError with the name and the message of every check that fails."""
    failed = []
    for check in checks:
        try:
            check(subject)
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            failed.append(f"{check.__name__}: {reason}")
    assert not failed, f"{len(failed)} checks failed:\n  " + "\n  ".join(failed)


def json_round_trip_gives_equal_value(value: object) -> None:
    """Hashable, and its JSON gives it back."""
    again = decode(encode(value), known_values())
    assert again == value
    assert hash(again) == hash(value)
