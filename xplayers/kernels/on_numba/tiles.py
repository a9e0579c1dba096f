"""Products of small tiles whose sums stay in registers: what the direct convolutions of `direct.py` are made of.

LLVM does not keep a block of sums in registers across a loop by itself, so the two are written in its own instructions:
16 float32 at a time (`LANES`), in the registers that the machine has.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..threads import runs
from .compiling import intrinsic

__all__ = [
    "LANES",
    "dots",
    "lane_dots",
    "lanes",
    "part_4",
    "part_8",
    "part_16",
    "side_4",
    "side_8",
    "side_16",
    "weighed",
]

LANES = 16
OUT, IN = 8, 3  # outputs and inputs whose products `dots` sums up at once

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_ZEROS = ir.Constant(_VECTOR, [0.0] * LANES)
_FLOATS, _PLACES, _WHOLE = types.Array(types.float32, 1, "C"), types.Array(types.uintp, 1, "C"), types.uintp


class _Writer:
    """What both tiles are written with."""

    def __init__(self, context: Any, builder: Any, signature: Any) -> None:
        self.context, self.builder, self.signature = context, builder, signature

    def data(self, i: int, value: Any) -> Any:
        """The pointer to the numbers of the i-th argument."""
        return self.context.make_array(self.signature.args[i])(self.context, self.builder, value).data

    def vector(self, pointer: Any, at: Any, lanes: int) -> Any:
        kind = ir.VectorType(ir.FloatType(), lanes)
        return self.builder.bitcast(self.builder.gep(pointer, [at]), kind.as_pointer())

    def load(self, pointer: Any, at: Any, lanes: int = LANES) -> Any:
        return self.builder.load(self.vector(pointer, at, lanes), align=4)

    def store(self, value: Any, pointer: Any, at: Any) -> None:
        self.builder.store(value, self.vector(pointer, at, value.type.count), align=4)

    def entry(self, pointer: Any, at: Any) -> Any:
        return self.builder.load(self.builder.gep(pointer, [at]))

    def splat(self, number: Any) -> Any:
        one = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)

    def more(self, total: Any, a: Any, b: Any) -> None:
        """total += a b, in one instruction where there is one."""
        product = self.builder.fmul(a, b, flags=("contract",))
        self.builder.store(self.builder.fadd(self.builder.load(total), product, flags=("contract",)), total)

    def room(self, most: int) -> int:
        """How many vectors of sums at a time stay in registers: `most` in the 32 of AVX-512. In the 16 of AVX2, of
        which a vector takes two, it is 6."""
        features = self.context.codegen().magic_tuple()[2]
        return most if "+avx512f" in features else 6

    def totals(self, count: int) -> list[Any]:
        """Vectors of sums, 0 from here on: LLVM keeps them in registers."""
        held = [cgutils.alloca_once(self.builder, _VECTOR) for _ in range(count)]
        for one in held:
            self.builder.store(_ZEROS, one)
        return held

    def shuffle(self, a: Any, b: Any, mask: Any) -> Any:
        kind = ir.VectorType(ir.IntType(32), len(mask))
        return self.builder.shuffle_vector(a, b, ir.Constant(kind, list(mask)))

    def interleave(self, rows: list[Any]) -> list[Any]:
        """The numbers of all rows, the first of each, the second of each, ..., in as many vectors."""
        if len(rows) == 1:
            return rows
        n = rows[0].type.count
        mixed = [i + n * j for i in range(n) for j in (0, 1)]
        both = zip(self.interleave(rows[::2]), self.interleave(rows[1::2]), strict=True)
        return [self.shuffle(a, b, half) for a, b in both for half in (mixed[:n], mixed[n:])]

    def deinterleave(self, vectors: list[Any]) -> list[Any]:
        """The rows again."""
        if len(vectors) == 1:
            return vectors
        n = vectors[0].type.count
        pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
        even = self.deinterleave([self.shuffle(a, b, range(0, 2 * n, 2)) for a, b in pairs])
        odd = self.deinterleave([self.shuffle(a, b, range(1, 2 * n, 2)) for a, b in pairs])
        return [row for both in zip(even, odd, strict=True) for row in both]

    def sums_of(self, vectors: list[Any]) -> Any:
        """The sums of 16 vectors as one."""
        run = LANES
        while len(vectors) > 1:  # the halves of every run of two vectors are added, those of the first in front
            half = len(vectors) // 2
            mask = [k + e for i in range(0, LANES, run) for e in (0, LANES) for k in range(i, i + run // 2)]
            both = [(vectors[i], vectors[i + half]) for i in range(half)]
            vectors = [
                self.builder.fadd(self.shuffle(a, b, mask), self.shuffle(a, b, [k + run // 2 for k in mask]))
                for a, b in both
            ]
            run //= 2
        return vectors[0]


@intrinsic
def weighed(context, width, src, first, last, tap, place, start, count, step, w, base, wide, out, target, apart, adds):
    """out[target + o * apart + j] is, or with `adds` gets more by, for o below width, 4, 8 or 16, the sum over i in
    first ... last and c below count of w[base + tap[i] * wide + c * width + o] src[start + place[i] + c * step + j]."""

    def generate(context, builder, signature, args):
        write = _Writer(context, builder, signature)
        src, tap, place, w, out = (write.data(i, args[i]) for i in (1, 4, 5, 9, 12))
        width, first, last, start, count, step, base, wide = (args[i] for i in (0, 2, 3, 6, 7, 8, 10, 11))
        target, apart, adds = args[13:]

        def sum_up(many: int) -> None:
            for r in runs(many, write.room(most=16)):
                sum_some(many, range(r.start, r.stop))

        def sum_some(many: int, some: range) -> None:
            rows = [builder.add(target, builder.mul(apart, apart.type(o))) for o in some]
            sums = write.totals(len(some))
            with cgutils.for_range_slice(builder, first, last, first.type(1), inc=True) as (i, _):
                at = cgutils.alloca_once(builder, first.type)
                weight = cgutils.alloca_once(builder, first.type)
                builder.store(builder.add(start, write.entry(place, i)), at)
                builder.store(builder.add(base, builder.mul(write.entry(tap, i), wide)), weight)
                with cgutils.for_range(builder, count):
                    x, k = write.load(src, builder.load(at)), builder.load(weight)
                    for o, total in zip(some, sums, strict=True):
                        write.more(total, x, write.splat(write.entry(w, builder.add(k, k.type(o)))))
                    builder.store(builder.add(builder.load(at), step), at)
                    builder.store(builder.add(k, k.type(many)), weight)
            with builder.if_then(builder.trunc(adds, ir.IntType(1))):
                for total, row in zip(sums, rows, strict=True):
                    builder.store(builder.fadd(builder.load(total), write.load(out, row)), total)
            for total, row in zip(sums, rows, strict=True):
                write.store(builder.load(total), out, row)

        _each_of(builder, width, (4, 8, 16), sum_up)
        return context.get_dummy_value()

    given = (_WHOLE, _FLOATS, _WHOLE, _WHOLE, _PLACES, _PLACES, _WHOLE, _WHOLE, _WHOLE, _FLOATS, _WHOLE, _WHOLE)
    return types.void(*given, _FLOATS, _WHOLE, _WHOLE, types.boolean), generate


@intrinsic
def dots(context, x, at_x, apart_x, d, at_d, place_x, place_d, first, last, out, target):
    """out[target + 4 o + c] gets more by the sum over i in first ... last and j of
    d[at_d + place_d[i] + 16 o + j] x[at_x + c * apart_x + place_x[i] + j], for o below 8 and c below 3."""

    def generate(context, builder, signature, args):
        write = _Writer(context, builder, signature)
        x, d, place_x, place_d, out = (write.data(i, args[i]) for i in (0, 3, 5, 6, 9))
        at_x, apart_x, at_d, first, last, target = (args[i] for i in (1, 2, 4, 7, 8, 10))
        rows_x = [builder.add(at_x, builder.mul(apart_x, apart_x.type(c))) for c in range(IN)]
        sums = write.totals(OUT * IN)
        for some in runs(OUT, write.room(most=OUT * IN) // IN):
            with cgutils.for_range_slice(builder, first, last, first.type(1), inc=True) as (i, _):
                px, pd = write.entry(place_x, i), builder.add(at_d, write.entry(place_d, i))
                seen = [write.load(x, builder.add(row, px)) for row in rows_x]
                for o in range(some.start, some.stop):
                    slope = write.load(d, builder.add(pd, pd.type(o * LANES)))
                    for c in range(IN):
                        write.more(sums[IN * o + c], slope, seen[c])
        found = [builder.load(total) for total in sums]
        for half in range(0, OUT, 4):
            of = [found[IN * o + c] if c < IN else _ZEROS for o in range(half, half + 4) for c in range(4)]
            place = builder.add(target, target.type(4 * half))
            write.store(builder.fadd(write.load(out, place), write.sums_of(of)), out, place)
        return context.get_dummy_value()

    given = (_FLOATS, _WHOLE, _WHOLE, _FLOATS, _WHOLE, _PLACES, _PLACES, _WHOLE, _WHOLE, _FLOATS, _WHOLE)
    return types.void(*given), generate


@intrinsic
def lanes(context, src, first, last, tap, place, w, base, wide, bias, shift, out, target):
    """out[target + j] is bias[shift + j] and the sum over i in first ... last of w[base + tap[i] * wide + j]
    src[place[i] + j], for j below 16: of 16 channels, each with a weight of its own."""

    def generate(context, builder, signature, args):
        write = _Writer(context, builder, signature)
        src, tap, place, w, bias, out = (write.data(i, args[i]) for i in (0, 3, 4, 5, 8, 10))
        first, last, base, wide, shift, target = (args[i] for i in (1, 2, 6, 7, 9, 11))
        total = cgutils.alloca_once(builder, _VECTOR)
        builder.store(write.load(bias, shift), total)
        with cgutils.for_range_slice(builder, first, last, first.type(1), inc=True) as (i, _):
            weight = write.load(w, builder.add(base, builder.mul(write.entry(tap, i), wide)))
            write.more(total, weight, write.load(src, write.entry(place, i)))
        write.store(builder.load(total), out, target)
        return context.get_dummy_value()

    given = (_FLOATS, _WHOLE, _WHOLE, _PLACES, _PLACES, _FLOATS, _WHOLE, _WHOLE, _FLOATS, _WHOLE, _FLOATS, _WHOLE)
    return types.void(*given), generate


@intrinsic
def lane_dots(context, src, first, last, tap, place, d, at, out, base, wide):
    """out[base + tap[i] * wide + j] gets more by d[at + j] src[place[i] + j], for i in first ... last, j below 16."""

    def generate(context, builder, signature, args):
        write = _Writer(context, builder, signature)
        src, tap, place, d, out = (write.data(i, args[i]) for i in (0, 3, 4, 5, 7))
        first, last, at, base, wide = (args[i] for i in (1, 2, 6, 8, 9))
        slope = write.load(d, at)
        with cgutils.for_range_slice(builder, first, last, first.type(1), inc=True) as (i, _):
            target = builder.add(base, builder.mul(write.entry(tap, i), wide))
            product = builder.fmul(slope, write.load(src, write.entry(place, i)), flags=("contract",))
            write.store(builder.fadd(write.load(out, target), product, flags=("contract",)), out, target)
        return context.get_dummy_value()

    given = (_FLOATS, _WHOLE, _WHOLE, _PLACES, _PLACES, _FLOATS, _WHOLE, _FLOATS, _WHOLE, _WHOLE)
    return types.void(*given), generate


def _each_of(builder: Any, n: Any, known: tuple[int, ...], write: Any) -> None:
    """write(k) for the k among those known that n is."""
    for many in known:
        with builder.if_then(builder.icmp_unsigned("==", n, n.type(many))):
            write(many)


def _side(columns: int) -> Any:
    @intrinsic
    def tile(context, x, at, apart, to, target, places, first, n):
        """`columns` numbers of x from `at` on, and so of n - 1 more images `apart`, to side by side: those of column j
        to target + places[first + j]; where n is below 16 those of all columns follow one another."""

        def generate(context, builder, signature, args):
            write = _Writer(context, builder, signature)
            x, to, places = (write.data(i, args[i]) for i in (0, 3, 5))
            at, apart, target, first, n = (args[i] for i in (1, 2, 4, 6, 7))

            def move(many: int) -> None:
                starts = [builder.add(at, builder.mul(apart, apart.type(i))) for i in range(many)]
                mixed = write.interleave([write.load(x, start, columns) for start in starts])
                lead = builder.add(target, write.entry(places, first))
                for i, vector in enumerate(_cut(write, mixed, many, columns)):
                    if many == LANES:
                        lead = builder.add(target, write.entry(places, builder.add(first, first.type(i))))
                        write.store(vector, to, lead)
                    else:
                        write.store(vector, to, builder.add(lead, lead.type(i * columns)))

            _each_of(builder, n, (1, 2, 4, 8, LANES), move)
            return context.get_dummy_value()

        given = (_FLOATS, _WHOLE, _WHOLE, _FLOATS, _WHOLE, _PLACES, _WHOLE, _WHOLE)
        return types.void(*given), generate

    return tile


def _cut(write: _Writer, mixed: list[Any], many: int, columns: int) -> list[Any]:
    """Vectors of `columns` numbers in vectors of `many`, where these are 16."""
    if many != LANES or columns == LANES:
        return mixed
    step = LANES // columns
    return [_joined(write, mixed[i : i + step]) for i in range(0, len(mixed), step)]


def _joined(write: _Writer, vectors: list[Any]) -> Any:
    while len(vectors) > 1:
        n = 2 * vectors[0].type.count
        vectors = [write.shuffle(a, b, range(n)) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def _part(columns: int) -> Any:
    @intrinsic
    def tile(context, of, source, places, first, n, y, at, apart, bias):
        """The other way round: `columns` numbers of each of n images, plus a bias, to y from `at` on, `apart`."""

        def generate(context, builder, signature, args):
            write = _Writer(context, builder, signature)
            of, places, y = (write.data(i, args[i]) for i in (0, 2, 5))
            source, first, n, at, apart, bias = (args[i] for i in (1, 3, 4, 6, 7, 8))

            def move(many: int) -> None:
                lead = builder.add(source, write.entry(places, first))
                if many == LANES:
                    leads = [
                        builder.add(source, write.entry(places, builder.add(first, first.type(i))))
                        for i in range(columns)
                    ]
                    whole = [write.load(of, lead) for lead in leads]
                    step = range(0, LANES, columns)
                    mixed = [write.shuffle(v, v, range(i, i + columns)) for v in whole for i in step]
                else:
                    mixed = [write.load(of, builder.add(lead, lead.type(i * columns)), columns) for i in range(many)]
                more = write.shuffle(write.splat(bias), write.splat(bias), range(columns))
                for i, row in enumerate(write.deinterleave(mixed)):
                    write.store(builder.fadd(row, more), y, builder.add(at, builder.mul(apart, apart.type(i))))

            _each_of(builder, n, (1, 2, 4, 8, LANES), move)
            return context.get_dummy_value()

        given = (_FLOATS, _WHOLE, _PLACES, _WHOLE, _WHOLE, _FLOATS, _WHOLE, _WHOLE, types.float32)
        return types.void(*given), generate

    return tile


side_4, side_8, side_16 = _side(4), _side(8), _side(16)
part_4, part_8, part_16 = _part(4), _part(8), _part(16)
