"""Recurrent networks with NumPy alone: a dozen calls a step, all into arrays that stand ready.

One tanh serves all gates, as sigmoid(z) = (1 + tanh(z / 2)) / 2: the weights of sigmoids are halved once.
What the way back multiplies with is computed for all steps at once, so that a step of it is five calls. Declined:
lengths, a projection, half precision.
"""

import functools
from typing import Any

import numpy as np

from xplayers.functional import recurrent as agnostic

from ..recurrences import HostScans, plain_supports, register

__all__: list[str] = []


class _Cell:
    """h' = tanh(a + W h)."""

    gates, states, apart = 1, 1, False
    order: tuple[int, ...] = (0,)  # of torch's gates, ours
    sigmoids = 0  # how many of ours, the first ones, are sigmoids

    def ordered(self, w: Any) -> Any:
        """The rows of torch's gates in our order."""
        return self._sorted(w, self.order)

    def restore(self, w: Any) -> Any:
        """The rows of our gates in torch's order."""
        return self._sorted(w, [self.order.index(k) for k in range(self.gates)])

    def _sorted(self, w: Any, order: Any) -> Any:
        h = len(w) // self.gates
        return w if self.gates == 1 else np.concatenate([w[k * h : (k + 1) * h] for k in order])

    def arrange(self, w: Any) -> Any:
        out = self.ordered(w)
        if self.sigmoids:
            out[: self.sigmoids * (len(w) // self.gates)] *= 0.5
        return out

    def turned(self, w: Any) -> Any:
        return np.ascontiguousarray(self.ordered(w).T)

    def run(self, a: Any, w: Any, b: Any, states: Any, hs: Any) -> Any:
        for x, h, after in zip(a, hs, hs[1:], strict=False):
            np.matmul(w, h, out=after)
            after += x
            self.act(after, out=after)
        return (hs[-1],), ()

    act: Any = staticmethod(np.tanh)

    def slope(self, h: Any) -> Any:
        s = h * h
        return np.subtract(1, s, out=s)

    def back(self, dy: Any, turned: Any, kept: Any, hs: Any, dstates: Any, da: Any, dr: Any) -> Any:
        slopes = self.slope(hs[1:])
        (dh,) = dstates
        for d, slope in zip(dy[::-1], slopes[::-1], strict=True):
            dh += d
            slope *= dh
            np.matmul(turned, slope, out=dh)
        da[0] = slopes.transpose(1, 0, 2)
        return (dh,)


class _ReLU(_Cell):
    """h' = max(a + W h, 0)."""

    @staticmethod
    def act(z: Any, out: Any) -> None:
        np.maximum(z, 0, out=out)

    def slope(self, h: Any) -> Any:
        return (h > 0).astype(h.dtype)


class _LSTM(_Cell):
    """Gates o, i, f, g and c before the step stand in this order: (i, f) times (g, c) is one call."""

    gates, states, order, sigmoids = 4, 2, (3, 0, 1, 2), 3

    def run(self, a: Any, w: Any, b: Any, states: Any, hs: Any) -> Any:
        t, _, n = a.shape
        h = hs.shape[1]
        held = np.empty((t + 1, 5 * h, n), a.dtype)
        tanh_c, spare = np.empty((t, h, n), a.dtype), np.empty((2 * h, n), a.dtype)
        ig, fc = spare[:h], spare[h:]
        held[0, 4 * h :] = states[1]
        columns = a, hs, held, tanh_c, held[:, : 4 * h], held[:, : 3 * h], held[:, :h], held[:, h : 3 * h]
        ahead = held[:, 3 * h :], held[1:, 4 * h :], hs[1:]
        for x, before, _k, tc, z, s, o, i_f, g_c, c, after in zip(*columns, *ahead, strict=False):
            np.matmul(w, before, out=z)
            z += x
            np.tanh(z, out=z)
            s *= 0.5
            s += 0.5
            np.multiply(i_f, g_c, out=spare)
            np.add(ig, fc, out=c)
            np.tanh(c, out=tc)
            np.multiply(o, tc, out=after)
        return (hs[-1], held[-1, 4 * h :]), (held[:-1].reshape(t, 5, h, n), tanh_c)

    def back(self, dy: Any, turned: Any, kept: Any, hs: Any, dstates: Any, da: Any, dr: Any) -> Any:
        """The slopes of a step: dh by (tanh(c)'s o, o's) and dc by (i's, f's, g's, f): the last is dc before it."""
        (dh, dc), (held, tanh_c) = dstates, kept
        t, _, h, n = held.shape
        slopes, d = np.empty((2, t, 6, h, n), dy.dtype)
        first, sigmoids, g = slopes[:, 0], slopes[:, 1:4], slopes[:, 4]
        np.multiply(tanh_c, tanh_c, out=first)
        np.subtract(1, first, out=first)
        first *= held[:, 0]
        np.multiply(held[:, :3], held[:, :3], out=sigmoids)
        np.subtract(held[:, :3], sigmoids, out=sigmoids)
        slopes[:, 1] *= tanh_c
        slopes[:, 2:4] *= held[:, 3:]
        np.multiply(held[:, 3], held[:, 3], out=g)
        np.subtract(1, g, out=g)
        g *= held[:, 1]
        slopes[:, 5] = held[:, 2]
        by_h, by_c, to_h, to_c = slopes[:, :2], slopes[:, 2:], d[:, :2], d[:, 2:]
        dz = d[:, 1:5].reshape(t, 4 * h, n)
        columns = dy, by_h, by_c, to_h, to_c, d[:, 0], d[:, 5], dz
        for each, b_h, b_c, t_h, t_c, more, before, z in zip(*(c[::-1] for c in columns), strict=True):
            dh += each
            np.multiply(b_h, dh, out=t_h)
            more += dc
            np.multiply(b_c, more, out=t_c)
            dc = before
            np.matmul(turned, z, out=dh)
        da[...] = d[:, 1:5].transpose(1, 2, 0, 3)
        return dh, dc


class _GRU(_Cell):
    """Gates z, r, n, and the product's part of n."""

    gates, apart, order, sigmoids = 3, True, (1, 0, 2), 2

    def run(self, a: Any, w: Any, b: Any, states: Any, hs: Any) -> Any:
        t, _, n = a.shape
        h = hs.shape[1]
        held, product = np.empty((t, 4 * h, n), a.dtype), np.empty((3 * h, n), a.dtype)
        if b is not None:
            a[:, : 2 * h] += b[: 2 * h, None]
        part_zr, part_n, spare = product[: 2 * h], product[2 * h :], np.empty((h, n), a.dtype)
        bias = np.zeros((h, n), a.dtype) if b is None else np.repeat(b[2 * h :, None], n, axis=1)
        columns = a[:, : 2 * h], a[:, 2 * h :], hs, hs[1:], held[:, : 2 * h], held[:, :h], held[:, h : 2 * h]
        for x, x_n, before, after, zr, z, r, new, r_n in zip(
            *columns, held[:, 2 * h : 3 * h], held[:, 3 * h :], strict=False
        ):
            np.matmul(w, before, out=product)
            np.add(part_zr, x, out=zr)
            np.tanh(zr, out=zr)
            zr *= 0.5
            zr += 0.5
            np.add(part_n, bias, out=r_n)
            np.multiply(r, r_n, out=new)
            new += x_n
            np.tanh(new, out=new)
            np.subtract(before, new, out=spare)
            spare *= z
            np.add(new, spare, out=after)
        return (hs[-1],), (held.reshape(t, 4, h, n),)

    def back(self, dy: Any, turned: Any, kept: Any, hs: Any, dstates: Any, da: Any, dr: Any) -> Any:
        """The slopes of a step: dh times (z, n's, z's), and n's gradient times (r's, r)."""
        (dh,), (held,) = dstates, kept
        t, _, h, n = held.shape
        z, r, new, r_n = (held[:, k] for k in range(4))
        slopes, d = np.empty((2, t, 5, h, n), dy.dtype)
        slopes[:, 0] = z
        by_n, by_z, by_r = slopes[:, 1], slopes[:, 2], slopes[:, 3]
        np.subtract(1, z, out=by_z)
        np.multiply(new, new, out=by_n)
        np.subtract(1, by_n, out=by_n)
        by_n *= by_z
        by_z *= z
        by_z *= np.subtract(hs[:-1], new, out=by_r)
        np.subtract(1, r, out=by_r)
        by_r *= r
        by_r *= r_n
        slopes[:, 4] = r
        columns = dy, slopes[:, :3], slopes[:, 3:], d[:, :3], d[:, 3:], d[:, 1], d[:, 0], d[:, 2:].reshape(t, 3 * h, n)
        for each, b_h, b_n, t_h, t_n, dn, through, product in zip(*(c[::-1] for c in columns), strict=True):
            dh += each
            np.multiply(b_h, dh, out=t_h)
            np.multiply(b_n, dn, out=t_n)
            np.matmul(turned, product, out=dh)
            dh += through
        dr[...] = d[:, 2:].transpose(1, 2, 0, 3)
        da[:2] = dr[:2]
        da[2] = d[:, 1].transpose(1, 0, 2)
        return (dh,)


_RULE = "float32 and float64, no lengths, no projection: one tanh for all gates, the samples innermost"


def _register(name: str, cell: _Cell, agnostic_cell: Any) -> None:
    supports = functools.partial(plain_supports, ("float32", "float64"))
    register("numpy", "numpy", _RULE, name, HostScans(cell), agnostic_cell, supports)


_register("rnn_tanh", _Cell(), agnostic._Tanh)
_register("rnn_relu", _ReLU(), agnostic._ReLU)
_register("lstm", _LSTM(), agnostic._LSTM)
_register("gru", _GRU(), agnostic._GRU)
