"""Part 5: how long a step takes, how much memory, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from coview.core.batches import Batch
from coview.core.repeatable import repeatable
from coview.methods.learner import NetworkTask
from coview.recipes import Recipe, build_task, change, recipe
from coview.training.precision import Precision
from coview.training.step import total_of, train_step
from on_gpu.part import Part

# Kernels by their names: the first word that a name contains decides.
KINDS = {
    "batch norm": ("bn_", "batch_norm", "batchnorm"),
    "convolution": ("conv", "wgrad", "dgrad", "implicit", "fprop", "cudnn"),
    "product": ("gemm", "gemv", "addmm", "::mm", "bmm", "cublas", "cutlass", "nvjet"),
    "copy": ("memcpy", "copy_", "memset", "cat", "_to_copy", "fill_"),
    "optimizer and state": ("multi_tensor", "foreach", "adam", "lars"),
    "pooling": ("pool",),
    "element by element": ("elementwise", "vectorized", "relu", "threshold", "add", "mul", "exp"),
    "sums": ("reduce", "sum", "norm"),
}


@dataclass(frozen=True)
class Case:
    """A network and a batch that are measured."""

    name: str
    recipe: Recipe

    @property
    def views(self) -> int:
        return self.recipe.batch_size * len(self.recipe.method.views.views)


def cases(tiny: bool) -> list[Case]:
    if tiny:
        small = change(recipe("simclr-cpu"), encoder="resnet10/8-small", batch_size=4, size=8)
        return [Case("tiny", small)]
    return [
        Case("ResNet-18, small stem, 32 px, batch 512", recipe("simclr-cifar")),
        Case("ResNet-50, 224 px, batch 256", recipe("simclr-photos")),
    ]


@dataclass(frozen=True)
class Way:
    """One way to compute the step; ``free`` leaves torch's choice of algorithms, with benchmark."""

    name: str
    format: str
    channels_last: bool
    free: bool = False
    compiled: bool = False
    graph: bool = False


WAYS = (
    Way("float32", "fp32", channels_last=False),
    Way("bf16", "bf16", channels_last=False),
    Way("bf16, channels last (as trained)", "bf16", channels_last=True),
    Way("the same, algorithms free", "bf16", channels_last=True, free=True),
    Way("the same, CUDA graph", "bf16", channels_last=True, free=True, graph=True),
    Way("the same, compiled", "bf16", channels_last=True, free=True, compiled=True),
)
AS_TRAINED, COMPILED = WAYS[2], WAYS[-1]
SECONDS = {"float32": 8, "the same, CUDA graph": 8}
TO_COMPILE = (60, 120)  # seconds, of each network


def run(part: Part) -> None:
    known = cases(part.tiny)
    for case in known:
        for way in WAYS[:-1]:
            one(part, case, way, SECONDS.get(way.name, 5))
            if way == AS_TRAINED:
                with part.case(f"{case.name}: where the time goes", needs=5) as go:
                    if go:
                        where(part, case)
    # Compiling takes longest, and how long is not known.
    if part.on_gpu:
        for case, seconds in zip(known, TO_COMPILE, strict=False):
            one(part, case, COMPILED, seconds)


def one(part: Part, case: Case, way: Way, seconds: float) -> None:
    name = f"{case.name}: {way.name}"
    with part.case(name, needs=0 if part.tiny else seconds) as go:
        if go:
            measure(part, case, way, name)


def prepared(part: Part, case: Case, way: Way) -> tuple[NetworkTask, Precision, Any, Batch]:
    learner = build_task(case.recipe, total_steps=1000)
    precision = Precision(part.device, way.format)
    if way.channels_last:
        precision.prepare(learner)
    else:
        learner.to(part.device)
    built = case.recipe.optimizer.build(learner)
    return learner, precision, built, precision.place(noise(case.recipe))


def noise(chosen: Recipe) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = chosen.batch_size
    views = tuple(
        torch.rand(images, 3, spec.size, spec.size, generator=generator)
        for spec in chosen.method.views.views
    )
    return Batch(step=0, epoch=0, views=views, ids=torch.arange(images))


def algorithms(part: Part, way: Way) -> AbstractContextManager[object]:
    if not way.free:
        return repeatable(part.device)
    return benchmarked() if part.on_gpu else nullcontext()


@contextmanager
def benchmarked() -> Iterator[None]:
    """Inside, cuDNN tries the algorithms of each convolution and takes the fastest."""
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False


def measure(part: Part, case: Case, way: Way, name: str) -> None:
    learner, precision, built, batch = prepared(part, case, way)
    if way.compiled:
        learner.encoder.compile()  # type: ignore[no-untyped-call]
    with algorithms(part, way):
        if way.graph:
            if not part.on_gpu:
                part.write(name, note="left out: a CPU has no CUDA graphs")
                return
            action, gigabytes = graphed(part, learner, precision, built, batch)
        else:
            action = plain(learner, precision, built, batch)
            for _ in range(1 if part.tiny else 2):  # trials of algorithms, state of the optimizer
                action()
            gigabytes = part.peak(action)
        turns = {"warm": 1, "turns": 1} if part.tiny else {"warm": 4, "turns": 12}
        spent = part.milliseconds(action, **turns)
    rate = 1000 * case.views / spent
    part.write(name, milliseconds=round(spent, 2), views_per_second=round(rate),
               gibibytes=round(gigabytes, 2))  # fmt: skip


def plain(
    learner: NetworkTask, precision: Precision, built: torch.optim.Optimizer, batch: Batch
) -> Callable[[], object]:
    return lambda: train_step(learner, batch, built, 1e-3, precision)


def graphed(
    part: Part, learner: NetworkTask, precision: Precision, built: torch.optim.Optimizer,
    batch: Batch,
) -> tuple[Callable[[], object], float]:  # fmt: skip
    """Loss and gradient as one CUDA graph, then the finite check and the update as ever; and GiB.

    A graph has its memory from its recording on, so this is where the most is measured.
    """
    for group in built.param_groups:
        group["lr"] = 1e-3
    parameters = [p for group in built.param_groups for p in group["params"]]

    def gradient() -> torch.Tensor:
        # Entered and left inside, so that autocast keeps no cast beyond the graph.
        with precision.autocast():
            loss = total_of(learner.loss(batch, 0))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    side = torch.cuda.Stream(precision.device)
    side.wait_stream(torch.cuda.current_stream(precision.device))
    with torch.cuda.stream(side):
        for _ in range(3):
            built.zero_grad(set_to_none=True)
            gradient()
    torch.cuda.current_stream(precision.device).wait_stream(side)
    built.step()  # makes its state
    built.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    outputs: list[torch.Tensor] = []

    def record() -> None:
        with torch.cuda.graph(graph):
            outputs.append(gradient())
            present = [p.grad for p in parameters if p.grad is not None]
            outputs.append(torch.nn.utils.get_total_norm(present))

    gigabytes = part.peak(record)
    loss, norm = outputs
    statistics = learner._new_statistics  # the graph writes them anew

    def step() -> None:
        graph.replay()
        if bool(torch.isfinite(loss + norm)):
            built.step()
            learner._new_statistics = statistics
            learner.after_step(0)

    return step, gigabytes


def where(part: Part, case: Case) -> None:
    """The share of each kind of kernel in three steps as trained, and the longest kernels."""
    learner, precision, built, batch = prepared(part, case, AS_TRAINED if part.on_gpu else WAYS[0])
    action = plain(learner, precision, built, batch)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * part.on_gpu
    with algorithms(part, AS_TRAINED):
        for _ in range(1 if part.tiny else 3):
            action()
        with profile(activities=activities, acc_events=True) as profiled:
            for _ in range(1 if part.tiny else 3):
                action()
            part.wait()
    times: dict[str, float] = {}
    for event in profiled.key_averages():
        spent = event.self_device_time_total if part.on_gpu else event.self_cpu_time_total
        # A range such as "Optimizer.step" has the time of its kernels, which are counted too.
        own = event.device_type != DeviceType.CPU and not event.is_user_annotation
        if spent > 0 and (own or not part.on_gpu):
            times[event.key] = times.get(event.key, 0.0) + spent
    total = sum(times.values()) or 1.0
    shares: dict[str, float] = {}
    for key, spent in times.items():
        kind = kind_of(key)
        shares[kind] = shares.get(kind, 0.0) + spent / total
    longest = sorted(times, key=lambda key: -times[key])[:8]
    part.write(
        f"{case.name}: where the time goes",
        shares={k: round(v, 3) for k, v in sorted(shares.items(), key=lambda item: -item[1])},
        longest=[f"{key[:70]} {times[key] / total:.1%}" for key in longest],
    )


def kind_of(kernel: str) -> str:
    name = kernel.lower()
    return next((kind for kind, words in KINDS.items() if any(w in name for w in words)), "other")
