"""coview views DATA"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.cli.options import argument, option, parse


@dataclass(frozen=True, kw_only=True)
class Views:
    """Draw a contact sheet: images, the views made of them, and where the two crops overlap."""

    data: str = argument("the images")
    out: Path = option("the PNG to write", Path("views.png"))
    recipe: str = option("whose views", "simclr")
    size: int | None = option("side of the views in pixels")
    jitter_strength: float | None = option("of the color jitter, SimCLR's s")
    local_crops: int | None = option("add so many small crops (multi-crop)")
    affinity: str | None = option("of local crops, as LoGo has them: learned, cosine or none")
    images: int = option("how many", 8)
    seed: int = option("which images and which views", 0)
    download: bool = option("allow a torchvision data set to be fetched", False)


def main(words: Sequence[str]) -> int:
    options = parse(Views, "views", words)
    from coview.core.progress import say
    from coview.runs import draw_views

    draw_views(
        options.data, options.out, recipe=options.recipe, size=options.size,
        jitter_strength=options.jitter_strength, local_crops=options.local_crops, affinity=options.affinity,
        images=options.images, seed=options.seed, download=options.download,
    )  # fmt: skip
    say(f"Contact sheet: {options.out}")
    return 0
