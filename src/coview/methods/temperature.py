"""A temperature as a part of an objective's value, and as a number that is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from coview.objectives.inputs import Temperature, as_number, check_temperature

# exp(S / tau) of unit rows reaches e^100 at the lower bound (CLIP's); above the upper one all
# candidates weigh nearly the same, and one wild step would not find back.
LOWEST_LEARNED, HIGHEST_LEARNED = 0.01, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WithTemperature:
    """An objective at a temperature > 0; with ``learn_temperature`` that is where training starts.

    A learned temperature stays between 0.01 and 1, or where it began if that lies outside. Figures
    that compare runs, such as chance and the yardstick of health, stay at the first one. Raises
    InvalidValue.
    """

    temperature: Temperature
    learn_temperature: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def with_temperature(self, temperature: Tensor) -> Self:
        """The same objective at another temperature, which may take a gradient."""
        return replace(self, temperature=temperature)


class LearnedTemperature(nn.Module):
    """tau = e^t, for a number t that the optimizer moves (Radford et al. 2021, section 2.5)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))
        self.bounds = (
            math.log(min(start, LOWEST_LEARNED)), math.log(max(start, HIGHEST_LEARNED))
        )  # fmt: skip

    def forward(self) -> Tensor:
        return self.log.exp()

    @torch.no_grad()
    def commit(self) -> None:
        """Back to the bounds, where a step went beyond them."""
        self.log.clamp_(*self.bounds)

    @property
    def value(self) -> float:
        """The temperature now."""
        return as_number(self())
