"""A temperature as a field of an objective, and as a trained parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from coview.methods.objective import Objective
from coview.objectives.inputs import Temperature, as_number, checked_temperature

# exp(S / tau) of unit rows reaches e^100 at the lower bound (CLIP's). Above the upper bound all
# candidates have nearly the same weight, and training would not return from there.
MIN_LEARNED, MAX_LEARNED = 0.01, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WithTemperature(Objective):
    """An objective at a temperature > 0; with ``learn_temperature`` this is its initial value.

    A learned temperature is clamped to 0.01 .. 1, or to its initial value if that lies outside.
    Figures that compare runs (chance level, health objective) use the initial temperature. Raises
    InvalidValue.
    """

    temperature: Temperature
    learn_temperature: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", checked_temperature(self.temperature))

    def with_temperature(self, temperature: Tensor) -> Self:
        """The same objective at another temperature, which may take a gradient."""
        return replace(self, temperature=temperature)

    def in_words(self) -> str:
        """See :meth:`Objective.in_words`."""
        learned = ", which is learned" if self.learn_temperature else ""
        return f"{type(self).__name__} at temperature {self.temperature:g}{learned}"


class LearnedTemperature(nn.Module):
    """tau = e^t with a trained parameter t (Radford et al. 2021, section 2.5).

    An optimizer changes t at the rate of the network, or at ``highest_rate`` where that is lower.
    """

    highest_rate: ClassVar[float] = 0.01
    """Rates of SGD and LARS suit weights of many numbers. At a rate of 2 one step would lead from
    one bound to the other."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))
        self.bounds = (math.log(min(start, MIN_LEARNED)), math.log(max(start, MAX_LEARNED)))

    def forward(self) -> Tensor:
        return self.log.exp()

    @torch.no_grad()
    def commit(self) -> None:
        """Clamp the temperature to its bounds after a step."""
        self.log.clamp_(*self.bounds)

    @property
    def value(self) -> float:
        return as_number(self())
