"""Is one image a window of another? A pair is aligned by scale and place and compared there.

The alignment is that of Evangelidis and Psarakis (2008, "Parametric Image Alignment Using Enhanced
Correlation Coefficient Maximization") with four parameters: Gauss-Newton steps on the correlation
of the details, from coarse to fine. Details are what is left without the mean of the surroundings,
so that a common background and common light prove nothing.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from coview.core.compiled import OPTIONS, compiled, inner

LEVELS = ((16, 8, 3), (32, 6, 4), (64, 5, 6))
"""Side in pixels, steps, and radius of the surroundings, of each level."""
LAST_STEPS = 4
"""On the gray levels themselves."""
MIN_COARSE = 0.5
MIN_SCALE, MAX_SCALE = 0.5, 1.2
MIN_STEP, MAX_STEP = 2e-4, 0.06
"""Of a window in one step, in sides."""
MIN_OVERLAP = 0.7
CELL, STRIDE, MIN_CELL = 8, 4, 0.75
"""Side of a cell and distance of cells in pixels; share of a cell that has to lie in both."""
NOISE = 9.0
"""Variance in squared gray levels below which a cell is flat."""
FLAT = 0.1
MAX_TONE, MAX_TINT, MIN_STRUCTURE = 0.4, 0.8, 0.4
"""Of a cell that counts as changed: tone and tint in standard deviations of the image."""
GRAY_TINT = 3.0
"""An image whose strongest tint is below it is gray, and its tints say nothing."""
TONE_WEIGHT, CHANGED_WEIGHT = 2.0, 0.5
SIMILARITY, CHANGED, GAIN, SHIFT, COLOR_FIRST, COLOR_SECOND = range(6)
"""The columns of what :func:`compare_pairs` fills in."""
FIGURES = 6
HALF, ONE = np.float32(0.5), np.float32(1)


@inner
def shrink(image, flip, factor, out):
    """The means of ``factor`` x ``factor`` pixels, from right to left if ``flip``."""
    side = out.shape[0]
    for i in range(side):
        for j in range(side):
            total = np.float32(0)
            column = (side - 1 - j if flip else j) * factor
            for y in range(i * factor, (i + 1) * factor):
                for x in range(column, column + factor):
                    total += np.float32(image[y, x])
            out[i, j] = total / np.float32(factor * factor)


@inner
def smooth(image, work):
    """Binomial filter (1, 2, 1) / 4 along both axes, in place."""
    side = image.shape[0]
    for i in range(side):
        for j in range(side):
            left, right = image[i, max(j - 1, 0)], image[i, min(j + 1, side - 1)]
            work[i, j] = np.float32(0.25) * (left + right) + np.float32(0.5) * image[i, j]
    for i in range(side):
        above, below = max(i - 1, 0), min(i + 1, side - 1)
        for j in range(side):
            image[i, j] = (
                np.float32(0.25) * (work[above, j] + work[below, j]) + np.float32(0.5) * work[i, j]
            )


@inner
def remove_surroundings(image, radius, table, out):
    """``image`` minus its mean over a square of 2 radius + 1 pixels, cut at the border."""
    side = image.shape[0]
    for j in range(side + 1):
        table[0, j] = 0
    for i in range(side):
        total = np.float32(0)
        table[i + 1, 0] = 0
        for j in range(side):
            total += image[i, j]
            table[i + 1, j + 1] = table[i, j + 1] + total
    for i in range(side):
        top, bottom = max(i - radius, 0), min(i + radius + 1, side)
        for j in range(side):
            left, right = max(j - radius, 0), min(j + radius + 1, side)
            total = (
                table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
            )
            out[i, j] = image[i, j] - total / np.float32((bottom - top) * (right - left))


@inner
def axis(start, scale, side):
    """Where the pixels of a window of one axis lie: left pixel, weight of the right one, inside."""
    index, fraction = np.empty(side, np.int64), np.empty(side, np.float32)
    inside = np.empty(side, np.bool_)
    for u in range(side):
        place = start + scale * (np.float32(u) + np.float32(0.5)) / np.float32(side)
        inside[u] = 0 <= place <= 1
        place = min(max(place * side - np.float32(0.5), np.float32(0)), np.float32(side - 1.001))
        index[u] = np.int64(place)
        fraction[u] = place - np.float32(index[u])
    return index, fraction, inside


@inner
def solve(matrix, right):
    """Solve the 4 x 4 system in place by elimination; the matrix is positive definite."""
    for k in range(4):
        pivot = matrix[k, k]
        if pivot <= 1e-12:
            return False
        for i in range(k + 1, 4):
            factor = matrix[i, k] / pivot
            for j in range(k, 4):
                matrix[i, j] -= factor * matrix[k, j]
            right[i] -= factor * right[k]
    for k in range(3, -1, -1):
        for j in range(k + 1, 4):
            right[k] -= matrix[k, j] * right[j]
        right[k] /= matrix[k, k]
    return True


@inner
def accumulate(a, b, window, totals, j1, ja, jb, jj):
    """Sums over the pixels of ``b`` that lie in ``a``, of the values x of ``a`` there and y of
    ``b``: totals = (1, x, y, xx, yy, xy); j1, ja, jb, jj = J, J x, J y, J J of the gradient J of x
    in the four parameters, in pixels.
    """
    side = a.shape[0]
    iy, fy, my = axis(np.float32(window[0]), np.float32(window[1]), side)
    ix, fx, mx = axis(np.float32(window[2]), np.float32(window[3]), side)
    totals[:], j1[:], ja[:], jb[:], jj[:] = 0, 0, 0, 0, 0
    for u in range(side):
        if not my[u]:
            continue
        wy, top, bottom, other = fy[u], a[iy[u]], a[iy[u] + 1], b[u]
        t0 = t1 = t2 = t3 = t4 = t5 = np.float32(0)
        r0 = r1 = r2 = r3 = r4 = r5 = r6 = r7 = r8 = np.float32(0)
        q0 = q1 = q2 = q3 = q4 = q5 = np.float32(0)
        for v in range(side):
            if not mx[v]:
                continue
            k, wx, y = ix[v], fx[v], other[v]
            up = top[k] + wx * (top[k + 1] - top[k])
            down = bottom[k] + wx * (bottom[k + 1] - bottom[k])
            x, gy = up + wy * (down - up), down - up
            gx = (top[k + 1] - top[k]) * (ONE - wy) + (bottom[k + 1] - bottom[k]) * wy
            gxx = gx * (np.float32(v) + HALF) / np.float32(side)
            t0 += ONE
            t1 += x
            t2 += y
            t3 += x * x
            t4 += y * y
            t5 += x * y
            r0 += gy
            r1 += gx
            r2 += gxx
            r3 += gy * x
            r4 += gx * x
            r5 += gxx * x
            r6 += gy * y
            r7 += gx * y
            r8 += gxx * y
            q0 += gy * gy
            q1 += gy * gx
            q2 += gy * gxx
            q3 += gx * gx
            q4 += gx * gxx
            q5 += gxx * gxx
        # The parameter "height" moves a pixel by its place, which is one number in a row.
        y = (np.float32(u) + HALF) / np.float32(side)
        for i, value in enumerate((t0, t1, t2, t3, t4, t5)):
            totals[i] += value
        for i, value in enumerate((r0, y * r0, r1, r2)):
            j1[i] += value
        for i, value in enumerate((r3, y * r3, r4, r5)):
            ja[i] += value
        for i, value in enumerate((r6, y * r6, r7, r8)):
            jb[i] += value
        for i, value in enumerate((q0, y * q0, q1, q2)):
            jj[0, i] += value
            jj[1, i] += y * value
        jj[2, 2] += q3
        jj[2, 3] += q4
        jj[3, 3] += q5


@inner
def newton_step(sums, correlation_sums, jacobian, products, step):
    """The Gauss-Newton step towards a higher correlation; False where there is none.

    Means are taken out of all sums, and from the Jacobian the direction of the image itself, which
    changes contrast alone.
    """
    n, sa, sb = sums
    caa, cab = correlation_sums
    j1, ja, jb = jacobian
    matrix = np.empty((4, 4))
    for i in range(4):
        ja[i] -= j1[i] * sa / n
        jb[i] -= j1[i] * sb / n
    for i in range(4):
        step[i] = (jb[i] - ja[i] * cab / caa) * caa / cab
        for j in range(4):
            product = products[min(i, j), max(i, j)]
            matrix[i, j] = product - j1[i] * j1[j] / n - ja[i] * ja[j] / caa
        matrix[i, i] = matrix[i, i] * 1.001 + 1e-6
    return solve(matrix, step)


@inner
def align(a, b, window, steps):
    """Improve ``window`` (top, height, left, width of ``b`` in ``a``, in sides); the correlation.

    The best of all steps is kept.
    """
    side = a.shape[0]
    totals, products = np.empty(6), np.empty((4, 4))
    jacobian = (np.empty(4), np.empty(4), np.empty(4))
    change = np.empty(4)
    now, best, highest = window.copy(), window.copy(), -1.0
    for step in range(steps + 1):
        accumulate(a, b, now, totals, jacobian[0], jacobian[1], jacobian[2], products)
        n, sa, sb = totals[0], totals[1], totals[2]
        if n < MIN_OVERLAP * side * side:
            break
        caa, cbb = totals[3] - sa * sa / n, totals[4] - sb * sb / n
        cab = totals[5] - sa * sb / n
        if min(caa, cbb) <= 1e-6:
            break
        correlation = cab / np.sqrt(caa * cbb)
        if correlation > highest:
            highest = correlation
            best[:] = now
        if step == steps or correlation < 0.05:
            break
        if not newton_step((n, sa, sb), (caa, cab), jacobian, products, change):
            break
        # Gradients are in pixels of this level, the window in sides.
        for i in range(4):
            change[i] = min(max(change[i] / side, -MAX_STEP), MAX_STEP)
            now[i] += change[i]
        shape = min(now[1], now[3]) >= MIN_SCALE and max(now[1], now[3]) <= MAX_SCALE
        if not shape or np.abs(change).max() < MIN_STEP:
            break
    window[:] = best
    return highest


@inner
def bilinear(image, y, x, channel):
    """The value of a channel at a place in sides."""
    side = image.shape[0]
    y = min(max(y * side - 0.5, 0.0), side - 1.001)
    x = min(max(x * side - 0.5, 0.0), side - 1.001)
    i, j = int(y), int(x)
    y, x = y - i, x - j
    up = image[i, j, channel] * (1 - x) + image[i, j + 1, channel] * x
    down = image[i + 1, j, channel] * (1 - x) + image[i + 1, j + 1, channel] * x
    return up * (1 - y) + down * y


@inner
def cut(a, window, out, inside):
    """The pixels of the window of ``a``, and which of them lie in it."""
    side = a.shape[0]
    iy, fy, my = axis(np.float32(window[0]), np.float32(window[1]), side)
    ix, fx, mx = axis(np.float32(window[2]), np.float32(window[3]), side)
    for u in range(side):
        top, bottom = a[iy[u]], a[iy[u] + 1]
        for v in range(side):
            k, wx = ix[v], fx[v]
            up = top[k] + wx * (top[k + 1] - top[k])
            down = bottom[k] + wx * (bottom[k + 1] - bottom[k])
            out[u, v] = up + fy[u] * (down - up)
            inside[u, v] = my[u] and mx[v]


@inner
def moments(a, b, inside, top, left, size):
    """(pixels, mean of a, of b, variance of a, of b, covariance) of the square, where inside."""
    n = sa = sb = saa = sbb = sab = 0.0
    for u in range(top, top + size):
        for v in range(left, left + size):
            if inside[u, v]:
                x, y = np.float64(a[u, v]), np.float64(b[u, v])
                n += 1
                sa += x
                sb += y
                saa += x * x
                sbb += y * y
                sab += x * y
    if n == 0:
        return n, 0.0, 0.0, 0.0, 0.0, 0.0
    ma, mb = sa / n, sb / n
    va, vb = max(saa / n - ma * ma, 0.0), max(sbb / n - mb * mb, 0.0)
    return n, ma, mb, va, vb, sab / n - ma * mb


@inner
def strongest(tints):
    """The largest absolute value; 0 of a gray image."""
    highest = 0.0
    for i in range(tints.shape[0]):
        for j in range(tints.shape[1]):
            for channel in range(tints.shape[2]):
                value = abs(np.float64(tints[i, j, channel]))
                if value > highest:
                    highest = value
    return highest


@inner
def agreement(a, b, tint_a, tint_b, flip, window, out):
    """Compare ``b`` with its window of ``a`` cell by cell; fills ``out``.

    Structure is the covariance of the cells over the mean of their variances, after the contrast
    of the whole window is made that of ``b``. A cell that is flat in both says nothing about it.
    Tints count if both images have any.
    """
    side = a.shape[0]
    warped, inside = np.empty((side, side), np.float32), np.empty((side, side), np.bool_)
    cut(a, window, warped, inside)
    _, mean_a, mean_b, variance_a, variance_b, _ = moments(warped, b, inside, 0, 0, side)
    std, gain = (
        np.sqrt(max(variance_b, 1e-6)),
        np.sqrt(max(variance_b, 1e-6) / max(variance_a, 1e-6)),
    )
    for u in range(side):
        for v in range(side):
            warped[u, v] = (warped[u, v] - mean_a) * gain + mean_b
    floor = max(NOISE, (FLAT * std) ** 2)
    cells = textured = 0
    structure = tone = changed = 0.0
    color_a, color_b = strongest(tint_a), strongest(tint_b)
    compares_tints = min(color_a, color_b) >= GRAY_TINT
    for top in range(0, side - CELL + 1, STRIDE):
        for left in range(0, side - CELL + 1, STRIDE):
            m, ma, mb, va, vb, covariance = moments(warped, b, inside, top, left, CELL)
            if m < MIN_CELL * CELL * CELL:
                continue
            cells += 1
            difference = abs(ma - mb) / std
            tone += difference
            y, x = (top + CELL / 2) / side, (left + CELL / 2) / side
            in_y, in_x = window[0] + window[1] * y, window[2] + window[3] * x
            in_x = 1 - in_x if flip else in_x
            apart = 0.0
            for channel in range(2 * compares_tints):
                one = bilinear(tint_a, in_y, in_x, channel)
                two = bilinear(tint_b, y, x, channel)
                apart += 2 * abs(one * gain - two) / std
            agrees = 1.0
            if max(va, vb) > floor:
                textured += 1
                agrees = (2 * covariance + NOISE) / (va + vb + NOISE)
                structure += agrees
            changed += difference > MAX_TONE or agrees < MIN_STRUCTURE or apart > MAX_TINT
    changed /= max(cells, 1)
    if textured > 0:
        structure /= textured
        out[SIMILARITY] = structure - TONE_WEIGHT * tone / cells - CHANGED_WEIGHT * changed
    out[CHANGED], out[GAIN], out[SHIFT] = changed, gain, mean_b - mean_a
    out[COLOR_FIRST], out[COLOR_SECOND] = color_a, color_b


@compiled(**OPTIONS)
def compare_pairs(gray, tints, first, second, flips, windows, out):
    """Align image ``second`` into ``first`` for every pair, and compare them there.

    Shapes: gray uint8 [N, 64, 64], tints int8 [N, 16, 16, 2]; first, second int64 [P]; flips bool
    [P], whether ``first`` is flipped before; windows float64 [P, 4] (top, height, left, width of
    ``second`` in ``first`` after the flip, in sides), the first guess, replaced by what was found;
    out float32 [P, 6]: similarity (1 at most, zero where the pair cannot be aligned), share of the
    cells that are changed, gain and shift of the gray levels, and the strongest tint of each.
    """
    side = gray.shape[1]
    table, work = np.empty((side + 1, side + 1), np.float32), np.empty((side, side), np.float32)
    for pair in range(len(first)):
        one, two = gray[first[pair]], gray[second[pair]]
        out[pair] = 0
        for level in range(len(LEVELS)):
            n, steps, radius = LEVELS[level]
            a, b = np.empty((n, n), np.float32), np.empty((n, n), np.float32)
            shrink(one, flips[pair], side // n, a)
            shrink(two, False, side // n, b)
            if n == side:
                smooth(a, work)
                smooth(b, work)
            fine_a, fine_b = np.empty((n, n), np.float32), np.empty((n, n), np.float32)
            remove_surroundings(a, radius, table, fine_a)
            remove_surroundings(b, radius, table, fine_b)
            correlation = align(fine_a, fine_b, windows[pair], steps)
            if correlation < MIN_COARSE:
                break
            if n == side:
                # Surroundings of one radius cover less of the enlarged image: a bias of 2 %.
                align(a, b, windows[pair], LAST_STEPS)
                agreement(
                    a, b, tints[first[pair]], tints[second[pair]], flips[pair], windows[pair],
                    out[pair],
                )  # fmt: skip
