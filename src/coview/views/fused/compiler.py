"""How the kernel is compiled, and the numbers that its files share.

Numba types a bare 0.5 as float64, so every constant is a float32; and a signed index costs a test
for negatives, so indices are unsigned.
"""

from __future__ import annotations

import numpy as np

from coview.core.compiled import OPTIONS, compiled, inner, outer

__all__ = ["OPTIONS", "compiled", "inner", "outer"]

F, U = np.float32, np.uint64
ZERO, HALF, ONE, TWO, THREE, FOUR, SIX = (F(x) for x in (0, 0.5, 1, 2, 3, 4, 6))
U0, U1, U2, U3, U4 = (U(x) for x in range(5))
