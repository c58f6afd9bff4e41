"""The data of a run: a value in run.json, and the images that it opens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.progress import say
from coview.core.text import plural
from coview.data.annotated import spec_from_json
from coview.data.annotations import AnnotatedStore
from coview.data.held_out import relabel
from coview.data.spec import DataSpec
from coview.data.stream import ImageStream

NAMED = 3
"""Files that a sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """The data of a run as a value: its images, test images, and which labels are used.

    own_test: without ``test``, the test part of the source is tested on, where it has parts.
    ``labels`` and ``label_draw``: see :func:`coview.data.labels.label_subset`. ``class_names``: the
    classes by which labels are numbered, where they are those of a teacher.
    """

    images: DataSpec
    test: DataSpec | None = None
    own_test: bool = False
    labels: str = "100%"
    label_draw: int = 0
    class_names: tuple[str, ...] = ()

    def open(
        self, data: Any = None, test: Any = None, workers: int | None = None, *,
        own_classes: bool = False,
    ) -> Images:  # fmt: skip
        """The images; ``data`` and ``test`` stand in for sources in memory or moved folders.
        ``workers``: the threads that decode. ``own_classes``: the test images keep the numbers of
        their own classes; else they are numbered by the classes of the images, which have them
        all. Raises DataError where they have not."""
        images = self.images.open(data, workers=workers)
        if self.class_names:
            images = self._numbered(images)
        spec = self.test
        has_parts = "train" in images.parts and len(images.parts) > 1
        if spec is None and self.own_test and self.images.split is None and has_parts:
            spec, test = self.images.tests(), data if test is None else test
            # Whoever learns without labels is tested by those that there clearly are.
            spec = replace(spec, needs_labels=spec.needs_labels or None)
        if spec is None:
            return Images(images, None)
        tests = spec.open(test, workers=workers)
        if own_classes or not images.class_names:  # without names there is nothing to number by
            return Images(images, tests)
        if self.class_names and self.test is None:
            return Images(images, self._numbered(tests))
        return Images(images, _numbered(tests, images.class_names))

    def _numbered(self, images: ImageStore) -> ImageStore:
        """As :func:`_numbered` by ``class_names``; an error says how to do without the labels."""
        try:
            return _numbered(images, self.class_names)
        except DataError as error:
            raise DataError(
                f"{error} These are classes that the teacher does not know. To learn from the "
                "images without their labels give `labels_from` none."
            ) from error

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images.to_json(),
            "test": None if self.test is None else self.test.to_json(),
            "own_test": self.own_test,
            "labels": self.labels,
            "label_draw": self.label_draw,
            **({"class_names": list(self.class_names)} if self.class_names else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunData:
        return cls(
            images=spec_from_json(data["images"]),
            test=None if data["test"] is None else spec_from_json(data["test"]),
            own_test=data["own_test"],
            labels=data["labels"],
            label_draw=data["label_draw"],
            class_names=tuple(data.get("class_names", ())),
        )


def _numbered(store: ImageStore, class_names: tuple[str, ...]) -> ImageStore:
    """The images with their labels, where they have any, numbered by ``class_names``."""
    if store.labels is None and not isinstance(store, AnnotatedStore):
        return replace(store, class_names=class_names)
    return relabel(store, class_names)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """What was opened: the images, and test images where they have a source of their own."""

    images: ImageStore
    test: ImageStore | None

    @property
    def fingerprint(self) -> str:
        return "+".join(store.fingerprint for store in self.stores)

    @property
    def unlabeled_fingerprint(self) -> str:
        """The same without labels."""
        return "+".join(store.unlabeled_fingerprint for store in self.stores)

    @property
    def stores(self) -> tuple[ImageStore, ...]:
        """Those that were opened."""
        return tuple(store for store in (self.images, self.test) if store is not None)

    @property
    def notes(self) -> tuple[str, ...]:
        """Of both, each once."""
        others = () if self.test is None else self.test.notes
        return tuple(dict.fromkeys((*self.images.notes, *others)))


def say_source(store: ImageStore | ImageStream) -> None:
    """The notes of a source, and which of its files are left out."""
    for note in store.notes:
        say(note, detail=True)
    if store.quarantine:
        say(about_left_out(store))


def about_left_out(store: ImageStore | ImageStream) -> str:
    """How many files could not be used, the first of them, and why."""
    count = len(store.quarantine)
    first = ", ".join(f"{name} ({reason})" for name, reason in store.quarantine[:NAMED])
    return (
        f"{plural(count, 'file')} of {store.source} could not be used and "
        f"{'is' if count == 1 else 'are'} left out: {first}"
        f"{' ...' if count > NAMED else ''}. `coview doctor` lists all."
    )


def without_download(data: RunData) -> RunData:
    """The same data, nothing of which may be fetched."""
    test = None if data.test is None else replace(data.test, download=False)
    return replace(data, images=replace(data.images, download=False), test=test)
