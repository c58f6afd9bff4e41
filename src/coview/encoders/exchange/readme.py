"""The README of an export, a model card: what the weights are, and how to load them anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coview.encoders.adapters import LibraryEncoder
from coview.encoders.exchange.card import LIMITS, figure_lines, license_text, training_lines
from coview.encoders.exchange.libraries import in_torchvision, is_standard_resnet
from coview.encoders.residual import Encoder
from coview.encoders.spec import EncoderSpec

PAGE = """\
# {label}

An encoder: images [B, 3, H, W] with values in [0, 1] -> features h [B, {features}].
It has {parameters} parameters. It was trained on images of {size} x {size} pixels,
{normalized}.

## Training

{training}

## How good it is

{figures}

## Limits

{limits}

## License

{license}

## Loading

With Coview: `coview.load(".")`, which normalizes its images.

{ways}
Run these in this folder.
"""
BLOCK = """\
With {title}:

```python
{imports}

network = {network}
network.load_state_dict(load_file("model.safetensors"))
network.eval()
{use}
```
"""
OURS = 'ResNet(**json.load(open("config.json"))["architecture"])'
TORCHVISION = """\
get_model("{name}", weights=None{size})
network.set_submodule("{classifier}", torch.nn.Identity())"""
PLAIN_STEM = """
network.conv1 = torch.nn.Conv2d(3, 64, 3, stride={stride}, padding={padding}, bias=False)
network.maxpool = torch.nn.Identity()"""
PLAIN = "h = network(images)"
NORMALIZED = """\
mean = torch.tensor({mean}).view(3, 1, 1)
std = torch.tensor({std}).view(3, 1, 1)
h = network((images - mean) / std)"""
MEAN_OF_MAPS = "\nh = h.mean((2, 3)) if h.ndim == 4 else h"


def render_readme(
    encoder: Encoder, image_size: int, mean: Sequence[float] | None, std: Sequence[float] | None,
    metadata: Mapping[str, Any],
) -> str:  # fmt: skip
    """Markdown: a short model card, with a block of Python for each way to load the weights."""
    use, normalized = PLAIN, "which were not normalized"
    if mean is not None and std is not None:
        use = NORMALIZED.format(mean=list(mean), std=list(std))
        normalized = f"normalized with mean {list(mean)} and std {list(std)}"
    if encoder.spec.kind == "module":
        use += MEAN_OF_MAPS
    ways = []
    for title, (imports, network) in loading_snippets(encoder).items():
        lines = [*imports, "import torch", "from safetensors.torch import load_file"]
        # Plain imports first, then those from a module, each kind in alphabetical order.
        imported = "\n".join(sorted(lines, key=lambda line: (line.startswith("from"), line)))
        ways.append(BLOCK.format(title=title, imports=imported, network=network, use=use))
    return PAGE.format(
        label=encoder.spec.label(), features=encoder.features, size=image_size,
        parameters=f"{sum(each.numel() for each in encoder.parameters()):,}",
        normalized=normalized, training="\n".join(training_lines(metadata)),
        figures="\n".join(figure_lines(metadata)), limits=LIMITS,
        license=license_text(metadata), ways="\n".join(ways),
    )  # fmt: skip


def loading_snippets(encoder: Encoder) -> dict[str, tuple[list[str], str]]:
    """Title -> (imports, code that builds the network), for every way to load the encoder."""
    spec = encoder.spec
    timm = (["import timm"], timm_code(spec))
    if spec.kind == "timm":
        return {"timm": timm}
    if spec.kind == "module":
        return {"your own module": own_code(spec)}
    theirs = ["from torchvision.models import get_model"]
    if isinstance(encoder, LibraryEncoder):
        size = size_code(spec, "image_size")
        code = TORCHVISION.format(name=spec.name, classifier=encoder.classifier, size=size)
        return {"torchvision": (theirs, code)}
    ways = {"torch and safetensors alone": (["import json", "from encoder import ResNet"], OURS)}
    if in_torchvision(spec):
        code = TORCHVISION.format(name=f"resnet{spec.depth}", classifier="fc", size="")
        ways["torchvision"] = (theirs, code + stem_code(spec))
    if is_standard_resnet(spec):
        ways["timm"] = timm
    return ways


def timm_code(spec: EncoderSpec) -> str:
    """What builds timm's network of ``spec``."""
    name = spec.name or f"resnet{spec.depth}"
    size = size_code(spec, "img_size")
    return f'timm.create_model("{name}", num_classes=0{size})' + stem_code(spec)


def size_code(spec: EncoderSpec, argument: str) -> str:
    """The argument of a library's network that is built for images of one size; "" without."""
    return "" if spec.image_size is None else f", {argument}={spec.image_size}"


def own_code(spec: EncoderSpec) -> tuple[list[str], str]:
    """(imports, code) for a module of the user, which has no arguments where a file builds it."""
    place = str(spec.name)
    if spec.file_hash is not None:
        name = place.rpartition(":")[2]
        return [f"from encoder import {name}"], f"{name}()"
    module, _, name = place.partition("#")[0].rpartition(".")
    return [f"from {module} import {name}"], f"{name}()  # built as for the run"


def stem_code(spec: EncoderSpec) -> str:
    """What gives a network of torchvision or timm the small stem of ``spec``; "" for theirs."""
    if spec.kind != "resnet" or spec.stem == "large":
        return ""
    return PLAIN_STEM.format(
        stride=2 if spec.stem == "medium" else 1, padding=2 if spec.stem == "padded" else 1
    )


def library_code(encoder: Encoder, library: str, file: Path, config: Mapping[str, Any]) -> str:
    """Python that loads the file that was exported for torchvision or timm, whatever it holds.

    ``config``: the config.json of the export, with the names of the classes of a classifier.
    """
    spec, classes = encoder.spec, len(config.get("classifier", {}).get("class_names", ()))
    imports, network = loading_snippets(encoder)[library]
    if classes and library == "timm":
        network = network.replace("num_classes=0", f"num_classes={classes}")
    elif classes:
        name = spec.name or f"resnet{spec.depth}"
        size = size_code(spec, "image_size")
        network = f'get_model("{name}", weights=None, num_classes={classes}{size})'
        network += stem_code(spec)
    return "\n".join(
        [
            *imports,
            "import torch",
            "from safetensors.torch import load_file",
            f"network = {network}",
            f"network.load_state_dict(load_file({str(file)!r}))",
            "network.eval()",
        ]
    )
