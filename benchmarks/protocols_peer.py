"""lightly's kNN and linear classifier on features in a file; run by benchmarks/protocols.py.

    python benchmarks/protocols_peer.py FEATURES.npz EPOCHS THREADS

Needs lightly and pytorch-lightning, and nothing of Coview. The last line is a JSON object.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings

import lightly
import numpy as np
import torch
from lightly.utils.benchmarking import LinearClassifier, knn_predict
from pytorch_lightning import Trainer, seed_everything
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, TensorDataset

BATCH, QUERIES = 256, 512


def main() -> None:
    path, epochs, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    arrays = np.load(path)
    rows, labels, queries, truth = (
        torch.from_numpy(arrays[name]) for name in ("train", "train_labels", "test", "test_labels")
    )
    classes = int(labels.max()) + 1
    results: dict[str, object] = {"version": lightly.__version__}
    for k, temperature in ((20, 0.07), (200, 0.1)):
        start = time.process_time(), time.perf_counter()
        bank, unit = normalize(rows, dim=1).T.contiguous(), normalize(queries, dim=1)
        predicted = [
            knn_predict(part, bank, labels, classes, knn_k=k, knn_t=temperature)[:, 0]
            for part in unit.split(QUERIES)
        ]
        accuracy = float((torch.cat(predicted) == truth).double().mean())
        name = f"kNN, k {k}, temperature {temperature:g}"
        results[name] = accuracy, since(start)
    start = time.process_time(), time.perf_counter()
    seed_everything(0, verbose=False)
    model = LinearClassifier(
        model=torch.nn.Identity(), batch_size_per_device=BATCH, feature_dim=rows.shape[1],
        num_classes=classes,
    )  # fmt: skip
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loader = DataLoader(TensorDataset(rows, labels), batch_size=BATCH, shuffle=True)
    trainer.fit(model, loader)
    model.eval()
    with torch.no_grad():
        predicted_labels = model.classification_head(queries).argmax(1)
    accuracy = float((predicted_labels == truth).double().mean())
    results[f"linear, SGD, {epochs} epochs"] = accuracy, since(start)
    print(json.dumps(results))


def since(start: tuple[float, float]) -> tuple[float, float]:
    """Seconds of the processor and on the wall."""
    return time.process_time() - start[0], time.perf_counter() - start[1]


if __name__ == "__main__":
    main()
