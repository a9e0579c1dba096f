"""What a script needs, asked for before its first import, so that a fresh checkout answers in words."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_PACKAGES = {"torch": "torch==2.13.0", "sklearn": "scikit-learn"}


def needs(*modules: str) -> None:
    """Ends the script in words where a module is missing, or goes on in the checkout's .venv where that exists."""
    missing = [name for name in modules if find_spec(name) is None]
    if not missing:
        return
    own, script = ROOT / ".venv", Path(sys.argv[0])
    python = own / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != own and script.resolve().parent == ROOT / "scripts":
        os.execv(python, [str(python), *sys.argv])
    install = " ".join(_PACKAGES.get(name, name.replace("_", "-")) for name in missing)
    raise SystemExit(
        f"{script.name}: {' and '.join(missing)} is not installed. "
        f"Install it with: {sys.executable} -m pip install {install}\n"
        "or run ./scripts/test once: it makes .venv with all that the scripts need, and they find it by themselves."
    )
