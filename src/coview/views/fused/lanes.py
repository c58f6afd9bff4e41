"""The three inner steps that need explicit vectors, written as LLVM through numba's intrinsics.

Each is a weighted sum of a few terms, kept in registers. Numba's own vectorizer cannot form it: it
knows loops only, one innermost loop at a time. The vectors are LLVM's, lowered to the instructions
of the machine; nothing here names an instruction set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

BYTES, PIXELS, FLOATS = 32, 4, 16
"""Lanes of ``weigh_rows``, pixels of ``weigh_pixels`` and lanes of ``weigh_offsets``."""

_INDEX, _FLOAT, _BYTE = ir.IntType(64), ir.FloatType(), ir.IntType(8)
_CONTRACT = ("contract",)


class _Lanes:
    """The builder, with the few operations that the intrinsics share."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    def array(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, value)

    def width(self, array: Any) -> Any:
        """Length of the last axis."""
        return cgutils.unpack_tuple(self.builder, array.shape)[-1]

    def at(self, array: Any, index: Any) -> Any:
        return self.builder.gep(array.data, [index])

    def load(self, array: Any, index: Any, lanes: int, kind: Any = _FLOAT) -> Any:
        pointer = self.builder.bitcast(
            self.at(array, index), ir.VectorType(kind, lanes).as_pointer()
        )
        return self.builder.load(pointer, align=1 if kind is _BYTE else 4)

    def store(self, value: Any, array: Any, index: Any) -> None:
        pointer = self.builder.bitcast(self.at(array, index), value.type.as_pointer())
        self.builder.store(value, pointer, align=4)

    def spread(self, array: Any, index: Any, lanes: int) -> Any:
        """One float in every lane."""
        one = self.builder.load(self.at(array, index))
        empty = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
        first = self.builder.insert_element(empty, one, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(first, empty, [0] * lanes)

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self.builder.shuffle_vector(a, b, mask)

    def add_product(self, total: Any, a: Any, b: Any) -> Any:
        product = self.builder.fmul(a, b, flags=_CONTRACT)
        return self.builder.fadd(total, product, flags=_CONTRACT)

    def emit_each(self, emit: Callable[[Any], None], count: Any) -> None:
        """Emit for t = 0 .. count - 1; t = 0 and 1 always exist and need no loop."""
        for t in (0, 1):
            emit(ir.Constant(_INDEX, t))
        with cgutils.for_range(
            self.builder, count, start=ir.Constant(_INDEX, 2), intp=_INDEX
        ) as loop:
            emit(loop.index)

    def clamp(self, value: Any) -> Any:
        for bound, order in ((0.0, ">"), (1.0, "<")):
            limit = ir.Constant(value.type, [bound] * value.type.count)
            value = self.builder.select(
                self.builder.fcmp_ordered(order, value, limit), value, limit
            )
        return value


@intrinsic  # type: ignore[untyped-decorator]
def weigh_rows(typing, pixels, offsets, weights, kernel_size, y, j, line):  # type: ignore[no-untyped-def]
    """line[j : j + BYTES] = sum over t of weights[t, y] * pixels[offsets[t] + j + lane]."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        on = _Lanes(context, builder)
        pixels, offsets, weights = (
            on.array(k, v) for k, v in zip(signature.args[:3], args[:3], strict=True)
        )
        kernel_size, y, j = args[3:6]
        zero = ir.Constant(ir.VectorType(_FLOAT, BYTES), [0.0] * BYTES)
        total = cgutils.alloca_once_value(builder, zero)

        def add_term(t: Any) -> None:
            offset = builder.load(on.at(offsets, t))
            raw = on.load(pixels, builder.add(offset, j), BYTES, _BYTE)
            wide = builder.zext(raw, ir.VectorType(ir.IntType(32), BYTES))
            values = builder.sitofp(wide, zero.type)
            place = builder.add(builder.mul(t, on.width(weights)), y)
            weight = on.spread(weights, place, BYTES)
            builder.store(on.add_product(builder.load(total), values, weight), total)

        on.emit_each(add_term, kernel_size)
        on.store(builder.load(total), on.array(signature.args[6], args[6]), j)
        return context.get_dummy_value()

    return types.void(
        pixels, offsets, weights, types.uint64, types.uint64, types.uint64, line
    ), build


@intrinsic  # type: ignore[untyped-decorator]
def weigh_pixels(typing, line, first, weights, kernel_size, x, planes, at):  # type: ignore[no-untyped-def]
    """Output pixels x .. x + PIXELS - 1 of a row, clamped, into the three planes from ``at``.

    Lane c of pixel p is the sum over t of weights[t, x + p] * line[4 * (first[x + p] + t) + c].
    """

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        on = _Lanes(context, builder)
        line, first, weights = (
            on.array(k, v) for k, v in zip(signature.args[:3], args[:3], strict=True)
        )
        kernel_size, x = args[3:5]
        planes, at = on.array(signature.args[5], args[5]), args[6]
        four, stride = ir.Constant(_INDEX, 4), on.width(weights)
        columns = [builder.add(x, ir.Constant(_INDEX, p)) for p in range(PIXELS)]
        starts = [builder.mul(builder.load(on.at(first, c)), four) for c in columns]
        zero = ir.Constant(ir.VectorType(_FLOAT, 4), [0.0] * 4)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in columns]

        def add_term(t: Any) -> None:
            across, down = builder.mul(t, four), builder.mul(t, stride)
            for column, start, total in zip(columns, starts, totals, strict=True):
                values = on.load(line, builder.add(start, across), 4)
                weight = on.spread(weights, builder.add(down, column), 4)
                builder.store(on.add_product(builder.load(total), values, weight), total)

        on.emit_each(add_term, kernel_size)
        a, b, c, d = (builder.load(total) for total in totals)
        low = on.shuffle(a, b, [0, 4, 1, 5]), on.shuffle(c, d, [0, 4, 1, 5])
        high = on.shuffle(a, b, [2, 6, 3, 7]), on.shuffle(c, d, [2, 6, 3, 7])
        channels = (
            on.shuffle(*low, [0, 1, 4, 5]),
            on.shuffle(*low, [2, 3, 6, 7]),
            on.shuffle(*high, [0, 1, 4, 5]),
        )
        for channel in channels:
            on.store(on.clamp(channel), planes, at)
            at = builder.add(at, on.width(planes))
        return context.get_dummy_value()

    return types.void(line, first, weights, types.uint64, types.uint64, planes, types.uint64), build


@intrinsic  # type: ignore[untyped-decorator]
def weigh_offsets(typing, source, middle, step, reach, weights, target, at):  # type: ignore[no-untyped-def]
    """target[at : at + FLOATS] = sum over |k| <= reach of weights[|k|] source[middle + k step]."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        on = _Lanes(context, builder)
        source, weights = (on.array(signature.args[i], args[i]) for i in (0, 4))
        middle, step, reach, at = args[1], args[2], args[3], args[6]
        none = ir.Constant(_INDEX, 0)
        center = builder.fmul(on.load(source, middle, FLOATS), on.spread(weights, none, FLOATS))
        total = cgutils.alloca_once_value(builder, center)
        with cgutils.for_range(builder, reach, intp=_INDEX) as loop:
            k = builder.add(loop.index, ir.Constant(_INDEX, 1))
            far = builder.mul(k, step)
            pair = builder.fadd(
                on.load(source, builder.add(middle, far), FLOATS),
                on.load(source, builder.sub(middle, far), FLOATS),
            )
            weight = on.spread(weights, k, FLOATS)
            builder.store(on.add_product(builder.load(total), pair, weight), total)
        on.store(builder.load(total), on.array(signature.args[5], args[5]), at)
        return context.get_dummy_value()

    index = types.uint64
    return types.void(source, index, index, index, weights, target, index), build
