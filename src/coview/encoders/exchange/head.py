"""A projection head beside an exported encoder, so that its layers can be used too.

head.safetensors   the tensors layers.K.dense.* and layers.K.norm.* of layer K = 0, 1, ...
config.json        "head": the specification, the layers in words, the hash
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from coview.core.errors import DamagedFile
from coview.core.files import digest, read_content, write_json, write_text
from coview.encoders.exchange.weights import read_config, read_tensors, write_tensors

TENSORS = "head.safetensors"

README = """
## The projection head

h -> z [B, {output}], in {count}. In plain torch, after any of the blocks above that give h:

```python
import json

head = load_file("head.safetensors")
z = h
for number, layer in enumerate(json.load(open("config.json"))["head"]["layers"]):
    part = lambda name: head.get(f"layers.{{number}}.{{name}}")
    z = torch.nn.functional.linear(z, part("dense.weight"), part("dense.bias"))
    if layer["norm"]:
        z = torch.nn.functional.batch_norm(
            z, part("norm.running_mean"), part("norm.running_var"),
            part("norm.weight"), part("norm.bias"))
    if layer["relu"]:
        z = torch.relu(z)
```
"""


def export_head(folder: Path, spec: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a projection head beside the encoder that ``folder`` holds already.

    ``spec``: the JSON of its HeadSpec; ``tensors``: its state dict.
    """
    count = len({name.split(".")[1] for name in tensors})
    layers = [
        {
            "features": len(tensors[f"layers.{number}.dense.weight"]),
            "norm": f"layers.{number}.norm.running_mean" in tensors,
            "relu": number < count - 1,
        }
        for number in range(count)
    ]
    weights_hash = write_tensors(folder / TENSORS, tensors)
    config = read_config(folder)
    config["head"] = {"spec": spec, "layers": layers, "weights_hash": weights_hash}
    write_json(folder / "config.json", config)
    readme = folder / "README.md"
    words = "one layer" if count == 1 else f"{count} layers"
    text = README.format(output=layers[-1]["features"], count=words)
    write_text(readme, readme.read_text() + text)


def read_head(folder: Path) -> tuple[Any, dict[str, Tensor]] | None:
    """(the JSON of the HeadSpec, the tensors) of an export's head; None where it has none.

    Raises DamagedFile.
    """
    config = read_config(folder).get("head")
    if config is None:
        return None
    path = folder / TENSORS
    if not isinstance(config, dict) or not {"spec", "weights_hash"} <= config.keys():
        raise DamagedFile(f"{folder / 'config.json'} does not describe its projection head.")
    if digest(read_content(path) or b"") != config["weights_hash"]:
        raise DamagedFile(f"{path} is missing or does not have its recorded hash.")
    return config["spec"], read_tensors(path)
