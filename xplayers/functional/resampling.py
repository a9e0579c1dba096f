"""Resampling: other sizes, other places, and channels traded for space.

Interpolation is separable: along each axis a linear map that gathers a few sources, each with its weight. The gradient
is the transposed map, a gathering too.
"""

import functools
import itertools
import math
import operator
import struct
from typing import NamedTuple

from xplayers.arrays import accumulator, array_namespace, device, index_add, like, total
from xplayers.errors import refusal

from .pair import accelerable, answer_of, follows_cache, wants
from .pooling import _adaptive_avg_pool_forward, _avg_pool_backward

__all__ = [
    "affine_grid",
    "affine_grid_backward",
    "affine_grid_forward",
    "channel_shuffle",
    "channel_shuffle_backward",
    "channel_shuffle_forward",
    "grid_sample",
    "grid_sample_backward",
    "grid_sample_forward",
    "interpolate",
    "interpolate_backward",
    "interpolate_forward",
    "pixel_shuffle",
    "pixel_shuffle_backward",
    "pixel_shuffle_forward",
    "pixel_unshuffle",
    "pixel_unshuffle_backward",
    "pixel_unshuffle_forward",
    "upsample",
    "upsample_backward",
    "upsample_bilinear",
    "upsample_bilinear_backward",
    "upsample_bilinear_forward",
    "upsample_forward",
    "upsample_nearest",
    "upsample_nearest_backward",
    "upsample_nearest_forward",
]

# -- linear maps along an axis ---------------------------------------------------------------------------------------


class Map(NamedTuple):
    """y[o] = sum over k of weights[k][o] * x[sources[k][o]] along an axis; no weights: one source each, as it is."""

    sources: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]


def _map_of(rows):
    """The map of rows of (source, weight), one row an output; short rows are filled up with weights of 0."""
    longest = max(1, *map(len, rows))
    full = [[*row, *[(row[0][0] if row else 0, 0.0)] * (longest - len(row))] for row in rows]
    sources, weights = (tuple(zip(*([pair[i] for pair in row] for row in full), strict=True)) for i in (0, 1))
    return Map(sources, () if longest == 1 and set(weights[0]) == {1.0} else weights)


def _transposed(rows, size):
    turned = [[] for _ in range(size)]
    for o, row in enumerate(rows):
        for source, weight in row:
            if weight:
                turned[source].append((o, weight))
    return turned


def _apply(t, axis, map):
    xp = array_namespace(t)
    y = None
    for k, sources in enumerate(map.sources):
        tap = xp.take(t, xp.asarray(sources, device=device(t)), axis=axis)
        if map.weights:
            tap = tap * xp.reshape(xp.asarray(map.weights[k], **like(t)), (-1, *(1,) * (-axis - 1)))
        y = tap if y is None else y + tap
    return y


@functools.lru_cache(maxsize=256)
def maps_of(mode, size, out, factor, align_corners, antialias, single):
    """The map of one axis from `size` to `out` elements, and its transpose."""
    if align_corners:
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    else:
        scale = 1.0 / factor if factor else size / out
    if antialias:
        rows = _antialiased(_FILTERS[mode], size, out, scale)
    elif mode in ("nearest", "nearest-exact"):
        rows = [[(min(_nearest(mode, o, scale, single), size - 1), 1.0)] for o in range(out)]
    else:
        row = _cubic if mode == "bicubic" else _linear
        rows = [row(scale * o if align_corners else scale * (o + 0.5) - 0.5, size) for o in range(out)]
    return _map_of(rows), _map_of(_transposed(rows, size))


def _nearest(mode, o, scale, single):
    """Rounded as torch does it, which decides where a place falls between two: in float32 (`single`), and at last
    always in float32."""
    r = _float32 if single else float
    at = r(r(r(scale) * (o + 0.5)) - 0.5) + 0.5 if mode == "nearest-exact" else r(scale) * o
    return math.floor(_float32(at))


def _float32(v):
    return struct.unpack("f", struct.pack("f", v))[0]


def _linear(at, size):
    at = max(at, 0.0)
    i = min(math.floor(at), size - 1)
    t = min(at - i, 1.0)
    return [(i, 1.0 - t), (min(i + 1, size - 1), t)]


def _cubic(at, size):
    i = math.floor(at)
    return [(min(max(i + k, 0), size - 1), _keys(at - i - k, -0.75)) for k in (-1, 0, 1, 2)]


def _keys(t, a):
    """The cubic convolution kernel of Keys, Cubic convolution interpolation for digital image processing (1981)."""
    t = abs(t)
    if t < 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0


def _lanczos(t):
    sinc = lambda v: math.sin(math.pi * v) / (math.pi * v) if v else 1.0  # noqa: E731
    return sinc(t) * sinc(t / 3) if abs(t) < 3 else 0.0


def _antialiased(filter, size, out, scale):
    """Rows over all sources under the filter, which is stretched where the image shrinks, as PIL does it."""
    reach, kernel = filter
    stretch = max(scale, 1.0)
    rows = []
    for o in range(out):
        centre = scale * (o + 0.5)
        first = max(int(centre - reach * stretch + 0.5), 0)
        last = min(int(centre + reach * stretch + 0.5), size)
        weights = [kernel((i - centre + 0.5) / stretch) for i in range(first, last)]
        rows.append([(first + i, w / sum(weights)) for i, w in enumerate(weights)])
    return rows


_FILTERS = {
    "bilinear": (1.0, lambda t: max(0.0, 1.0 - abs(t))),
    "bicubic": (2.0, lambda t: _keys(t, -0.5)),
    "lanczos": (3.0, _lanczos),
}
_RANKS = {"linear": 3, "bilinear": 4, "bicubic": 4, "lanczos": 4, "trilinear": 5}
_FREE = ("nearest", "nearest-exact", "area")  # of rank 3, 4 or 5, and without corners to align


def interpolated_sizes(where, shape, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias):
    """The sizes that interpolation makes, and the factor of each axis where one counts; refuses the rest as `where`."""
    n = len(shape) - 2
    if mode not in _RANKS and mode not in _FREE:
        modes = ", ".join((*_FREE, *_RANKS))
        raise refusal(where, "mode", repr(mode), f"one of {modes}", "pass mode='nearest'")
    ranks = (3, 4, 5) if mode in _FREE else (_RANKS[mode],)
    if len(shape) not in ranks:
        expected = f"{' or '.join(map(str, ranks))} axes for mode={mode!r}"
        mend = "pass x as (N, C, L), (N, C, H, W) or (N, C, D, H, W), and the mode of that many axes"
        raise refusal(where, "x", f"shape {shape}, {len(shape)}-d", expected, mend)
    if align_corners is not None and mode in _FREE:
        mend = "leave align_corners out"
        raise refusal(where, "align_corners", repr(align_corners), f"None for mode={mode!r}", mend)
    if antialias and mode not in _FILTERS:
        mend = "leave antialias out, or pass mode='bilinear'"
        raise refusal(where, "antialias", "True", f"False for mode={mode!r}", mend)
    if mode == "lanczos" and (align_corners or not antialias):
        got = f"align_corners={align_corners}, antialias={antialias}"
        raise refusal(where, "mode", f"'lanczos' with {got}", "antialias and no align_corners", "pass antialias=True")
    if (size is None) == (scale_factor is None):
        got = "None, as scale_factor" if size is None else f"{size}, beside scale_factor={scale_factor}"
        raise refusal(where, "size", got, "one of the two", "pass size= or scale_factor=, not both")
    name, given = ("size", size) if scale_factor is None else ("scale_factor", scale_factor)
    values = tuple(given) if isinstance(given, tuple | list) else (given,) * n
    if len(values) != n:
        raise refusal(where, name, repr(given), f"one number or {n} of them", f"pass {name}=2")
    if size is not None and recompute_scale_factor:
        mend = "leave recompute_scale_factor out"
        raise refusal(where, "recompute_scale_factor", "True", "None beside an explicit size", mend)
    factors = (None,) * n
    if size is None:
        outputs = tuple(int(length * f) for length, f in zip(shape[2:], values, strict=True))
        factors = factors if recompute_scale_factor or mode == "area" else values
        if mode.endswith("linear") or (
            mode == "nearest" and n == 2
        ):  # torch's rule: no change of size, no change at all
            factors = tuple(
                f if out != length else None for f, out, length in zip(factors, outputs, shape[2:], strict=True)
            )
    else:
        try:
            outputs = tuple(map(operator.index, values))
        except TypeError:
            outputs = ()
    if len(outputs) != n or min(outputs) < 1 or 0 in shape[2:]:
        expected = "whole positive sizes, of the input and of the output"
        raise refusal(where, name, f"{given!r} for x of shape {shape}", expected, f"pass another {name}")
    return outputs, factors


@accelerable
def interpolate_forward(
    x,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    """y[o] = sum over i of w[o, i] x[i] on each axis, w being the filter of `mode` around o's place among the inputs:
    scale * (o + 1/2) - 1/2, or scale * o for "nearest" and with `align_corners`.

    x (N, C, *sizes) floating with one to three sizes -> y (N, C, *outputs). Outputs are `size` or
    trunc(scale_factor * sizes); scale is 1 / scale_factor, or sizes / outputs where a size was given or
    `recompute_scale_factor` asks for it, or (sizes - 1) / (outputs - 1) with `align_corners`. Modes: "nearest",
    "nearest-exact", "area" (adaptive average pooling), "linear" (one axis), "bilinear", "bicubic" and "lanczos" (two),
    "trilinear" (three); `antialias` stretches the filters of two axes where the image shrinks.
    Errors: ValueError for a mode that does not fit, and for neither or both of size and scale_factor.
    Twin: torch.nn.functional.interpolate. Source: Keys, Cubic convolution interpolation (1981).
    """
    options = (size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    outputs, factors = interpolated_sizes("interpolate", x.shape, *options)
    if mode == "area":
        y, inner = _adaptive_avg_pool_forward(len(outputs), x, outputs)
        return y, (None, inner)
    xp = array_namespace(x)
    t = xp.astype(x, accumulator(x), copy=False)
    single = t.dtype == xp.float32
    parts = zip(x.shape[2:], outputs, factors, strict=True)
    maps = [maps_of(mode, size, out, factor, bool(align_corners), antialias, single) for size, out, factor in parts]
    for axis in range(-1, -len(maps) - 1, -1):
        t = _apply(t, axis, maps[axis][0])
    return xp.astype(t, x.dtype, copy=False), (maps, None)


@follows_cache
def interpolate_backward(dy, cache, *, wanted=None):
    """dy (N, C, *outputs) -> dx (N, C, *sizes): the gradient of `interpolate_forward`."""
    maps, inner = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    if maps is None:
        return _avg_pool_backward(dy, inner)
    xp = array_namespace(dy)
    d = xp.astype(dy, accumulator(dy), copy=False)
    for axis, (_, transposed) in enumerate(maps, -len(maps)):
        d = _apply(d, axis, transposed)
    return xp.astype(d, dy.dtype, copy=False)


interpolate = answer_of(interpolate_forward)


def upsample_forward(x, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """`interpolate_forward` under an older name. Twin: torch.nn.functional.upsample."""
    return interpolate_forward(x, size, scale_factor, mode, align_corners)


def upsample_nearest_forward(x, size=None, scale_factor=None):
    """`interpolate_forward` with mode="nearest". Twin: torch.nn.functional.upsample_nearest."""
    return interpolate_forward(x, size, scale_factor)


def upsample_bilinear_forward(x, size=None, scale_factor=None):
    """`interpolate_forward` with mode="bilinear", align_corners=True. Twin: torch.nn.functional.upsample_bilinear."""
    return interpolate_forward(x, size, scale_factor, "bilinear", True)


upsample_backward = upsample_nearest_backward = upsample_bilinear_backward = interpolate_backward
upsample = answer_of(upsample_forward)
upsample_nearest = answer_of(upsample_nearest_forward)
upsample_bilinear = answer_of(upsample_bilinear_forward)


# -- sampling at places ----------------------------------------------------------------------------------------------


def _inside(c, size, padding_mode, align_corners):
    """Places c brought into an axis of `size`, and the slope of that: None where nothing moves."""
    xp = array_namespace(c)
    if padding_mode == "zeros":
        return c, None
    slope = xp.ones_like(c)
    if padding_mode == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span == 0:
            return xp.zeros_like(c), xp.zeros_like(c)
        away = xp.abs(c - low)
        flips = xp.floor(away / span)
        odd = flips - 2.0 * xp.floor(flips / 2.0)  # 1 where an odd number of reflections turns the direction
        slope = xp.where(c < low, -slope, slope) * (1.0 - 2.0 * odd)
        rest = away - flips * span
        c = low + rest + odd * (span - 2.0 * rest)
    within = (c > 0) & (c < size - 1)
    return xp.clip(c, 0.0, size - 1.0), slope * xp.astype(within, c.dtype)


def _whole(c, size):
    """Places as integers; what is far outside or NaN comes to stand just outside."""
    xp = array_namespace(c)
    near = xp.clip(xp.where(c == c, c, -1.0), -1.0, float(size))
    return xp.astype(near, xp.arange(1, device=device(c)).dtype)


def _taps(g, size, mode, padding_mode, align_corners):
    """Along one axis, for places g in [-1, 1] of any shape: a list of (source, weight, d weight / d g)."""
    xp = array_namespace(g)
    stretch = (size - 1) / 2 if align_corners else size / 2
    c = (g + 1.0) * stretch - (0.0 if align_corners else 0.5)
    if mode == "bicubic":  # here the sources are brought inside, one by one
        i = xp.floor(c)
        t = c - i
        places = [_whole(_inside(i + k, size, padding_mode, align_corners)[0], size) for k in (-1.0, 0.0, 1.0, 2.0)]
        weights, slopes = _keys_weights(t, -0.75)
        return [(p, w, stretch * s) for p, w, s in zip(places, weights, slopes, strict=True)]
    c, slope = _inside(c, size, padding_mode, align_corners)
    if mode == "nearest":
        return [(_whole(xp.round(c), size), xp.ones_like(c), None)]
    slope = xp.full_like(c, stretch) if slope is None else stretch * slope
    i = xp.floor(c)
    t = c - i
    return [(_whole(i, size), 1.0 - t, -slope), (_whole(i + 1.0, size), t, slope)]


def _keys_weights(t, a):
    """The weights of the four neighbours at distances t + 1, t, 1 - t, 2 - t, and their derivatives by t."""
    near = lambda u: ((a + 2.0) * u - (a + 3.0)) * u * u + 1.0  # noqa: E731
    far = lambda u: (((u - 5.0) * u + 8.0) * u - 4.0) * a  # noqa: E731
    dnear = lambda u: (3.0 * (a + 2.0) * u - 2.0 * (a + 3.0)) * u  # noqa: E731
    dfar = lambda u: ((3.0 * u - 10.0) * u + 8.0) * a  # noqa: E731
    weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
    return weights, [dfar(t + 1.0), dnear(t), -dnear(1.0 - t), -dfar(2.0 - t)]


def _corners(x, grid, mode, padding_mode, align_corners):
    """For each combination of taps: the rows that it reads in x as `_rows` lays it out (N P,), and its axes' taps."""
    xp = array_namespace(x)
    sizes = x.shape[2:]
    n, p = x.shape[0], math.prod(grid.shape[1:-1])
    places = xp.reshape(grid, (n, p, len(sizes)))
    taps = [
        _taps(places[:, :, len(sizes) - 1 - a], size, mode, padding_mode, align_corners) for a, size in enumerate(sizes)
    ]
    first = xp.reshape(xp.arange(n, device=device(x)) * math.prod(sizes), (n, 1))
    for corner in itertools.product(*taps):
        at, inside = 0, None
        for (source, _, _), size in zip(corner, sizes, strict=True):
            here = (source >= 0) & (source < size)
            inside = here if inside is None else inside & here
            at = at * size + source
        yield xp.reshape(xp.where(inside, first + at, n * math.prod(sizes)), (-1,)), corner


def _rows(x):
    """x (N, C, *sizes) -> (N * prod(sizes) + 1, C): a row a place, the last one of zeros for what lies outside."""
    xp = array_namespace(x)
    rows = xp.reshape(xp.moveaxis(x, 1, -1), (x.shape[0] * math.prod(x.shape[2:]), x.shape[1]))
    return xp.concat([rows, xp.zeros((1, x.shape[1]), **like(x))])


def _product(factors):
    return functools.reduce(operator.mul, factors)


@accelerable
def grid_sample_forward(x, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """y[n, :, o] = x[n] at the place grid[n, o], given as (..., y, x) backwards from the last axis, -1 and 1 being the
    edges of x, or with `align_corners` the centres of its outermost elements.

    x (N, C, *sizes), grid (N, *outputs, 2 or 3), both floating -> y (N, C, *outputs). `mode`: "bilinear" (in volumes
    trilinear), "nearest" or "bicubic" (two axes only). `padding_mode`: beyond the edges are "zeros", the "border",
    or the "reflection" of x. Errors: ValueError for shapes or modes that do not fit.
    Twin: torch.nn.functional.grid_sample; None for align_corners is False. Source: Jaderberg, Simonyan, Zisserman,
    Kavukcuoglu, Spatial transformer networks (2015).
    """
    xp = array_namespace(x, grid)
    expect_sampling("grid_sample", x.shape, grid.shape, mode, padding_mode)
    rows, y = _rows(x), None
    for index, corner in _corners(x, grid, mode, padding_mode, align_corners):
        weight = xp.reshape(_product([w for _, w, _ in corner]), (-1, 1))
        part = xp.take(rows, index, axis=0) * weight  # (N P, C)
        y = part if y is None else y + part
    y = xp.reshape(y, (x.shape[0], *grid.shape[1:-1], x.shape[1]))
    return xp.moveaxis(y, -1, 1), (x, grid, mode, padding_mode, align_corners)


@follows_cache
def grid_sample_backward(dy, cache, *, wanted=None):
    """dy (N, C, *outputs) -> dx (N, C, *sizes), dgrid (N, *outputs, 2 or 3): the gradients of `grid_sample_forward`."""
    x, grid, mode, padding_mode, align_corners = cache
    want_x, want_grid = wants(wanted, 2)
    xp = array_namespace(dy, x)
    (n, c, *sizes), p = x.shape, math.prod(grid.shape[1:-1])
    d = xp.reshape(xp.moveaxis(dy, 1, -1), (n * p, c))
    rows = _rows(x) if want_grid else None
    drows = xp.zeros((n * math.prod(sizes) + 1, c), **like(x))
    dplaces = [xp.zeros((n, p), **like(grid)) for _ in sizes]
    for index, corner in _corners(x, grid, mode, padding_mode, align_corners):
        if want_x:
            weight = xp.reshape(_product([w for _, w, _ in corner]), (-1, 1))
            drows = index_add(drows, index, d * weight)
        if want_grid and mode != "nearest":
            along = xp.reshape(total(xp.take(rows, index, axis=0) * d, axis=-1), (n, p))
            for a in range(len(sizes)):
                slope = _product([s if b == a else w for b, (_, w, s) in enumerate(corner)])
                dplaces[a] = dplaces[a] + along * slope
    dx = dgrid = None
    if want_x:
        dx = xp.moveaxis(xp.reshape(drows[:-1, :], (n, *sizes, c)), -1, 1)
    if want_grid:
        dgrid = xp.reshape(xp.stack(dplaces[::-1], axis=-1), grid.shape)
    return dx, dgrid


def expect_sampling(where, shape, grid_shape, mode, padding_mode):
    """Refuses, in the name of `where`, what `grid_sample` cannot compute."""
    if len(shape) not in (4, 5):
        got, mend = f"shape {shape}, {len(shape)}-d", "pass x as (N, C, H, W) or (N, C, D, H, W)"
        raise refusal(where, "x", got, "4 or 5 axes", mend)
    axes = len(shape) - 2
    if len(grid_shape) != len(shape) or grid_shape[0] != shape[0] or grid_shape[-1] != axes:
        expected = f"shape ({shape[0]}, {'D, H, W' if axes == 3 else 'H, W'}, {axes})"
        raise refusal(where, "grid", f"shape {grid_shape}", expected, "pass a place of as many numbers as x has axes")
    modes = ("bilinear", "nearest", "bicubic") if axes == 2 else ("bilinear", "nearest")
    if mode not in modes:
        raise refusal(where, "mode", repr(mode), f"one of {', '.join(modes)}", "pass mode='bilinear'")
    if padding_mode not in ("zeros", "border", "reflection"):
        mend = "pass padding_mode='zeros'"
        raise refusal(where, "padding_mode", repr(padding_mode), "zeros, border or reflection", mend)
    if 0 in shape[2:]:
        raise refusal(where, "x", f"shape {shape}", "at least one element on each axis", "pass a larger x")


grid_sample = answer_of(grid_sample_forward)


def affine_grid_forward(theta, size, align_corners=None):
    """grid[n, o] = theta[n] (place of o, 1), places being as `grid_sample_forward` takes them.

    theta (N, 2, 3) floating and size (N, C, H, W), or (N, 3, 4) and (N, C, D, H, W) -> grid (N, H, W, 2) or
    (N, D, H, W, 3). Errors: ValueError for shapes that do not fit. Twin: torch.nn.functional.affine_grid; None for
    align_corners is False. Source: as `grid_sample_forward`.
    """
    xp = array_namespace(theta)
    outputs = tuple(size[2:])
    axes = len(outputs)
    if axes not in (2, 3) or tuple(theta.shape[1:]) != (axes, axes + 1) or min(size) < 1:
        expected = "theta (N, 2, 3) with size (N, C, H, W), or (N, 3, 4) with (N, C, D, H, W), all sizes positive"
        got = f"shape {theta.shape} with size {tuple(size)}"
        raise refusal("affine_grid", "theta", got, expected, "pass size=x.shape and one matrix a sample")
    base = []
    for a, out in reversed(list(enumerate(outputs))):
        if align_corners:
            places = [2 * i / (out - 1) - 1 if out > 1 else 0.0 for i in range(out)]
        else:
            places = [(2 * i + 1) / out - 1 for i in range(out)]
        places = xp.reshape(xp.asarray(places, **like(theta)), (out, *(1,) * (axes - 1 - a)))
        base.append(xp.broadcast_to(places, outputs))
    base = xp.reshape(xp.stack([*base, xp.ones(outputs, **like(theta))], axis=-1), (-1, axes + 1))  # (P, axes + 1)
    grid = xp.matmul(base, xp.matrix_transpose(theta))  # (N, P, axes)
    return xp.reshape(grid, (theta.shape[0], *outputs, axes)), (base,)


def affine_grid_backward(dy, cache, *, wanted=None):
    """dy, the shape of the grid -> dtheta (N, 2, 3) or (N, 3, 4): the gradient of `affine_grid_forward`."""
    (base,) = cache
    (want_theta,) = wants(wanted, 1)
    if not want_theta:
        return None
    xp = array_namespace(dy)
    d = xp.reshape(dy, (dy.shape[0], base.shape[0], dy.shape[-1]))  # (N, P, axes)
    return xp.matmul(xp.matrix_transpose(d), base)


affine_grid = answer_of(affine_grid_forward)


# -- channels and space ----------------------------------------------------------------------------------------------


def _to_space(x, r):
    xp = array_namespace(x)
    *lead, c, h, w = x.shape
    n = len(lead)
    t = xp.reshape(x, (*lead, c // r**2, r, r, h, w))
    t = xp.permute_dims(t, (*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return xp.reshape(t, (*lead, c // r**2, h * r, w * r))


def _to_channels(x, r):
    xp = array_namespace(x)
    *lead, c, h, w = x.shape
    n = len(lead)
    t = xp.reshape(x, (*lead, c, h // r, r, w // r, r))
    t = xp.permute_dims(t, (*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return xp.reshape(t, (*lead, c * r**2, h // r, w // r))


@accelerable
def pixel_shuffle_forward(x, upscale_factor):
    """y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w], r = upscale_factor.

    x (*, C r^2, H, W) -> y (*, C, H r, W r). Errors: ValueError where r^2 does not divide the channels.
    Twin: torch.nn.functional.pixel_shuffle. Source: Shi et al., Real-time single image and video super-resolution using
    an efficient sub-pixel convolutional neural network (2016).
    """
    expect_shuffling("pixel_shuffle", x.shape, upscale_factor, True)
    return _to_space(x, upscale_factor), (upscale_factor,)


@follows_cache
def pixel_shuffle_backward(dy, cache, *, wanted=None):
    """dy (*, C, H r, W r) -> dx (*, C r^2, H, W): the gradient of `pixel_shuffle_forward`."""
    (r,) = cache
    (want_x,) = wants(wanted, 1)
    return _to_channels(dy, r) if want_x else None


@accelerable
def pixel_unshuffle_forward(x, downscale_factor):
    """y[c r^2 + i r + j, h, w] = x[c, h r + i, w r + j], r = downscale_factor.

    x (*, C, H r, W r) -> y (*, C r^2, H, W). Errors: ValueError where r does not divide height and width.
    Twin: torch.nn.functional.pixel_unshuffle. Source: as `pixel_shuffle_forward`.
    """
    expect_shuffling("pixel_unshuffle", x.shape, downscale_factor, False)
    return _to_channels(x, downscale_factor), (downscale_factor,)


@follows_cache
def pixel_unshuffle_backward(dy, cache, *, wanted=None):
    """dy (*, C r^2, H, W) -> dx (*, C, H r, W r): the gradient of `pixel_unshuffle_forward`."""
    (r,) = cache
    (want_x,) = wants(wanted, 1)
    return _to_space(dy, r) if want_x else None


def expect_shuffling(where, shape, r, to_space):
    """Refuses, in the name of `where`, a factor r that does not divide what it must."""
    name = "upscale_factor" if to_space else "downscale_factor"
    if not isinstance(r, int) or r < 1:
        raise refusal(where, name, repr(r), "an integer of at least 1", f"pass {name}=2")
    if len(shape) < 3:
        raise refusal(where, "x", f"shape {shape}, {len(shape)}-d", "shape (*, C, H, W)", "add the missing axes")
    if shape[-3] % r**2 if to_space else shape[-2] % r or shape[-1] % r:
        expected = f"channels that {r**2} divides" if to_space else f"a height and a width that {r} divides"
        raise refusal(where, "x", f"shape {shape}", expected, f"pass another x or another {name}")


def channel_shuffle_forward(x, groups):
    """y[:, c groups + g] = x[:, g (C / groups) + c]: channel c of each group in turn.

    x (N, C, *) -> y (N, C, *). Errors: ValueError where groups does not divide C.
    Twin: torch.nn.functional.channel_shuffle. Source: Zhang, Zhou, Lin, Sun, ShuffleNet (2018).
    """
    expect_groups("channel_shuffle", x.shape, groups)
    return _deal(x, groups), (groups,)


def channel_shuffle_backward(dy, cache, *, wanted=None):
    """dy (N, C, *) -> dx (N, C, *): the gradient of `channel_shuffle_forward`."""
    (groups,) = cache
    (want_x,) = wants(wanted, 1)
    return _deal(dy, dy.shape[1] // groups) if want_x else None


def _deal(x, groups):
    xp = array_namespace(x)
    n, c, *rest = x.shape
    t = xp.reshape(x, (n, groups, c // groups, *rest))
    return xp.reshape(xp.permute_dims(t, (0, 2, 1, *range(3, t.ndim))), x.shape)


def expect_groups(where, shape, groups):
    """Refuses, in the name of `where`, groups that do not divide the channels."""
    if not isinstance(groups, int) or groups < 1:
        raise refusal(where, "groups", repr(groups), "an integer of at least 1", "pass groups=2")
    if len(shape) < 3:
        raise refusal(where, "x", f"shape {shape}, {len(shape)}-d", "shape (N, C, *)", "add the missing axes")
    if shape[1] % groups:
        mend = "pass another x or another number of groups"
        raise refusal(where, "x", f"shape {shape}", f"channels that {groups} divides", mend)


pixel_shuffle = answer_of(pixel_shuffle_forward)
pixel_unshuffle = answer_of(pixel_unshuffle_forward)
channel_shuffle = answer_of(channel_shuffle_forward)
