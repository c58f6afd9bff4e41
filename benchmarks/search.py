"""Search over many vectors: time of the first answer, exact and with an index, and its recall.

    python benchmarks/search.py time          exact search of 10,000 to 1,000,000 vectors
    python benchmarks/search.py index         USearch's index beside it, where it is installed
    python benchmarks/search.py embed         peak memory of `coview embed` for 10 times the images
    python benchmarks/search.py neighbors     kNN's neighbors, now and as they were, in turns

The vectors are made: a random network of two layers on points of 24 dimensions, which gives
non-negative features of 512 dimensions that crowd as those of an encoder do. A time is the median
of 20 queries, one at a time. Prints Markdown.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from coview.embeddings.neighbors import _nearest
from coview.embeddings.search import nearest_rows, unit_rows
from setting import setting

WIDTH, NUMBER, QUERIES = 512, 10, 20
SIZES = (10_000, 100_000, 1_000_000)


def made_vectors(count: int, seed: int = 0) -> np.ndarray:
    """Unit rows, float32 [count, 512]."""
    weights = np.random.default_rng(1)
    first = weights.standard_normal((24, 128), dtype=np.float32)
    second = weights.standard_normal((128, WIDTH), dtype=np.float32)
    points = np.random.default_rng(seed)
    rows = np.empty((count, WIDTH), np.float32)
    for start in range(0, count, 50_000):
        x = points.standard_normal((min(50_000, count - start), 24), dtype=np.float32)
        h = np.maximum(np.maximum(x @ first, 0) @ second, 0)
        rows[start : start + len(x)] = unit_rows(h)
    return rows


def median_time(function, queries: np.ndarray) -> float:
    """Seconds of a call, the median over the queries after one that does not count."""
    function(queries[:1])
    times = []
    for number in range(1, len(queries)):
        start = time.perf_counter()
        function(queries[number : number + 1])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_time(sizes: list[int]) -> None:
    print("| vectors | first answer | median of 20 | slowest | of the processor, median |")
    print("|---:|---:|---:|---:|---:|")
    queries = made_vectors(QUERIES + 1, seed=2)
    for size in sizes:
        rows = made_vectors(size)
        times, busy = [], []
        for number in range(QUERIES + 1):
            start, began = time.perf_counter(), time.process_time()
            nearest_rows(rows, queries[number : number + 1], NUMBER)
            times.append(time.perf_counter() - start)
            busy.append(time.process_time() - began)
        middle = statistics.median
        figures = (times[0], middle(times[1:]), max(times[1:]), middle(busy[1:]))
        cells = " | ".join(f"{1000 * seconds:.0f} ms" for seconds in figures)
        print(f"| {size:,} | {cells} |", flush=True)


def measure_index(sizes: list[int]) -> None:
    from usearch.index import Index

    print("| vectors | exact | index | recall of the 10 nearest | to build |")
    print("|---:|---:|---:|---:|---:|")
    queries = made_vectors(200, seed=2)
    for size in sizes:
        rows = made_vectors(size)
        start = time.perf_counter()
        index = Index(ndim=WIDTH, metric="cos", dtype="f16")
        index.add(np.arange(size), rows)
        built = time.perf_counter() - start
        truth = nearest_rows(rows, queries, NUMBER)[1]
        found = index.search(queries, NUMBER).keys
        recall = np.mean([len(set(a) & set(b)) / NUMBER for a, b in zip(truth, found, strict=True)])
        exact = median_time(
            lambda q, rows=rows: nearest_rows(rows, q, NUMBER), queries[: QUERIES + 1]
        )
        quick = median_time(lambda q, index=index: index.search(q, NUMBER), queries[: QUERIES + 1])
        print(f"| {size:,} | {1000 * exact:.1f} ms | {1000 * quick:.2f} ms | {recall:.3f} "
              f"| {built:.0f} s |", flush=True)  # fmt: skip


def measure_embed(counts: list[int]) -> None:
    from PIL import Image

    from coview.encoders import export_encoder, resnet

    print("| images | peak memory |\n|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        export_encoder(resnet(10, width=0.125, stem="small"), place / "encoder", image_size=32,
                       mean=(0.5,) * 3, std=(0.2,) * 3)  # fmt: skip
        generator = np.random.default_rng(0)
        for count in counts:
            data = place / f"images-{count}"
            data.mkdir()
            for number in range(count):
                pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((256, 256)).save(data / f"{number:06}.jpg")
            command = [sys.executable, __file__, "peak", "--encoder", str(place / "encoder"),
                       "--data", str(data)]  # fmt: skip
            peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"| {count:,} | {peak.split()[-1]} MB |", flush=True)


def print_peak(encoder: str, data: str) -> None:
    import coview

    coview.embed(encoder, data, device="cpu", out=Path(data).with_suffix(".parquet"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def nearest_before(similarity: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As it was: the whole matrix is compared with the k-th value to find ties."""
    values, columns = similarity.topk(k, dim=1)
    tied = (similarity >= values[:, -1:]).sum(1) > k
    if bool(tied.any()):
        ordered = similarity[tied].sort(dim=1, descending=True, stable=True)
        values[tied], columns[tied] = ordered.values[:, :k], ordered.indices[:, :k]
    columns, by_column = columns.sort(dim=1)
    values, by_value = values.gather(1, by_column).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, by_value)


def measure_neighbors(rounds: int = 9) -> None:
    """One chunk of 335 queries against 50,000 rows, k = 200; seconds of the processor, in turns."""
    torch.set_num_threads(1)
    bank, queries = torch.from_numpy(made_vectors(50_000)), torch.from_numpy(made_vectors(335, 2))
    cosines = queries @ bank.T
    ways = {
        "as it was": nearest_before,
        "now": _nearest,
        "the product": lambda _, k: queries @ bank.T,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        results = []
        for name, way in ways.items():
            start = time.process_time()
            results.append(way(cosines, 200))
            times[name].append(time.process_time() - start)
        before, now = results[:2]
        assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
    print("| the 200 nearest of 50,000 rows for 335 queries | median |\n|---|---:|")
    for name, seconds in times.items():
        print(f"| {name} | {1000 * statistics.median(seconds):.0f} ms |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["time", "index", "embed", "neighbors", "peak"])
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--encoder")
    parser.add_argument("--data")
    options = parser.parse_args()
    if options.part == "peak":
        print_peak(options.encoder, options.data)
        return
    print(setting(), "\n", flush=True)
    if options.part == "time":
        measure_time(options.sizes or list(SIZES))
    elif options.part == "index":
        measure_index(options.sizes or [10_000, 100_000])
    elif options.part == "embed":
        measure_embed(options.sizes or [500, 5_000])
    else:
        measure_neighbors()


if __name__ == "__main__":
    main()
