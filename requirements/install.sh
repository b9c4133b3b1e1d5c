#!/bin/sh
# Make .venv and install from a hashed lock. Usage: requirements/install.sh runtime|test
#
# Takes the CPU build of torch where pip finds one (find-links or an extra index, from the environment or pip's own
# files), and the plain one elsewhere, without a question (docs/decisions/0002).
set -eu
kind=$1
venv=.venv
python=$venv/bin/python

if [ ! -x "$python" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
    if ! python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
        echo "triage needs Python 3.11; python3 here is $(python3 --version 2>&1)" >&2
        exit 1
    fi
    if ! python3 -m venv --clear "$venv" 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
            python3 -m venv --clear "$venv"
        else
            echo "python3 -m venv does not work here: install Debian's python3-venv" >&2
            exit 1
        fi
    fi
fi

stamp=$venv/.installed-$kind
wanted=$(cat requirements/*.lock requirements/install.sh pyproject.toml | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

if "$python" -m pip install -q --dry-run --no-deps --ignore-installed torch==2.13.0+cpu >/dev/null 2>&1; then
    lock=requirements/$kind-cpu.lock
else
    lock=requirements/$kind.lock
    echo "No CPU build of torch is within pip's reach: taking the plain one, several GB. To avoid it set" >&2
    echo "PIP_EXTRA_INDEX_URL to the PyTorch project's index of CPU builds and run this again." >&2
fi

echo "installing $lock" >&2
# uv is ten times faster than pip here, but does not read pip's settings: hand it the folders and indexes.
setting() { "$python" -m pip config get "global.$1" 2>/dev/null || true; }
links=${PIP_FIND_LINKS:-$(setting find-links)}
if "$python" -m pip install -q uv==0.13.8 >/dev/null 2>&1 &&
    UV_FIND_LINKS=$links UV_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL:-} UV_INDEX_STRATEGY=unsafe-best-match \
        "$venv/bin/uv" pip install -q --python "$python" --require-hashes -r "$lock" 2>/dev/null; then
    :
else
    "$python" -m pip install -q --require-hashes -r "$lock"
fi
"$python" -m pip install -qqq --no-deps --no-build-isolation -e .
# uv leaves no bytecode, and many an image forbids Python to write its own: then every process of the product compiles
# some 1,500 modules at each start, four times its start-up. Importing all of ours once keeps what they need.
env -u PYTHONDONTWRITEBYTECODE "$python" -c '
import importlib, pkgutil, triage
for module in pkgutil.walk_packages(triage.__path__, "triage."):
    importlib.import_module(module.name)'
echo "$wanted" >"$stamp"
