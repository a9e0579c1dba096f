"""What a script needs, asked for before its first import, so that a fresh checkout answers in words."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_INSTALL = {"torch": "pip install torch==2.13.0", "sklearn": "pip install scikit-learn"}


def needs(*modules: str) -> None:
    """Ends the script in words where a module is missing, or goes on in the checkout's .venv where that exists."""
    missing = [name for name in modules if find_spec(name) is None]
    if not missing:
        return
    own, script = ROOT / ".venv", Path(sys.argv[0])
    python = own / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != own and script.resolve().parent == ROOT / "scripts":
        os.execv(python, [str(python), *sys.argv])
    install = " and ".join(_INSTALL.get(name, f"pip install {name}") for name in missing)
    raise SystemExit(
        f"{script.name}: {' and '.join(missing)} is not installed for {sys.executable}.\n"
        f"Install it with: {install}\n"
        "or run ./scripts/test once: it makes .venv with all that the scripts need, and they find it by themselves."
    )
