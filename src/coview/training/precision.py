"""Where the numbers live and how long they are: device, float format, memory layout."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from coview.core.batches import Batch
from coview.core.errors import InvalidValue, UnknownName
from coview.core.eval_mode import eval_mode

FORMATS = ("auto", "bf16", "fp32")


@dataclass(frozen=True, slots=True)
class Precision:
    """float32 weights on ``device``; matrix products in ``format``, "bf16" or "fp32"."""

    device: torch.device
    format: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        if self.format == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def prepare(self, module: nn.Module) -> nn.Module:
        """``module`` itself, moved to the device and, where that is sound, laid out channels last.

        Convolutions take their layout from the weights, so images may come in any.
        """
        module.to(self.device)
        if self.device.type != "cpu" or channels_last_is_sound(module):
            module.to(memory_format=torch.channels_last)
        return module

    def place(self, batch: Batch) -> Batch:
        """The batch on the device."""
        return batch.to(self.device)


def channels_last_is_sound(module: nn.Module) -> bool:
    """Whether a CPU may train ``module`` with channels last.

    The gradient of a strided 1x1 convolution with few input channels is written by oneDNN in whole
    vectors, beyond the end of its buffer: torch 2.15 on AVX2 corrupts the heap below 8 channels.
    The limit is 16, one vector of AVX-512.
    """
    return all(
        layer.in_channels >= 16
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1)
    )


def bf16_is_sound(network: nn.Module, sizes: Iterable[int]) -> bool:
    """Whether a CPU may train ``network`` in bf16 on images of ``sizes`` pixels a side.

    oneDNN's weight gradient of a strided convolution of several pixels, where its whole input is
    one pixel, reads memory that nobody has written (docs/decisions/0008).
    """
    single: list[nn.Module] = []

    def look(layer: nn.Conv2d, given: tuple[torch.Tensor]) -> None:
        strided = max(layer.stride) > 1 and max(layer.kernel_size) > 1
        if strided and given[0].shape[-2:] == (1, 1):
            single.append(layer)

    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(look) for layer in convolutions]
    try:
        with eval_mode(network), torch.no_grad():
            for size in set(sizes):
                network(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return not single


def choose_precision(
    asked: str,
    device: torch.device,
    *,
    network: nn.Module | None = None,
    sizes: Iterable[int] = (),
) -> Precision:
    """What ``asked`` ("auto", "bf16" or "fp32") means on ``device``.

    "auto" is bf16 where the hardware computes in it, and soundly for ``network`` (still on the
    CPU) on images of ``sizes`` pixels; else float32. Raises UnknownName, and InvalidValue where
    bf16 is asked for but not sound.
    """
    if asked not in FORMATS:
        raise UnknownName("precision", asked, FORMATS)
    wanted = asked if asked != "auto" else "bf16" if computes_in_bf16(device) else "fp32"
    on_cpu = wanted == "bf16" and device.type == "cpu"
    if not on_cpu or network is None or bf16_is_sound(network, sizes):
        return Precision(device, wanted)
    if asked == "bf16":
        raise InvalidValue(
            "--precision bf16: a view is so small that a strided convolution of the network "
            "sees a single pixel, which a CPU cannot train in bf16; take larger views, or fp32."
        )
    return Precision(device, "fp32")


def choose_device(asked: str = "auto") -> torch.device:
    """The device called so; "auto" is the first CUDA device, else the CPU. Raises InvalidValue."""
    if asked == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidValue(
            f"There is no device {asked!r} on this machine; give auto, cpu or cuda."
        ) from error
    return torch.device("cuda", 0) if device == torch.device("cuda") else device


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than float32 there: AMX or AVX-512 bf16, CUDA capability 8.0 up."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Not what oneDNN calls supported: that includes AVX-512 without bf16, which emulates it.
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False
