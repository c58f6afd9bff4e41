"""coview evaluate RUN --data LABELED"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coview.cli.options import argument, option, parse


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Judge an encoder on labeled images, beside the untrained encoder and raw pixels."""

    run: str = argument("the run's folder")
    data: str = option("labeled images: neighbors and probe training come from here", "")
    test: str | None = option("labeled images to be judged on (default: a part of --data)")
    protocols: str = option("which, separated by commas", "knn,linear")
    labels: str = option("where labels come from: auto, folders, column", "auto")
    device: str = option("auto, cpu or cuda", "auto")
    limit: int | None = option("use only so many images of each")
    allow_broken: bool = option("go on with more than 1 %% of broken files", False)
    download: bool = option("allow a torchvision data set to be fetched", False)


def main(words: Sequence[str]) -> int:
    options = parse(Evaluate, "evaluate", words)
    from coview.cli.tables import evaluation_table
    from coview.runs import evaluate

    results = evaluate(
        options.run,
        options.data,
        test=options.test,
        protocols=tuple(name.strip() for name in options.protocols.split(",")),
        labels=options.labels,
        device=options.device,
        limit=options.limit,
        download=options.download,
        allow_broken=options.allow_broken,
    )
    evaluation_table(results)
    return 0
