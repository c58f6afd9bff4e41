"""Images per second of processor time that the decoder takes, one thread.

    python benchmarks/decode.py FOLDER_OR_PARQUET ... [--turns 5] [--images 1500] [--short-side 256]

Prints the best and the median of ``turns`` passes over the same encoded bytes in memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from coview.data.decode import decode_image, strict_pillow
from coview.data.decode_spec import Decoded, DecodeSpec


def contents(source: Path, images: int) -> list[bytes]:
    """The encoded bytes of at most ``images`` images, evenly spread over the source."""
    if source.is_dir():
        files = sorted(
            path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".png")
        )
        return [files[row].read_bytes() for row in _spread(len(files), images)]
    import pyarrow.parquet as pq

    column = pq.read_table(source, columns=["image"]).column(0)
    return [column[row].as_py()["bytes"] for row in _spread(len(column), images)]


def _spread(count: int, most: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, most)).astype(int).tolist()


def rate(encoded: list[bytes], spec: DecodeSpec) -> float:
    """Images per second of one pass."""
    start = time.process_time()
    with strict_pillow():
        usable = sum(isinstance(decode_image(each, spec), Decoded) for each in encoded)
    seconds = time.process_time() - start
    if usable != len(encoded):
        raise SystemExit(f"{len(encoded) - usable} of {len(encoded)} images were rejected")
    return len(encoded) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--short-side", type=int, default=256)
    options = parser.parse_args()
    for source in options.sources:
        encoded = contents(source, options.images)
        spec = DecodeSpec(short_side=options.short_side)
        rates = [rate(encoded, spec) for _ in range(options.turns)]
        average = sum(map(len, encoded)) / len(encoded)
        print(
            f"{source.name}: {len(encoded):,} images of {average:,.0f} bytes: "
            f"best {max(rates):,.0f}/s, median {statistics.median(rates):,.0f}/s"
        )


if __name__ == "__main__":
    main()
