"""Maps, clusters and outlier scores of trained features: how faithful, and how long they take.

    python benchmarks/map.py vectors RUN TRAIN TEST OTHERS FILE [--checkpoint STEP]
    python benchmarks/map.py coordinates FILE --count 10000 --method tsne
    python benchmarks/map.py clusters FILE --count 20000
    python benchmarks/map.py outliers FILE --count 20000 [--share 0.001]

`vectors` writes the features h of RUN to FILE (.npz): those of all images of TRAIN and TEST, then
those of the left-right mirrored images of TRAIN until there are 100,000, and those of OTHERS,
images from elsewhere. `coordinates` measures one method in one process: pca, tsne (scikit-learn),
landmarks (the same on 10,000 rows, the others placed beside their nearest), opentsne, umap. Numbers
of threads are those of OMP_NUM_THREADS. Seconds of the processor are given beside those of the
clock, which other work on the machine prolongs; compilation by numba is part of both.

Trustworthiness is scikit-learn's, 15 neighbors, on 3,000 drawn rows: of each row's neighbors on the
map, how near they are among the vectors. Neighbors kept: the share of the 15 nearest vectors of
1,000 drawn rows that are among its 15 nearest on the map, all rows being candidates.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from coview.cli.main import share_cores

share_cores()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from coview.embeddings import clusters, outliers  # noqa: E402
from coview.embeddings.map import fast_tsne, landmark_tsne, tsne  # noqa: E402
from coview.embeddings.neighbors import neighbors  # noqa: E402
from setting import setting  # noqa: E402

TOTAL, NEIGHBORS, TRUST_ROWS, QUERIES = 100_000, 15, 3_000, 1_000


def vectors(given: argparse.Namespace) -> None:
    from dataclasses import replace

    from coview.data.spec import DataSpec
    from coview.evaluation import extract
    from coview.runs.load import load_subject

    subject = load_subject(given.run, given.checkpoint)
    parts, labels = [], []
    stores = [DataSpec.of(path, None, labels_from="column").open() for path in given.data]
    mirrored = replace(subject, encoder=Mirrored(subject.encoder))
    extra = stores[0].subset(np.arange(max(0, TOTAL - sum(map(len, stores)))))
    for who, store in ((subject, stores[0]), (subject, stores[1]), (mirrored, extra)):
        parts.append(extract(who, store, layers=("h",)).layers["h"].numpy())
        labels.append(store.labels)
    other = DataSpec.of(given.others, None, labels_from="none", short_side=240).open()
    others = extract(subject, other, layers=("h",)).layers["h"].numpy()
    np.savez(
        given.file, h=np.concatenate(parts), labels=np.concatenate(labels), others=others
    )  # fmt: skip


class Mirrored(torch.nn.Module):
    """The encoder of images that are mirrored first."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.encoder(images.flip(-1))
        return features


def pca(rows: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(rows, dim=1)
    centered = unit - unit.mean(0)
    return centered @ torch.linalg.svd(centered, full_matrices=False)[2][:2].T


def landmarks(rows: torch.Tensor) -> torch.Tensor:
    return landmark_tsne(rows, landmarks=10_000)


def umap(rows: torch.Tensor) -> torch.Tensor:
    """UMAP of umap-learn with its own settings, by cosine; a seed means one thread."""
    from umap import UMAP

    unit = torch.nn.functional.normalize(rows, dim=1).numpy()
    model = UMAP(n_neighbors=15, metric="cosine", random_state=0, n_jobs=1)
    return torch.from_numpy(np.asarray(model.fit_transform(unit)))


METHODS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "pca": pca, "tsne": tsne, "landmarks": landmarks, "opentsne": fast_tsne, "umap": umap,
}  # fmt: skip


def coordinates(given: argparse.Namespace, rows: torch.Tensor, labels: np.ndarray) -> None:
    from sklearn.manifold import trustworthiness

    clock, processor = time.perf_counter(), time.process_time()
    points = METHODS[given.method](rows)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    generator = np.random.default_rng(0)
    drawn = np.sort(generator.choice(len(rows), min(TRUST_ROWS, len(rows)), replace=False))
    trust = trustworthiness(
        rows[drawn].numpy(), points[drawn].numpy(), n_neighbors=NEIGHBORS, metric="cosine"
    )
    queries = torch.from_numpy(np.sort(generator.choice(len(rows), QUERIES, replace=False)))
    near = neighbors(rows, rows[queries], NEIGHBORS, exclude=queries)[1]
    distances = torch.cdist(points[queries].double(), points.double())
    distances[torch.arange(QUERIES), queries] = torch.inf
    mapped = distances.topk(NEIGHBORS, largest=False).indices
    kept = (near[:, :, None] == mapped[:, None, :]).any(2).double().mean()
    of_classes = torch.from_numpy(labels)
    agree = [
        float((of_classes[found] == of_classes[queries, None]).double().mean())
        for found in (near, mapped)
    ]
    print(
        f"| {given.method} | {len(rows):,} | {processor:,.0f} | {clock:,.0f} | {trust:.3f} | "
        f"{100 * float(kept):.1f} | {100 * agree[1]:.1f} ({100 * agree[0]:.1f}) |",
        flush=True,
    )


def measure_clusters(rows: torch.Tensor, labels: np.ndarray) -> None:
    """Nested clusters beside k-means at each granularity: scatter inside, NMI with classes."""
    from sklearn.metrics import normalized_mutual_info_score

    unit = torch.nn.functional.normalize(rows, dim=1)
    counts = (10, *clusters.GRANULARITIES)
    start = time.process_time()
    nested = clusters.nested_clusters(rows, counts)
    print(f"nested: {time.process_time() - start:.0f} s of the processor for all granularities")
    print(
        "| clusters | nested: scatter | NMI | k-means: scatter | NMI |\n|---:|---:|---:|---:|---:|"
    )
    for count in counts:
        cells = []
        for found in (nested[count], clusters.kmeans(unit, count)):
            index = torch.from_numpy(found)
            sums = torch.zeros(count, unit.shape[1]).index_add_(0, index, unit)
            means = sums / torch.bincount(index, minlength=count)[:, None].clamp_min(1)
            scatter = float((unit - means[index]).square().sum(1).mean())
            cells += [f"{scatter:.4f}", f"{normalized_mutual_info_score(labels, found):.3f}"]
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


def measure_outliers(rows: torch.Tensor, others: torch.Tensor, share: float) -> None:
    """AUROC of scores for a share of images from elsewhere among the rows, over 5 draws of them."""
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import LocalOutlierFactor

    planted = max(1, round(len(rows) * share))
    scores: dict[str, list[float]] = {}
    for seed in range(5):
        drawn = np.random.default_rng(seed).choice(len(others), planted, replace=False)
        mixed = torch.cat([rows, others[torch.from_numpy(drawn)]])
        truth = np.arange(len(mixed)) >= len(rows)
        unit = torch.nn.functional.normalize(mixed, dim=1)
        found: dict[str, np.ndarray] = {
            f"mean distance to {k}": outliers.outlier_scores(mixed, k=k, max_bank=len(mixed))
            for k in (5, 10, 20, 50, 100, 200)
        }
        found["to 50, among 5,000 drawn"] = outliers.outlier_scores(mixed, max_bank=5_000)
        factor = LocalOutlierFactor(n_neighbors=50, algorithm="brute").fit(unit.numpy())
        found["local outlier factor, 50"] = -factor.negative_outlier_factor_
        found["distance to the mean"] = -(unit @ unit.mean(0)).numpy()
        for name, values in found.items():
            scores.setdefault(name, []).append(100 * roc_auc_score(truth, values))
    pair = found["mean distance to 50"], found["to 50, among 5,000 drawn"]
    print(f"{planted} images from elsewhere among {len(rows):,}, 5 draws\n\n| score | AUROC in % |")
    print("|---|---:|")
    for name, values in scores.items():
        print(f"| {name} | {np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f}) |")
    print(f"\nRank correlation of the two mean distances to 50: {spearmanr(*pair).statistic:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("vectors")
    writing.add_argument("run")
    writing.add_argument("data", nargs=2, metavar="TRAIN TEST")
    writing.add_argument("others")
    writing.add_argument("file")
    writing.add_argument("--checkpoint", type=int)
    for verb in ("coordinates", "clusters", "outliers"):
        measuring = verbs.add_parser(verb)
        measuring.add_argument("file")
        measuring.add_argument("--count", type=int, default=TOTAL)
        measuring.add_argument("--share", type=float, default=0.01, help="of images from elsewhere")
        measuring.add_argument("--method", choices=METHODS, default="tsne")
    given = parser.parse_args()
    if given.verb == "vectors":
        vectors(given)
        return
    content = np.load(given.file)
    order = np.random.default_rng(0).permutation(len(content["h"]))[: given.count]
    rows, labels = torch.from_numpy(content["h"][order]), content["labels"][order]
    print(f"map {given.verb}: {setting()}; {torch.get_num_threads()} threads", flush=True)
    if given.verb == "coordinates":
        coordinates(given, rows, labels)
    elif given.verb == "clusters":
        measure_clusters(rows, labels)
    else:
        measure_outliers(rows, torch.from_numpy(content["others"]), given.share)


if __name__ == "__main__":
    main()
