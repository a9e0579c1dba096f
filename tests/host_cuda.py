"""CUDA C++ without a card: its kernels compiled by g++ and run on NumPy arrays, or by NVRTC and not run."""

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np

from xplayers.kernels.on_cuda import launching

_HERE = Path(__file__).parent


def kernels_of(text):
    return re.findall(r"__global__ void (\w+)\(", text)


class Host:
    """In the place of `launching.Card`: a block is a few fibers, and arrays are NumPy's."""

    xp = np
    threads = 64

    def __init__(self, folder: Path) -> None:
        self.folder, self.launched = folder, set()

    def contiguous(self, x, dtype=None):
        return np.require(x, dtype, ["C", "A"])

    def address(self, x):
        assert x.flags.c_contiguous and x.flags.aligned, "a struct was given an array that is not contiguous"
        return x.ctypes.data

    def is_here(self, x):
        return True

    @functools.cache  # noqa: B019  (one host a session)
    def loaded(self, family, types):
        target = self.folder / f"{family}-{'-'.join(kind for _, kind in types)}.so"
        text = launching.source(family, types, str(_HERE / "host_cuda.h"))
        text += "\n".join(f"HOST_RUNS({name})" for name in kernels_of(text))
        command = ["g++", "-std=gnu++14", "-O1", "-w", "-fPIC", "-shared", "-x", "c++", "-", "-o", str(target)]
        done = subprocess.run(command, input=text, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr[:4000]
        return ctypes.CDLL(str(target))

    def kernel(self, family, name, types):
        run = getattr(self.loaded(family, types), f"run_{name}")
        self.launched.add((family, name, types))

        def call(grid, block, arguments):
            held, letters = zip(*map(_passed, arguments), strict=True)
            pointers = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
            two = ctypes.c_int * 2
            failed = run(two(*grid), two(*block), pointers, "".join(letters).encode())
            assert not failed, f"{name}: " + ("threads met different barriers", f"was given {letters}")[failed - 1]

        return call


def _passed(a):
    """What a kernel is given, as CuPy passes it, and what it is."""
    if a is None:
        return ctypes.c_void_p(0), "0 "
    if isinstance(a, np.ndarray):
        assert a.flags.c_contiguous and a.flags.aligned, "a kernel was given an array that is not contiguous"
        if a.dtype.fields:  # a struct by value
            assert a.size == 1, "CuPy passes arrays of one element alone"
            return (ctypes.c_char * a.nbytes).from_buffer(a), "s?"
        letter = "E" if a.dtype == ml_dtypes.bfloat16 else a.dtype.char
        return ctypes.c_void_p(a.ctypes.data), f"a{letter}"
    return (ctypes.c_longlong(a), "sl") if isinstance(a, int) else (ctypes.c_double(a), "sd")


def lacks_compiler():
    return None if shutil.which("g++") else "NOT RUN: g++ is not installed"


def lacks_nvrtc():
    if not importlib.util.find_spec("cupy"):
        return "NOT RUN: cupy is not installed"
    from cupy_backends.cuda.libs import nvrtc

    try:
        nvrtc.getVersion()
    except Exception as e:  # a library that is not found
        return f"NOT RUN: NVRTC does not load: {e}".splitlines()[0]
    return None


_OPTIONS = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space")  # ours and those CuPy adds


def compile_for(arch, family, types):
    """PTX for "compute_80", what a card runs for "sm_80"; an AssertionError with NVRTC's log where it refuses."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(launching.source(family, types), f"{family}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*_OPTIONS, f"-arch={arch}"))
        return nvrtc.getPTX(program) if arch.startswith("compute") else nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)
