"""Errors with one sentence for the user: what is wrong, where, what was expected, what to do.

    CoviewError
    +-- InvalidValue     a value outside its range or of the wrong kind   (also a ValueError)
    +-- UnknownName      an unknown name; the message has the nearest     (also a LookupError)
    +-- DataError        images or labels that cannot be used
    |   +-- NoLabels       labels are needed, and images have none
    +-- RunError         a run folder that exists already, is missing, or is not one
    |   +-- SeveralErrors  what is wrong with several runs, a line each
    +-- DamagedFile      a file of ours whose content does not match its hash
    +-- StorageError     the disk or the file system refused
    +-- UnreadableFile   a file or folder that may not be read     (a RunError and a StorageError)
    +-- ProcessLost      another process of the run has ended
    +-- MissingExtra     an optional package is not installed             (also an ImportError)
    +-- UnusablePackage  a package that is always needed cannot be imported       (the same)

The command line prints the sentence of a CoviewError without a traceback and exits with 2. Any
other exception is a defect of Coview and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CoviewError(Exception):
    """Base of every error that a user can cause or fix."""


class InvalidValue(CoviewError, ValueError):
    """A value outside its range or of the wrong kind."""


class UnknownName(CoviewError, LookupError):
    """An unknown name; the message lists the known names, the nearest first.

    ``meant``: the known name of the same meaning, where it is known; "" finds one by its letters.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, meant: str = "") -> None:
        names = sorted(known)
        near = meant or nearest(name, names)
        hint = f" Did you mean {near!r}?" if near else ""
        close = difflib.get_close_matches(name, names, 8, 0.3) or names[:8]
        shown = names if len(names) <= 20 else close
        more = f" (and {len(names) - len(shown)} more)" if len(shown) < len(names) else ""
        super().__init__(f"There is no {kind} {name!r}.{hint} Known: {', '.join(shown)}{more}.")
        self.nearest = near


class UnknownValue(UnknownName):
    """A recipe holds a class that this process has not imported."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__("kind of recipe value", name, known)
        self.args = (
            f"The recipe holds a {name!r}, whose class is not one of Coview's"
            + (f" (is {self.nearest!r} meant?)" if self.nearest else "")
            + ". If it is yours, name the file that defines it by `import_`; in Python import it "
            "and call coview.resume, coview.evaluate or coview.load from the same program.",
        )


class DataError(CoviewError):
    """Images or labels that cannot be used."""


class NoLabels(DataError):
    """Images have none of the labels that are needed; ``what`` says so without a way out.

    >>> str(NoLabels("The images have no labels."))
    'The images have no labels. `coview pretrain` learns without labels.'
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} `coview pretrain` learns without labels.")
        self.what = what


class RunError(CoviewError):
    """A run folder that exists already, is missing, or is not a run."""


class SeveralErrors(RunError):
    """What is wrong with several runs: ``lines``, each a sentence.

    >>> SeveralErrors(["a: The run is gone.", "b: The disk is full."]).lines
    ('a: The run is gone.', 'b: The disk is full.')
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


class DamagedFile(CoviewError):
    """A file of ours whose content does not match its recorded hash."""


class StorageError(CoviewError):
    """The disk or the file system refused."""


class UnreadableFile(RunError, StorageError):
    """A file or folder that is there and may not be read. It is never taken for an absent one."""


class ProcessLost(CoviewError):
    """Another process of the run has ended, so this one cannot continue."""


class MissingExtra(CoviewError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'coview[{extra}]' "
            f"(in a clone: pip install '.[{extra}]')."
        )


class UnusablePackage(CoviewError, ImportError):
    """A package that Coview cannot do without cannot be imported."""

    def __init__(self, package: str, error: ImportError) -> None:
        super().__init__(
            f"Coview needs the package {package!r}, which cannot be imported here ({error}). "
            f"Install one that fits, such as by: pip install --upgrade {package}."
        )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to ``name``, or None where none is close.

    >>> nearest("simclr-cp", ["simclr-cpu", "supcon-cpu"])
    'simclr-cpu'
    >>> nearest("nosuch", ["supcon", "simsiam"]) is None
    True
    """
    by_lower = {candidate.lower().lstrip("-"): candidate for candidate in known}
    word = name.lower().lstrip("-")
    matches = difflib.get_close_matches(word, by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None
