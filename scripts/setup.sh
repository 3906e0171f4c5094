#!/bin/sh
# Makes VENV (default .venv) with WattOS and all it needs, at exactly the versions and hashes of requirements-dev.txt.
set -eu
python=${PYTHON:-python3}
venv=${VENV:-.venv}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "WattOS needs Python 3.11 or newer; say which with PYTHON=…" >&2; exit 2; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || { echo "could not make $venv: is the venv module there (Debian: python3-venv)?" >&2; exit 2; }
echo "Installing into $venv (about a minute on a new machine) …"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch "$venv/.installed"
