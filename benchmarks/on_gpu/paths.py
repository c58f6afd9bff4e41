"""Part 3: what a run does on a GPU besides plain steps: memory, resume, several processes."""

from __future__ import annotations

import multiprocessing
import tempfile
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from coview.core.repeatable import repeatable
from coview.encoders import EncoderSpec
from coview.methods import Learner, Method, Passes, simclr
from coview.testing.methods import Colors
from coview.training import (
    BatchLoader,
    MetricsLog,
    OptimizerSpec,
    Schedule,
    collect,
    restore,
    train,
)
from coview.training.precision import Precision
from coview.training.step import gradients
from on_gpu import processes
from on_gpu.networks import (
    OPTIMIZERS,
    SGD,
    SMALL,
    distance,
    gradient_of,
    make_batch,
    make_learner,
    methods,
    rounded,
    state_of,
    trained,
)
from on_gpu.part import Part

LARGE = EncoderSpec(depth=18, width=0.25)  # with a maximum pooling
CHECKS: dict[str, tuple[Callable[[Part, str], None], float]] = {}


def check(name: str, seconds: float) -> Callable[[Callable[[Part, str], None]], object]:
    """Enter a check under its name, with the seconds that it needs."""

    def enter(function: Callable[[Part, str], None]) -> object:
        CHECKS[name] = function, seconds
        return function

    return enter


def run(part: Part) -> None:
    for name, (function, seconds) in CHECKS.items():
        with part.case(name, needs=seconds) as go:
            if go:
                function(part, name)
    processes.run(part)
    # Last: what a full memory leaves behind would be taken for a fault of the others.
    name = "a batch that does not fit"
    with part.case(name, needs=10) as go:
        if go:
            out_of_memory(part, name)


def gradient(
    part: Part,
    learner: Learner,
    images: int,
    format: str = "fp32",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    precision = Precision(part.device, format)
    precision.prepare(learner.to(dtype))
    batch = make_batch(learner.method, images, 0)
    batch = precision.place(replace(batch, views=tuple(view.to(dtype) for view in batch.views)))
    with repeatable(part.device):
        gradients(learner, batch, SGD.build(learner), precision)
    return gradient_of(learner)


@check("micro-batches", 3)
def micro_batches(part: Part, name: str) -> None:
    """Without BatchNorm a batch in parts of 3 has the gradient of the whole one, in float64."""
    method = without_norm(simclr(8))
    whole, parts = (
        gradient(
            part, Learner(method, Colors(norm=False), passes=Passes(micro_batch=m)), 8,
            dtype=torch.float64,
        )
        for m in (None, 3)
    )  # fmt: skip
    far = distance(parts, whole)
    part.write(name, ok=far["relative"] < 1e-9, **rounded({"gradient off": far["relative"]}))
    # Casts of autocast are shared by the parts, and made again in the backward pass.
    passes = Passes(micro_batch=3), Passes(micro_batch=3, activation_checkpointing=True)
    once, twice = (
        gradient(part, make_learner(methods(16)["simclr"], passes=each), 8, "bf16")
        for each in passes
    )
    far = distance(twice, once)
    part.write(
        f"{name} of recomputed blocks, bf16", ok=far["relative"] < 1e-6,
        **rounded({"gradient off": far["relative"]}),
    )  # fmt: skip


def without_norm(method: Method) -> Method:
    head = replace(method.head, batch_norm="none", bias="all", init="torch")
    return replace(method, head=head, batch_norm="per view")


@check("activation checkpointing", 5)
def activation_checkpointing(part: Part, name: str) -> None:
    """With BatchNorm, in float32 and bf16, where autocast keeps casts of the weights."""
    for format in ("fp32", "bf16"):
        method = methods(16)["simclr"]
        whole, again = (
            gradient(part, make_learner(method, passes=passes), 8, format)
            for passes in (Passes(), Passes(activation_checkpointing=True))
        )
        far = distance(again, whole)
        part.write(
            f"{name}, {format}", ok=far["relative"] < 1e-6,
            same_bits=bool(torch.equal(whole, again)), **rounded({"gradient off": far["relative"]}),
        )  # fmt: skip


@check("resume", 15)
def resume(part: Part, name: str) -> None:
    """Ten steps, the state to the host and back into a new network, ten more: the same bits?"""
    known = methods(16)
    cases: dict[str, tuple[Method, EncoderSpec, str, str]] = {
        "simclr, sgd, fp32": (known["simclr"], SMALL, "sgd", "fp32"),
        "simclr, adamw, bf16": (known["simclr"], SMALL, "adamw", "bf16"),
        "supcon, lars, bf16": (known["supcon"], SMALL, "lars", "bf16"),
        "logo-moco, sgd, fp32": (known["logo-moco"], SMALL, "sgd", "fp32"),
        "logo-byol, lars, bf16": (known["logo-byol"], SMALL, "lars", "bf16"),
        "multi_crop-moco, sgd, bf16": (known["multi_crop-moco"], SMALL, "sgd", "bf16"),
        "simclr, large stem at 64 px, lars, bf16": (methods(64)["simclr"], LARGE, "lars", "bf16"),
    }
    half, images = (1, 4) if part.tiny else (10, 32)
    for case, settings in list(cases.items())[: 1 if part.tiny else None]:
        with part.case(f"{name}: {case}", needs=2) as go:
            if go:
                resume_one(part, f"{name}: {case}", *settings, half, images)


def resume_one(
    part: Part, name: str, method: Method, encoder: EncoderSpec, optimizer: str, format: str,
    half: int, images: int,
) -> None:  # fmt: skip
    precision, spec = Precision(part.device, format), OPTIMIZERS[optimizer]

    def straight(settings: Any) -> torch.Tensor:
        learner = make_learner(method, encoder)
        with settings:
            trained(learner, precision, spec, steps=2 * half, images=images)
        return state_of(learner)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole = straight(repeatable(part.device))
    unsteady = sorted(
        {str(w.message).split(" ")[0] for w in caught if "determin" in str(w.message)}
    )
    again, free = straight(repeatable(part.device)), straight(nullcontext())

    first = make_learner(method, encoder)
    with repeatable(part.device):
        _, built = trained(first, precision, spec, steps=half, images=images)
    state = {key: tensor.cpu() for key, tensor in collect(first, built).items()}
    second = make_learner(method, encoder)
    precision.prepare(second)
    built = spec.build(second)
    restore(second, built, state)
    elsewhere = [
        key for p in second.parameters() for key, value in built.state.get(p, {}).items()
        if isinstance(value, torch.Tensor) and value.device.type != part.device.type
    ]  # fmt: skip
    with repeatable(part.device):
        trained(second, precision, spec, steps=half, images=images, first=half, built=built)
    found = state_of(second)
    part.write(
        name, ok=bool(torch.equal(found, whole)) and not elsewhere,
        repeated=bool(torch.equal(again, whole)),
        with_torch_defaults=bool(torch.equal(free, whole)), warned_of=unsteady,
        states_elsewhere=len(elsewhere),
        **rounded({"state off": distance(found, whole)["relative"]}),
    )  # fmt: skip


@check("resume in another process", 15)
def resume_elsewhere(part: Part, name: str) -> None:
    """As a stopped run is: another process may take other algorithms if torch lets it."""
    half, images = (1, 4) if part.tiny else (10, 32)
    method, precision, spec = as_resumed(part.device)
    if not part.on_gpu:
        torch.set_num_threads(1)  # as a process that is forked; bits depend on it
    with repeatable(part.device):
        whole, first = make_learner(method, LARGE), make_learner(method, LARGE)
        trained(whole, precision, spec, steps=2 * half, images=images)
        _, built = trained(first, precision, spec, steps=half, images=images)
    with tempfile.TemporaryDirectory() as folder:
        state = {key: tensor.cpu() for key, tensor in collect(first, built).items()}
        torch.save(state, Path(folder) / "state.pt")
        # A process that has used CUDA cannot fork; without it a fork saves the imports.
        context: Any = multiprocessing.get_context("spawn" if part.on_gpu else "fork")
        process = context.Process(
            target=second_half, args=(folder, part.device, half, images), daemon=True
        )
        process.start()
        process.join(max(5, part.left - 5))
        if process.exitcode != 0:
            process.kill()
            part.write(name, ok=False, note=f"ended with code {process.exitcode}")
            return
        found = torch.load(Path(folder) / "found.pt", weights_only=True)
    exact = state_of(whole)
    part.write(
        name, ok=bool(torch.equal(found, exact)),
        **rounded({"state off": distance(found, exact)["relative"]}),
    )  # fmt: skip


def as_resumed(device: torch.device) -> tuple[Method, Precision, OptimizerSpec]:
    return methods(64)["simclr"], Precision(device, "bf16"), OPTIMIZERS["lars"]


def second_half(folder: str, device: torch.device, half: int, images: int) -> None:
    """The other process: restore the state, train on, leave the state of the end."""
    if device.type == "cpu":
        torch.set_num_threads(1)  # OpenMP's threads are gone after a fork
    method, precision, spec = as_resumed(device)
    learner = make_learner(method, LARGE)
    precision.prepare(learner)
    built = spec.build(learner)
    restore(learner, built, torch.load(Path(folder) / "state.pt", weights_only=True))
    with repeatable(device):
        trained(learner, precision, spec, steps=half, images=images, first=half, built=built)
    torch.save(state_of(learner), Path(folder) / "found.pt")


def out_of_memory(part: Part, name: str) -> None:
    """Under a small share of the memory the loop goes on in smaller passes, with the same batch."""
    method = methods(8 if part.tiny else 64)["simclr"]
    images = 8 if part.tiny else 512
    encoder = EncoderSpec(depth=18, width=0.125 if part.tiny else 1.0, stem="small")
    learner = make_learner(method, encoder)
    precision = Precision(part.device, "fp32")
    precision.prepare(learner)
    if part.on_gpu:
        total = torch.cuda.get_device_properties(part.device).total_memory
        # Of about 60 GiB of activations; the workspaces of cuDNN count too.
        torch.cuda.set_per_process_memory_fraction(min(1.0, 12 * 2**30 / total), part.device)
    else:
        whole_loss, calls = learner.loss, iter(range(100))

        def loss(*arguments: Any) -> Any:
            if next(calls) < 2:
                raise torch.OutOfMemoryError("as on a full GPU")
            return whole_loss(*arguments)

        learner.loss = loss  # type: ignore[method-assign]
    batch = make_batch(method, images, 0)
    loader = BatchLoader(
        batch.ids.numpy(), None, lambda rows, ids, epoch: batch.views, batch_size=images, seed=0,
        total_steps=2,
    )  # fmt: skip
    try:
        outcome = train(
            learner, loader, optimizer=SGD.build(learner), schedule=Schedule.fixed([0.05] * 2),
            precision=precision, metrics_log=MetricsLog(None, chance_level=6.0),
            save=lambda step: None,
        )  # fmt: skip
    finally:
        if part.on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0, part.device)
    passes = learner.passes
    part.write(
        name,
        ok=outcome.step == 2 and passes != Passes(),
        activation_checkpointing=passes.activation_checkpointing,
        micro_batch=passes.micro_batch,
    )
