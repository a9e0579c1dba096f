"""Gathering and scattering rows: the two operations on which the libraries agree least."""

import array_api_compat as aac
import numpy as np

from .namespace import Array, accumulator, array_namespace, device, like, size

__all__ = ["add_along", "index_add", "one_hot", "take_along", "take_rows"]


def take_rows(x: Array, index: Array) -> Array:
    """x (V, *rest), index of any shape -> (*index.shape, *rest)."""
    xp = array_namespace(x, index)
    return xp.reshape(xp.take(x, xp.reshape(index, (-1,)), axis=0), (*index.shape, *x.shape[1:]))


def one_hot(index: Array, n: int, dtype: object) -> Array:
    """index of any shape -> (*index.shape, n), 1 where the last axis equals the index; all 0 for one out of range."""
    xp = array_namespace(index)
    classes = xp.arange(n, dtype=index.dtype, device=device(index))
    return xp.astype(index[..., None] == classes, dtype)


def take_along(x: Array, index: Array, axis: int) -> Array:
    """x (.., n, ..), index (.., m, ..) of integers along the axis -> (.., m, ..): the elements of x that it names."""
    xp = array_namespace(x, index)
    if aac.is_torch_namespace(xp):  # its take_along_dim takes an index out of range modulo n
        return x.gather(axis, xp.astype(index, xp.int64))
    return xp.take_along_axis(x, index, axis=axis)


def add_along(x: Array, index: Array, values: Array, axis: int) -> Array:
    """x (.., n, ..) plus values (.., 1, ..) where index (.., 1, ..) points along the axis: a new array."""
    xp = array_namespace(x, index, values)
    if aac.is_numpy_namespace(xp):
        out = x.copy()
        np.put_along_axis(out, index, np.take_along_axis(x, index, axis) + values, axis)
        return out
    if aac.is_torch_namespace(xp):
        return x.scatter_add(axis, xp.astype(index, xp.int64), values)
    shape = tuple(-1 if a == axis % x.ndim else 1 for a in range(x.ndim))
    classes = xp.reshape(xp.arange(x.shape[axis], dtype=index.dtype, device=device(index)), shape)
    return xp.where(index == classes, x + values, x)


def index_add(x: Array, index: Array, values: Array) -> Array:
    """x (V, *rest) plus values (*index.shape, *rest) added to the rows that index names; repeated rows add up.

    A new array: x is not written to.
    """
    xp = array_namespace(x, index, values)
    rest = x.shape[1:]
    index, values = xp.reshape(index, (-1,)), xp.reshape(values, (size(index), *rest))
    if size(index) == 0 or size(x) == 0:
        return xp.asarray(x, copy=True)
    if aac.is_numpy_namespace(xp):
        return _index_add_numpy(x, index, values)
    if aac.is_torch_namespace(xp):
        return x.index_add(0, xp.astype(index, xp.int64), values)
    if aac.is_jax_namespace(xp):
        return x.at[index].add(values)
    if aac.is_cupy_namespace(xp):
        out = x.copy()
        xp.add.at(out, index, values)
        return out
    # A product with a one-hot matrix, in blocks of rows: plain Array API, and exact as a sum is.
    flat = xp.reshape(values, (size(index), -1))
    out = xp.zeros((x.shape[0], flat.shape[1]), **like(x))
    block = max(1, 2**22 // x.shape[0])
    for i in range(0, size(index), block):
        end = min(i + block, size(index))
        rows = one_hot(index[i:end], x.shape[0], x.dtype)
        out = out + xp.matmul(xp.matrix_transpose(rows), flat[i:end, :])
    return x + xp.reshape(out, x.shape)


def _index_add_numpy(x: np.ndarray, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = x.copy()
    if x.ndim == 1:
        np.add.at(out, index, values)
        return out
    # Sorted, equal rows lie side by side. Adding the first of each run is one operation, and most rows are named once
    # or twice; what is left of each run is summed at once, which takes a microsecond a run.
    order = np.argsort(index, kind="stable")
    index = index[order]
    acc = accumulator(x)
    for _ in range(2 if acc == x.dtype and values.size >= 4096 else 0):
        first = _begins(index)
        out[index[first]] += values.take(order[first], axis=0)
        index, order = index[~first], order[~first]
        if not index.size:
            return out
    starts = np.flatnonzero(_begins(index))
    out[index[starts]] += np.add.reduceat(values.take(order, axis=0), starts, axis=0, dtype=acc)
    return out


def _begins(index: np.ndarray) -> np.ndarray:
    """Where a run of equal numbers begins."""
    return np.concatenate([[True], index[1:] != index[:-1]])
