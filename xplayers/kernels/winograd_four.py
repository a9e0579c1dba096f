"""The maps of Winograd's F(4x4, 3x3), for `precision="fast"` alone: a quarter of the products of the direct sum.

    y = A^T [(G g) * (B^T d)], A^T = V(4)^T, G = V(3), B^T = V(6)^-T,

where V(k) evaluates a polynomial of k coefficients at 0, +-1/sqrt(2), +-sqrt(2) and infinity (Cook-Toom, transposed).
With these points the root mean square error of a sum over 64 channels is 3 times the direct sum's in float32, over 256
channels 4.5 times; the whole numbers 0, +-1, +-2 give 6 and 9. A test holds it to 6.

The maps are dense matrices, the Kronecker squares of A, B and G: gathered taps and one product. Taken with
precision="fast" alone and from 64 channels on; what is no such convolution has been declined before.
"""

from typing import Any

import numpy as np

from .registry import precision, worth
from .winograd import Tiles

__all__ = ["maps_for"]

_CHANNELS = 64  # from here on the products that are spared take more time than the dense maps

_RUN = 1 << 13  # columns of taps at a time: 36 rows of them are 1.2 MB


def _maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (4, 6), B^T (6, 6) and G (6, 3), in float64."""
    points = np.array([0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5)])

    def at(k: int) -> np.ndarray:
        return np.vstack([points[:, None] ** np.arange(k), np.eye(k)[-1]])

    return at(4).T, np.linalg.inv(at(6)).T, at(3)


_AA, _BB, _GG = (np.kron(t, t).astype(np.float32) for t in _maps())  # (16, 36), (36, 36), (36, 9)


class _Maps:
    tile, kernel = 4, _GG

    @staticmethod
    def columns(tiles: Tiles, images: int = 1) -> int:
        return images * tiles.down * tiles.across

    def image(self, x: np.ndarray, v: np.ndarray, tiles: Tiles) -> None:
        """x (n, C, H, W) -> V = B^T d B, (36, C, columns)."""
        for c in _runs(v):
            wide = np.zeros((x.shape[0], c.stop - c.start, 4 * tiles.down + 2, 4 * tiles.across + 2), np.float32)
            _inside(wide, x, tiles)[...] = x[:, c, : wide.shape[2] - tiles.before[0], : wide.shape[3] - tiles.before[1]]
            taps = np.empty((6, 6, c.stop - c.start, x.shape[0], tiles.down, tiles.across), np.float32)
            for i in range(6):
                for j in range(6):
                    taps[i, j] = _every(wide, i, j, tiles).transpose(1, 0, 2, 3)
            np.matmul(_BB, taps.reshape(36, -1), out=v[:, c].reshape(36, -1))

    def answer(self, m: np.ndarray, y: np.ndarray, bias: np.ndarray | None, tiles: Tiles) -> None:
        """M (36, O, columns) -> y = A^T M A + bias, (n, O, H', W')."""
        for o in _runs(m):
            t = (_AA @ m[:, o].reshape(36, -1)).reshape(4, 4, -1, y.shape[0], tiles.down, tiles.across)
            if bias is not None:
                t += bias[o, None, None, None]
            for i in range(4):
                for j in range(4):
                    out = y[:, o, i::4, j::4]
                    out[...] = t[i, j, :, :, : out.shape[2], : out.shape[3]].transpose(1, 0, 2, 3)

    def slope(self, dy: np.ndarray, d: np.ndarray, tiles: Tiles) -> None:
        """dy (n, O, H', W') -> D = A dy A^T, (36, O, columns)."""
        for o in _runs(d):
            t = np.zeros((4, 4, o.stop - o.start, dy.shape[0], tiles.down, tiles.across), np.float32)
            for i in range(4):
                for j in range(4):
                    part = dy[:, o, i::4, j::4].transpose(1, 0, 2, 3)
                    t[i, j, :, :, : part.shape[2], : part.shape[3]] = part
            np.matmul(_AA.T, t.reshape(16, -1), out=d[:, o].reshape(36, -1))

    def back(self, dv: np.ndarray, dx: np.ndarray, tiles: Tiles) -> None:
        """dV (36, C, columns) -> dx = the sum of B dV B^T where the tiles lie, (n, C, H, W)."""
        for c in _runs(dv):
            taps = (_BB.T @ dv[:, c].reshape(36, -1)).reshape(6, 6, -1, dx.shape[0], tiles.down, tiles.across)
            wide = np.zeros((dx.shape[0], c.stop - c.start, 4 * tiles.down + 2, 4 * tiles.across + 2), np.float32)
            for i in range(6):
                for j in range(6):
                    _every(wide, i, j, tiles)[...] += taps[i, j].transpose(1, 0, 2, 3)
            inside = _inside(wide, dx, tiles)
            part = dx[:, c]
            part[:, :, : inside.shape[2], : inside.shape[3]] = inside
            part[:, :, inside.shape[2] :] = 0.0
            part[:, :, :, inside.shape[3] :] = 0.0


def _runs(v: np.ndarray) -> list[slice]:
    run = max(1, _RUN // v.shape[2])
    return [slice(i, min(i + run, v.shape[1])) for i in range(0, v.shape[1], run)]


def _inside(wide: np.ndarray, x: np.ndarray, tiles: Tiles) -> np.ndarray:
    """Where an image lies in what the tiles cover."""
    top, left = tiles.before
    return wide[:, :, top : top + x.shape[2], left : left + x.shape[3]]


def _every(wide: np.ndarray, i: int, j: int, tiles: Tiles) -> np.ndarray:
    """The tap i, j of every tile: (n, c, down, across)."""
    return wide[:, :, i : i + 4 * tiles.down : 4, j : j + 4 * tiles.across : 4]


_MAPS = _Maps()


def maps_for(weight: np.ndarray, exact: Any) -> Any:
    """These maps where they may be less exact and are worth it; `exact` elsewhere."""
    return _MAPS if precision() == "fast" and worth(min(weight.shape[:2]), _CHANNELS) else exact
