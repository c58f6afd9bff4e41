"""A classifier beside an exported encoder: layers on top of h, and the names of the classes.

classifier.safetensors   the tensors of a torch.nn.Sequential
config.json              "classifier": the layers of the Sequential, the class names, the hash

The layers are linear, batch_norm and relu, so that a few lines of plain torch build them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coview.core.errors import DamagedFile, InvalidValue
from coview.core.files import digest, read_content, write_json, write_text
from coview.encoders.exchange.loading import InputNormalizer, Transform
from coview.encoders.exchange.weights import read_config, read_tensors, write_tensors

TENSORS = "classifier.safetensors"
LAYERS: dict[str, Any] = {"linear": nn.Linear, "batch_norm": nn.BatchNorm1d, "relu": nn.ReLU}

README = """
## The classifier

h -> logits of: {classes}.

With Coview: `coview.load(".")` gives images -> logits, `coview predict` a table. In plain torch,
after any of the blocks above:

```python
import json

config = json.load(open("config.json"))["classifier"]
kinds = {{"linear": torch.nn.Linear, "batch_norm": torch.nn.BatchNorm1d, "relu": torch.nn.ReLU}}
classifier = torch.nn.Sequential(*(kinds[kind](*sizes) for kind, *sizes in config["layers"]))
classifier.load_state_dict(load_file("classifier.safetensors"))
logits = classifier.eval()(h)
```
"""


class Classifier(nn.Module):
    """Images [B, 3, H, W] in [0, 1] -> logits [B, classes].

    ``encoder`` gives h, ``layers`` the logits of h; ``class_names`` are in the order of the logits.
    """

    def __init__(
        self, encoder: InputNormalizer, layers: nn.Sequential, class_names: Sequence[str]
    ) -> None:
        super().__init__()
        self.encoder, self.layers = encoder, layers
        self.class_names = tuple(class_names)
        self.features = encoder.features

    @property
    def image_size(self) -> int | None:
        """The side of the training images, in pixels."""
        return self.encoder.image_size

    @property
    def transform(self) -> Transform | None:
        """A picture -> one image [3, S, S] of a batch."""
        return self.encoder.transform

    def forward(self, images: Any) -> Tensor:
        logits: Tensor = self.layers(self.encoder(images))
        return logits

    @property
    def linear(self) -> nn.Linear:
        """The layer of a classifier that has one alone. Raises InvalidValue for one with more."""
        if len(self.layers) == 1 and isinstance(self.layers[0], nn.Linear):
            return self.layers[0]
        raise InvalidValue(
            "This classifier keeps layers of the projection head, which networks of other "
            "libraries do not have. Export it to onnx or safetensors, or fine-tune with "
            "`from_layer` 0."
        )


def plain_layers(modules: Sequence[nn.Module]) -> nn.Sequential:
    """The same function as ``modules`` one after the other, of plain linear, norm and ReLU layers.

    The weights are copied. Raises InvalidValue for a layer of another kind.
    """
    layers: list[nn.Module] = []
    for module in modules:
        parts = list(module.children()) or [module]
        for part in parts:
            layers.append(_plain_layer(part))
    return nn.Sequential(*layers).eval()


def _plain_layer(part: nn.Module) -> nn.Module:
    if isinstance(part, nn.Linear):
        plain: nn.Module = nn.Linear(part.in_features, part.out_features)
    elif isinstance(part, nn.BatchNorm1d):
        plain = nn.BatchNorm1d(part.num_features, eps=part.eps)
    elif isinstance(part, nn.ReLU):
        return nn.ReLU()
    else:
        raise InvalidValue(
            f"A classifier is made of linear, batch_norm and relu layers; got a "
            f"{type(part).__name__}."
        )
    with torch.no_grad():
        for name, tensor in [*plain.named_parameters(), *plain.named_buffers()]:
            source = getattr(part, name)
            if source is not None:
                tensor.copy_(source)
            elif name == "bias":
                tensor.zero_()
    return plain


def describe_layers(layers: nn.Sequential) -> list[list[Any]]:
    """The layers as JSON: [["linear", 64, 10]].

    >>> describe_layers(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()))
    [['linear', 4, 3], ['batch_norm', 3], ['relu']]
    """
    described: list[list[Any]] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            described.append(["linear", layer.in_features, layer.out_features])
        elif isinstance(layer, nn.BatchNorm1d):
            described.append(["batch_norm", layer.num_features])
        else:
            described.append(["relu"])
    return described


def export_classifier(folder: Path, layers: nn.Sequential, class_names: Sequence[str]) -> None:
    """Write ``layers`` beside the encoder that ``folder`` holds already."""
    weights_hash = write_tensors(folder / TENSORS, layers.state_dict())
    config = read_config(folder)
    config["classifier"] = {
        "layers": describe_layers(layers),
        "class_names": list(class_names),
        "weights_hash": weights_hash,
    }
    write_json(folder / "config.json", config)
    readme = folder / "README.md"
    write_text(readme, readme.read_text() + README.format(classes=", ".join(class_names)))


def load_classifier(folder: Path, encoder: InputNormalizer) -> Classifier:
    """The classifier in an export folder, in evaluation mode. Raises DamagedFile."""
    config = read_config(folder)["classifier"]
    path = folder / TENSORS
    if digest(read_content(path) or b"") != config["weights_hash"]:
        raise DamagedFile(f"{path} is missing or does not have its recorded hash.")
    try:
        layers = nn.Sequential(*(LAYERS[kind](*sizes) for kind, *sizes in config["layers"]))
        layers.load_state_dict(read_tensors(path))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedFile(f"{path} and config.json do not fit: {error!r}.") from error
    return Classifier(encoder, layers, config["class_names"]).eval()
