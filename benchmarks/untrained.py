"""The untrained network of a recipe on labeled images: the reference of every published gain.

    python benchmarks/untrained.py RECIPE TRAIN TEST [--encoder E] [--limit N] [--linear]

A new BatchNorm layer has the running statistics (0, 1). "as built" is measured with those, which
is how figures up to commit 63acdc0 were made; "settled" has the statistics of 1,024 training
images, as every evaluation since. kNN: votes weighted. Rank and feature std: h of 1,000 images of
TEST in the view without augmentation. Nothing is trained.
"""

from __future__ import annotations

import argparse

from coview.cli.main import share_cores

share_cores()

from torch.nn.functional import normalize  # noqa: E402

from coview import evaluation  # noqa: E402
from coview.data.spec import DataSpec  # noqa: E402
from coview.embeddings.geometry import feature_std, rank_me  # noqa: E402
from coview.methods.untrained import settled  # noqa: E402
from coview.options import EvaluateOptions  # noqa: E402
from coview.recipes import build, change, recipe  # noqa: E402
from setting import setting  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--encoder")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--linear", action="store_true", help="the linear probe, too")
    given = parser.parse_args()
    chosen = recipe(given.recipe)
    if given.encoder:
        chosen = change(chosen, encoder=given.encoder)
    options = EvaluateOptions(subjects=(), data=given.train, limit=given.limit)
    spec = DataSpec.of(given.train, options, needs_labels=True)
    train, test = spec.open(given.train), spec.open(given.test)
    built = build(chosen)
    networks = {
        "as built": built,
        "settled": settled(built, train, chosen.eval_view, seed=chosen.seed),
    }
    subjects = [
        evaluation.Subject(name=name, encoder=network.encoder, view=chosen.eval_view)
        for name, network in networks.items()
    ]
    benchmark = evaluation.make_benchmark(subjects, train, test)
    rows = {
        f"kNN, k = {k}": evaluation.evaluate_knn(benchmark, settings=((k, 0.07),)) for k in (10, 20)
    }
    if given.linear:
        rows["linear probe"] = evaluation.evaluate_linear(benchmark)
    print(f"untrained, {chosen.name}, {chosen.encoder.label()}: {setting()}\n")
    print("| untrained | as built | settled |\n|---|---:|---:|")
    for name, results in rows.items():
        print(f"| {name} | {' | '.join(f'{100 * result.value:.1f} %' for result in results)} |")
    features = [benchmark.features[name][1].layers["h"][:1000] for name in networks]
    ranks = [rank_me(normalize(h, dim=1)) for h in features]
    print(f"| effective rank of h | {' | '.join(f'{rank:.1f}' for rank in ranks)} |")
    print(f"| feature std of h | {' | '.join(f'{feature_std(h):.2f}' for h in features)} |")


if __name__ == "__main__":
    main()
