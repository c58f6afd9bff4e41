"""Device, float format and memory layout."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from coview.core.batches import Batch
from coview.core.errors import InvalidValue, UnknownName
from coview.core.eval_mode import eval_mode
from coview.core.progress import say

FORMATS = ("auto", "bf16", "fp32")
ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


@dataclass(frozen=True, slots=True)
class Precision:
    """float32 weights on ``device``; matrix products in ``format``, "bf16" or "fp32"."""

    device: torch.device
    format: str

    def autocast(self) -> AbstractContextManager[object]:
        if self.format == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move ``module`` to the device, in channels-last layout where that is safe; returns it.

        Convolutions follow the layout of their weights, so images may have any layout.
        """
        module.to(self.device)
        on_cpu = self.device.type == "cpu"
        if self.device.type == "cuda" or (on_cpu and channels_last_is_safe(module)):
            module.to(memory_format=torch.channels_last)
        return module

    def place(self, batch: Batch) -> Batch:
        return batch.to(self.device)


def channels_last_is_safe(module: nn.Module) -> bool:
    """Whether a CPU may train ``module`` with channels last.

    oneDNN writes the gradient of a strided 1x1 convolution with few input channels in whole
    vectors, beyond the end of its buffer: torch 2.15 on AVX2 corrupts the heap below 8 channels.
    The limit is 16, one vector of AVX-512.
    """
    return all(
        layer.in_channels >= 16
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1)
    )


def bf16_is_safe(network: nn.Module, sizes: Iterable[int]) -> bool:
    """Whether a CPU may train ``network`` in bf16 on images of ``sizes`` pixels a side.

    oneDNN's weight gradient of a strided convolution larger than 1x1 reads uninitialized memory
    where the input is a single pixel (docs/decisions/0008).
    """
    single: list[nn.Module] = []

    def check(layer: nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
        strided = max(layer.stride) > 1 and max(layer.kernel_size) > 1
        if strided and inputs[0].shape[-2:] == (1, 1):
            single.append(layer)

    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(check) for layer in convolutions]
    try:
        with eval_mode(network), torch.no_grad():
            for size in set(sizes):
                network(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return not single


def choose_precision(
    name: str, device: torch.device, *, network: nn.Module | None = None, sizes: Iterable[int] = ()
) -> Precision:
    """The precision called ``name`` ("auto", "bf16" or "fp32") on ``device``.

    "auto" is bf16 where it is faster than float32 and safe for ``network`` (still on the CPU) on
    images of ``sizes`` pixels; else float32. Raises UnknownName, and InvalidValue for "bf16" where
    it is not safe.

    >>> choose_precision("fp32", torch.device("cpu"))
    Precision(device=device(type='cpu'), format='fp32')
    """
    if name not in FORMATS:
        raise UnknownName("precision", name, FORMATS)
    format = name if name != "auto" else "bf16" if computes_in_bf16(device) else "fp32"
    on_cpu = format == "bf16" and device.type == "cpu"
    if not on_cpu or network is None or bf16_is_safe(network, sizes):
        return Precision(device, format)
    if name == "bf16":
        raise InvalidValue(
            "`precision` is bf16, but a view is so small that a strided convolution of the network "
            "has a single input pixel, which a CPU cannot train in bf16. Use larger views or fp32."
        )
    return Precision(device, "fp32")


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``name``; "auto" is the first CUDA device, else the CPU.

    A GPU for which this torch has no code is not taken by "auto", which says so.

    "mps", the GPU of a Mac, is taken where it is named: it computes in float32 and has not been
    tested. What it cannot compute, torch computes on the CPU if $PYTORCH_ENABLE_MPS_FALLBACK is 1
    before torch is imported, as the command line sets it.

    Raises InvalidValue for an unknown or absent device, and for a GPU that torch has no code for.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    first = torch.device("cuda", 0)
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        missing = missing_code(first)
        if missing:
            _say_once(f"The CPU is taken: {missing}.")
        return torch.device("cpu") if missing else first
    try:
        device = torch.device(name)
        if device.type == "cuda":  # without a tensor: under torchrun GPU 0 is not every process's
            if (device.index or 0) >= torch.cuda.device_count():
                raise RuntimeError(f"there are {torch.cuda.device_count()} GPUs")
        else:
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidValue(
            f"`device` is {name!r}, which this machine does not have; expected auto, cpu, cuda or "
            "mps."
        ) from error
    if device.type == "cuda":
        device = first if device.index is None else device
        require_code(device, name)
    return device


def require_code(device: torch.device, name: str) -> None:
    """Raise InvalidValue where this torch has no code for the GPU ``device``, called ``name``."""
    if missing := missing_code(device):
        raise InvalidValue(f"`device` is {name!r}: {missing}, or take `device` cpu.")


def missing_code(device: torch.device) -> str:
    """Why this torch cannot compute on the GPU ``device``, and what helps; "" where it can.

    ``torch.cuda.is_available()`` does not tell: it is true for a GPU that is older than all that
    torch was built for, on which the first operation fails. "" also where torch does not say what
    it was built for, as for GPUs of AMD.
    """
    built = [each for each in torch.cuda.get_arch_list() if ARCHITECTURE.fullmatch(each)]
    if not built:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own of the same, and of GPUs that are not taken
        capability = torch.cuda.get_device_capability(device)
    if any(runs_on(each, capability) for each in built):
        return ""
    numbers = ".".join(map(str, capability))
    return (
        f"{torch.cuda.get_device_name(device)} has compute capability {numbers}, and torch "
        f"{torch.__version__} is built for {', '.join(built)} alone; install a build of torch for "
        "it (https://pytorch.org/get-started/locally; builds for an older CUDA run on older GPUs)"
    )


def runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether code of an entry of ``torch.cuda.get_arch_list()`` runs on a GPU of ``capability``.

    Binaries ("sm_80") run on GPUs of their major number that are not older; PTX ("compute_80"),
    which the driver compiles, on all that are not older; "sm_90a" on that very capability. Source:
    CUDA C++ Programming Guide, "Application Compatibility".

    >>> runs_on("sm_80", (8, 6)), runs_on("sm_80", (9, 0)), runs_on("compute_80", (9, 0))
    (True, False, True)
    """
    found = ARCHITECTURE.fullmatch(architecture)
    assert found is not None
    kind, major, minor, suffix = found.groups()
    own = int(major), int(minor)
    if suffix == "a":
        return capability == own
    is_later = capability >= own
    any_later = kind == "compute" and not suffix
    return is_later and (any_later or capability[0] == own[0])


@cache
def _say_once(text: str) -> None:
    """A command chooses its device at several places."""
    say(text)


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than float32: AMX or AVX-512 bf16, CUDA capability 8.0 or higher."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Not oneDNN's own test, which includes AVX-512 without bf16: that emulates bf16.
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False
