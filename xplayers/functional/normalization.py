"""Normalisation: elements are shifted and scaled by the statistics of a set they belong to, then mapped affinely.

Batch, instance and group norm see x as rows, (N, C, L), and differ only in which rows form a set. `sets` = (a, s, b)
says it: the N * C rows in order are an (a, s, b) table, and the a * b rows with the same place in the middle share
their statistics. That is (N, C, 1) for batch norm, (1, N * C, 1) for instance norm, (1, N * G, C / G) for group norm.

All statistics are those of two passes: the mean first, then the mean square of what is left after it is taken away.
Half precision is computed in float32 and rounded once, at the end.
"""

import math

from xplayers.arrays import (
    accumulator,
    array_namespace,
    dot_trailing,
    like,
    sum_leading,
    sum_to,
    sum_trailing,
    total,
)
from xplayers.errors import refusal

from .distance import vector_norm_backward, vector_norm_forward
from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_moments",
    "group_norm",
    "group_norm_backward",
    "group_norm_forward",
    "instance_norm",
    "instance_norm_backward",
    "instance_norm_forward",
    "instance_norm_moments",
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_forward",
    "local_response_norm",
    "local_response_norm_backward",
    "local_response_norm_forward",
    "normalize",
    "normalize_backward",
    "normalize_forward",
    "rms_norm",
    "rms_norm_backward",
    "rms_norm_forward",
    "sync_batch_norm",
    "sync_batch_norm_backward",
    "sync_batch_norm_forward",
]


def _wide(x):
    """x in the dtype that it is computed in; x itself where that is its own."""
    acc = accumulator(x)
    return x if acc == x.dtype else array_namespace(x).astype(x, acc)


def _narrow(x, dtype):
    return x if x is None or x.dtype == dtype else array_namespace(x).astype(x, dtype)


def _dtype_of(x):
    return None if x is None else x.dtype


def _share(count):
    """1 / count, where the mean over nothing is 0; count an int or an array."""
    return 1.0 / (max(count, 1) if isinstance(count, int) else array_namespace(count).maximum(count, 1.0))


def _rows(x):
    """(N, C, *) -> (N, C, L)."""
    return array_namespace(x).reshape(_wide(x), (*x.shape[:2], math.prod(x.shape[2:])))


def _gather(t, sets):
    """One number a row, (N, C), -> the sums over the sets, (s,)."""
    t = array_namespace(t).reshape(t, sets)
    return sum_leading(t[:, :, 0] if sets[2] == 1 else total(t, axis=2))


def _spread(t, sets, c):
    """One number a set, (s,), -> one a row, (N, C, 1), or (1, C, 1) where all samples share it."""
    xp = array_namespace(t)
    _, s, b = sets
    if b > 1:
        t = xp.broadcast_to(t[:, None], (s, b))
    return xp.reshape(t, (s * b // c if c else 1, c, 1))


def _rows_norm(x, sets, weight, bias, eps, given=None, reduce=None):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, x (N, C, *), weight, bias (C,) -> y (N, C, *).

    `given` are the mean and the variance (s,) to take, instead of those of the sets. `reduce` adds an array up over all
    who hold a part of the sets. The cache ends in mean, biased variance (s,) and the count of a set's elements: an int,
    an array (1,) with `reduce`, None where the statistics are given.
    """
    xp = array_namespace(x)
    rows = _rows(x)  # (N, C, L)
    _, c, length = rows.shape
    if given is not None:
        (mean, var), count = map(_wide, given), None
        u = rows - _spread(mean, sets, c)
    else:
        sums, count = _gather(sum_trailing(rows), sets), sets[0] * sets[2] * length
        if reduce is not None:
            sums = reduce(xp.concat([sums, xp.full((1,), float(count), **like(sums))]))
            sums, count = sums[:-1], sums[-1:]
        mean = sums * _share(count)
        u = rows - _spread(mean, sets, c)
        squares = _gather(dot_trailing(u, u), sets)
        var = (squares if reduce is None else reduce(squares)) * _share(count)
    scale = _spread(1.0 / xp.sqrt(var + eps), sets, c)
    u *= scale if weight is None else scale * _wide(weight)[None, :, None]  # u is ours to write to
    if bias is not None:
        u += _wide(bias)[None, :, None]
    return _narrow(xp.reshape(u, x.shape), x.dtype), (sets, x, weight, _dtype_of(bias), eps, reduce, mean, var, count)


def _rows_norm_backward(dy, cache, want_x, want_weight, want_bias):
    """dy (N, C, *) -> dx (N, C, *), dweight (C,), dbias (C,): the gradients of `_rows_norm`.

    With r = 1 / sqrt(var + eps), u = x - mean, g = dy * weight, and m the mean over a set:
    dx = r (g - m(g) - u r^2 m(g u)), dweight = sum(dy u r), dbias = sum(dy). Given statistics are constants: dx = r g.
    """
    sets, x, weight, bias_dtype, eps, reduce, mean, var, count = cache
    xp = array_namespace(dy, x)
    rows, d = _rows(x), _rows(dy)  # (N, C, L)
    c = rows.shape[1]
    want_weight, want_bias = want_weight and weight is not None, want_bias and bias_dtype is not None
    moving = want_x and count is not None
    r = 1.0 / xp.sqrt(var + eps)  # (s,)
    rows_r = _spread(r, sets, c)  # (N, C, 1) or (1, C, 1)
    dx = dweight = dbias = None
    if want_bias or moving:
        sum_d = sum_trailing(d)  # (N, C)
    if want_weight or moving:
        u = rows - _spread(mean, sets, c)  # (N, C, L)
        sum_du = dot_trailing(d, u)  # (N, C)
    if want_bias:
        dbias = _narrow(sum_leading(sum_d), bias_dtype)
    if want_weight:
        dweight = _narrow(sum_leading(sum_du * rows_r[:, :, 0]), weight.dtype)
    if want_x:
        w = None if weight is None else _wide(weight)
        dx = d * (rows_r if w is None else rows_r * w[:, None])
        if moving:
            sums = [_gather(t if w is None else t * w, sets) for t in (sum_d, sum_du)]  # (s,) each
            if reduce is not None:
                merged = reduce(xp.concat(sums))
                sums = [merged[: r.shape[0]], merged[r.shape[0] :]]
            mean_g, mean_gu = (t * _share(count) for t in sums)
            u *= _spread(r * r * r * mean_gu, sets, c)  # u is ours to write to
            u += _spread(r * mean_g, sets, c)
            dx -= u
        dx = _narrow(xp.reshape(dx, x.shape), x.dtype)
    return dx, dweight, dbias


def _refuse_one_value(where, x, count, unit):
    if count == 1:
        raise refusal(
            where,
            "x",
            f"shape {tuple(x.shape)}, one value {unit}",
            f"more than one value {unit}, as the statistics are those of x",
            "pass a larger batch, or take the running statistics",
        )


def _refuse_none(where, running_mean, running_var):
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value is None:
            raise refusal(where, name, "None", "shape (C,), as the statistics of x are not taken", f"pass {name}")


@accelerable
def batch_norm_forward(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, the statistics of each channel.

    x (N, C, *), running_mean, running_var, weight, bias (C,) -> y (N, C, *). In training, mean and biased variance are
    those of x over all axes but the second; otherwise running_mean and running_var are taken.
    The running statistics are never written and `momentum` has no effect: `batch_norm_moments(cache)` gives what is to
    be tracked (the cache of a faster twin ends in the same three).
    Errors: ValueError in training for one value a channel, and without running statistics otherwise.
    Twin: torch.nn.functional.batch_norm. Source: Ioffe, Szegedy, Batch normalization (2015).
    """
    sets = (x.shape[0], x.shape[1], 1)
    if not training:
        _refuse_none("batch_norm", running_mean, running_var)
        return _rows_norm(x, sets, weight, bias, eps, (running_mean, running_var))
    _refuse_one_value("batch_norm", x, x.shape[0] * math.prod(x.shape[2:]), "a channel")
    return _rows_norm(x, sets, weight, bias, eps)


@follows_cache
def batch_norm_backward(dy, cache, *, wanted=None):
    """dy (N, C, *) -> dx (N, C, *), None, None, dweight (C,), dbias (C,): the gradients of `batch_norm_forward`."""
    want_x, _, _, want_weight, want_bias = wants(wanted, 5)
    dx, dweight, dbias = _rows_norm_backward(dy, cache, want_x, want_weight, want_bias)
    return dx, None, None, dweight, dbias


def batch_norm_moments(cache):
    """Mean (C,), biased variance (C,) and count of values a channel, as a batch norm in training has seen them.

    The variance to track is the unbiased one, var * count / (count - 1). In float32 where x is of half precision.
    """
    return cache[-3:]


batch_norm = answer_of(batch_norm_forward)


@accelerable
def sync_batch_norm_forward(
    x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5, *, reduce=None
):
    """`batch_norm_forward` with statistics over the batches of several processes.

    `reduce` takes an array and gives its sum over all processes, in the same shape. In training it is called twice in
    the forward (the sums with the count, (C + 1,), then the squares around the common mean, (C,)) and, where dx is
    wanted, once in the backward ((2 C,)). None: this process is alone. dweight and dbias are this process's own, to be
    added up with all other gradients. `batch_norm_moments(cache)` gives the common statistics, the count as an array
    (1,) where there is a `reduce`.
    Errors: those of `batch_norm_forward`; one value a channel only where the process is alone.
    Twin: torch.nn.SyncBatchNorm. Source: Peng et al., MegDet (2018).
    """
    if reduce is None or not training:
        return batch_norm_forward(x, running_mean, running_var, weight, bias, training, momentum, eps)
    return _rows_norm(x, (x.shape[0], x.shape[1], 1), weight, bias, eps, reduce=reduce)


@follows_cache
def sync_batch_norm_backward(dy, cache, *, wanted=None):
    """dy (N, C, *) -> dx, None, None, dweight (C,), dbias (C,): the gradients of `sync_batch_norm_forward`."""
    return batch_norm_backward(dy, cache, wanted=wanted)


sync_batch_norm = answer_of(sync_batch_norm_forward)


@accelerable
def instance_norm_forward(
    x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, the statistics of each channel of each sample.

    x (N, C, *), running_mean, running_var, weight, bias (C,) -> y (N, C, *). Without use_input_stats running_mean and
    running_var are taken. The running statistics are never written and `momentum` has no effect:
    `instance_norm_moments(cache)` gives what is to be tracked.
    Errors: ValueError for one value a channel of a sample, and without running statistics where they are needed.
    Twin: torch.nn.functional.instance_norm. Source: Ulyanov, Vedaldi, Lempitsky, Instance normalization (2016).
    """
    if not use_input_stats:
        _refuse_none("instance_norm", running_mean, running_var)
        return _rows_norm(x, (x.shape[0], x.shape[1], 1), weight, bias, eps, (running_mean, running_var))
    _refuse_one_value("instance_norm", x, math.prod(x.shape[2:]), "a channel of a sample")
    return _rows_norm(x, (1, x.shape[0] * x.shape[1], 1), weight, bias, eps)


@follows_cache
def instance_norm_backward(dy, cache, *, wanted=None):
    """dy (N, C, *) -> dx (N, C, *), None, None, dweight (C,), dbias (C,): the gradients of `instance_norm_forward`."""
    want_x, _, _, want_weight, want_bias = wants(wanted, 5)
    dx, dweight, dbias = _rows_norm_backward(dy, cache, want_x, want_weight, want_bias)
    return dx, None, None, dweight, dbias


def instance_norm_moments(cache):
    """Mean (N * C,), biased variance (N * C,) and count of values a channel of a sample, as seen with use_input_stats.

    What is to be tracked is their mean over the samples, the variance unbiased; a faster twin's cache ends in them too.
    """
    return cache[-3:]


instance_norm = answer_of(instance_norm_forward)


@accelerable
def group_norm_forward(x, num_groups, weight=None, bias=None, eps=1e-5):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, the statistics of each group of C / num_groups channels.

    x (N, C, *), weight, bias (C,) -> y (N, C, *).
    Errors: ValueError where num_groups does not divide C, and for one value a group in a batch of one.
    Twin: torch.nn.functional.group_norm. Source: Wu, He, Group normalization (2018).
    """
    n, c = x.shape[:2]
    if num_groups < 1 or c % num_groups:
        raise refusal("group_norm", "num_groups", f"{num_groups} for {c} channels", f"a divisor of {c}", "pass one")
    _refuse_one_value("group_norm", x, n * c // num_groups * math.prod(x.shape[2:]), "a group")
    return _rows_norm(x, (1, n * num_groups, c // num_groups), weight, bias, eps)


@follows_cache
def group_norm_backward(dy, cache, *, wanted=None):
    """dy (N, C, *) -> dx (N, C, *), dweight (C,), dbias (C,): the gradients of `group_norm_forward`."""
    return _rows_norm_backward(dy, cache, *wants(wanted, 3))


group_norm = answer_of(group_norm_forward)


@accelerable
def layer_norm_forward(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, the statistics of each sample over the trailing axes.

    x (*, *normalized_shape), weight, bias normalized_shape -> y as x; the variance is the biased one.
    Errors: ValueError where x does not end in normalized_shape.
    Twin: torch.nn.functional.layer_norm. Source: Ba, Kiros, Hinton, Layer normalization (2016).
    """
    return _trailing_norm("layer_norm", x, normalized_shape, weight, bias, eps, centred=True)


@follows_cache
def layer_norm_backward(dy, cache, *, wanted=None):
    """dy as x -> dx, dweight, dbias of normalized_shape: the gradients of `layer_norm_forward`."""
    return _trailing_norm_backward(dy, cache, *wants(wanted, 3))


layer_norm = answer_of(layer_norm_forward)


@accelerable
def rms_norm_forward(x, normalized_shape, weight=None, eps=None):
    """y = x / sqrt(mean(x^2) + eps) * weight, the mean of each sample over the trailing axes.

    x (*, *normalized_shape), weight normalized_shape -> y as x. eps None: the spacing of floats at 1, float32's for
    half precision. Errors: ValueError where x does not end in normalized_shape.
    Twin: torch.nn.functional.rms_norm. Source: Zhang, Sennrich, Root mean square layer normalization (2019).
    """
    if eps is None:
        eps = float(array_namespace(x).finfo(accumulator(x)).eps)
    return _trailing_norm("rms_norm", x, normalized_shape, weight, None, eps, centred=False)


@follows_cache
def rms_norm_backward(dy, cache, *, wanted=None):
    """dy as x -> dx, dweight of normalized_shape: the gradients of `rms_norm_forward`."""
    want_x, want_weight = wants(wanted, 2)
    return _trailing_norm_backward(dy, cache, want_x, want_weight, False)[:2]


rms_norm = answer_of(rms_norm_forward)


def _trailing_norm(where, x, normalized_shape, weight, bias, eps, centred):
    """The mean of squares of every row, around its mean where `centred`."""
    shape = tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        raise refusal(
            where, "x", f"shape {tuple(x.shape)}", f"(*, {', '.join(map(str, shape))})", "pass the sizes x ends in"
        )
    xp = array_namespace(x)
    d = math.prod(shape)
    rows = xp.reshape(_wide(x), (math.prod(x.shape[: -len(shape)]), d))  # (M, D)
    mean = sum_trailing(rows)[:, None] * _share(d) if centred else None  # (M, 1)
    y = rows - mean if centred else rows
    r = 1.0 / xp.sqrt(dot_trailing(y, y) * _share(d) + eps)[:, None]  # (M, 1)
    if centred:
        y *= r  # y is ours to write to, rows may be x
    else:
        y = y * r
    if weight is not None:
        y *= xp.reshape(_wide(weight), (d,))
    if bias is not None:
        y += xp.reshape(_wide(bias), (d,))
    return _narrow(xp.reshape(y, x.shape), x.dtype), (x, shape, weight, _dtype_of(bias), mean, r)


def _trailing_norm_backward(dy, cache, want_x, want_weight, want_bias):
    """With h = (x - mean) r, g = dy * weight, m the mean over a row: dx = r (g - m(g) - h m(g h)), dweight = sum(dy h).

    Without a mean the term m(g) falls away.
    """
    x, shape, weight, bias_dtype, mean, r = cache
    xp = array_namespace(dy, x)
    m, d = r.shape[0], math.prod(shape)
    flat = xp.reshape(_wide(dy), (m, d))  # (M, D)
    dx = dweight = dbias = None
    if want_bias and bias_dtype is not None:
        dbias = _narrow(xp.reshape(sum_leading(flat), shape), bias_dtype)
    want_weight = want_weight and weight is not None
    if want_x or want_weight:
        rows = xp.reshape(_wide(x), (m, d))
        if mean is None:
            h = rows * r  # (M, D)
        else:
            h = rows - mean
            h *= r
    if want_weight:
        dweight = _narrow(xp.reshape(sum_leading(flat * h), shape), weight.dtype)
    if want_x:
        g = flat if weight is None else flat * xp.reshape(_wide(weight), (d,))
        h *= -_share(d) * dot_trailing(g, h)[:, None]  # h is ours to write to
        if mean is not None:
            h -= _share(d) * sum_trailing(g)[:, None]
        h += g
        h *= r
        dx = h
        dx = _narrow(xp.reshape(dx, x.shape), x.dtype)
    return dx, dweight, dbias


@accelerable
def local_response_norm_forward(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """y = x / (k + alpha / size * s)^beta, s the sum of x^2 over the size channels around each channel.

    x (N, C, *) of 3 axes or more -> y as x. The window of channel c goes from c - size // 2 to c + (size - 1) // 2;
    channels beyond the ends count as 0.
    Errors: ValueError for less than 3 axes or a size below 1.
    Twin: torch.nn.functional.local_response_norm.
    Source: Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional networks (2012).
    """
    if x.ndim < 3 or size < 1:
        name, got, expected = (
            ("x", f"shape {tuple(x.shape)}", "3 axes or more, (N, C, *)")
            if x.ndim < 3
            else ("size", str(size), "a positive number of channels")
        )
        raise refusal("local_response_norm", name, got, expected, f"pass another {name}")
    wide = _wide(x)
    base = k + alpha / size * _channel_sums(wide * wide, size // 2, (size - 1) // 2)
    return _narrow(wide * base**-beta, x.dtype), (x, size, alpha, beta, base)


@follows_cache
def local_response_norm_backward(dy, cache, *, wanted=None):
    """dy as x -> dx: the gradient of `local_response_norm_forward`."""
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    x, size, alpha, beta, base = cache
    wide, d = _wide(x), _wide(dy)
    power = base**-beta
    # y = x base^-beta, and base holds the square of every x whose window reaches it: the window is turned around
    dbase = _channel_sums(d * wide * power / base, (size - 1) // 2, size // 2)
    return _narrow(d * power - (2.0 * alpha * beta / size) * wide * dbase, x.dtype)


def _channel_sums(x, before, after):
    """x (N, C, *) -> as x: the sum over the channels c - before to c + after, 0 beyond the ends."""
    xp = array_namespace(x)
    c = x.shape[1]
    out = x
    for shift in range(1, min(max(before, after), c - 1) + 1):
        edge = xp.zeros((x.shape[0], shift, *x.shape[2:]), **like(x))
        if shift <= before:
            out = out + xp.concat([edge, x[:, : c - shift, ...]], axis=1)
        if shift <= after:
            out = out + xp.concat([x[:, shift:, ...], edge], axis=1)
    return out


local_response_norm = answer_of(local_response_norm_forward)


def normalize_forward(x, p=2.0, dim=1, eps=1e-12):
    """y = x / max(||x||_p, eps), the norm over `dim`, an axis or a tuple of axes.

    x of any shape -> y as x. Errors: those of the library where there is no such axis.
    Twin: torch.nn.functional.normalize.
    Source: Minkowski, Geometrie der Zahlen (1896), for the norm.
    """
    wide = _wide(x)
    norm, norm_cache = vector_norm_forward(wide, p, dim, True)
    xp = array_namespace(x)
    divisor = xp.maximum(norm, xp.full_like(norm, eps))
    return _narrow(wide / divisor, x.dtype), (x, norm >= eps, divisor, norm_cache)


def normalize_backward(dy, cache, *, wanted=None):
    """dy as x -> dx: the gradient of `normalize_forward`. Below eps the divisor is constant."""
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    x, above, divisor, norm_cache = cache
    xp = array_namespace(dy, x)
    d = _wide(dy) / divisor
    ddivisor = -sum_to(d * _wide(x) / divisor, divisor.shape)
    dnorm = xp.where(above, ddivisor, xp.zeros_like(ddivisor))
    return _narrow(d + vector_norm_backward(dnorm, norm_cache), x.dtype)


normalize = answer_of(normalize_forward)
