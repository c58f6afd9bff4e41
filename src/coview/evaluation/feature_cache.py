"""Features on disk: computed once for the same weights, images, view and layer.

A file ``features/KEY.safetensors`` of the cache folder holds one layer. It counts to the cache's
limit and is removed like a store (see :mod:`coview.data.cache`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from coview.core.errors import CoviewError
from coview.core.files import digest, read_content
from coview.core.images import ImageStore
from coview.core.progress import say
from coview.core.text import plural
from coview.core.values import encode
from coview.core.version import VERSION
from coview.data.cache import allowance, feature_file, make_room, tag_folder
from coview.encoders.exchange.weights import write_tensors
from coview.evaluation.features import Subject
from coview.views import ViewSpec, eval_view, render_device

FORMAT = 1
"""Another number makes all files on disk unknown."""
KNOWN_CODE = ("torch", "torchvision", "timm", "coview")
"""Packages whose classes compute the same for equal weights, in one version."""
HEADER = 8
"""A safetensors file begins with the length of its header in so many bytes."""


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Features below the cache folder ``folder``.

    >>> import tempfile
    >>> from coview.core.images import store_from_arrays
    >>> from coview.encoders import resnet
    >>> encoder = resnet(10, width=0.125, stem="small")
    >>> subject = Subject(name="small", encoder=encoder, view=eval_view(8))
    >>> store = store_from_arrays(np.zeros((2, 8, 8, 3), np.uint8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = FeatureCache(Path(folder))
    ...     cache.save(subject, store, {"h": torch.ones(2, 64)})
    ...     {name: h.shape for name, h in cache.load(subject, store, ["h", "z"]).items()}
    {'h': torch.Size([2, 64])}
    """

    folder: Path

    def load(
        self, subject: Subject, store: ImageStore, layers: Sequence[str],
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:  # fmt: skip
        """Those of ``layers`` that are there and whole, each float32 [N, D]."""
        found = {}
        for layer, path in self._paths(subject, store, layers, device).items():
            with suppress(CoviewError):
                content = read_content(path)
                features = None if content is None else _parse(content, len(store))
                if features is not None:
                    found[layer] = features
                    with suppress(OSError):
                        os.utime(path)  # when it was used last
        return found

    def save(
        self, subject: Subject, store: ImageStore, features: Mapping[str, Tensor],
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        """Keep ``features``, float32 [N, D] by layer, as far as there is room for them."""
        for layer, path in self._paths(subject, store, tuple(features), device).items():
            values = features[layer].contiguous()
            size = values.numel() * values.element_size()
            if size > allowance(self.folder):
                continue
            description = (
                f"{layer} of {subject.name}, {plural(len(store), 'image')} of {store.source}"
            )
            header = {"digest": digest(values.numpy().data), "description": description}
            try:
                tag_folder(self.folder)
                make_room(self.folder, size)
                write_tensors(path, {"features": values}, header)
            except (CoviewError, OSError) as error:
                say(f"Features are not kept. {error}", detail=True)
                return

    def _paths(
        self, subject: Subject, store: ImageStore, layers: Sequence[str],
        device: torch.device | str,
    ) -> dict[str, Path]:  # fmt: skip
        network = network_key(subject)
        if network is None:
            return {}
        images = images_key(store, subject.view)
        kind, rendered_on = torch.device(device).type, render_device(device).type
        common = [FORMAT, VERSION, torch.__version__, kind, network, images, encode(subject.view)]
        common += [rendered_on] if rendered_on != "cpu" else []  # it rounds differently
        return {
            layer: feature_file(self.folder, digest(json.dumps([*common, layer]).encode()))
            for layer in layers
        }


def network_key(subject: Subject) -> str | None:
    """What determines the outputs of a subject; None where its weights do not.

    That is the case for code of the caller, whose forward pass is not known. A network without
    weights, as raw pixels, is cheaper to compute than to read.

    >>> from torch import nn
    >>> network_key(Subject(name="pixels", encoder=nn.Flatten(), view=eval_view(8))) is None
    True
    """
    parts = [subject.encoder] if subject.head is None else [subject.encoder, subject.head]
    modules = [module for part in parts for module in part.modules()]
    classes = {type(module).__module__.partition(".")[0] for module in modules}
    specs = [spec for module in modules if (spec := getattr(module, "spec", None)) is not None]
    own = any(getattr(spec, "kind", "") == "module" for spec in specs)
    if subject.is_code or own or not classes <= set(KNOWN_CODE):
        return None
    if next(subject.encoder.parameters(), None) is None:
        return None
    return network_digest(subject)


def network_digest(subject: Subject) -> str:
    """32 hexadecimal digits of the weights, the structure and the version of its library.

    Code of the caller counts by the hash of its file, where it has one.
    """
    parts = [subject.encoder] if subject.head is None else [subject.encoder, subject.head]
    modules = [module for part in parts for module in part.modules()]
    specs = [spec for module in modules if (spec := getattr(module, "spec", None)) is not None]
    if any(getattr(spec, "kind", "") == "timm" for spec in specs):
        specs.append(version("timm"))
    # Equal weights give other outputs in other networks: by padding, order, activation.
    structure = [repr(part) for part in parts] + [repr(spec) for spec in specs]
    return digest("\n".join([subject.weights_hash, *structure]).encode())


def images_key(store: ImageStore, view: ViewSpec) -> str:
    """The pixels of a store in their order; with ids where the view draws by them."""
    arrays = [store.content, store.heights, store.widths]
    if view != replace(eval_view(view.size), mean=view.mean, std=view.std):
        arrays.append(store.ids)
    return digest(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


def _parse(content: bytes, images: int) -> Tensor | None:
    """The features in a file; None where it is damaged or of another number of images."""
    with suppress(ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError):
        start = HEADER + int.from_bytes(content[:HEADER], "little")
        metadata = json.loads(json.loads(content[HEADER:start])["__metadata__"]["coview"])
        if digest(memoryview(content)[start:]) == metadata["digest"]:
            features = safetensors.torch.load(content)["features"]
            if features.ndim == 2 and len(features) == images and features.dtype == torch.float32:
                return features
    return None
