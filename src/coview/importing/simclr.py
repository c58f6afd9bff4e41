"""The official SimCLR and SimCLRv2 checkpoints of TensorFlow 1, in Coview's names.

Variables are numbered in the order in which the official code creates them: in a block the shortcut
first. Source: google-research/simclr, resnet.py, model_util.py. Strided convolutions there pad on
both sides as PyTorch's do; the max-pool and the pools of ResNet-D shortcuts pad as "SAME".
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.encoders import EncoderSpec
from coview.encoders.exchange.classifier import plain_layers
from coview.encoders.exchange.weights import join_names
from coview.encoders.residual import BASIC, BOTTLENECK
from coview.heads import HeadSpec
from coview.importing.bundle import Bundle
from coview.importing.found import Found
from coview.importing.graph import classifier_layer
from coview.importing.names import State
from coview.importing.wishes import Wishes

BASE, HEAD, LAST = "base_model/", "head_contrastive/", "head_supervised/linear_layer/dense/"
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
        "running_var": "moving_variance"}  # fmt: skip
LICENSE = "Apache-2.0 (the repository of the original)"


def prefix_of(path: Path) -> Path | None:
    """The prefix of the TensorFlow checkpoint that ``path`` means: a folder, a file of it, itself.

    None where there is none.
    """
    if path.is_dir():
        indexes = sorted(path.glob("*.index"))
        if len(indexes) > 1:
            raise InvalidValue(
                f"{path} holds {len(indexes)} checkpoints; name one of "
                f"{join_names([index.name for index in indexes])}."
            )
        return indexes[0].with_suffix("") if indexes else None
    name = re.sub(r"(\.index|\.meta|\.data-\d+-of-\d+)$", "", path.name)
    prefix = path.with_name(name)
    return prefix if prefix.with_name(f"{name}.index").is_file() else None


def find_simclr(prefix: Path, wishes: Wishes) -> Found:
    """The network in a checkpoint of the official SimCLR. Raises InvalidValue, DamagedFile."""
    bundle = Bundle(prefix)
    names = set(bundle.entries)
    convolutions = _numbered(names, "conv2d", "kernel")
    norms = _numbered(names, "batch_normalization", "gamma")
    if not convolutions or not norms:
        what = "a SavedModel of TensorFlow 2" if prefix.name == "variables" else "another network"
        raise InvalidValue(
            f"{bundle.index_path} has no variables {BASE}conv2d/kernel: it is {what}, not a "
            "checkpoint of SimCLR's TensorFlow 1 code."
        )
    spec = _network(bundle, convolutions, norms)
    taken: set[str] = set()
    encoder = _encoder(bundle, spec, convolutions, norms, taken)
    features = spec.build_on_meta().features
    head = _head(bundle, features, taken)
    notes: list[str] = []
    classifier = _classifier(bundle, features, head, taken, notes)
    return Found(
        title="SimCLR (TensorFlow)" if head is None else "SimCLRv2 (TensorFlow)", kind="simclr",
        license=LICENSE, spec=spec, encoder=encoder, head=head, classifier=classifier,
        image_size=wishes.size or (32 if spec.stem == "small" else 224),
        normalization=None if wishes.normalization is None else wishes.normalization.value,
        tensors=len(names), left_out=_left_out(names - taken, prefix), notes=notes,
    )  # fmt: skip


def _numbered(names: set[str], layer: str, variable: str) -> list[str]:
    """The layers of one kind in the order of their creation: no number is the first.

    >>> _numbered({"base_model/conv2d_1/kernel", "base_model/conv2d/kernel"}, "conv2d", "kernel")
    ['base_model/conv2d', 'base_model/conv2d_1']
    """
    pattern = re.compile(rf"({BASE}{layer}(?:_(\d+))?)/{variable}")
    matches = [match for name in names if (match := pattern.fullmatch(name))]
    return [match[1] for match in sorted(matches, key=lambda match: int(match[2] or 0))]


def _network(bundle: Bundle, convolutions: list[str], norms: list[str]) -> EncoderSpec:
    """The network with this number of layers."""
    first = bundle.entries[f"{convolutions[0]}/kernel"].shape
    for depth, blocks in {**BASIC, **BOTTLENECK}.items():
        for selective in (False, True) if depth in BOTTLENECK else (False,):
            large = selective or first[0] == 7
            spec = EncoderSpec(
                depth=depth, stem="large" if large else "small", selective_kernels=selective,
                projection_in_first_group=depth in BASIC, same_padding=large,
            )  # fmt: skip
            each = 2 if depth in BASIC else 5 if selective else 3
            stem = 3 if selective else 1
            if len(convolutions) != stem + each * sum(blocks) + 4:
                continue
            channels = bundle.entries[f"{norms[stem - 1]}/gamma"].shape[0]
            return EncoderSpec(
                depth=depth, width=channels / 64, stem=spec.stem, selective_kernels=selective,
                projection_in_first_group=depth in BASIC, same_padding=large,
            )  # fmt: skip
    raise InvalidValue(
        f"{bundle.index_path} has {len(convolutions)} convolutions and {len(norms)} norms, which "
        "no network of SimCLR has (ResNet-50: 53 and 53; with selective kernels 87 and 71)."
    )


def creation_order(network: nn.Module) -> tuple[list[str], list[str]]:
    """(our convolutions, our norms) in the order in which the official code creates them.

    >>> creation_order(EncoderSpec(depth=50).build_on_meta())[0][:3]
    ['conv1', 'layer1.0.downsample.0', 'layer1.0.conv1']
    """
    convolutions: list[str] = []
    norms: list[str] = []

    def add(prefix: str, module: nn.Module | None) -> None:
        """The layers of ``module`` in the order of their names, which is that of the code."""
        for name, part in [] if module is None else module.named_modules(prefix=prefix):
            if isinstance(part, nn.Conv2d):
                convolutions.append(name)
            elif isinstance(part, nn.BatchNorm2d):
                norms.append(name)

    for name, module in network.named_children():
        if not name.startswith("layer"):
            add(name, module)
            continue
        for number, block in module.named_children():
            place = f"{name}.{number}"
            add(f"{place}.downsample", getattr(block, "downsample", None))
            for part, layer in block.named_children():
                if part != "downsample":
                    add(f"{place}.{part}", layer)
    return convolutions, norms


def _encoder(
    bundle: Bundle, spec: EncoderSpec, convolutions: list[str], norms: list[str], taken: set[str]
) -> State:
    network = spec.build_on_meta()
    expected = network.state_dict()
    ours = creation_order(network)
    if (len(ours[0]), len(ours[1])) != (len(convolutions), len(norms)):
        raise InvalidValue(
            f"{bundle.index_path} has {len(convolutions)} convolutions and {len(norms)} norms; "
            f"{spec.label()} has {len(ours[0])} and {len(ours[1])}."
        )
    state: State = {}
    for name, theirs in zip(ours[0], convolutions, strict=True):
        kernel = _take(bundle, f"{theirs}/kernel", taken)
        state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
    for name, theirs in zip(ours[1], norms, strict=True):
        for field, variable in NORM.items():
            state[f"{name}.{field}"] = _take(bundle, f"{theirs}/{variable}", taken)
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)
    wrong = [
        f"{name} {list(state[name].shape)} instead of {list(value.shape)}"
        for name, value in expected.items()
        if state[name].shape != value.shape
    ]
    if wrong:
        raise InvalidValue(
            f"The variables of {bundle.index_path} do not fit {spec.label()}: {join_names(wrong)}."
        )
    return {name: state[name] for name in expected}


def _take(bundle: Bundle, name: str, taken: set[str]) -> Tensor:
    if name not in bundle.entries:
        raise InvalidValue(f"{bundle.index_path} has no variable {name}.")
    taken.add(name)
    return bundle.read(name).float()


def _head(bundle: Bundle, features: int, taken: set[str]) -> tuple[HeadSpec, State] | None:
    """The projection head: dense layers without bias, each with a norm; the last does not shift."""
    pattern = re.compile(rf"{HEAD}n?l_(\d+)/dense/kernel")
    numbers = sorted(int(match[1]) for name in bundle.entries if (match := pattern.fullmatch(name)))
    if not numbers:
        return None
    state: State = {}
    for number in numbers:
        kind = "nl" if f"{HEAD}nl_{number}/dense/kernel" in bundle.entries else "l"
        layer, ours = f"{HEAD}{kind}_{number}", f"layers.{number}"
        kernel = _take(bundle, f"{layer}/dense/kernel", taken)
        state[f"{ours}.dense.weight"] = kernel.T.contiguous()
        for field, variable in NORM.items():
            if field == "bias" and number == numbers[-1]:
                continue
            name = f"{layer}/batch_normalization/{variable}"
            state[f"{ours}.norm.{field}"] = _take(bundle, name, taken)
        state[f"{ours}.norm.num_batches_tracked"] = torch.tensor(0)
    output = len(state[f"layers.{numbers[-1]}.dense.weight"])
    spec = HeadSpec(layers=len(numbers), output=output)
    expected = spec.outline(features).state_dict()
    if {n: t.shape for n, t in expected.items()} != {n: t.shape for n, t in state.items()}:
        raise InvalidValue(
            f"The projection head of {bundle.index_path} is none of SimCLR's: "
            f"{join_names([f'{name} {list(t.shape)}' for name, t in state.items()])}."
        )
    return spec, {name: state[name] for name in expected}


def _classifier(
    bundle: Bundle, features: int, head: tuple[HeadSpec, State] | None, taken: set[str],
    notes: list[str],
) -> nn.Sequential | None:  # fmt: skip
    """The classifier, on h or behind the layers of the head from which was fine-tuned.

    Which of them it is, no variable says: the graph in the .meta file beside does.
    """
    if f"{LAST}kernel" not in bundle.entries:
        return None
    layer = 0
    if head is not None:
        meta = bundle.prefix.with_name(f"{bundle.prefix.name}.meta")
        found = classifier_layer(meta)
        if found is None:
            notes.append(
                "The classifier was left out: whether it stands on h or on a layer of the head is "
                f"said by the graph only. Put {meta.name} beside the checkpoint to import it too."
            )
            return None
        layer = found
    kernel = _take(bundle, f"{LAST}kernel", taken)
    linear = nn.Linear(*kernel.shape)
    with torch.no_grad():
        linear.weight.copy_(kernel.T)
        linear.bias.copy_(_take(bundle, f"{LAST}bias", taken))
    layers: list[nn.Module] = [linear]
    if head is not None and layer:
        spec, state = head
        built = spec.build(features)
        built.load_state_dict(state)
        layers = [*list(built.layers)[:layer], linear]
        notes.append(f"The classifier stands on layer {layer} of the projection head.")
    return plain_layers(layers)


def _left_out(names: set[str], prefix: Path) -> dict[str, int]:
    """What was not taken, in words. Raises InvalidValue for a variable of the network."""
    words = {
        "the running mean of the network (ema_model)": re.compile("ema_model/.*"),
        "the optimizer's slots": re.compile(".*/(Momentum|LARSOptimizer)"),
        "the classifier": re.compile(f"{LAST}.*"),
    }
    left: dict[str, int] = {}
    forgotten: list[str] = []
    for name in sorted(names):
        what = next((what for what, pattern in words.items() if pattern.fullmatch(name)), None)
        if what is None and name.startswith((BASE, HEAD, "head_supervised/")):
            forgotten.append(name)
        what = what or "other variables of training"
        left[what] = left.get(what, 0) + 1
    if forgotten:
        raise InvalidValue(
            f"{prefix} has variables that no network of SimCLR has: {join_names(forgotten)}."
        )
    return left
