"""The complete state of training as named tensors, and back.

There is no generator, sampler or scheduler in it: draws are keyed by step and image, and learning
rates are an array of the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from coview.core.errors import RunError
from coview.training.task import Task

TASK, OPTIMIZER = "task/", "optimizer/"
COUNT = "step"  # AdamW's moment that counts steps: a scalar on its parameter's device


def collect(task: Task, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """ "task/<name>" for parameters and buffers, "optimizer/<parameter>/<moment>" for moments."""
    state = {TASK + name: tensor for name, tensor in task.state_dict().items()}
    for name, parameter in task.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                state[f"{OPTIMIZER}{name}/{moment}"] = value
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def restore(task: Task, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`collect` gave. Raises RunError, before anything is changed, where the
    tensors are not exactly those of this task, or their shapes differ."""
    expected = task.state_dict()
    given = {n.removeprefix(TASK): t for n, t in tensors.items() if n.startswith(TASK)}
    moments = {n.removeprefix(OPTIMIZER): t for n, t in tensors.items() if n.startswith(OPTIMIZER)}
    parameters = dict(task.named_parameters())
    _refuse("lacks", expected.keys() - given.keys())
    _refuse("has more than this network:", given.keys() - expected.keys())
    _refuse("has other shapes for", (n for n in given if given[n].shape != expected[n].shape))
    _refuse("has moments of", (n for n in moments if n.rpartition("/")[0] not in parameters))
    task.load_state_dict(given)
    optimizer.state.clear()
    for name, value in moments.items():
        owner, _, moment = name.rpartition("/")
        parameter = parameters[owner]
        optimizer.state[parameter][moment] = (
            value.to(parameter.device, copy=True) if moment == COUNT else _like(parameter, value)
        )


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of a moment, laid out in memory and placed as its parameter is."""
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _refuse(what: str, names: Iterable[str]) -> None:
    found = sorted(names)
    if found:
        raise RunError(
            f"The checkpoint is of another network: it {what} {', '.join(found[:4])}"
            f"{f' and {len(found) - 4} more' if len(found) > 4 else ''}. "
            "Resume with the recipe that the run was started with."
        )
