# Sourced by scripts/demo, scripts/test and .ci/run: the environment that they run in.
# Sets $root (the checkout) and, after `environment <extra> <purpose>`, $python.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The first Python 3.11 or newer by its usual names; $PYTHON comes first.
find_python() {
    local name found=""
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do
        command -v "$name" >/dev/null 2>&1 || continue
        new_enough "$name" && { command -v "$name"; return; }
        found="$found, $name is $("$name" -V 2>&1 | head -n 1)"
    done
    die "xplayers needs Python 3.11 or newer; found${found:- none}. Install one, or name it: PYTHON=/path/to/python3 $0"
}

# The active virtual environment, or .venv in the checkout, which is made where it is missing.
choose_environment() {
    if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/python" ]; then
        python=$VIRTUAL_ENV/bin/python
        new_enough "$python" ||
            die "The active environment $VIRTUAL_ENV has $("$python" -V 2>&1); xplayers needs Python 3.11 or newer. Leave it with: deactivate"
        return 0
    fi
    local venv=$root/.venv base
    python=$venv/bin/python
    if [ -e "$venv/complete" ] && [ -x "$python" ] && new_enough "$python"; then return 0; fi
    base=$(find_python) || exit 1
    say "Making a virtual environment in $venv with $("$base" -V)"
    "$base" -m venv --clear "$venv" ||
        die "$base cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv"
    touch "$venv/complete"
}

# The requirements of an extra of pyproject.toml, one a line; "+name" for it and each extra that it includes.
# An installed torch is kept, whatever its release: "!" and words about it.
requirements() {
    "$python" - "$root/pyproject.toml" "$1" <<'PYTHON'
import importlib.metadata
import importlib.util
import re
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]


def walk(extra):
    print(f"+{extra}")
    for line in project["optional-dependencies"][extra]:
        if own := re.fullmatch(rf"{project['name']}\[(.+)\]", line):
            walk(own[1])
        elif re.match(r"torch\b", line) and importlib.util.find_spec("torch"):
            print(f"!the installed torch {importlib.metadata.version('torch')} is kept")
        else:
            print(line)


walk(sys.argv[2])
PYTHON
}

# Installs the checkout, editable, with the requirements of an extra; quick where that has been done before.
environment() {
    local extra=$1 purpose=$2 line stamp state
    choose_environment
    stamp=${python%/bin/python}/xplayers-installed
    state="$root $(cksum <"$root/pyproject.toml")"
    if [ "$(head -n 1 "$stamp" 2>/dev/null)" != "$state" ]; then
        rm -f "$stamp"
    elif grep -qxF "+$extra" "$stamp"; then
        return 0
    fi
    local packages=() extras=() kept=""
    while IFS= read -r line; do
        case $line in +*) extras+=("$line") ;; !*) kept="; ${line#!}" ;; *) packages+=("$line") ;; esac
    done <<<"$(requirements "$extra")"
    [ ${#packages[@]} -gt 0 ] || die "pyproject.toml has no extra '$extra'"
    say "Installing xplayers and what it takes to $purpose into ${python%/bin/python}:"
    say "  ${packages[*]}$kept"
    "$python" -m pip install --disable-pip-version-check --no-input --editable "$root" "${packages[@]}" ||
        die "pip could not install this; its reason is above. The same command tries again."
    [ -e "$stamp" ] || say "$state" >"$stamp"
    printf '%s\n' "${extras[@]}" >>"$stamp"
}

# One BLAS thread a process, unless the caller has said otherwise: the products are small, and where others work on the
# machine too, a second thread waits for the first.
one_thread() { export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"; }
