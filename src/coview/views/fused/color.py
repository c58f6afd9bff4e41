"""Color operations on planes [3, P], in place over positions lo .. hi - 1, clamped to [0, 1].

The formulas are torchvision's for float images. Each operation is a loop of its own, since a block
of planes stays in the first-level cache.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from coview.views.fused.compiler import FOUR, ONE, SIX, THREE, TWO, U0, U1, U2, ZERO, F, inner
from coview.views.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION

RED, GREEN, BLUE = F(0.2989), F(0.587), F(0.114)
TINY = F(1e-30)


@inner
def brightness(planes, lo, hi, f):
    for c in range(3):
        for i in range(lo, hi):
            planes[c, i] = min(f * planes[c, i], ONE)


@inner
def contrast(planes, lo, hi, f, mean):
    shift = (ONE - f) * mean
    for c in range(3):
        for i in range(lo, hi):
            planes[c, i] = min(max(f * planes[c, i] + shift, ZERO), ONE)


@inner
def saturation(planes, lo, hi, f):
    for i in range(lo, hi):
        r, g, b = planes[U0, i], planes[U1, i], planes[U2, i]
        gray = (ONE - f) * (RED * r + GREEN * g + BLUE * b)
        planes[U0, i] = min(max(f * r + gray, ZERO), ONE)
        planes[U1, i] = min(max(f * g + gray, ZERO), ONE)
        planes[U2, i] = min(max(f * b + gray, ZERO), ONE)


@inner
def hue(planes, lo, hi, turns):
    """HSV hue shift with one division: a sector's ramps are clipped distances.

    Conditions are numbers here, because branches would prevent vectorization.
    """
    shift = SIX * turns
    for i in range(lo, hi):
        r, g, b = planes[U0, i], planes[U1, i], planes[U2, i]
        most = max(g, b)
        least = min(r, min(g, b))
        chroma = max(r, most) - least
        is_red, is_green = F(r >= most), F(g >= b)
        in_other = is_green * (b - r) + (ONE - is_green) * (r - g)
        rise = is_red * (g - b) + (ONE - is_red) * in_other
        base = (ONE - is_red) * (FOUR - TWO * is_green)
        h = rise / max(chroma, TINY) + (base + shift)
        h += SIX * F(h < ZERO) - SIX * F(h >= SIX)
        planes[U0, i] = least + chroma * min(max(abs(h - THREE) - ONE, ZERO), ONE)
        planes[U1, i] = least + chroma * min(max(TWO - abs(h - TWO), ZERO), ONE)
        planes[U2, i] = least + chroma * min(max(TWO - abs(h - FOUR), ZERO), ONE)


@inner
def grayscale(planes, lo, hi):
    for i in range(lo, hi):
        luma = RED * planes[U0, i] + GREEN * planes[U1, i] + BLUE * planes[U2, i]
        planes[U0, i] = luma
        planes[U1, i] = luma
        planes[U2, i] = luma


@inner
def gray_sum(planes, lo, hi):
    total = ZERO
    for i in range(lo, hi):
        total += RED * planes[U0, i] + GREEN * planes[U1, i] + BLUE * planes[U2, i]
    return total


@inner
def solarize_and_normalize(planes, lo, hi, solarize, solarize_threshold, scale, shift):
    for c in range(3):
        if solarize:
            for i in range(lo, hi):
                v = planes[c, i]
                planes[c, i] = v + F(v >= solarize_threshold) * (ONE - TWO * v)
        if len(scale) > 0:
            k, s = scale[c], shift[c]
            for i in range(lo, hi):
                planes[c, i] = planes[c, i] * k + s


@inner
def jitter_without_contrast(planes, lo, hi, row, start, stop):
    """Operations start .. stop - 1 in the order of the jitter; contrast is not among them."""
    for k in range(start, stop):
        operation = row.order[k]
        if operation == BRIGHTNESS:
            brightness(planes, lo, hi, row.factor[BRIGHTNESS])
        elif operation == SATURATION:
            saturation(planes, lo, hi, row.factor[SATURATION])
        elif operation == HUE:
            hue(planes, lo, hi, row.factor[HUE])


@inner
def contrast_position(row):
    """The position of contrast in the order, or 4 without contrast."""
    for k in range(4):
        if row.order[k] == CONTRAST:
            return k
    return 4
