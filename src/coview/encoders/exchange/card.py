"""The parts of an export's model card that its metadata say: training, figures, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coview.core.text import plural

UNKNOWN = "How it was trained is not recorded."
NOT_MEASURED = "Not measured."
LIMITS = """\
- It knows the images that it was trained on. How it does on others (another camera, place or time,
  other sizes, damaged or manipulated images) was not tested, nor how it treats groups of people.
- A figure above is of held-out images of the same source, and may be higher than for yours."""


LICENSE = "The weights belong to the person who trained them, who chooses their license."
IMPORTED_LICENSE = """\
These are weights of others. License of the original, as far as it is known: {license}.
Check it before you pass them on."""


def license_text(metadata: Mapping[str, Any]) -> str:
    """Whose the weights are.

    >>> license_text({}).splitlines()[0][:36]
    'The weights belong to the person who'
    """
    if "imported" not in metadata:
        return LICENSE
    return IMPORTED_LICENSE.format(license=metadata.get("license") or "not known")


def training_lines(metadata: Mapping[str, Any]) -> list[str]:
    """A list in Markdown of what the metadata say about training.

    >>> training_lines({"method": "simclr", "recipe": "simclr-cpu", "epochs": 8.0, "steps": 250})
    ['- Method: simclr, recipe `simclr-cpu`.', '- Length: 8 epochs, 250 steps.']
    """
    return [f"- {line}." for line in _lines(metadata)] or [UNKNOWN]


def _lines(metadata: Mapping[str, Any]) -> Iterator[str]:
    if imported := metadata.get("imported"):
        yield from _imported_lines(imported)
    recipe, recipe_hash = metadata.get("recipe"), metadata.get("recipe_hash")
    if method := metadata.get("method"):
        named = f", recipe `{recipe}`" if recipe else ""
        yield f"Method: {method}{named}" + (f" (hash `{recipe_hash}`)" if recipe_hash else "")
    if start := metadata.get("start"):
        yield f"First weights: those of `{start}`"
    images, data = metadata.get("images"), metadata.get("data")
    if images or data:
        words = [f"{images:,}" if isinstance(images, int) else "", f"of `{data}`" if data else ""]
        fingerprint = metadata.get("data_fingerprint")
        mark = f" (fingerprint `{fingerprint}`)" if fingerprint else ""
        used = metadata.get("labels_used")
        labels = "" if used is None else f", {'with' if used else 'without'} their labels"
        yield f"Images: {' '.join(filter(None, words))}{mark}{labels}"
    lengths = [plural(metadata[f"{unit}s"], unit) for unit in ("epoch", "step")
               if isinstance(metadata.get(f"{unit}s"), int | float)]  # fmt: skip
    if lengths:
        yield f"Length: {', '.join(lengths)}"


def _imported_lines(imported: Mapping[str, Any]) -> Iterator[str]:
    yield f"Imported from a checkpoint of {imported['from']}, by whose program it was trained"
    for name, sha256 in imported["sha256"].items():
        yield f"File: `{name}` (SHA-256 `{sha256}`)"
    for what, count in imported["left_out"].items():
        yield f"Left out: {what} ({plural(count, 'tensor')})"
    for note in imported["notes"]:
        yield note.removesuffix(".")


def figure_lines(metadata: Mapping[str, Any]) -> list[str]:
    """The verdict on the run, and what was measured with its protocol.

    >>> figure_lines({})
    ['Not measured.']
    """
    verdict, figures = metadata.get("verdict"), metadata.get("figures")
    figures = figures if isinstance(figures, list | tuple) else []
    lines = [f"{verdict}\n"] if verdict else []
    return [*lines, *(f"- {figure}" for figure in figures)] or [NOT_MEASURED]
