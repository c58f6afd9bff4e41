"""Networks of the user as encoders: any module of Python, or one that a file builds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.core.eval_mode import eval_mode
from coview.core.files import digest
from coview.core.paths import absolute_path
from coview.core.user_code import agree_to, hash_file, run_file
from coview.encoders.adapters import fork_rng_seeded
from coview.encoders.residual import Encoder

MODULES: dict[str, nn.Module] = {}
"""The modules that this process was given, by the name that a recipe has for them."""
TRIAL_SIZE = 224
FILE = ".py:"


class OwnEncoder(Encoder):
    """A module of the user: images -> its output [B, D], or the mean of its maps [B, D, H, W]."""

    def __init__(self, model: nn.Module, features: int) -> None:
        super().__init__()
        self.model, self.features = model, features

    @property
    def network(self) -> nn.Module:
        return self.model

    def forward(self, images: Tensor) -> Tensor:
        h: Tensor = self.model(images)
        return h.mean((2, 3)) if h.ndim == 4 else h


def remember_module(module: nn.Module) -> str:
    """The name of ``module`` in recipes, by its class, tensors and shapes; it is kept, copied.

    A run of it goes on in a process that has remembered a module of the same name.

    >>> remember_module(nn.Linear(2, 3)) == remember_module(nn.Linear(2, 3))
    True
    """
    shapes = [f"{key} {tuple(value.shape)}" for key, value in module.state_dict().items()]
    kind = type(module)
    name = f"{kind.__module__}.{kind.__qualname__}#{digest(chr(10).join(shapes).encode())[:8]}"
    MODULES[name] = copy.deepcopy(module).cpu()
    return name


def file_and_hash(text: str) -> tuple[str, str]:
    """("/absolute/file.py:NAME", the hash of the file) of "file.py:NAME", which the user has named.

    Raises InvalidValue.
    """
    file, _, name = text.rpartition(":")
    path = absolute_path(file)
    file_hash = hash_file(path)
    agree_to(file_hash)
    return f"{path}:{name}", file_hash


def build_own(name: str, seed: int, file_hash: str | None, image_size: int | None) -> OwnEncoder:
    """The module ``name``: a new copy of one that was given, or what the file's function returns.

    Its width is that of a trial forward. Raises InvalidValue.
    """
    model = _given(name) if file_hash is None else _from_file(name, seed, file_hash)
    size = image_size or TRIAL_SIZE
    return OwnEncoder(model, _width(model, name, size))


def _given(name: str) -> nn.Module:
    if name not in MODULES:
        raise InvalidValue(
            f"The encoder {name} is a module of Python, which only your program has. Build it "
            "there and call coview.encoders.remember_module(module) first."
        )
    return copy.deepcopy(MODULES[name])


def _from_file(name: str, seed: int, file_hash: str) -> nn.Module:
    file, _, function = name.rpartition(":")
    build = getattr(run_file(Path(file), file_hash), function, None)
    if not callable(build):
        raise InvalidValue(f"{file} has no class or function {function!r}.")
    with fork_rng_seeded(seed):
        try:
            model = build()
        except Exception as error:
            raise InvalidValue(f"{name}() raises {type(error).__name__}: {error}.") from error
    if not isinstance(model, nn.Module):
        raise InvalidValue(f"{name}() gives a {type(model).__name__}; expected a torch module.")
    return model


def _width(model: nn.Module, name: str, size: int) -> int:
    h = trial_forward(model, name, size)
    if not isinstance(h, Tensor) or h.ndim not in (2, 4) or len(h) != 2:
        shape = tuple(h.shape) if isinstance(h, Tensor) else type(h).__name__
        raise InvalidValue(
            f"The encoder {name} gives {shape} for images [2, 3, {size}, {size}]; expected "
            "features [2, D], or maps [2, D, H, W]."
        )
    return int(h.shape[1])


def trial_forward(model: nn.Module, name: str, size: int) -> Any:
    """The output for two black images of ``size`` pixels. Raises InvalidValue where it fails."""
    tensor = next(model.parameters(), torch.zeros(()))
    images = torch.zeros(2, 3, size, size, dtype=tensor.dtype, device=tensor.device)
    try:
        with torch.no_grad(), eval_mode(model):
            return model(images)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidValue(
            f"The encoder {name} does not take images of {size} x {size} pixels "
            f"({type(error).__name__}: {reason}). Choose another `size`."
        ) from error
