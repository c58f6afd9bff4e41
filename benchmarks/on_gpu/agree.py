"""Part 2: every method, objective, optimizer and view plan gives on the GPU what it gives on a CPU.

Twenty steps in float32 (without TF32) on the device and on the CPU, each beside the same steps in
float64 on the CPU. Rounding grows along the steps, so the CPU's own distance from float64 is the
measure: a check holds where the device is at most ten times as far. It is made after the most steps
for which this is still less than a tenth of the way that the network has moved, since some methods
amplify rounding quickly. The first loss agrees to 1e-5. bf16 stands beside it; its first loss is
within 3 %. Detectors and segmenters have a file of their own, dense.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from coview.core.images import store_from_arrays
from coview.core.repeatable import repeatable
from coview.methods import Method
from coview.objectives import (
    cross_entropy,
    decoupled_nt_xent,
    info_nce,
    margin_triplet,
    negative_cosine,
    nt_logistic,
    nt_xent,
    sup_con,
)
from coview.training import OptimizerSpec
from coview.training.precision import Precision
from coview.training.step import train_step
from coview.views import ViewSpec, render, render_reference, sample_params
from on_gpu import dense
from on_gpu.networks import (
    OPTIMIZERS,
    SGD,
    all_methods,
    as_vector,
    distance,
    make_batch,
    make_learner,
    methods,
    rounded,
    state_of,
    trained,
)
from on_gpu.part import Part

CPU = torch.device("cpu")
WAIT = "called a synchronizing"  # torch also warns, once, that this mode is a prototype
AS_FAR, FLOOR = 10.0, 1e-5  # of the CPU's distance from float64; relative
OF_THE_WAY = 0.1  # that the steps move the network
FIRST, FIRST_IN_BF16 = 1e-5, 0.03  # of the first loss, relative


def run(part: Part) -> None:
    known = methods(8 if part.tiny else 16)
    names = ["logo-moco"] if part.tiny else list(known)
    for name in names:
        with part.case(f"steps of {name}", needs=4) as go:
            if go:
                compare_steps(part, f"steps of {name}", known[name])
    for name, optimizer in OPTIMIZERS.items():
        if name != "sgd" and not (part.tiny and name != "lars"):
            with part.case(f"steps with {name}", needs=4) as go:
                if go:
                    compare_steps(part, f"steps with {name}", known["simclr"], optimizer)
    dense.run(part)
    for name, loss in OBJECTIVES.items():
        with part.case(f"gradient of {name}", needs=1) as go:
            if go:
                compare_objective(part, name, loss)
    for name, spec in view_specs(names, 16 if part.tiny else 48).items():
        with part.case(name, needs=2) as go:
            if go:
                compare_view(part, name, spec)


def compare_steps(part: Part, name: str, method: Method, optimizer: OptimizerSpec = SGD) -> None:
    kinds: dict[str, tuple[torch.device, str, torch.dtype]] = {
        "float64": (CPU, "fp32", torch.float64), "cpu": (CPU, "fp32", torch.float32),
        "device": (part.device, "fp32", torch.float32),
        "bf16": (part.device, "bf16", torch.float32),
    }  # fmt: skip
    found = {
        kind: states_after(part, method, optimizer, Precision(device, format), dtype)
        for kind, (device, format, dtype) in kinds.items()
    }
    exact_losses, exact = found.pop("float64")
    before = exact.pop(0)
    far = {
        kind: {step: distance(states[step], exact[step]) for step in exact}
        for kind, (_, states) in found.items()
    }
    moved = {step: distance(before, exact[step])["relative"] for step in exact}
    limits = {step: AS_FAR * max(far["cpu"][step]["relative"], FLOOR) for step in exact}
    judged = max((s for s in exact if limits[s] <= OF_THE_WAY * moved[s]), default=min(exact))
    first = {
        kind: abs(losses[0] - exact_losses[0]) / max(abs(exact_losses[0]), 1e-2)
        for kind, (losses, _) in found.items()
    }
    agrees = (
        far["device"][judged]["relative"] <= min(limits[judged], OF_THE_WAY * moved[judged])
        and first["device"] <= FIRST
        and first["bf16"] <= FIRST_IN_BF16
    )
    last = max(exact)
    values = {"loss": exact_losses[-1], "moved": moved[last], "waits": waits(part, name, method),
              "judged after": judged, "device: off there": far["device"][judged]["relative"],
              "limit": limits[judged]}  # fmt: skip
    for kind, (losses, _) in found.items():
        off = max(abs(a - b) for a, b in zip(losses, exact_losses, strict=True))
        values |= {
            f"{kind}: first loss off": first[kind], f"{kind}: loss off": off,
            f"{kind}: state off": far[kind][last]["relative"],
            f"{kind}: largest": far[kind][last]["largest"],
        }  # fmt: skip
    part.write(name, ok=agrees, **rounded(values))


def states_after(
    part: Part, method: Method, optimizer: OptimizerSpec, precision: Precision, dtype: torch.dtype
) -> tuple[list[float], dict[int, Tensor]]:
    """The loss of each step; the state before the first, and after some numbers of steps."""
    images, after = (4, (1, 2)) if part.tiny else (16, (1, 2, 5, 10, 20))
    learner = make_learner(method)
    losses, states, built = [], {0: state_of(learner)}, None
    with repeatable(precision.device):
        for step, following in pairwise((0, *after)):
            more, built = trained(
                learner, precision, optimizer, steps=following - step, images=images, first=step,
                built=built, dtype=dtype,
            )  # fmt: skip
            losses += more
            states[following] = state_of(learner)
    return losses, states


def waits(part: Part, name: str, method: Method) -> int:
    """How often the host waits for the GPU in one step, by torch's debug mode; -1 on a CPU.

    Once, to learn whether loss and gradient are finite; a learned temperature is read three times.
    """
    if not part.on_gpu:
        return -1
    learner = make_learner(method)
    precision = Precision(part.device, "fp32")
    precision.prepare(learner)
    built = SGD.build(learner)
    with repeatable(part.device):  # as training does; torch's own set-up
        train_step(learner, make_batch(method, 16, 0), built, 0.01, precision)
    batch = precision.place(make_batch(method, 16, 1))
    part.wait()
    with repeatable(part.device), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_step(learner, batch, built, 0.01, precision)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [w for w in caught if WAIT in str(w.message)]
    learned = getattr(method.objective, "learn_temperature", False)
    if len(places) > (4 if learned else 1):
        where = sorted({f"{w.filename.rpartition('coview/')[2]}:{w.lineno}" for w in places})
        part.write(f"waits in {name}", ok=False, note=", ".join(where))
    return len(places)


def _labels(view: Tensor) -> Tensor:
    return torch.arange(len(view), device=view.device) % 5 - 1


OBJECTIVES: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "nt_xent": lambda v: nt_xent(v, temperature=0.1),
    "nt_xent, temperature 0.01": lambda v: nt_xent(v, temperature=0.01),
    "decoupled_nt_xent": lambda v: decoupled_nt_xent(v, temperature=0.1),
    "sup_con": lambda v: sup_con(v, _labels(v[0]), temperature=0.1),
    "sup_con in": lambda v: sup_con(v, _labels(v[0]), temperature=0.1, form="in"),
    "sup_con capped": lambda v: sup_con(v, _labels(v[0]), temperature=0.1, positives_cap=3),
    "info_nce": lambda v: info_nce(*v, temperature=0.1),
    "info_nce with ids": lambda v: info_nce(
        *v, temperature=0.1, ids=torch.arange(len(v[0]), device=v[0].device) // 2
    ),
    "nt_logistic": lambda v: nt_logistic(v, temperature=0.1),
    "nt_logistic, semi-hard": lambda v: nt_logistic(v, temperature=0.1, mining="semi-hard"),
    "margin_triplet": lambda v: margin_triplet(v, margin=0.4),
    "negative_cosine": lambda v: negative_cosine(*v),
    "cross_entropy": lambda v: cross_entropy(v[0], _labels(v[0]) + 1),
}


def compare_objective(part: Part, name: str, loss: Callable[[list[Tensor]], Tensor]) -> None:
    """Value and gradient in float32 on the device beside float64 on the CPU."""
    generator = torch.Generator().manual_seed(3)
    images, width = (20, 8) if part.tiny else (1500, 128)
    draws = [torch.randn(images, width, generator=generator, dtype=torch.float64) for _ in range(2)]
    draws[1] = draws[0] + draws[1]
    found = {}
    places = {"exact": CPU, "device": part.device, "cpu": CPU}
    for kind, device in places.items():
        dtype = torch.float64 if kind == "exact" else torch.float32
        views = [draw.to(device, dtype).requires_grad_() for draw in draws]
        value = loss(views)
        gradients = torch.autograd.grad(value, views, allow_unused=True)
        found[kind] = float(value.detach()), as_vector(g for g in gradients if g is not None)
    far = {kind: distance(found[kind][1], found["exact"][1]) for kind in ("device", "cpu")}
    limit = AS_FAR * max(far["cpu"]["relative"], FLOOR)
    part.write(
        f"gradient of {name}", ok=far["device"]["relative"] <= limit,
        **rounded({
            "value off": abs(found["device"][0] - found["exact"][0]),
            "gradient off": far["device"]["relative"], "cpu: gradient off": far["cpu"]["relative"],
        }),
    )  # fmt: skip


def view_specs(names: list[str], size: int) -> dict[str, ViewSpec]:
    """Each different view of these methods, with its blur, and one by bicubic interpolation."""
    known = all_methods(size)
    specs = dict.fromkeys(spec for name in names for spec in known[name].views.views)
    first = next(iter(specs))
    specs[replace(first, crop=replace(first.crop, interpolation="bicubic"))] = None
    return {f"view {number}": spec for number, spec in enumerate(specs, 1)}


def compare_view(part: Part, name: str, spec: ViewSpec) -> None:
    """One view of 16 images: the specification on the device beside the kernel of the CPU."""
    generator = np.random.default_rng(5)
    side = spec.size * 3 // 2
    pixels = generator.integers(0, 256, (4 if part.tiny else 16, side, side, 3), dtype=np.uint8)
    store, rows = store_from_arrays(pixels), np.arange(len(pixels))
    params = sample_params(spec, store.ids, store.heights, store.widths, seed=1, epoch=2, view=0)
    kernel = render(store, rows, params, spec)
    there = render_reference(store, rows, params, spec, device=part.device).cpu()
    difference = (kernel - there).abs()
    # A solarized value at the threshold may fall to either side.
    many = float((difference > 0.01).double().mean())
    part.write(
        name,
        ok=many < 1e-3,
        **rounded({"largest": float(difference.max()), "share above 0.01": many}),
    )
