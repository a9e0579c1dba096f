"""NumPy's own format: a zip file with one .npy member an array, which `numpy.load` reads too.

Dtypes that NumPy does not have (bfloat16 and the 8-bit floats of ml_dtypes) are written bit by bit, as a structured
dtype whose one field has the name of theirs.
"""

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from xplayers.errors import refusal

__all__ = ["is_extended", "read", "write"]

_SUFFIX = ".npy"
_SAID_BY_BAD_FILES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # a compression that zipfile does not know
    OverflowError,
    MemoryError,
)


def is_extended(dtype: np.dtype) -> bool:
    """Whether the dtype is one of ml_dtypes."""
    return dtype.type.__module__.split(".")[0] == "ml_dtypes"


def write(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays, not compressed; the same arrays give the same bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if is_extended(array.dtype):
                bits = np.dtype(f"<u{array.dtype.itemsize}")
                array = np.asarray(array, order="C").view(np.dtype([(array.dtype.name, bits)]))
            with archive.open(zipfile.ZipInfo(name + _SUFFIX), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays, in the byte order of this machine. Refuses everything that `write` or `numpy.savez` do not write."""
    name = ""
    arrays: dict[str, np.ndarray] = {}
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            _check_count(file, len(archive.infolist()))
            for info in archive.infolist():
                name = info.filename
                if not name.endswith(_SUFFIX):
                    raise ValueError("is no .npy file")
                key = name.removesuffix(_SUFFIX)
                if key in arrays:
                    raise ValueError("stands there twice")
                with archive.open(info) as member:
                    arrays[key] = _read_member(member, info.file_size)
    except _Missing as lack:
        raise refusal(
            "load", "path", f"{path!r}, where {name!r} {lack}", "ml_dtypes to be installed", lack.mend
        ) from None
    except _SAID_BY_BAD_FILES as fault:
        kind = "a truncated or damaged file, or" if _starts_as_zip(path) else "a file that is no npz:"
        what = f"its member {name!r} {fault}" if name else str(fault) or type(fault).__name__
        raise refusal(
            "load",
            "path",
            f"{path!r}, {kind} one of another program ({what})",
            "an .npz file of numeric arrays, as xpl.save writes it",
            "save the state again with xpl.save, or copy the whole file",
        ) from fault
    return arrays


def _check_count(file: IO[bytes], found: int) -> None:
    """Holds the number of members against the one at the end of the file: zipfile passes over entries that are lost."""
    file.seek(-22, os.SEEK_END)
    signature, *_, stated, _, _, _ = struct.unpack("<4s4H2LH", file.read(22))
    if signature != b"PK\x05\x06" or stated not in (found, 0xFFFF):  # 0xFFFF: more than fit the field
        raise ValueError("the table of its members is damaged")


class _Missing(Exception):
    mend = "pip install ml_dtypes"


def _read_member(member: IO[bytes], length: int) -> np.ndarray:
    """One array. Its header is held against the member's length before memory is asked for."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(member)
    else:
        raise ValueError(f"has version {version} of the .npy format")
    if dtype.hasobject:
        raise ValueError("holds pickled Python objects, which could run code")
    extended = dtype.names[0] if dtype.names and len(dtype.names) == 1 else None
    if dtype.kind not in "biufc" and extended is None:
        raise ValueError(f"holds {dtype}, no numbers")
    count = math.prod(shape)
    if any(n < 0 for n in shape) or member.tell() + count * dtype.itemsize != length:
        raise ValueError(f"has {length} bytes, which do not fit its shape {shape}")
    data = member.read(count * dtype.itemsize + 1)  # one more, so that the checksum is compared
    array = np.frombuffer(bytearray(data), dtype, count)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    if extended is not None:
        return array.view(_extended(extended, dtype.itemsize))
    return array.astype(dtype.newbyteorder("="), copy=False)


def _extended(name: str, itemsize: int) -> Any:
    try:
        import ml_dtypes
    except ImportError:
        raise _Missing(f"has dtype {name}, which NumPy does not have") from None
    dtype = np.dtype(getattr(ml_dtypes, name, np.void))
    if not is_extended(dtype) or dtype.itemsize != itemsize:
        raise ValueError(f"has the unknown dtype {name!r}")
    return dtype


def _starts_as_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return os.path.getsize(path) > 0 and file.read(2) == b"PK"
