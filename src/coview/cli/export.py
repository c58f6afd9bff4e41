"""coview export RUN --to FORMAT"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.cli.options import argument, option, parse


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the encoder for another library; the file is loaded there and compared."""

    run: str = argument("a run's folder, or an exported encoder's")
    to: str = option("torchvision, timm, onnx or safetensors", "safetensors")
    out: Path | None = option("the file (default: RUN/exports/FORMAT.safetensors or .onnx)")


def main(words: Sequence[str]) -> int:
    options = parse(Export, "export", words)
    from coview.core.progress import say
    from coview.runs import export

    say(f"Written and compared: {export(options.run, to=options.to, out=options.out)}")
    return 0
