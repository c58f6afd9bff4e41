"""Search over many vectors: time of the first answer, exact and with an index, and its recall.

    python benchmarks/search.py time          exact search of 10,000 to 1,000,000 vectors
    python benchmarks/search.py index         an index beside it; --vectors FILE.npz: of its "h"
    python benchmarks/search.py embed         peak memory of `coview embed` for 10 times the images
    python benchmarks/search.py neighbors     kNN's neighbors, now and as they were, in turns

The vectors are made: a random network of two layers on points of 24 dimensions, which gives
non-negative features of 512 dimensions (--width) that crowd as those of an encoder do. A time is
the median of 20 queries, one at a time. Prints Markdown.
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

from coview.embeddings import EmbeddingTable, table_of
from coview.embeddings.index import build_index, index_file, open_index
from coview.embeddings.neighbors import _nearest
from coview.embeddings.search import nearest_rows, unit_vectors
from setting import setting

WIDTH, NUMBER, QUERIES = 512, 10, 20
SIZES = (10_000, 100_000, 1_000_000)


def made_vectors(count: int, seed: int = 0, width: int = WIDTH) -> np.ndarray:
    """Unit rows, float32 [count, width]."""
    weights = np.random.default_rng(1)
    first = weights.standard_normal((24, 128), dtype=np.float32)
    second = weights.standard_normal((128, width), dtype=np.float32)
    points = np.random.default_rng(seed)
    rows = np.empty((count, width), np.float32)
    for start in range(0, count, 50_000):
        x = points.standard_normal((min(50_000, count - start), 24), dtype=np.float32)
        h = np.maximum(np.maximum(x @ first, 0) @ second, 0)
        rows[start : start + len(x)] = unit_vectors(h)
    return rows


def measure_time(sizes: list[int], width: int) -> None:
    print("| vectors | first answer | median of 20 | slowest | of the processor, median "
          "| to read the table, processor |")  # fmt: skip
    print("|---:|---:|---:|---:|---:|---:|")
    queries = made_vectors(QUERIES + 1, seed=2, width=width)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "vectors.parquet")
            write_vectors(made_vectors(size, width=width), path)
            rows, read = read_table(path)
        times, busy = [], []
        for number in range(QUERIES + 1):
            start, began = time.perf_counter(), time.process_time()
            nearest_rows(rows, queries[number : number + 1], NUMBER)
            times.append(time.perf_counter() - start)
            busy.append(time.process_time() - began)
        middle = statistics.median
        figures = (times[0], middle(times[1:]), max(times[1:]), middle(busy[1:]), read)
        cells = " | ".join(f"{1000 * seconds:.0f} ms" for seconds in figures)
        print(f"| {size:,} | {cells} |", flush=True)


def measure_index(sizes: list[int], width: int, file: str | None) -> None:
    """Exact search and an index of the same table; of real vectors the last 200 are queries."""
    print("| vectors | to build, processor | to build | file | recall of the 10 nearest "
          "| a query: exact | index | with reading: exact | index |")  # fmt: skip
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for size in sizes:
        if file is None:
            rows, queries = made_vectors(size, width=width), made_vectors(200, 2, width=width)
        else:
            held = np.load(file)["h"].astype(np.float32)
            rows, queries = held[: min(size, len(held) - 200)], unit_vectors(held[-200:])
        with tempfile.TemporaryDirectory() as folder:
            cells = compare_index(rows, queries, Path(folder, "vectors.parquet"))
        print(f"| {len(rows):,} x {rows.shape[1]} | {' | '.join(cells)} |", flush=True)


def compare_index(rows: np.ndarray, queries: np.ndarray, path: Path) -> list[str]:
    """The cells of a row; seconds of the processor, but the second one, which is of the clock."""
    table = write_vectors(rows, path)
    place, began, start = index_file(path, "h"), time.process_time(), time.perf_counter()
    build_index(place, table.vector_parts("h"), count=len(rows), width=rows.shape[1],
                version=table.version)  # fmt: skip
    built, waited = time.process_time() - began, time.perf_counter() - start
    unit, read = read_table(path)
    truth = nearest_rows(unit, queries, NUMBER)[1]
    began = time.process_time()
    index = open_index(place, EmbeddingTable.open(path).version, list)
    opening = time.process_time() - began
    found = index.nearest_rows(queries, NUMBER)
    recall = np.mean([len(set(a) & set(b)) / NUMBER
                      for a, (_, b) in zip(truth.tolist(), found, strict=True)])  # fmt: skip
    exact = median_busy(lambda query: nearest_rows(unit, query, NUMBER), queries)
    quick = median_busy(lambda query: index.nearest_rows(query, NUMBER), queries)
    times = (exact, quick, read + exact, opening + quick)
    return [f"{built:.0f} s", f"{waited:.0f} s", f"{place.stat().st_size / 1e6:.0f} MB",
            f"{recall:.4f}", *(f"{1000 * seconds:.1f} ms" for seconds in times)]  # fmt: skip


def write_vectors(rows: np.ndarray, path: Path) -> EmbeddingTable:
    return table_of({"h": rows}, names=[f"{n:08}.jpg" for n in range(len(rows))]).write(path)


def read_table(path: Path) -> tuple[np.ndarray, float]:
    """(the vectors of length 1, seconds of the processor to read them)."""
    began = time.process_time()
    unit = unit_vectors(EmbeddingTable.open(path).vectors("h"))
    return unit, time.process_time() - began


def median_busy(function, queries: np.ndarray) -> float:
    """Seconds of the processor for one query, the median of 20 after one that does not count."""
    times = []
    for number in range(QUERIES + 1):
        began = time.process_time()
        function(queries[number : number + 1])
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


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
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--vectors")
    parser.add_argument("--encoder")
    parser.add_argument("--data")
    options = parser.parse_args()
    if options.part == "peak":
        print_peak(options.encoder, options.data)
        return
    print(setting(), "\n", flush=True)
    if options.part == "time":
        measure_time(options.sizes or list(SIZES), options.width)
    elif options.part == "index":
        measure_index(options.sizes or [10_000, 100_000], options.width, options.vectors)
    elif options.part == "embed":
        measure_embed(options.sizes or [500, 5_000])
    else:
        measure_neighbors()


if __name__ == "__main__":
    main()
