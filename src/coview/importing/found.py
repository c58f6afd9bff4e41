"""What a checkpoint holds, in Coview's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from coview.core.errors import CoviewError, InvalidValue
from coview.core.run_folder import read_object
from coview.encoders import Encoder, EncoderSpec
from coview.encoders.adapters import has_one_size, require_timm
from coview.encoders.exchange.normalization import IMAGENET, Normalization
from coview.encoders.exchange.weights import join_names
from coview.heads import HeadSpec
from coview.importing.heads import NoHead, read_head
from coview.importing.kinds import CLASSIFIER, ENCODER, HEAD, Kind, find_state, kind_named, split
from coview.importing.kinds import recognize as recognize_kind
from coview.importing.names import State, as_float, as_torchvision
from coview.importing.network import CLASSIFIERS, find_network, outline
from coview.importing.torch_files import Placeholder, origins
from coview.importing.wishes import TimmConfig, Wishes


@dataclass(slots=True, kw_only=True)
class Found:
    """A network in Coview's names, and what is to be said of it.

    ``encoder`` are the tensors of ``spec``, exactly. ``head``: the specification and the state of
    the projection head. ``classifier``: plain layers on h. ``normalization``: mean and std of the
    images, None for [0, 1]. ``left_out``: what was not taken -> how many tensors. ``notes`` are
    sentences for the user.
    """

    title: str
    kind: str
    license: str | None
    spec: EncoderSpec
    encoder: State
    image_size: int
    normalization: Normalization | None
    tensors: int
    head: tuple[HeadSpec, State] | None = None
    classifier: nn.Sequential | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find(content: Any, source: Path, wishes: Wishes) -> Found:
    """The network in the content of a torch or safetensors file. Raises InvalidValue."""
    states = find_state(content)
    if not states:
        whole = isinstance(content, Placeholder) or origins(content)
        reason = (
            f"it holds objects of {join_names(sorted(origins(content)))}, which are not rebuilt: "
            "save the state dict of the network"
            if whole
            else "expected a state dict, or a dict with one under state_dict or model"
        )
        raise InvalidValue(f"{source} has no tensors of a network; {reason}.")
    arch, config = timm_name(content, source)
    kind, entry = _kind_and_entry(states, arch, wishes)
    state = states[entry]
    roles, left_out = split(state, kind, str(source))
    encoder = as_float(as_torchvision(roles[ENCODER]))
    spec = wishes.encoder or _named_network(kind, arch) or find_network(encoder)
    if wishes.encoder is None:
        spec = _as_the_kind_has_it(spec, kind)
    is_of_one_size = spec.kind != "resnet" and has_one_size(spec.kind, str(spec.name))
    if is_of_one_size and wishes.size:
        spec = replace(spec, image_size=wishes.size)
    network = outline(spec)
    encoder, more = _without_classifier(encoder, spec, network, str(source))
    last = _linear_layer(more)
    if more and last is None:
        left_out["a last part that is not one linear layer"] = len(more)
    classifier = roles.get(CLASSIFIER, last)
    found = Found(
        title=kind.title, kind=kind.name, license=kind.license, spec=spec, encoder=encoder,
        image_size=wishes.size or _usual_size(spec), normalization=None, tensors=len(state),
        left_out=left_out,
    )  # fmt: skip
    if spec.kind == "timm":
        _take_timms_input(found, wishes, arch, config)
    else:
        found.normalization = _normalization(content, kind, spec.stem, wishes, found.notes)
        if kind.name == "timm":
            _take_told_input(found, wishes, config)
    if is_of_one_size:  # so that a recipe with views of this size has the same network
        found.spec = replace(spec, image_size=found.image_size)
    if HEAD in roles:
        _take_head(found, as_float(roles[HEAD]), network.features)
    if classifier:
        _take_classifier(found, as_float(classifier), network.features)
    has_counters = any(name.endswith("num_batches_tracked") for name in roles[ENCODER])
    _say_what_weights_do_not(found, has_counters)
    return found


def _kind_and_entry(
    states: Mapping[tuple[str, ...], State], arch: str | None, wishes: Wishes
) -> tuple[Kind, tuple[str, ...]]:
    recognized, entry = recognize_kind(states)
    if wishes.kind is not None:
        kind = kind_named(wishes.kind)
        return kind, kind.entry if kind.entry in states else entry
    is_timm = wishes.encoder is not None and wishes.encoder.kind == "timm"
    if recognized.name == "torchvision" and (arch is not None or is_timm):
        return kind_named("timm"), entry
    return recognized, entry


def timm_name(content: Any, source: Path) -> tuple[str | None, Mapping[str, Any]]:
    """(the name of timm's network, what is said of its images).

    Of its training script's files, which say nothing of images, or of the config.json beside; the
    name has the tag of the weights where that file has it.
    """
    arch = content.get("arch") if isinstance(content, Mapping) else None
    if isinstance(arch, str) and ("args" in content or "version" in content):
        return arch, {}
    try:
        config = read_object(source.parent / "config.json", TimmConfig)
    except CoviewError:
        return None, {}
    if config is None:
        return None, {}
    name, images = config["architecture"], config.get("pretrained_cfg", config)
    if not isinstance(images, Mapping):
        return name, {}
    tag = images.get("tag")
    return f"{name}.{tag}" if tag and "." not in name else name, images


STANDARD = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""timm's networks that are ours as well, under the same names."""


def _named_network(kind: Kind, arch: str | None) -> EncoderSpec | None:
    if kind.name != "timm" or arch is None or arch.split(".")[0] in STANDARD:
        return None
    return EncoderSpec(kind="timm", name=arch.split(".")[0])


def _as_the_kind_has_it(spec: EncoderSpec, kind: Kind) -> EncoderSpec:
    """``spec`` with the padding that the kind's own network has and no tensor says."""
    if kind.name == "byol":
        if spec.kind != "resnet":
            raise InvalidValue(
                f"The official BYOL has residual networks, but this is {spec.label()}."
            )
        return replace(spec, same_padding=spec.stem == "large", same_convolutions=True)
    if kind.name == "solo-learn" and spec.stem == "small":
        return replace(spec, stem="padded")
    return spec


def _without_classifier(
    encoder: State, spec: EncoderSpec, network: Encoder, source: str
) -> tuple[State, State]:
    """(the tensors of the encoder, those of what is behind it). Raises InvalidValue."""
    expected = network.network.state_dict()
    missing = [name for name in expected if name not in encoder]
    shaped = [
        f"{name} {_words(encoder[name])} instead of {_words(value)}"
        for name, value in expected.items()
        if name in encoder and _words(encoder[name]) != _words(value)
    ]
    more = [name for name in encoder if name not in expected]
    unexpected = [name for name in more if name.split(".")[0] not in CLASSIFIERS]
    if missing or shaped or unexpected:
        faults = {"missing": missing, "differently shaped": shaped, "unexpected": unexpected}
        details = "; ".join(
            f"{what}: {join_names(names)}" for what, names in faults.items() if names
        )
        raise InvalidValue(
            f"The encoder in {source} is no {spec.label()}; {details}. Nothing was imported."
        )
    return {name: encoder[name] for name in expected}, {name: encoder[name] for name in more}


def _linear_layer(tensors: State) -> State | None:
    """The weight and bias of the one linear layer that these are, or None."""
    last = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items()}
    is_linear = len(last) == len(tensors) and "weight" in last and last["weight"].ndim == 2
    return last if is_linear else None


def _words(tensor: Tensor) -> str:
    """The shape, and the type where it is not float32."""
    return f"{list(tensor.shape)}" + (
        "" if tensor.dtype == torch.float32 else f" of {tensor.dtype}"
    )


def _usual_size(spec: EncoderSpec) -> int:
    return spec.image_size or (32 if spec.stem in ("small", "padded") else 224)


def _take_head(found: Found, tensors: State, features: int) -> None:
    try:
        found.head = read_head(tensors, features)
    except NoHead as error:
        found.left_out[f"the projection head ({error})"] = len(tensors)


def _take_classifier(found: Found, tensors: State, features: int) -> None:
    weight, bias = tensors.get("weight"), tensors.get("bias")
    is_linear = weight is not None and weight.ndim == 2 and weight.is_floating_point()
    if (
        weight is None
        or not is_linear
        or weight.shape[1] != features
        or len(weight) < 2
        or (bias is not None and bias.shape != weight.shape[:1])
    ):
        found.left_out["a last layer that does not stand on h"] = len(tensors)
        return
    linear = nn.Linear(features, len(weight))
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    found.classifier = nn.Sequential(linear).eval()


CIFAR = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
"""Mean and std in SupContrast's main_supcon.py."""
SOLO_LEARN_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
"""Mean and std in solo-learn's pretrain_dataloader.py."""


def _normalization(
    content: Any, kind: Kind, stem: str, wishes: Wishes, notes: list[str]
) -> Normalization | None:
    """What training normalized with: as the user says, as the file says, or as the kind has it."""
    if wishes.normalization is not None:
        return wishes.normalization.value
    options = content.get("opt") if isinstance(content, Mapping) else None
    dataset = options.field("dataset") if isinstance(options, Placeholder) else None
    if dataset in CIFAR:
        return CIFAR[str(dataset)]
    if kind.images == "none":
        return None
    if kind.name == "solo-learn" and stem == "padded":
        notes.append(
            "Its stem is solo-learn's for CIFAR, so CIFAR-10's mean and std of solo-learn are "
            "taken; for CIFAR-100 give `mean` 0.5071,0.4865,0.4409 and `std` 0.2673,0.2564,0.2762."
        )
        return SOLO_LEARN_CIFAR10
    if kind.images == "unknown":
        notes.append(
            "The file does not say how its images were normalized; ImageNet's mean and std are "
            "taken. If it was otherwise, say so with `mean` and `std`, or the features are wrong."
        )
    return IMAGENET


def _take_timms_input(
    found: Found, wishes: Wishes, arch: str | None, images: Mapping[str, Any]
) -> None:
    """Size, mean and std as ``images`` say, or timm's own configuration of the weights ``arch``."""
    name = str(found.spec.name)
    if arch is not None and name in (arch, arch.split(".")[0]):
        name = arch
    else:
        images = {}  # of another network than the user says
    usual = _timms_config(name)
    found.normalization = IMAGENET
    if usual is not None:
        found.image_size = wishes.size or found.spec.image_size or int(usual.input_size[1])
        found.normalization = (_three(usual.mean), _three(usual.std))
    if wishes.normalization is not None:
        found.normalization = wishes.normalization.value
    said = _take_told_input(found, wishes, images) or wishes.normalization is not None
    plain, _, tag = name.partition(".")
    if not said and (usual is None or usual.tag != tag):
        found.notes.append(
            f"Nothing says which weights of {plain} these are, so mean and std are those of timm's "
            "usual ones. If it was otherwise, say so with `mean` and `std`, or name the weights as "
            f"`encoder` timm:{plain}.TAG."
        )


def _timms_config(name: str) -> Any:
    """timm's configuration of NAME.TAG, or of NAME where it does not know the tag; or None."""
    timm = require_timm("A checkpoint of timm")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        return timm.get_pretrained_cfg(name.split(".")[0])


def _take_told_input(found: Found, wishes: Wishes, images: Mapping[str, Any]) -> bool:
    """Size, mean and std of a config.json, but for the user's; whether it has mean and std."""
    size, mean, std = (images.get(field) for field in ("input_size", "mean", "std"))
    if _are_numbers(size) and size[1] >= 1:
        found.image_size = wishes.size or found.spec.image_size or int(size[1])
    if not (_are_numbers(mean) and _are_numbers(std) and min(std) > 0):
        return False
    if wishes.normalization is None:
        found.normalization = (_three(mean), _three(std))
    return True


def _are_numbers(values: Any) -> TypeGuard[Sequence[float]]:
    return (
        isinstance(values, list)
        and len(values) == 3
        and all(isinstance(value, int | float) for value in values)
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))


def _say_what_weights_do_not(found: Found, has_counters: bool) -> None:
    if found.spec.kind == "resnet" and found.spec.stem == "small":
        found.notes.append(
            "The 3x3 stem is taken to have stride 1, one pixel of padding and no pooling, which no "
            "tensor says; for another name the network, as `encoder` resnet18-medium (stride 2)."
        )
    is_resnet = found.kind == "torchvision" and found.spec.kind == "resnet"
    if is_resnet and found.classifier is not None and not has_counters:
        found.notes.append(
            "If this is a conversion of the official BYOL weights, which has the same names, "
            "import it with `kind` byol: its convolutions pad in another way."
        )
