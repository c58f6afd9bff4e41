"""A device that computes on the CPU and is none: a tensor there meets no tensor of the CPU.

torch lets Python stand in for a device ("privateuseone"). A tensor of it wraps one of the CPU.
Every operation that would mix both, as CUDA refuses, raises RuntimeError; scalars, copies and
indices on the CPU may mix, as there. Unlike "meta" it has values, so whole runs go through. Import
it in a process of its own: torch keeps the device until its end.
"""

import contextlib
import threading

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

NAME = "pretended"
MAY_MIX = {"_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_"}


class Module(backend_registration._DummyBackendModule):
    """What torch asks the module of a device for."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]

    def get_rng_state(self, *device):
        return torch.zeros(1, dtype=torch.uint8)

    def set_rng_state(self, *state):
        pass

    def device(self, index):
        return contextlib.nullcontext()

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, seed):
        pass


backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
DEVICE = torch.device(NAME, 0)
# torch has no autocast for it: inside, everything is computed in float32.
AUTOCAST = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
AUTOCAST.fallback(torch.library.fallthrough_kernel)


class There(torch.Tensor):
    """A tensor on the device; ``inner`` holds its values on the CPU."""

    @staticmethod
    def __new__(cls, inner):
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=DEVICE,
        )  # fmt: skip
        wrapper.inner = inner
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return self.inner.tolist()

    def new_tensor(self, data, *, dtype=None, device=None):
        return MAKERS["tensor"](data, dtype=dtype or self.dtype).to(device or self.device)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """Inside, ``device`` may be the pretended one in calls that make a tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        target = kwargs.get("device")
        made_there = target is not None and torch.device(target).type == NAME
        if made_there or any(isinstance(t, There) for t in tensors_in((args, kwargs))):
            return compute(func, args, kwargs)
        return func(*args, **kwargs)


# These fill memory that they take, which a device without memory does not have.
MAKERS = {name: getattr(torch, name) for name in ("tensor", "as_tensor")}


def made_by(name):
    def make(data, *, device=None, **more):
        there = device is not None and torch.device(device).type == NAME
        if not there or (isinstance(data, There) and name == "as_tensor"):
            return MAKERS[name](data, device=device, **more)
        return MAKERS[name](data, **more).to(device)

    return make


for name in MAKERS:
    setattr(torch, name, made_by(name))
run_of_a_thread = threading.Thread.run


def run_there(thread):
    with Pretended():  # a mode is of its thread
        run_of_a_thread(thread)


threading.Thread.run = run_there


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def compute(func, args, kwargs):
    """``func`` on the inner tensors; its results are on the device where torch's would be."""
    name = func.name().split("::")[1].split(".")[0]
    tensors = list(tensors_in((args, kwargs)))
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    here = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.ndim > 0]
    if there and here and name not in MAY_MIX:
        raise RuntimeError(f"{func} got tensors of the CPU and of the device.")
    inner_args, inner_kwargs = (
        tree_map(lambda x: x.inner if isinstance(x, There) else x, value)
        for value in (args, kwargs)
    )
    inner_kwargs.pop("pin_memory", None)
    on_device = bool(there)
    if kwargs.get("device") is not None:
        on_device = torch.device(kwargs["device"]).type == NAME
        inner_kwargs["device"] = torch.device("cpu")
    elif name in ("copy_", "index"):
        on_device = isinstance(args[0], There)
    wrappers = {id(tensor.inner): tensor for tensor in there}

    def wrap(value):
        if not isinstance(value, torch.Tensor):
            return value
        known = wrappers.get(id(value))  # an operation in place returns its own argument
        if on_device:
            return There(value) if known is None else known
        return value if known is None else value.clone()

    return tree_map(wrap, func(*inner_args, **inner_kwargs))
