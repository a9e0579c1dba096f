"""The house stands as it was built: imports run one way, and the mathematics names no array library."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import xplayers

ROOT = Path(xplayers.__file__).parent
LOOKS_DOWN = {  # what each room may import; errors.py stands below all
    "arrays": set(),
    "functional": {"arrays"},
    "layers": {"arrays", "functional"},
    "kernels": {"arrays", "functional"},
    "optim": {"arrays", "functional", "layers"},
    "training": {"arrays", "functional", "layers", "optim"},
    "interchange": {"arrays", "functional", "layers"},
    "checking": {"arrays", "functional", "layers"},
}
LIBRARIES = {"numpy", "cupy", "cupyx", "torch", "jax", "scipy", "numba", "dask", "ndonnx", "array_api_strict"}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT)


def imports(path):
    """Every module that a file imports, absolute."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                package = path.relative_to(ROOT.parent).parts[: -node.level]
                yield ".".join((*package, node.module or ""))
            else:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "xplayers")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        if name.startswith("xplayers."):
            other = name.split(".")[1]
            assert other in {room, "errors"} | LOOKS_DOWN[room], f"{room} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_seam_and_the_kernels_know_array_libraries(path):
    room = path.relative_to(ROOT).parts[0]
    named = {n.split(".")[0] for n in imports(path)} & LIBRARIES
    if room in ("functional", "layers", "optim"):
        assert not named, f"{path.name} imports {named}"
    elif room not in ("arrays", "kernels"):
        assert named <= {"numpy"}, f"{path.name} imports {named}"


def registers(path):
    """Whether a file hangs kernels into the look-up."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = {"kernel", "pair", "register", "update"}
    return any(getattr(f, "id", "") in named or getattr(f, "attr", "") == "register" for f in calls)


OF_KERNELS = [p for means in ("on_numpy", "on_numba") for p in sorted((ROOT / "kernels" / means).glob("*.py"))]


@pytest.mark.parametrize("path", [p for p in OF_KERNELS if registers(p)], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_file_of_kernels_says_what_it_declines(path):
    assert "declined" in ast.get_docstring(ast.parse(path.read_text())).lower()


def test_the_package_imports_without_torch_cupy_jax_and_scipy(tmp_path):
    blocked = (
        "import sys\nfor n in ('torch', 'cupy', 'jax', 'scipy', 'numba', 'matplotlib', 'tqdm'): sys.modules[n] = None\n"
    )
    work = "import numpy as np, xplayers as xpl\nprint(xpl.GELU()(np.ones((2, 2))).shape)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    command = [sys.executable, "-c", blocked + work]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.strip() == "(2, 2)", done.stderr
