"""Convolution, transposed convolution, unfold and fold: 1, 2 and 3 dimensions are one mathematics here.

Three sums carry all of it: `_correlate` (y from x and the weight), `_scatter` (its adjoint in x) and `_weight_gradient`
(its adjoint in the weight). A convolution's forward is the first and its backward the other two; a transposed
convolution's forward is the second, its backward the first and the third.

Each is a product of two matrices in which the columns of x stand as (C, *kernel, *positions), for as many images at a
time as keep them in the cache of a CPU; they are made anew in the backward, so that a cache holds inputs alone. With a
stride of 1 along the first of the axes only its neighbours along the others are copied: the batch stands behind that
axis, so that a shift along it is a run of the same columns, and the product is taken once for every such shift.
"""

import math

from xplayers.arrays import add_windows, array_namespace, blocks, like, put_at, total, window_counts, windows
from xplayers.errors import refusal

from .padding import constant_pad
from .pair import accelerable, answer_of, follows_cache, wants
from .pooling import n_tuple

__all__ = [
    "conv1d",
    "conv1d_backward",
    "conv1d_forward",
    "conv2d",
    "conv2d_backward",
    "conv2d_forward",
    "conv3d",
    "conv3d_backward",
    "conv3d_forward",
    "conv_tbc",
    "conv_tbc_backward",
    "conv_tbc_forward",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose1d_forward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose2d_forward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
    "conv_transpose3d_forward",
    "fold",
    "fold_backward",
    "fold_forward",
    "unfold",
    "unfold_backward",
    "unfold_forward",
]

_WORTH_A_SHIFT = 32  # rows of columns from which a product for each shift is as quick as one for all


@accelerable
def conv1d_forward(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """`conv2d_forward` in one dimension: x (N, C, L) or (C, L), weight (O, C / groups, K) -> y (N, O, L') or (O, L').

    Twin: torch.nn.functional.conv1d.
    """
    return conv_forward_by(SUMS, 1, x, weight, bias, stride, padding, dilation, groups)


@follows_cache
def conv1d_backward(dy, cache, *, wanted=None):
    """dy (N, O, L') -> dx (N, C, L), dweight (O, C / groups, K), dbias (O,): the gradients of `conv1d_forward`."""
    return conv_backward_by(SUMS, dy, cache, wanted)


@accelerable
def conv2d_forward(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """y[n, o, p] = bias[o] + sum over c, k of weight[o, c, k] x[n, c, p * stride - padding + k * dilation], where x
    counts as 0 outside; with groups, a group of outputs sees its own group of C / groups channels alone.

    x (N, C, H, W) or (C, H, W), weight (O, C / groups, KH, KW), bias (O,) -> y (N, O, H', W') or (O, H', W') in the
    dtype of x, H' = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1. padding: numbers, 'valid' (none) or 'same'
    (H' = H, the odd one behind; stride 1 alone).
    Errors: another rank, channels that do not fit weight and groups, a kernel larger than the padded x, a stride or
    dilation below 1, a negative padding. Twin: torch.nn.functional.conv2d.
    Source: LeCun et al., Gradient-based learning applied to document recognition (1998). As a matrix product:
    Chellapilla et al., High performance convolutional neural networks for document processing (2006).
    """
    return conv_forward_by(SUMS, 2, x, weight, bias, stride, padding, dilation, groups)


@follows_cache
def conv2d_backward(dy, cache, *, wanted=None):
    """dy (N, O, H', W') -> dx (N, C, H, W), dweight (O, C / groups, KH, KW), dbias (O,): the gradients of
    `conv2d_forward`."""
    return conv_backward_by(SUMS, dy, cache, wanted)


@accelerable
def conv3d_forward(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """`conv2d_forward` in three dimensions: x (N, C, D, H, W) or (C, D, H, W), weight (O, C / groups, KD, KH, KW)
    -> y (N, O, D', H', W') or (O, D', H', W').

    Twin: torch.nn.functional.conv3d.
    """
    return conv_forward_by(SUMS, 3, x, weight, bias, stride, padding, dilation, groups)


@follows_cache
def conv3d_backward(dy, cache, *, wanted=None):
    """dy (N, O, D', H', W') -> dx (N, C, D, H, W), dweight (O, C / groups, KD, KH, KW), dbias (O,): the gradients of
    `conv3d_forward`."""
    return conv_backward_by(SUMS, dy, cache, wanted)


@accelerable
def conv_transpose1d_forward(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """`conv_transpose2d_forward` in one dimension: x (N, C, L) or (C, L), weight (C, O / groups, K)
    -> y (N, O, L') or (O, L').

    Twin: torch.nn.functional.conv_transpose1d.
    """
    return conv_transpose_forward_by(SUMS, 1, x, weight, bias, stride, padding, output_padding, groups, dilation)


@follows_cache
def conv_transpose1d_backward(dy, cache, *, wanted=None):
    """dy (N, O, L') -> dx (N, C, L), dweight (C, O / groups, K), dbias (O,): the gradients of
    `conv_transpose1d_forward`."""
    return conv_transpose_backward_by(SUMS, dy, cache, wanted)


@accelerable
def conv_transpose2d_forward(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """y[n, o, q] = bias[o] + sum of weight[c, o, k] x[n, c, p] over c and all p, k with q = p * stride - padding +
    k * dilation: the adjoint of `conv2d_forward` in its x, with the same weight.

    x (N, C, H, W) or (C, H, W), weight (C, O / groups, KH, KW), bias (O,) -> y (N, O, H', W') or (O, H', W') in the
    dtype of x, H' = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.
    Errors: those of `conv2d_forward`, an output_padding that is neither below the stride nor below the dilation,
    nothing left of y. Twin: torch.nn.functional.conv_transpose2d.
    Source: Dumoulin, Visin, A guide to convolution arithmetic for deep learning (2016).
    """
    return conv_transpose_forward_by(SUMS, 2, x, weight, bias, stride, padding, output_padding, groups, dilation)


@follows_cache
def conv_transpose2d_backward(dy, cache, *, wanted=None):
    """dy (N, O, H', W') -> dx (N, C, H, W), dweight (C, O / groups, KH, KW), dbias (O,): the gradients of
    `conv_transpose2d_forward`."""
    return conv_transpose_backward_by(SUMS, dy, cache, wanted)


@accelerable
def conv_transpose3d_forward(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """`conv_transpose2d_forward` in three dimensions: x (N, C, D, H, W) or (C, D, H, W), weight (C, O / groups, KD, KH,
    KW) -> y (N, O, D', H', W') or (O, D', H', W').

    Twin: torch.nn.functional.conv_transpose3d.
    """
    return conv_transpose_forward_by(SUMS, 3, x, weight, bias, stride, padding, output_padding, groups, dilation)


@follows_cache
def conv_transpose3d_backward(dy, cache, *, wanted=None):
    """dy (N, O, D', H', W') -> dx (N, C, D, H, W), dweight (C, O / groups, KD, KH, KW), dbias (O,): the gradients of
    `conv_transpose3d_forward`."""
    return conv_transpose_backward_by(SUMS, dy, cache, wanted)


def conv_tbc_forward(x, weight, bias, pad=0):
    """`conv1d_forward` with the axes in another order: x (T, N, C), weight (K, C, O), bias (O,) -> y (T', N, O), with
    `pad` zeros before and behind along T.

    Twin: torch.nn.functional.conv_tbc.
    """
    xp = array_namespace(x, weight, bias)
    if x.ndim != 3 or weight.ndim != 3:
        got = f"shape {x.shape} with weight {weight.shape}"
        raise refusal("conv_tbc", "x", got, "shapes (T, N, C) and (K, C, O)", "permute the axes of x and weight")
    x, weight = xp.permute_dims(x, (1, 2, 0)), xp.permute_dims(weight, (2, 1, 0))  # (N, C, T) and (O, C, K)
    y, cache = conv1d_forward(x, weight, bias, 1, pad)
    return xp.permute_dims(y, (2, 0, 1)), (cache,)


def conv_tbc_backward(dy, cache, *, wanted=None):
    """dy (T', N, O) -> dx (T, N, C), dweight (K, C, O), dbias (O,): the gradients of `conv_tbc_forward`."""
    xp = array_namespace(dy)
    dx, dweight, dbias = conv1d_backward(xp.permute_dims(dy, (1, 2, 0)), cache[0], wanted=wanted)
    dx = None if dx is None else xp.permute_dims(dx, (2, 0, 1))
    return dx, (None if dweight is None else xp.permute_dims(dweight, (2, 1, 0))), dbias


def unfold_forward(x, kernel_size, dilation=1, padding=0, stride=1):
    """y[n, (c, k), l] = x[n, c, p(l) * stride - padding + k * dilation]: the windows of x as columns, 0 outside.

    x (N, C, H, W) or (C, H, W) -> y (N, C * KH * KW, L) or (C * KH * KW, L), L the number of windows, row by row.
    Errors: another rank, a kernel larger than the padded x, a kernel, stride or dilation below 1, a negative padding.
    Twin: torch.nn.functional.unfold. Source: im2col, as in `conv2d_forward`.
    """
    geometry = window_geometry("unfold", kernel_size, dilation, padding, stride)
    if x.ndim not in (3, 4):
        raise _wrong_rank("unfold", x, 2)
    fitting_counts("unfold", "x", x.shape[-2:], *geometry)
    y = _unfold(x, *geometry)
    return y, (x.shape[-2:], geometry)


def unfold_backward(dy, cache, *, wanted=None):
    """dy (N, C * KH * KW, L) -> dx (N, C, H, W): the gradient of `unfold_forward`."""
    sizes, geometry = cache
    (want_x,) = wants(wanted, 1)
    return _fold(dy, sizes, *geometry) if want_x else None


def fold_forward(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """y[n, c, q] = sum of x[n, (c, k), l] over all k, l with q = p(l) * stride - padding + k * dilation: the adjoint of
    `unfold_forward`, overlapping windows add up.

    x (N, C * KH * KW, L) or (C * KH * KW, L) -> y (N, C, *output_size) or (C, *output_size).
    Errors: another rank, rows that are no multiple of the kernel's, L other than the number of windows in output_size.
    Twin: torch.nn.functional.fold. Source: col2im, as in `conv2d_forward`.
    """
    sizes = n_tuple("fold", "output_size", output_size, 2, 1)
    geometry = window_geometry("fold", kernel_size, dilation, padding, stride)
    if x.ndim not in (2, 3):
        expected = "shape (N, C * KH * KW, L) or (C * KH * KW, L)"
        raise refusal("fold", "x", f"shape {x.shape}, {x.ndim}-d", expected, "reshape x")
    expect_columns("fold", x, geometry[0], fitting_counts("fold", "output_size", sizes, *geometry))
    return _fold(x, sizes, *geometry), (geometry,)


def fold_backward(dy, cache, *, wanted=None):
    """dy (N, C, *output_size) -> dx (N, C * KH * KW, L): the gradient of `fold_forward`."""
    (geometry,) = cache
    (want_x,) = wants(wanted, 1)
    return _unfold(dy, *geometry) if want_x else None


conv1d, conv2d, conv3d = answer_of(conv1d_forward), answer_of(conv2d_forward), answer_of(conv3d_forward)
conv_tbc = answer_of(conv_tbc_forward)
conv_transpose1d = answer_of(conv_transpose1d_forward)
conv_transpose2d = answer_of(conv_transpose2d_forward)
conv_transpose3d = answer_of(conv_transpose3d_forward)
fold, unfold = answer_of(fold_forward), answer_of(unfold_forward)


# -- the pairs in n dimensions, by the three sums or by other ones that take the same arguments --


def conv_forward_by(sums, n, x, weight, bias, stride, padding, dilation, groups):
    name = f"conv{n}d"
    _check_weight(name, n, x, weight, bias, groups, weight.shape[1] * groups if weight.ndim > 1 else 0, weight.shape[0])
    stride, dilation = n_tuple(name, "stride", stride, n, 1), n_tuple(name, "dilation", dilation, n, 1)
    kernel = weight.shape[2:]
    geometry = (stride, padding_pairs(name, padding, kernel, stride, dilation), dilation, groups)
    fitting_counts(name, "x", x.shape[-n:], kernel, *geometry[:3])
    batched = x.ndim == n + 2
    y = sums.correlate(x if batched else x[None, ...], weight, bias, *geometry)
    return (y if batched else y[0, ...]), (x, weight, bias is not None, geometry)


def conv_backward_by(sums, dy, cache, wanted):
    x, weight, has_bias, geometry = cache
    want_x, want_weight, want_bias = wants(wanted, 3)
    batched = x.ndim == weight.ndim
    dx = dweight = dbias = None
    if not batched:
        x, dy = x[None, ...], dy[None, ...]
    if want_x:
        dx = sums.scatter(dy, weight, None, x.shape[2:], *geometry)
        dx = dx if batched else dx[0, ...]
    if want_weight:
        dweight = sums.weight_gradient(x, dy, weight.shape, *geometry)
    if want_bias and has_bias:
        dbias = _bias_gradient(dy)
    return dx, dweight, dbias


def conv_transpose_forward_by(sums, n, x, weight, bias, stride, padding, output_padding, groups, dilation):
    name = f"conv_transpose{n}d"
    _check_weight(name, n, x, weight, bias, groups, weight.shape[0], weight.shape[1] * groups if weight.ndim > 1 else 0)
    stride, dilation = n_tuple(name, "stride", stride, n, 1), n_tuple(name, "dilation", dilation, n, 1)
    padding, extra = n_tuple(name, "padding", padding, n, 0), n_tuple(name, "output_padding", output_padding, n, 0)
    sizes = output_sizes(name, x.shape[-n:], weight.shape[2:], stride, padding, dilation, extra)
    # Behind, the padding is less by what the output has more: as many windows fit into the output as x has elements.
    geometry = (stride, tuple((p, p - e) for p, e in zip(padding, extra, strict=True)), dilation, groups)
    batched = x.ndim == n + 2
    y = sums.scatter(x if batched else x[None, ...], weight, bias, sizes, *geometry)
    return (y if batched else y[0, ...]), (x, weight, bias is not None, geometry)


def conv_transpose_backward_by(sums, dy, cache, wanted):
    x, weight, has_bias, geometry = cache
    want_x, want_weight, want_bias = wants(wanted, 3)
    batched = x.ndim == weight.ndim
    dx = dweight = dbias = None
    if not batched:
        x, dy = x[None, ...], dy[None, ...]
    if want_x:
        dx = sums.correlate(dy, weight, None, *geometry)
        dx = dx if batched else dx[0, ...]
    if want_weight:
        dweight = sums.weight_gradient(dy, x, weight.shape, *geometry)
    if want_bias and has_bias:
        dbias = _bias_gradient(dy)
    return dx, dweight, dbias


# -- the three sums --


def _correlate(x, weight, bias, stride, pairs, dilation, groups):
    """x (N, C, *sizes), weight (O, C / groups, *kernel), bias (O,) or None -> y (N, O, *counts)."""
    xp = array_namespace(x, weight, bias)
    (n, c), (n_out, c_in, *kernel) = x.shape[:2], weight.shape
    rows = _rows(weight.shape, stride)
    w = xp.moveaxis(weight, 2, 0) if rows else weight[None, ...]  # (shifts, O, C / groups, *kernel[rows:])
    w = xp.reshape(w, (w.shape[0], *_grouped(n_out, groups), c_in * math.prod(kernel[rows:])))
    padded = _padded(x.shape[2:], pairs)
    counts = window_counts(padded, kernel, stride, dilation)
    y = xp.empty((n, n_out, *counts), **like(x))
    for part in blocks(x, n, c * math.prod((*kernel[rows:], *padded[:rows], *counts[rows:]))):
        columns = _columns(x[part, ...], kernel, stride, pairs, dilation, groups, rows)
        t = None  # (O, positions)
        for i, run in enumerate(_runs(part, kernel, dilation, counts, rows)):
            product = xp.matmul(w[i, ...], columns[..., run])
            if t is None:
                t = product
            else:
                t += product
        t = xp.reshape(t, (n_out, *counts[:rows], part.stop - part.start, *counts[rows:]))
        if bias is not None:
            t += xp.reshape(bias, (n_out, *(1,) * (t.ndim - 1)))
        y = put_at(y, (part, ...), xp.moveaxis(t, 1 + rows, 0))
    return y


def _scatter(dy, weight, bias, sizes, stride, pairs, dilation, groups):
    """dy (N, O, *counts), weight (O, C / groups, *kernel), bias (C,) or None -> dx (N, C, *sizes)."""
    xp = array_namespace(dy, weight, bias)
    (n, n_out, *counts), (_, c_in, *kernel) = dy.shape, weight.shape
    c = c_in * groups
    if all(s == 1 for s in stride) and n_out <= 2 * c:  # gathering from dy is quicker than adding into dx
        spans = zip(sizes, counts, kernel, pairs, dilation, strict=True)
        back = [(d * (k - 1) - a, size - count + a) for size, count, k, (a, _), d in spans]
        return _correlate(dy, _turned(weight, groups), bias, stride, back, dilation, groups)
    w = xp.matrix_transpose(xp.reshape(weight, (*_grouped(n_out, groups), c_in * math.prod(kernel))))
    padded = _padded(sizes, pairs)
    dx = xp.empty((n, c, *sizes), **like(dy))
    for part in blocks(dy, n, c * math.prod((*kernel, *counts))):
        d = _positions(dy[part, ...], groups, 0)  # (O, positions)
        columns = xp.matmul(w, d) if n_out > groups else w * d  # (C * kernel, positions)
        run = part.stop - part.start
        columns = xp.reshape(columns, (c, 1, *kernel, run, *counts))
        t = add_windows(columns, (run, *padded), (1, *stride), (1, *dilation))  # (C, n, *padded)
        t = constant_pad(t, [(0, 0), (0, 0), *((-a, -b) for a, b in pairs)])
        if bias is not None:
            t = t + xp.reshape(bias, (c, *(1,) * (t.ndim - 1)))
        dx = put_at(dx, (part, ...), xp.moveaxis(t, 1, 0))
    return dx


def _weight_gradient(x, dy, shape, stride, pairs, dilation, groups):
    """x (N, C, *sizes), dy (N, O, *counts) -> dweight of shape (O, C / groups, *kernel)."""
    xp = array_namespace(x, dy)
    (n, c), (n_out, c_in, *kernel), counts = x.shape[:2], shape, dy.shape[2:]
    rows = _rows(shape, stride)
    padded = _padded(x.shape[2:], pairs)
    dw = None  # for each shift (O, C / groups * kernel[rows:])
    for part in blocks(x, n, c * math.prod((*kernel[rows:], *padded[:rows], *counts[rows:]))):
        columns = _columns(x[part, ...], kernel, stride, pairs, dilation, groups, rows)
        d = _positions(dy[part, ...], groups, rows)
        runs = _runs(part, kernel, dilation, counts, rows)
        products = [xp.matmul(d, xp.matrix_transpose(columns[..., run])) for run in runs]
        dw = [a + b for a, b in zip(dw, products, strict=True)] if dw else products
    if dw is None:
        return xp.zeros(shape, **like(x))
    dw = [xp.reshape(g, (n_out, c_in, *kernel[rows:])) for g in dw]
    return xp.stack(dw, axis=2) if rows else dw[0]


def _bias_gradient(dy):
    """dy (N, O, *counts) -> (O,)"""
    xp = array_namespace(dy)
    n, n_out, *counts = dy.shape
    return total(total(xp.reshape(dy, (n, n_out, math.prod(counts))), axis=2), axis=0)


class SUMS:
    """The three of this module."""

    correlate = staticmethod(lambda *arguments: _correlate(*arguments))
    scatter = staticmethod(lambda *arguments: _scatter(*arguments))
    weight_gradient = staticmethod(lambda *arguments: _weight_gradient(*arguments))


# -- how arrays lie in the three sums --


def _rows(shape, stride):
    """How many of the leading sizes are shifted along instead of copied: 1 or 0."""
    _, c_in, *kernel = shape
    worth = len(kernel) > 1 and stride[0] == 1 < kernel[0]
    return int(worth and c_in * math.prod(kernel[1:]) >= _WORTH_A_SHIFT)


def _runs(part, kernel, dilation, counts, rows):
    """Which columns each shift along the leading size takes: all of them where there are none."""
    if not rows:
        return [slice(None)]
    step = (part.stop - part.start) * math.prod(counts[1:])
    starts = (i * dilation[0] * step for i in range(kernel[0]))
    return [slice(start, start + counts[0] * step) for start in starts]


def _columns(x, kernel, stride, pairs, dilation, groups, rows):
    """x (n, C, *sizes) -> (C * kernel[rows:], padded[:rows] * n * counts[rows:]), with groups (groups, ..., ...)."""
    xp = array_namespace(x)
    x = xp.moveaxis(constant_pad(x, [(0, 0), (0, 0), *pairs]), 0, 1 + rows)  # (C, *padded[:rows], n, *padded[rows:])
    ones = (1,) * (rows + 1)
    columns = windows(x, (*ones, *kernel[rows:]), (*ones, *stride[rows:]), (*ones, *dilation[rows:]))
    depth = x.shape[0] * math.prod(kernel[rows:])
    return xp.reshape(columns, (*_grouped(depth, groups), math.prod(columns.shape) // max(depth, 1)))


def _positions(dy, groups, rows):
    """dy (n, O, *counts) -> (O, counts[:rows] * n * counts[rows:]), with groups (groups, O / groups, ...)."""
    n, n_out, *counts = dy.shape
    xp = array_namespace(dy)
    return xp.reshape(xp.moveaxis(dy, 0, 1 + rows), (*_grouped(n_out, groups), n * math.prod(counts)))


def _grouped(c, groups):
    """One axis of channels, parted in two where there are groups: a product of plain matrices is the quickest."""
    return (c,) if groups == 1 else (groups, c // groups)


def _turned(weight, groups):
    """weight (O, C / groups, *kernel) -> (C, O / groups, *kernel), each kernel back to front."""
    xp = array_namespace(weight)
    n_out, c_in, *kernel = weight.shape
    w = xp.reshape(weight, (groups, n_out // groups, c_in, *kernel))
    w = xp.reshape(xp.moveaxis(w, 1, 2), (groups * c_in, n_out // groups, *kernel))
    return xp.asarray(xp.flip(w, axis=tuple(range(2, w.ndim))), copy=True)  # BLAS takes no negative strides


def _padded(sizes, pairs):
    return tuple(size + a + b for size, (a, b) in zip(sizes, pairs, strict=True))


def _unfold(x, kernel, stride, pairs, dilation):
    xp = array_namespace(x)
    lead = x.shape[: -len(kernel)]  # (N, C) or (C,)
    y = windows(constant_pad(x, [(0, 0)] * len(lead) + pairs), kernel, stride, dilation)
    counts = y.shape[-len(kernel) :]
    return xp.reshape(y, (*lead[:-1], lead[-1] * math.prod(kernel), math.prod(counts)))


def _fold(y, sizes, kernel, stride, pairs, dilation):
    xp = array_namespace(y)
    padded = _padded(sizes, pairs)
    counts = window_counts(padded, kernel, stride, dilation)
    lead = (*y.shape[:-2], y.shape[-2] // math.prod(kernel))  # (N, C) or (C,)
    x = add_windows(xp.reshape(y, (*lead, *kernel, *counts)), padded, stride, dilation)
    return constant_pad(x, [(0, 0)] * len(lead) + [(-a, -b) for a, b in pairs])


# -- arguments --


def padding_pairs(where, padding, kernel, stride, dilation):
    """padding -> what is added before and behind along each size."""
    if not isinstance(padding, str):
        return tuple((p, p) for p in n_tuple(where, "padding", padding, len(kernel), 0))
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding != "same":
        raise refusal(where, "padding", repr(padding), "'same', 'valid' or integers", "pass padding='same'")
    if any(s != 1 for s in stride):
        raise refusal(where, "padding", f"'same' with stride {stride}", "a stride of 1", "pass the padding in numbers")
    return tuple((d * (k - 1) // 2, -(-d * (k - 1) // 2)) for k, d in zip(kernel, dilation, strict=True))


def window_geometry(where, kernel_size, dilation, padding, stride):
    kernel = n_tuple(where, "kernel_size", kernel_size, 2, 1)
    pairs = [(p, p) for p in n_tuple(where, "padding", padding, 2, 0)]
    return kernel, n_tuple(where, "stride", stride, 2, 1), pairs, n_tuple(where, "dilation", dilation, 2, 1)


def fitting_counts(where, argument, sizes, kernel, stride, pairs, dilation):
    """The number of windows along each size; refused where there is none."""
    padded = _padded(sizes, pairs)
    counts = window_counts(padded, kernel, stride, dilation)
    if 0 in counts:
        reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        got = f"sizes {tuple(sizes)}, with padding {padded}"
        raise refusal(
            where, argument, got, f"at least {reach}, the reach of the kernel", "pad more, or pass a larger x"
        )
    return counts


def expect_columns(where, x, kernel, counts):
    """Refuses columns x (*, C * kernel, L) that are not those of `counts` windows."""
    if x.shape[-2] % math.prod(kernel):
        expected = f"a multiple of {math.prod(kernel)} rows, the size of the kernel {kernel}"
        raise refusal(where, "x", f"shape {x.shape}, {x.shape[-2]} rows", expected, "pass the kernel_size of unfold")
    if x.shape[-1] != math.prod(counts):
        expected = f"{math.prod(counts)} columns, for {counts} windows"
        raise refusal(where, "x", f"shape {x.shape}, {x.shape[-1]} columns", expected, "pass the arguments of unfold")


def output_sizes(where, sizes, kernel, stride, padding, dilation, extra):
    """The sizes of a transposed convolution's output; `extra` is its output_padding."""
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        expected = f"less than the stride {stride} or the dilation {dilation}"
        raise refusal(where, "output_padding", f"{extra}", expected, "pass less, or pad the answer")
    spans = zip(sizes, kernel, stride, padding, dilation, extra, strict=True)
    out = tuple((c - 1) * s - 2 * p + d * (k - 1) + e + 1 for c, k, s, p, d, e in spans)
    if min(out) < 1 or 0 in sizes:
        raise refusal(where, "x", f"sizes {tuple(sizes)}", f"an output of at least 1, not {out}", "pass a larger x")
    return out


def _wrong_rank(name, x, n):
    sizes = ("L", "H, W", "D, H, W")[n - 1]
    mend = "add the axis of the channels, as in x[None, ...]" if x.ndim == n else "reshape x"
    return refusal(name, "x", f"shape {x.shape}, {x.ndim}-d", f"shape (N, C, {sizes}) or (C, {sizes})", mend)


def _check_weight(name, n, x, weight, bias, groups, c, n_out):
    """x, weight and bias must fit; the weight stands for c channels in and n_out out."""
    if x.ndim not in (n + 1, n + 2):
        raise _wrong_rank(name, x, n)
    if weight.ndim != n + 2 or 0 in (weight.shape[0], *weight.shape[2:]):
        got, expected = f"shape {weight.shape}", f"{n + 2} axes, none of them of 0"
        raise refusal(
            name, "weight", got, expected, "pass (out, in / groups, *kernel), transposed (in, out / groups, *kernel)"
        )
    if not isinstance(groups, int) or groups < 1 or weight.shape[0] % groups:
        expected = f"a divisor of {weight.shape[0]}, the first axis of weight"
        raise refusal(name, "groups", f"{groups!r}", expected, "pass groups=1, or another weight")
    if x.shape[-n - 1] != c:
        got, mend = f"shape {x.shape}, {x.shape[-n - 1]} channels", f"pass x with {c} channels, or another weight"
        raise refusal(name, "x", got, f"{c} channels for weight {weight.shape} with groups={groups}", mend)
    if bias is not None and bias.shape != (n_out,):
        raise refusal(name, "bias", f"shape {bias.shape}", f"shape ({n_out},)", "pass one number for each channel out")
