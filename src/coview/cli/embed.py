"""coview embed RUN DATA"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.cli.options import argument, option, parse


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Turn images into vectors: a Parquet file with the columns id, name, label and one a tap."""

    run: str = argument("a run's folder, or an exported encoder's")
    data: str = argument("the images")
    out: Path | None = option("the file (default: RUN/embeddings/NAME.parquet)")
    taps: str = option("h, z, or both separated by a comma", "h")
    labels: str = option("where labels come from: auto, none, folders, column", "auto")
    device: str = option("auto, cpu or cuda", "auto")
    limit: int | None = option("use only so many images")
    download: bool = option("allow a torchvision data set to be fetched", False)
    allow_broken: bool = option("go on with more than 1 %% of broken files", False)


def main(words: Sequence[str]) -> int:
    options = parse(Embed, "embed", words)
    from coview.core.progress import say
    from coview.runs import embed, embedding_file

    taps = tuple(name.strip() for name in options.taps.split(","))
    out = options.out or embedding_file(options.run, options.data)
    table = embed(
        options.run, options.data, out=out, taps=taps, labels=options.labels,
        device=options.device, limit=options.limit, download=options.download,
        allow_broken=options.allow_broken,
    )  # fmt: skip
    say(f"{table.num_rows:,} images as vectors: {out}")
    return 0
