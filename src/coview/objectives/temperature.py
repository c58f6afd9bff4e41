"""The temperature of an objective: a number, or a number that is learned."""

from __future__ import annotations

import math

from torch import Tensor

from coview.core.errors import InvalidValue

Temperature = float | Tensor
"""tau > 0; as a tensor without dimensions it may ask for a gradient of its own."""


def check_temperature(temperature: Temperature) -> None:
    """Raises InvalidValue unless the temperature is a positive finite number."""
    number = as_number(temperature) if is_learnable(temperature) else temperature
    if not (isinstance(number, (int, float)) and 0 < number < math.inf):
        raise InvalidValue(
            f"The temperature is {temperature!r}; it must be a positive number, such as 0.1 or "
            "0.5, or a tensor without dimensions that holds one."
        )


def is_learnable(temperature: Temperature) -> bool:
    """Whether it is a tensor without dimensions that holds a floating number."""
    return (
        isinstance(temperature, Tensor)
        and temperature.ndim == 0
        and temperature.is_floating_point()
    )


def as_number(temperature: Temperature) -> float:
    """Its value, which no gradient reaches; a tensor on a GPU is waited for."""
    if isinstance(temperature, Tensor):
        return float(temperature.detach())
    return float(temperature)


def slope(
    temperature: Temperature, number: float, rows: Tensor, gradient: Tensor, *, degree: int
) -> Tensor | None:
    """dL/dtau of a loss of the logits A C^T / tau, from the gradient that ``rows`` have got.

    ``number`` is the value of ``temperature`` that the logits had; None for a plain number.
    Stretching A by s, or both sides by sqrt(s) where they are one, is dividing tau by s; so, by
    Euler's theorem, dL/dtau = -<A, dL/dA> / (tau degree), degree 2 where both sides are one.
    """
    if not isinstance(temperature, Tensor):
        return None
    return (rows * gradient).sum().to(temperature) / (-degree * number)
