"""coview doctor DATA_OR_RUN"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coview.cli.options import argument, option, parse


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say whether images are fit for training, or whether a run has learned anything; each finding
    with what to do about it."""

    subject: str = argument("a run's folder, or images as for pretrain")
    labels: str = option("where labels come from: auto, none, folders, column", "auto")
    limit: int | None = option("look at only so many images")
    download: bool = option("allow a torchvision data set to be fetched", False)


def main(words: Sequence[str]) -> int:
    options = parse(Doctor, "doctor", words)
    from coview.runs import doctor

    return doctor(
        options.subject, labels=options.labels, limit=options.limit, download=options.download
    )
