"""Networks of torchvision and timm as encoders: without classifier, never downloaded.

Trained weights come from a file of the user (see ``load_weights``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue, MissingExtra, UnknownName
from coview.core.rng import Stream, stream_seed
from coview.encoders.residual import Encoder


class LibraryEncoder(Encoder):
    """A network of another library; ``classifier`` is the path of the removed layer."""

    def __init__(self, model: nn.Module, features: int, classifier: str) -> None:
        super().__init__()
        self.model, self.features, self.classifier = model, features, classifier

    @property
    def network(self) -> nn.Module:
        return self.model

    def forward(self, images: Tensor) -> Tensor:
        h: Tensor = self.model(images)
        return h


def has_one_size(kind: str, name: str) -> bool:
    """Whether the network takes images of one size, which is chosen when it is built."""
    if kind == "torchvision":
        return name.startswith("vit_")
    if kind == "timm":
        config = require_timm(f"The encoder timm:{name}").get_pretrained_cfg(name)
        return config is not None and bool(config.fixed_input_size)
    return kind == "module"  # the size of its trial


def build_torchvision(name: str, seed: int, image_size: int | None = None) -> LibraryEncoder:
    """torchvision's classification model ``name``; h is the input of its last linear layer.

    Raises UnknownName, or InvalidValue for a network with no linear layer or several outputs.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName("torchvision model", name, known)
    if name in ("googlenet", "inception_v3"):
        raise InvalidValue(
            f"torchvision's {name} gives several outputs while training; choose another network."
        )
    size = {} if image_size is None else {"image_size": image_size}
    with fork_rng_seeded(seed), size_errors(f"torchvision:{name}", image_size):
        model = models.get_model(name, weights=None, **size)
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InvalidValue(
            f"torchvision's {name} ends in no linear layer, so its features are not defined; "
            "choose another network."
        )
    features = int(model.get_submodule(linear[-1]).in_features)
    model.set_submodule(linear[-1], nn.Identity())
    return LibraryEncoder(model, features, linear[-1])


@contextmanager
def size_errors(name: str, image_size: int | None) -> Iterator[None]:
    """Raise InvalidValue where a library cannot build its network for images of this size."""
    try:
        yield
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        if image_size is None:
            raise
        reason = " ".join(str(error).split())
        raise InvalidValue(
            f"{name} cannot be built for images of {image_size} pixels ({reason}); choose another "
            "`size`, such as a multiple of its patches."
        ) from error


def build_timm(name: str, seed: int, image_size: int | None = None) -> LibraryEncoder:
    """timm's model ``name`` with num_classes=0. Raises UnknownName; MissingExtra without timm."""
    timm = require_timm(f"The encoder timm:{name}")
    known = timm.list_models()
    # A name with a scheme ("hf-hub:...") would make timm download.
    if name.split(".")[0] not in known or ":" in name:
        raise UnknownName("timm model", name, known)
    size = {} if image_size is None else {"img_size": image_size}
    with fork_rng_seeded(seed), size_errors(f"timm:{name}", image_size):
        model = timm.create_model(name, pretrained=False, num_classes=0, **size)
    classifier = model.default_cfg.get("classifier") or ""
    features = int(getattr(model, "head_hidden_size", model.num_features))
    return LibraryEncoder(model, features, classifier if isinstance(classifier, str) else "")


def require_timm(purpose: str) -> Any:
    """The module timm, or MissingExtra."""
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("timm", "timm", purpose) from error
    return timm


@contextmanager
def fork_rng_seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator inside the block; restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, Stream.INIT, "encoder"))
        yield
