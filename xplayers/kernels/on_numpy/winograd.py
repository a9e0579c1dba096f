"""The maps of Winograd's F(2x2, 3x3) with NumPy alone: every addition is one of whole, flat arrays.

The image is parted by the parity of rows and columns into four planes of `down + 1` by `across + 1` numbers for each
channel; a step by two pixels is then a shift by one number, or by one row, of a flat run of planes. The last row and
column of tiles are no tiles, and a row and a number more lie behind each channel's planes, so that the shifts of its
last tiles end before the next channel: all of these ride along in the products, which is cheaper than an addition that
begins anew with each channel (NumPy copies what it adds then, at three times the cost). Where D = A dy A^T rides along
it is 0, and so is dV.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..threads import runs
from ..winograd import GG, Tiles

__all__ = ["MAPS"]

_FLAT = 1 << 17  # numbers in one addition: enough that NumPy's call costs little


class _Maps:
    tile, kernel = 2, GG

    @staticmethod
    def columns(tiles: Tiles, images: int = 1) -> int:
        return images * (tiles.down + 1) * (tiles.across + 1) + tiles.across + 2

    def image(self, x: np.ndarray, v: np.ndarray, tiles: Tiles) -> None:
        """x (n, C, H, W) -> V = B^T d B, (16, C, columns)."""
        wide, row = v.shape[2], tiles.across + 1
        for c, flat in _runs(v.shape[1], wide):
            n = flat.stop - flat.start
            planes = _planes(x[:, c], tiles, tiles.before, wide, n + row + 1)
            out = v.reshape(4, 4, -1)[:, :, flat]
            q = np.empty((2, 4, n + row), np.float32)
            for a in (0, 1):
                _taps(planes[a, 0], planes[a, 1], 1, q[a])
            for k in range(4):
                _taps(q[0, k], q[1, k], row, out[:, k])

    def answer(self, m: np.ndarray, y: np.ndarray, bias: np.ndarray | None, tiles: Tiles) -> None:
        """M (16, O, columns), written to, -> y = A^T M A + bias, (n, O, H', W')."""
        wide = m.shape[2]
        for o, flat in _runs(m.shape[1], wide):
            part = m.reshape(4, 4, -1)[:, :, flat]
            t = np.empty((2, 4, flat.stop - flat.start), np.float32)
            for k in range(4):
                _sums(part[:, k], t[:, k])
            for a in (0, 1):
                _sums(t[a], part[a, :2])
            if bias is not None:  # here rows are long
                channels = part[:2, :2].reshape(2, 2, -1, wide)
                channels += bias[o, None]
            _each_plane(y[:, o], part[:2, :2], tiles, (0, 0), wide)

    def slope(self, dy: np.ndarray, d: np.ndarray, tiles: Tiles) -> None:
        """dy (n, O, H', W') -> D = A dy A^T, (16, O, columns)."""
        wide = d.shape[2]
        for o, flat in _runs(d.shape[1], wide):
            planes = _planes(dy[:, o], tiles, (0, 0), wide, flat.stop - flat.start)
            out = d.reshape(4, 4, -1)[:, :, flat]
            q = np.empty((2, 4, flat.stop - flat.start), np.float32)
            for a in (0, 1):
                _sums_back(planes[a], q[a])
            for k in range(4):
                _sums_back(q[:, k], out[:, k])

    def back(self, dv: np.ndarray, dx: np.ndarray, tiles: Tiles) -> None:
        """dV (16, C, columns), written to, -> dx = the sum of B dV B^T where the tiles lie, (n, C, H, W)."""
        wide, row = dv.shape[2], tiles.across + 1
        for c, flat in _runs(dv.shape[1], wide):
            n = flat.stop - flat.start
            part = dv.reshape(4, 4, -1)[:, :, flat]
            q = np.empty((2, 4, n + row), np.float32)
            for k in range(4):
                _taps_back(part[:, k], row, q[:, k])
            planes = np.empty((2, 2, n + row + 1), np.float32)
            for a in (0, 1):
                _taps_back(q[a], 1, planes[a])
            _each_plane(dx[:, c], planes, tiles, tiles.before, wide)


def _runs(channels: int, wide: int) -> Iterator[tuple[slice, slice]]:
    """Some channels at a time, and the flat run of their columns."""
    for c in runs(channels, max(1, _FLAT // wide)):
        yield c, slice(c.start * wide, c.stop * wide)


def _taps(even: np.ndarray, odd: np.ndarray, step: int, out: np.ndarray) -> None:
    """B^T: the four taps even, odd, even[step], odd[step] of each tile -> out (4, length)."""
    n = out.shape[-1]
    e0, e1, o0, o1 = even[:n], even[step : step + n], odd[:n], odd[step : step + n]
    np.subtract(e0, e1, out=out[0])
    np.add(o0, e1, out=out[1])
    np.subtract(e1, o0, out=out[2])
    np.subtract(o1, o0, out=out[3])


def _taps_back(d: np.ndarray, step: int, out: np.ndarray) -> None:
    """B: d (4, length), written to, -> the gradients of even and odd, out (2, length + step)."""
    n = d.shape[-1]
    out[0, :n], out[1, n:] = d[0], 0
    out[0, n:] = 0
    np.subtract(d[1], d[2], out=out[1, :n])
    out[1, :n] -= d[3]
    np.add(d[1], d[2], out=d[1])
    d[1] -= d[0]
    out[0, step : step + n] += d[1]
    out[1, step : step + n] += d[3]


def _sums(m: np.ndarray, out: np.ndarray) -> None:
    """A^T: m (4, length) -> out (2, length)."""
    np.add(m[1], m[2], out=out[0])
    np.subtract(m[1], m[2], out=out[1])
    out[0] += m[0]
    out[1] += m[3]


def _sums_back(d: np.ndarray, out: np.ndarray) -> None:
    """A: d (2, length) -> out (4, length)."""
    out[0], out[3] = d[0], d[1]
    np.add(d[0], d[1], out=out[1])
    np.subtract(d[0], d[1], out=out[2])


def _planes(x: np.ndarray, tiles: Tiles, before: tuple[int, int], wide: int, length: int) -> np.ndarray:
    """x (n, c, H, W) -> its four planes by parity, (2, 2, length), a channel every `wide`; 0 beyond the image."""
    planes = np.zeros((2, 2, length), np.float32)
    for image, plane in _matching(x, planes, tiles, before, wide):
        plane[...] = image
    return planes


def _each_plane(x: np.ndarray, planes: np.ndarray, tiles: Tiles, before: tuple[int, int], wide: int) -> None:
    """The adjoint of `_planes`: writes x (n, c, H, W) from planes (2, 2, length)."""
    for image, plane in _matching(x, planes, tiles, before, wide):
        image[...] = plane


def _matching(x: np.ndarray, planes: np.ndarray, tiles: Tiles, before: tuple[int, int], wide: int) -> Any:
    """Pairs of views (c, n, h, w) of the same pixels: every other one of x, and those of a plane."""
    down, across = tiles.down + 1, tiles.across + 1
    shape = (x.shape[1], x.shape[0], down, across)
    for a in (0, 1):
        for b in (0, 1):
            plane = np.lib.stride_tricks.as_strided(planes[a, b], shape, (4 * wide, 4 * down * across, 4 * across, 4))
            top, left = (a - before[0]) % 2, (b - before[1]) % 2
            i, j = (top + before[0]) // 2, (left + before[1]) // 2
            image = x[:, :, top::2, left::2][:, :, : down - i, : across - j].transpose(1, 0, 2, 3)
            yield image, plane[:, :, i : i + image.shape[2], j : j + image.shape[3]]


MAPS = _Maps()
