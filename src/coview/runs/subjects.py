"""What is judged, from what a user says: runs, exports, networks of libraries, modules."""

from __future__ import annotations

import copy
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.places import Kind, place_of
from coview.core.run_folder import RunFolder
from coview.encoders import Encoder, load_weights
from coview.encoders.adapters import has_one_size
from coview.encoders.exchange.classifier import Classifier
from coview.encoders.exchange.loading import InputNormalizer
from coview.encoders.exchange.normalization import normalization_of
from coview.encoders.exchange.weights import (
    PICKLED,
    find_export,
    load_state,
    read_config,
)
from coview.encoders.own import OwnEncoder, trial_forward
from coview.encoders.spec import EncoderSpec
from coview.evaluation import Subject
from coview.importing.kinds import find_state
from coview.importing.torch_files import read_torch_file
from coview.methods import Learner, simclr
from coview.methods.untrained import SETTLED, settled
from coview.recipes import build
from coview.runs.load import load_subject, subject_of, trained_learner
from coview.runs.run import Run
from coview.views import ViewSpec, eval_view

LIBRARY = re.compile(r"(torchvision|timm):([^=]+)(?:=(.+))?", re.DOTALL)
TRAINED, UNTRAINED = "trained", "untrained"
RANDOM = "no file of weights was given: they are random"
DEFAULT_SIZE = 224


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A subject, and what is known of where it comes from.

    ``run`` and ``step``: the run that it is, and the kept checkpoint. ``origin``: the run whose
    training gave the weights. ``metadata``: what the config.json of an export says of its training.
    ``architecture`` names the network with its image size, so that one untrained network stands
    beside all subjects of it; "" where none does. ``fresh`` builds that network by a seed.
    ``takes_size``: the caller chooses its image size.
    """

    subject: Subject
    run: Run | None = None
    step: int | None = None
    origin: Run | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = ""
    label: str = ""
    fresh: Callable[[int], tuple[Learner, Callable[[Learner], Subject]]] | None = None
    takes_size: bool = False

    def named(self, name: str) -> Judged:
        return replace(self, subject=replace(self.subject, name=name))


def open_subjects(value: Any, *, step: int | None = None, size: int | None = None) -> list[Judged]:
    """The subjects that ``value`` means, each with a name of its own.

    ``value`` is one of these, a list of them, or a mapping from names to them: a run's folder, an
    exported encoder's, "torchvision:NAME" or "timm:NAME", perhaps with "=FILE", a torch module that
    takes images in [0, 1], a :class:`~coview.evaluation.Subject`. The only subject is "trained"
    where it is a run. ``step``: of a kept checkpoint of the runs; ``size``: the side of the images
    of a module or of a library's network. Raises InvalidValue, and the errors of loading them.

    >>> from coview.encoders import resnet
    >>> (judged,) = open_subjects({"small": resnet(10, width=0.125, stem="small")}, size=8)
    >>> judged.subject.name, judged.subject.layers, judged.label
    ('small', ('h',), 'ResNet-10 width 1/8, small stem')
    """
    if isinstance(value, Mapping):
        opened = [_open(each, step, size).named(str(name)) for name, each in value.items()]
    else:
        each_one = list(value) if isinstance(value, list | tuple) else [value]
        opened = [_open(each, step, size) for each in each_one]
        if len(opened) == 1 and opened[0].run is not None:
            opened = [opened[0].named(TRAINED)]
        else:
            names = distinct_names([each.subject.name for each in opened], each_one)
            opened = [each.named(name) for each, name in zip(opened, names, strict=True)]
    if not opened:
        raise InvalidValue("`subjects` is empty; expected one or more things to judge.")
    if step is not None and all(each.run is None for each in opened):
        raise InvalidValue("`checkpoint` is given and none of the subjects is a run.")
    if size is not None and not any(each.takes_size for each in opened):
        raise InvalidValue(
            "`size` is given and none of the subjects is a module or a library's network."
        )
    return opened


def untrained_subjects(
    opened: Sequence[Judged], training: ImageStore, *, seed: int, device: torch.device
) -> dict[str, Subject]:
    """An untrained network for each distinct architecture of ``opened``, by the architecture.

    Its BatchNorm layers get the statistics of ``training``; that of a run begins as the run did.
    """
    distinct = {each.architecture: each for each in reversed(opened) if each.fresh is not None}
    chosen = [each for each in opened if distinct.get(each.architecture) is each]
    names = [UNTRAINED] if len(chosen) == 1 else [f"{UNTRAINED} {each.label}" for each in chosen]
    subjects = {}
    for name, each in zip(distinct_names(names, names), chosen, strict=True):
        assert each.fresh is not None
        learner, as_subject = each.fresh(seed)
        network = settled(learner.to(device), training, each.subject.view, seed=seed)
        subjects[each.architecture] = replace(as_subject(network), name=name, note=SETTLED)
    return subjects


def on_device(subject: Subject, device: torch.device) -> Subject:
    """The subject with its networks on ``device``; the networks of a caller stay where they are."""
    head = None if subject.head is None else _moved(subject.head, device)
    return replace(subject, encoder=_moved(subject.encoder, device), head=head)


def _moved(network: nn.Module, device: torch.device) -> nn.Module:
    tensors = [*network.parameters(), *network.buffers()]
    if all(tensor.device.type == device.type for tensor in tensors):
        return network
    return copy.deepcopy(network).to(device)


def _open(value: Any, step: int | None, size: int | None) -> Judged:
    if isinstance(value, Judged):
        return value
    if isinstance(value, Subject):
        return Judged(subject=value)
    if isinstance(value, nn.Module):
        return replace(_of_module(value, size), takes_size=True)
    if isinstance(value, RunFolder):
        value = value.path
    if not isinstance(value, str | bytes | os.PathLike):
        raise InvalidValue(
            f"`subjects` has a {type(value).__name__}; expected a run, an exported encoder, "
            "torchvision:NAME, timm:NAME, a torch module or a Subject."
        )
    if match := LIBRARY.fullmatch(os.fsdecode(value)):
        return replace(_of_library(match[1], match[2], match[3], size), takes_size=True)
    if place_of(value).kind in (Kind.RUN, Kind.MISSING):  # which names the nearest run
        run = Run.open(os.fsdecode(value))
        if run.kind == "detect" and step is None:  # of a detector the encoder is judged
            return _of_export(run.encoder_path)
        return _of_run(run, step)
    return _of_export(Path(os.fsdecode(value)))


def _of_run(run: Run, step: int | None) -> Judged:
    recipe = run.recipe
    learner = trained_learner(run, step)

    def fresh(_: int) -> tuple[Learner, Callable[[Learner], Subject]]:
        return build(recipe), lambda network: subject_of(UNTRAINED, network, run)

    subject = subject_of(place_of(run.path).path.resolve().name, learner, run)
    return Judged(
        subject=subject, run=run, step=step, origin=run, fresh=fresh, label=recipe.encoder.label(),
        architecture=_architecture(recipe.encoder, subject.view),
    )  # fmt: skip


def _of_export(path: Path) -> Judged:
    folder = find_export(path)
    config, subject = read_config(folder), load_subject(path)
    run = folder.parent if place_of(folder.parent).kind is Kind.RUN else None
    spec = EncoderSpec.from_json(config["spec"])
    judged = _with_fresh(subject, spec, config["mean"], config["std"])
    metadata = config.get("metadata")
    return replace(
        judged, origin=None if run is None else Run.open(run),
        metadata=metadata if isinstance(metadata, dict) else {},
    )  # fmt: skip


def _of_library(kind: str, name: str, file: str | None, size: int | None) -> Judged:
    one_size = size if size is not None and has_one_size(kind, name) else None
    spec = EncoderSpec(kind=kind, name=name, image_size=one_size)
    encoder = spec.build()
    if file is not None:
        place = place_of(file)
        if place.kind is Kind.MISSING:
            raise InvalidValue(
                f"There is no file {file}; expected {kind}:{name}=FILE, a file of weights here. "
                "Nothing is downloaded."
            )
        path = place.path
        if path.suffix.lower() in PICKLED:
            load_state(encoder, _state_in(path), path)
        else:
            load_weights(encoder, path)
    normalization = normalization_of(file, spec) if file is not None else None
    mean, std = (None, None) if normalization is None else normalization
    view = eval_view(size or _native_size(encoder.network))
    # It normalizes by itself, as the untrained network beside it does: both take one view.
    subject = Subject(name=name, encoder=InputNormalizer(encoder, mean, std), view=view)
    if file is None:
        return Judged(subject=replace(subject, name=f"{name}, random", note=RANDOM))
    return _with_fresh(subject, spec, mean, std)


def _state_in(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a torch checkpoint, whose code is not executed. Raises InvalidValue."""
    states = find_state(read_torch_file(path))
    if not states:
        raise InvalidValue(f"{path} holds no mapping from names to tensors.")
    return dict(next(iter(states.values())))


def _native_size(network: nn.Module) -> int:
    """The side of the images that a library's network was made for."""
    config = getattr(network, "default_cfg", None)  # timm's
    sizes = config.get("input_size") if isinstance(config, Mapping) else None
    return int(getattr(network, "image_size", None) or (sizes[-1] if sizes else DEFAULT_SIZE))


def _of_module(module: nn.Module, size: int | None) -> Judged:
    name = type(module).__name__
    head, encoder, logits = None, module, dict[str, Any]()
    if isinstance(module, Classifier):
        head, encoder = module.layers, module.encoder
        logits = {"logits": "z", "class_names": module.class_names}
    own = getattr(encoder, "image_size", None)
    side = size or (own if isinstance(own, int) else None)
    if side is None:
        raise InvalidValue(
            f"The side of the images that the {name} takes is not known; give it by `size`."
        )
    if isinstance(encoder, InputNormalizer):
        subject = Subject(name=name, encoder=encoder, head=head, view=eval_view(side), **logits)
        return _with_fresh(subject, encoder.spec)
    trial = trial_forward(encoder, name, side)
    if not isinstance(trial, torch.Tensor) or trial.ndim not in (2, 4) or len(trial) != 2:
        shape = tuple(trial.shape) if isinstance(trial, torch.Tensor) else type(trial).__name__
        raise InvalidValue(
            f"The {name} gives {shape} for images [2, 3, {side}, {side}]; expected features "
            "[2, D], or maps [2, D, H, W]."
        )
    if isinstance(encoder, Encoder) and hasattr(encoder, "spec") and encoder.spec.kind != "module":
        return _with_fresh(Subject(name=name, encoder=encoder, view=eval_view(side)), encoder.spec)
    wrapped = encoder if isinstance(encoder, Encoder) else OwnEncoder(encoder, trial.shape[1])
    return Judged(subject=Subject(name=name, encoder=wrapped, view=eval_view(side), is_code=True))


def _with_fresh(
    subject: Subject, spec: EncoderSpec, mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Judged:  # fmt: skip
    """``subject`` with what builds its network anew; mean, std: of the images, outside the view."""

    def fresh(seed: int) -> tuple[Learner, Callable[[Learner], Subject]]:
        encoder = InputNormalizer(spec.build(seed), mean, std)
        # The objective is of no concern: its learner is what gives BatchNorm its statistics.
        learner = Learner(simclr(subject.view.size), encoder)
        return learner, lambda network: Subject(
            name=UNTRAINED, encoder=network.encoder, view=subject.view
        )

    return Judged(
        subject=subject, fresh=fresh, label=spec.label(),
        architecture=_architecture(spec, subject.view),
    )  # fmt: skip


def _architecture(spec: EncoderSpec, view: ViewSpec) -> str:
    return f"{spec.kind} {spec.architecture()} at {view.size}"


def distinct_names(names: Sequence[str], values: Iterable[Any]) -> list[str]:
    """Names without repetition: those of folders with the folder around them, others numbered.

    >>> distinct_names(["a", "b", "b"], ["a", "x/b", "y/b"]), distinct_names(["b", "b"], [1, 2])
    (['a', 'x/b', 'y/b'], ['b', 'b 2'])
    """
    counts = Counter(names)
    longer = [
        "/".join(place_of(value).path.resolve().parts[-2:])
        if counts[name] > 1 and isinstance(value, str | os.PathLike) and value != name
        else name
        for name, value in zip(names, values, strict=True)
    ]
    seen: Counter[str] = Counter()
    distinct = []
    for name in longer:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return distinct
