"""A temperature as a part of an objective's value, and as a number that is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from coview.objectives.temperature import Temperature, as_number, check_temperature

# exp(S / tau) of unit rows reaches e^100 here; lower ones make a step jump (CLIP's bound).
LOWEST_LEARNED = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempered:
    """An objective at a temperature > 0; with ``learn_temperature`` that is where training starts.

    A learned temperature falls to 0.01 at the lowest. Figures that compare runs, such as chance
    and the yardstick of health, stay at the first one. Raises InvalidValue.
    """

    temperature: Temperature
    learn_temperature: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def at(self, temperature: Tensor) -> Self:
        """The same objective at another temperature, which may take a gradient."""
        return replace(self, temperature=temperature)


class LearnedTemperature(nn.Module):
    """tau = e^t, for a number t that the optimiser moves (Radford et al. 2021, section 2.5)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))
        self.lowest = math.log(min(start, LOWEST_LEARNED))

    def forward(self) -> Tensor:
        return self.log.exp()

    @torch.no_grad()
    def settle(self) -> None:
        """Back to the bound, where a step went below it."""
        self.log.clamp_(min=self.lowest)

    @property
    def value(self) -> float:
        """The temperature now."""
        return as_number(self())
