"""Padding along any axes: constant, reflected, replicated and circular; negative padding takes away."""

from xplayers.arrays import add_at, array_namespace, like, put_at, total
from xplayers.errors import refusal

from .pair import accelerable, answer_of, follows_cache, wants

__all__ = ["pad", "pad_backward", "pad_forward"]


@accelerable
def pad_forward(x, pad, mode="constant", value=None):
    """y[i] = x[i - before] inside x; outside, a value (constant), the mirror image without the edge (reflect), the edge
    (replicate) or the other end (circular).

    x of any dtype; pad = (before, after) of the last axis, then of the one before it, and so on; a negative number
    takes elements away -> y of the shape of x plus before and after along each axis. value: 0 where None.
    All modes but `constant` take x (C, *sizes) or (N, C, *sizes) and pad every one of the sizes.
    Errors: a pad of odd length or longer than x has axes, more taken away than there is, a reflection as wide as x, a
    circle wider than x. Twin: torch.nn.functional.pad.
    Source: a linear map; reflection and replication are the Neumann, circular the periodic boundary of image processing
    (Gonzalez, Woods, Digital Image Processing, 1992).
    """
    pairs = checked_pairs("pad", x, tuple(pad), mode, value)
    if mode == "constant":
        return constant_pad(x, pairs, value or 0), (pairs, mode)
    less = [(min(a, 0), min(b, 0)) for a, b in pairs]
    y = constant_pad(x, less) if mode == "circular" else x  # torch takes away before it wraps, but after it reflects
    for axis, (a, b) in enumerate(pairs):
        y = _extend(y, axis, max(a, 0), max(b, 0), mode)
    return y if mode == "circular" else constant_pad(y, less), (pairs, mode)


@follows_cache
def pad_backward(dy, cache, *, wanted=None):
    """dy of the shape of y -> dx of the shape of x: the gradient of `pad_forward`."""
    pairs, mode = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    if mode == "constant":
        return constant_pad(dy, _negated(pairs))
    more = _negated([(min(a, 0), min(b, 0)) for a, b in pairs])
    dx = dy if mode == "circular" else constant_pad(dy, more)
    for axis, (a, b) in enumerate(pairs):
        dx = _fold_back(dx, axis, max(a, 0), max(b, 0), mode)
    return constant_pad(dx, more) if mode == "circular" else dx


pad = answer_of(pad_forward)


def constant_pad(x, pairs, value=0):
    """x with (before, after) elements of `value` along every axis; negative ones are taken away. Its adjoint is itself
    with the pairs negated."""
    if all(a <= 0 and b <= 0 for a, b in pairs):
        return x[_inside(x, pairs)] if any(a or b for a, b in pairs) else x
    xp = array_namespace(x)
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True))
    y = xp.full(shape, value, **like(x)) if value else xp.zeros(shape, **like(x))
    return put_at(y, _inside(y, _negated(pairs)), x[_inside(x, pairs)])


def _negated(pairs):
    return [(-a, -b) for a, b in pairs]


def _inside(x, pairs):
    """The index of what is left of x when the negative ones of the pairs are taken away."""
    return tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pairs, strict=True))


def _along(axis, start, stop):
    return (*(slice(None),) * axis, slice(start, stop), ...)


def _sources(n, a, b, mode):
    """Which part of n elements the a before them and the b behind them are made of."""
    return {
        "reflect": ((1, a + 1), (n - 1 - b, n - 1)),
        "replicate": ((0, 1), (n - 1, n)),
        "circular": ((n - a, n), (0, b)),
    }[mode]


def _extend(x, axis, a, b, mode):
    """Adds a elements before and b behind, along one axis."""
    if not a and not b:
        return x
    xp = array_namespace(x)
    before, after = (x[_along(axis, *s)] for s in _sources(x.shape[axis], a, b, mode))
    if mode == "reflect":
        before, after = xp.flip(before, axis=axis), xp.flip(after, axis=axis)
    if mode == "replicate":
        before, after = (
            xp.broadcast_to(edge, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
            for edge, count in ((before, a), (after, b))
        )
    return xp.concat([before, x, after], axis=axis)


def _fold_back(dy, axis, a, b, mode):
    """The adjoint of `_extend`: what lies before and behind is added to where it came from."""
    if not a and not b:
        return dy
    xp = array_namespace(dy)
    n = dy.shape[axis] - a - b
    before, after = dy[_along(axis, 0, a)], dy[_along(axis, a + n, a + n + b)]
    if mode == "reflect":
        before, after = xp.flip(before, axis=axis), xp.flip(after, axis=axis)
    if mode == "replicate":
        before, after = total(before, axis=axis, keepdims=True), total(after, axis=axis, keepdims=True)
    dx = xp.asarray(dy[_along(axis, a, a + n)], copy=True)
    for source, edge in zip(_sources(n, a, b, mode), (before, after), strict=True):
        dx = add_at(dx, _along(axis, *source), edge)
    return dx


def checked_pairs(where, x, pad, mode, value=None, argument="pad"):
    """pad as (before, after) of every axis of x, the first first; what torch refuses is, in the name of `where`."""

    def refuse(name, got, expected, mend):
        return refusal(where, name, got, expected, mend)

    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise refuse("mode", repr(mode), "'constant', 'reflect', 'replicate' or 'circular'", "pass one of these")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        expected = f"an even number of integers, at most {2 * x.ndim} for x of shape {x.shape}"
        raise refuse(argument, f"{pad}", expected, "pass (before, after) of the last axis, then of the one before it")
    if mode != "constant":
        n = len(pad) // 2
        if x.ndim not in (n + 1, n + 2) or not 1 <= n <= 3:
            expected = f"{x.ndim - 2} or {x.ndim - 1} pairs for mode {mode!r}, one for each axis of the sizes"
            raise refuse(
                argument, f"{n} pairs for x of shape {x.shape}", expected, "pass a pair, also (0, 0), for each"
            )
        if value:
            raise refuse("value", f"{value}", f"None, as mode {mode!r} takes no value", "leave value out")
    given = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (x.ndim - len(given)) + given
    for axis, (a, b) in enumerate(pairs):
        n = x.shape[axis]
        left = n + min(a, 0) + min(b, 0)
        if left < 0 or (mode != "constant" and (a or b) and n + a + b < 1):
            expected = f"at most {n} taken away" + ("" if mode == "constant" else " and something left")
            raise refuse(argument, f"{(a, b)} for axis {axis} of shape {x.shape}", expected, "take less away")
        most = {"reflect": n - 1, "replicate": max(a, b) if n else 0, "circular": left}.get(mode, max(a, b))
        if max(a, b) > max(most, 0):
            expected = f"at most {most} on either side in mode {mode!r}"
            raise refuse(
                argument, f"{(a, b)} for axis {axis} of shape {x.shape}", expected, "pad less, or in two steps"
            )
    return pairs
