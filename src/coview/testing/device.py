"""For which operations a host would wait for its GPU, found on a machine without one.

Tensors on the device "meta", which have shapes and no values, stand for those of the GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")
READS = (
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique",
    "unique_", "bincount", "repeat_interleave",
)  # fmt: skip
"""Operations that return a number, or a tensor whose shape depends on values."""

PACKAGE = Path(__file__).parents[1]


class HostSyncs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in ``places`` where the host would wait: "<file>: <function>" of Coview's code.

    That is where a number or a shape is read from the device, where a tensor of the host is copied
    to the device or back without ``non_blocking``, and where an operation on the device takes a
    tensor of the host that is no scalar. A number that is read has the value 1.

    >>> with HostSyncs() as syncs:
    ...     bool(torch.ones(2, device=DEVICE).sum() > 0), torch.ones(1).to(DEVICE).device
    (True, device(type='meta'))
    >>> [what.split(" ")[0] for what in syncs.operations]
    ['_local_scalar_dense', '_to_copy']
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: list[str] = []
        self.operations: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        kwargs = kwargs or {}
        name = func.name().split("::")[1].split(".")[0]
        tensors = list(_tensors((*args, *kwargs.values())))
        on_device = any(tensor.device == DEVICE for tensor in tensors)
        on_host = any(tensor.device != DEVICE and tensor.ndim > 0 for tensor in tensors)
        reads = on_device and (
            name.startswith(READS) or _is_selection(name, args) or _is_scatter(name, args)
        )
        mixes = on_device and on_host
        target = kwargs.get("device")
        if name in ("_to_copy", "copy_"):
            waits = not kwargs.get("non_blocking", len(args) > 2 and args[2])
            leaves = on_device and target is not None and torch.device(target) != DEVICE
            enters = on_host and target is not None and torch.device(target) == DEVICE
            mixes = waits and (leaves or enters or mixes)
        if reads or mixes:
            self._note(name, "reads a value" if reads else "mixes host and device")
        if name == "_local_scalar_dense" and on_device:
            return True if tensors[0].dtype == torch.bool else 1
        return func(*args, **kwargs)

    def _note(self, name: str, why: str) -> None:
        self.places.append(_place())
        self.operations.append(f"{name} {why}")


def _is_selection(name: str, args: Sequence[Any]) -> bool:
    """Whether an index is a boolean tensor: the number of rows depends on its values."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_") or len(args) < 2:
        return False
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])


def _is_scatter(name: str, args: Sequence[Any]) -> bool:
    """Whether its repeatable form on CUDA copies strides to the device with waiting.

    Before the torch of 2026 it does; later ones sort the indices instead, which is slow.
    """
    return name in ("scatter", "scatter_") and args[0].ndim > 1 and isinstance(args[3], Tensor)


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _place() -> str:
    """The innermost function of the package, besides this module's, that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE) and path != Path(__file__):
            return f"{path.relative_to(PACKAGE).as_posix()}: {frame.f_code.co_name}"
        frame = frame.f_back
    return "outside of coview"


@contextmanager
def meta_autocast() -> Iterator[None]:
    """Inside, ``torch.autocast`` of "meta" does nothing; torch refuses that device."""
    real = torch.autocast

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device_type == DEVICE.type else real(device_type, *args, **kwargs)

    with mock.patch.object(torch, "autocast", autocast):
        yield
