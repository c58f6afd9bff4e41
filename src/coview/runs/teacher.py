"""The teacher of a distillation: a file with a hash, and the network that it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import torch
from torch import Tensor, nn

from coview.core.errors import RunError
from coview.core.paths import absolute_path
from coview.core.values import decode
from coview.encoders import EncoderSpec
from coview.encoders.exchange.classifier import Classifier
from coview.encoders.exchange.convert import load_network
from coview.encoders.exchange.weights import find_export, read_config
from coview.objectives.inputs import working_dtype
from coview.runs.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherFile:
    """Where a teacher lies and the hash of its weights; its encoder and number of parameters."""

    path: str
    hash: str
    encoder: EncoderSpec
    parameters: int
    image_size: int
    class_names: tuple[str, ...]
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @classmethod
    def at(cls, path: str | Path) -> TeacherFile:
        """The classifier of a run or of an exported folder. Raises RunError, DamagedFile."""
        folder = find_export(path)
        config = read_config(folder)
        if "classifier" not in config:
            raise RunError(
                f"{path} has no classifier, its encoder alone, so that it cannot teach; make one "
                f"with: coview finetune {quote(str(path))} LABELED"
            )
        network = load_classifier_of(folder)
        mean, std = config["mean"], config["std"]
        return cls(
            path=str(absolute_path(folder)), hash=hash_of(folder),
            encoder=EncoderSpec.from_json(config["spec"]),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            image_size=int(config["image_size"]),
            class_names=tuple(config["classifier"]["class_names"]),
            mean=None if mean is None else (mean[0], mean[1], mean[2]),
            std=None if std is None else (std[0], std[1], std[2]),
        )  # fmt: skip

    def load(
        self, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
    ) -> nn.Module:
        """The network: views normalized by ``mean`` and ``std``, of any size -> logits.

        Raises RunError where the teacher is gone, DamagedFile or RunError where it has changed.
        """
        folder = Path(self.path)
        try:
            network = load_classifier_of(folder)
        except RunError as error:
            raise RunError(f"The run's teacher is not there any more. {error}") from error
        if hash_of(folder) != self.hash:
            raise RunError(
                f"The teacher in {folder} has other weights than when the run began, so that the "
                "run cannot go on exactly. Bring them back, or start a new run."
            )
        return ViewClassifier(network, mean, std)


class ViewClassifier(nn.Module):
    """Views of images, normalized by ``mean`` and ``std`` -> the logits of ``classifier``, which
    normalizes images in its own way.

    Shapes: [B, 3, H, W] -> [B, classes]. The logits are of float32 under autocast, too: of logits
    in bf16 a low temperature makes other probabilities.
    """

    def __init__(
        self, classifier: Classifier, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
    ) -> None:
        super().__init__()
        self.encoder, self.layers = classifier.encoder, classifier.layers
        self.mean, self.std = mean, std

    def forward(self, views: Tensor) -> Tensor:
        if self.mean is not None and self.std is not None:
            mean, std = (views.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
            views = views * std + mean
        h: Tensor = self.encoder.encoder(self.encoder.normalize(views))
        with torch.autocast(h.device.type, enabled=False):
            logits: Tensor = self.layers(h.to(working_dtype(h)))
        return logits


def load_classifier_of(folder: Path) -> Classifier:
    """The classifier in an export, its hashes verified. Raises RunError, DamagedFile."""
    network = load_network(folder)
    if not isinstance(network, Classifier):
        raise RunError(f"{folder} has no classifier any more, so that it cannot teach.")
    return network


def hash_of(folder: Path) -> str:
    """The hashes of encoder and classifier that the export records."""
    config = read_config(folder)
    return f"{config['weights_hash']}+{config['classifier']['weights_hash']}"


def teacher_of(run: Run) -> TeacherFile:
    """The teacher that run.json names."""
    teacher = decode(run.description["teacher"], [TeacherFile, EncoderSpec])
    assert isinstance(teacher, TeacherFile)
    return teacher
