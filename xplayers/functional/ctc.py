"""Connectionist temporal classification: the loss of a sequence of labels without their times."""

import math

from xplayers.arrays import accumulator, array_namespace, device, index_add, is_array, like, size, take_along, take_rows

from .loss import reduce, share
from .pair import accelerable, answer_of, follows_cache, wants

__all__ = ["ctc_loss", "ctc_loss_backward", "ctc_loss_forward"]


def _ints(lengths, x):
    """Lengths, given as an array, a number or a sequence of numbers -> (N,) int32 where x lives."""
    xp = array_namespace(x)
    if is_array(lengths):
        return xp.astype(xp.reshape(lengths, (-1,)), xp.int32)
    numbers = [lengths] if isinstance(lengths, int) else list(lengths)
    return xp.asarray(numbers, dtype=xp.int32, device=device(x))


def _padded(targets, target_lengths, lengths, x):
    """targets (N, S) or, all after one another, (sum of lengths,) -> (N, S) int32, S the same for all."""
    xp = array_namespace(x, targets)
    targets = xp.astype(targets, xp.int32)
    if targets.ndim == 2:
        return targets
    if is_array(target_lengths):
        longest = targets.shape[0]  # a length in an array may be a value that is not known yet
    else:
        longest = target_lengths if isinstance(target_lengths, int) else max(target_lengths, default=0)
    steps = xp.arange(longest, dtype=xp.int32, device=device(x))
    starts = xp.astype(xp.cumulative_sum(lengths), xp.int32) - lengths
    index = starts[:, None] + steps[None, :]
    return take_rows(targets, xp.clip(index, 0, max(targets.shape[0] - 1, 0)))


def _shifted(a, by, value):
    """a (N, L) moved along L by `by` places, to the right where it is positive; `value` comes in."""
    xp = array_namespace(a)
    n, length = a.shape
    hole = xp.full((n, min(abs(by), length)), value, **like(a))
    return xp.concat([hole, a[:, :-by]], axis=1) if by > 0 else xp.concat([a[:, -by:], hole], axis=1)


@accelerable
def ctc_loss_forward(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """y = -log of the sum over all paths that read as the target of prod_t p[t, path_t], reduced.

    A path reads as what is left when repeated labels are made one and blanks are taken out. With l' the target with a
    blank around each label, a[t, s] = (a[t-1, s] + a[t-1, s-1] + a[t-1, s-2] where l'[s] != l'[s-2]) p[t, l'[s]], in
    logarithms. 'mean' divides each loss by the length of its target, then takes the mean.
    log_probs (T, N, C) or (T, C); targets (N, S), or one after another (sum of target_lengths,); the lengths (N,) or
    (), as arrays or as numbers -> y (), or (N,) or () for reduction 'none'. A target that is too long for its input
    costs infinity, or with `zero_infinity` nothing. Targets one after another are quicker with lengths as numbers.
    Errors: IndexError of the library for a label out of range (NaN on jax; CuPy does not look).
    Twin: torch.nn.functional.ctc_loss.
    Source: Graves et al., Connectionist temporal classification (2006).
    """
    xp = array_namespace(log_probs, targets)
    x = log_probs if log_probs.ndim == 3 else log_probs[:, None, :]
    x = xp.astype(x, accumulator(x))  # (T, N, C)
    steps, n, _ = x.shape
    frames, lengths = _ints(input_lengths, x), _ints(target_lengths, x)  # (N,)
    if log_probs.ndim == 2:
        targets = xp.reshape(targets, (1, -1))
    labels = _padded(targets, target_lengths, lengths, x)  # (N, S)
    place = xp.arange(labels.shape[1], dtype=xp.int32, device=device(x))
    labels = xp.where(place[None, :] < lengths[:, None], labels, blank)
    blanks = xp.full_like(labels, blank)
    pairs = xp.reshape(xp.stack([labels, blanks], axis=2), (n, 2 * labels.shape[1]))
    first = xp.full((n, 1), blank, **like(labels))
    path = xp.concat([first, pairs], axis=1)  # (N, L), L = 2 S + 1
    skips = path != _shifted(path, 2, blank)  # an even place is a blank, as the one two before it
    emitted = take_along(x, xp.broadcast_to(path[None, :, :], (steps, *path.shape)), 2)  # (T, N, L)

    start = xp.arange(path.shape[1], dtype=xp.int32, device=device(x))[None, :] < 2
    alpha = xp.where(start, emitted[0, ...], -math.inf)
    alphas = [alpha]
    for t in range(1, steps):
        into = xp.logaddexp(alpha, _shifted(alpha, 1, -math.inf))
        into = xp.logaddexp(into, xp.where(skips, _shifted(alpha, 2, -math.inf), -math.inf))
        alpha = xp.where((t < frames)[:, None], into + emitted[t, ...], alpha)
        alphas.append(alpha)
    ends = _ends(path, lengths)
    tops = xp.where(ends, alpha, -math.inf)
    likelihood = tops[:, 0]
    for s in range(1, path.shape[1]):
        likelihood = xp.logaddexp(likelihood, tops[:, s])
    likelihood = xp.where(frames == 0, xp.where(lengths == 0, xp.zeros_like(likelihood), -math.inf), likelihood)
    loss = -likelihood  # (N,)
    if zero_infinity:
        loss = xp.where(xp.isinf(loss), 0.0, loss)
    per_label = _per_label(loss, lengths) if reduction == "mean" else loss
    y = reduce(per_label if log_probs.ndim == 3 else per_label[0], reduction, n)
    y = xp.astype(y, log_probs.dtype)
    return y, (log_probs, path, skips, frames, lengths, tuple(alphas), likelihood, reduction, zero_infinity)


def _ends(path, lengths):
    """(N, L), True at the last label and the blank behind it, where a path may end."""
    xp = array_namespace(path)
    place = xp.arange(path.shape[1], dtype=xp.int32, device=device(path))[None, :]
    last = 2 * lengths[:, None]
    return (place == last) | (place == last - 1)


def _per_label(loss, lengths):
    xp = array_namespace(loss)
    return loss / xp.astype(xp.clip(lengths, 1, 2**31 - 1), loss.dtype)


@follows_cache
def ctc_loss_backward(dy, cache, *, wanted=None):
    """dy () or (N,) -> dlog_probs (T, N, C), None, None, None: the gradient of `ctc_loss_forward` by the logits.

    As in torch, p - occupancy: what comes out of a log_softmax before the loss, and what that one's backward leaves as
    it is, not the derivative by log_probs alone, which would be -occupancy. dy None is 1. The backward variable b[t, s]
    leaves p[t] out, so that a[t, s] b[t, s] / likelihood is the occupancy of l'[s].
    """
    log_probs, path, skips, frames, lengths, alphas, likelihood, reduction, zero_infinity = cache
    want_x, *_ = wants(wanted, 4)
    if not want_x:
        return None, None, None, None
    xp = array_namespace(log_probs)
    x = log_probs if log_probs.ndim == 3 else log_probs[:, None, :]
    x = xp.astype(x, accumulator(x))
    steps, n, classes = x.shape
    lost = xp.isinf(likelihood)
    total_log = xp.where(lost, 0.0, likelihood)[:, None]  # every path of a lost row counts 0
    end = xp.where(_ends(path, lengths), xp.zeros_like(alphas[0]), -math.inf)
    ahead = _shifted(skips, -2, False)
    beta, occupied = end, []
    for t in range(steps - 1, -1, -1):
        if t < steps - 1:
            out = beta + take_along(x[t + 1, ...], path, 1)
            into = xp.logaddexp(out, _shifted(out, -1, -math.inf))
            into = xp.logaddexp(into, xp.where(ahead, _shifted(out, -2, -math.inf), -math.inf))
            beta = xp.where((t + 1 < frames)[:, None], into, end)
        occupied.append(xp.exp(alphas[t] + beta - total_log))  # (N, L)
    occupied.reverse()
    values = xp.reshape(xp.stack(occupied, axis=2), (size(path), steps))  # (N L, T)
    rows = xp.arange(n, dtype=xp.int32, device=device(x))[:, None] * classes + path
    occupancy = index_add(xp.zeros((n * classes, steps), **like(x)), rows, values)
    occupancy = xp.permute_dims(xp.reshape(occupancy, (n, classes, steps)), (2, 0, 1))  # (T, N, C)
    s = share(dy, reduction, n, x)
    s = xp.zeros_like(likelihood) + s
    s = _per_label(s, lengths) if reduction == "mean" else s
    d = xp.where(lost[:, None], 0.0 if zero_infinity else math.nan, xp.exp(x) - occupancy) * s[:, None]
    time = xp.arange(steps, dtype=xp.int32, device=device(x))
    d = xp.where((time[:, None] < frames[None, :])[..., None], d, 0.0)
    return xp.astype(xp.reshape(d, log_probs.shape), log_probs.dtype), None, None, None


ctc_loss = answer_of(ctc_loss_forward)
