"""The complete state of training as named tensors, and back.

It holds no generator, sampler or scheduler: random numbers are keyed by step and image, and
learning rates are an array over all steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from coview.core.errors import RunError
from coview.training.task import Task

TASK, OPTIMIZER = "task/", "optimizer/"
STEP_COUNT = "step"  # of AdamW: a scalar on its parameter's device


def collect(task: Task, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """ "task/<name>" for parameters and buffers, "optimizer/<parameter>/<moment>" for moments.

    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> sorted(collect(layer, torch.optim.SGD(layer.parameters())))
    ['task/weight']
    """
    state = {TASK + name: tensor for name, tensor in task.state_dict().items()}
    for name, parameter in task.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                state[f"{OPTIMIZER}{name}/{moment}"] = value
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, named without it.

    >>> list(below("task/", {"task/weight": torch.zeros(1), "optimizer/step": torch.zeros(1)}))
    ['weight']
    """
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def restore(task: Task, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors of :func:`collect` into ``task`` and ``optimizer``.

    Raises RunError, before anything changes, where names or shapes are not those of the task.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(layer.parameters())
    >>> state = collect(layer, optimizer)
    >>> _ = torch.nn.init.zeros_(layer.weight)
    >>> restore(layer, optimizer, state)
    >>> torch.equal(layer.weight, state["task/weight"])
    True
    """
    expected = task.state_dict()
    state, moments = below(TASK, tensors), below(OPTIMIZER, tensors)
    parameters = dict(task.named_parameters())
    _require_none("lacks", expected.keys() - state.keys())
    _require_none("has more than this network:", state.keys() - expected.keys())
    other_shapes = (n for n in state if state[n].shape != expected[n].shape)
    _require_none("has other shapes for", other_shapes)
    unknown = (n for n in moments if n.rpartition("/")[0] not in parameters)
    _require_none("has moments of", unknown)
    task.load_state_dict(state)
    optimizer.state.clear()
    for name, value in moments.items():
        owner, _, moment = name.rpartition("/")
        parameter = parameters[owner]
        if moment == STEP_COUNT:
            state_value = value.to(parameter.device, copy=True)
        else:  # with the memory layout of the parameter
            state_value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
            state_value.copy_(value)
        optimizer.state[parameter][moment] = state_value


def _require_none(what: str, names: Iterable[str]) -> None:
    listing = sorted(names)
    if listing:
        raise RunError(
            f"The checkpoint is of another network: it {what} {', '.join(listing[:4])}"
            f"{f' and {len(listing) - 4} more' if len(listing) > 4 else ''}. "
            "Resume with the recipe of the run."
        )
