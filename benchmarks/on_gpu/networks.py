"""Learners, batches and differences that several parts use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from coview.core.batches import Batch
from coview.encoders import EncoderSpec
from coview.methods import Learner, Method, Passes, get_method, list_methods, logo, multi_crop
from coview.methods.set_objectives import NTXent, SupCon
from coview.methods.view_pair_objectives import NTLogistic
from coview.training import OptimizerSpec
from coview.training.precision import Precision
from coview.training.step import seed_torch, train_step

SEED = 7
SMALL = EncoderSpec(depth=10, width=0.25, stem="small")
SGD = OptimizerSpec(name="sgd", learning_rate=0.05, scaling="none", weight_decay=1e-4)
OPTIMIZERS = {
    "sgd": SGD,
    "sgd nesterov": replace(SGD, nesterov=True),
    "adamw": OptimizerSpec(name="adamw", learning_rate=1e-3, scaling="none", weight_decay=0.01),
    "lars": OptimizerSpec(name="lars", learning_rate=0.5, scaling="none", weight_decay=1e-6),
}


def methods(size: int) -> dict[str, Method]:
    """Those of :func:`all_methods` at a side of at most ``size``, with short queues."""
    return {name: _shrunk(method, size) for name, method in all_methods(size).items()}


def all_methods(size: int) -> dict[str, Method]:
    """Every registered method, and each objective, memory and critic that they do not show."""
    found = {name: get_method(name)(size) for name in list_methods() if name != "logo"}
    simclr, supcon = found["simclr"], found["supcon"]
    found |= {f"logo-{name}": logo(found[name]) for name in ("simclr", "moco", "byol", "simsiam")}
    found |= {
        "logo-cosine": logo(found["moco"], affinity="cosine"),
        "logo-ratio": logo(found["simsiam"], gradient_ratio=0.015),
        "multi_crop-simclr": multi_crop(simclr),
        "multi_crop-moco": multi_crop(found["moco"]),
        "simclr-per-view": replace(simclr, batch_norm="per view"),
        "decoupled": replace(simclr, objective=NTXent(temperature=0.2, decoupled=True)),
        "supcon-in": replace(supcon, objective=SupCon(temperature=0.1, form="in")),
        "nt-logistic": replace(simclr, objective=NTLogistic(temperature=0.2)),
        "learned temperature": replace(
            simclr, objective=NTXent(temperature=0.2, learn_temperature=True)
        ),
    }  # fmt: skip
    return found


def _shrunk(method: Method, size: int) -> Method:
    views = tuple(replace(v, size=min(v.size, size)) for v in method.views.views)
    queue = method.memory and replace(method.memory, length=min(method.memory.length, 64))
    return replace(method, views=replace(method.views, views=views), memory=queue)


def make_batch(method: Method, images: int, step: int) -> Batch:
    """Views of ``images`` images of different colors, the same on every machine; two labels."""
    generator = torch.Generator().manual_seed(1000 * SEED + step)
    colors = torch.rand(images, 3, 1, 1, generator=generator)
    views = tuple(
        colors + 0.3 * torch.randn(images, 3, spec.size, spec.size, generator=generator)
        for spec in method.views.views
    )
    ids = torch.arange(images) + images * step
    return Batch(step=step, epoch=0, views=views, ids=ids, labels=torch.arange(images) % 2)


def make_learner(
    method: Method, encoder: EncoderSpec = SMALL, passes: Passes | None = None
) -> Learner:
    """A learner with the same first weights everywhere, on the CPU."""
    return Learner(
        method, encoder.build(SEED), head_seed=SEED, total_steps=1000, passes=passes or Passes()
    )


def trained(
    learner: Learner, precision: Precision, optimizer: OptimizerSpec = SGD, *, steps: int,
    images: int, first: int = 0, built: torch.optim.Optimizer | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[float], torch.optim.Optimizer]:  # fmt: skip
    """The losses of ``steps`` steps, and the optimizer with its state.

    The network is moved to the device first, unless it has an optimizer already.
    """
    if built is None:
        precision.prepare(learner.to(dtype))
        built = optimizer.build(learner)
    losses = []
    for step in range(first, first + steps):
        batch = make_batch(learner.method, images, step)
        batch = replace(batch, views=tuple(view.to(dtype) for view in batch.views))
        seed_torch(SEED, step, precision.device)
        taken = train_step(learner, batch, built, optimizer.learning_rate, precision)
        if taken.skipped:
            raise ArithmeticError(f"step {step} was skipped: {taken.reason}")
        losses.append(taken.loss)
    return losses, built


def state_of(learner: torch.nn.Module) -> Tensor:
    """All parameters and floating buffers, float64 on the CPU, as one vector."""
    return as_vector(t for t in learner.state_dict().values() if t.is_floating_point())


def gradient_of(learner: torch.nn.Module) -> Tensor:
    """The gradients that its parameters have, as one vector."""
    return as_vector(p.grad for p in learner.parameters() if p.grad is not None)


def as_vector(tensors: Iterable[Tensor]) -> Tensor:
    """Float64 on the CPU."""
    return torch.cat([tensor.detach().double().cpu().reshape(-1) for tensor in tensors])


def distance(found: Tensor, exact: Tensor) -> dict[str, float]:
    """The largest difference of an entry; the norm of the difference as a share of ``exact``'s."""
    difference = found.double() - exact
    share = float(difference.norm() / exact.norm().clamp_min(1e-300))
    return {"largest": float(difference.abs().max()), "relative": share}


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """The values with three digits."""
    return {k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in values.items()}
