#!/bin/sh
# Runs the tests on the newest Python that this machine has (on PATH, or pyenv's), in an environment of its own.
set -eu
newest=$(
  for python in $(ls -d "$HOME"/.pyenv/versions/*/bin/python3 2>/dev/null) $(command -v python3 python3.11 python3.12 python3.13 python3.14 python3.15); do
    "$python" -c 'import sys; v = sys.version_info; print(f"{v[0]} {v[1]} {v[2]} {sys.executable}") if v.releaselevel == "final" else None' 2>/dev/null || true
  done | sort -k1,1n -k2,2n -k3,3n | tail -n 1 | cut -d' ' -f4
)
echo "The newest Python here is $("$newest" --version) ($newest)"
export VENV=.venv-newest
if [ ! -f "$VENV/.installed" ] || [ requirements-dev.txt -nt "$VENV/.installed" ]; then
  PYTHON="$newest" sh scripts/setup.sh
fi
MODELS_DIR=.data/models "$VENV/bin/wattos" models pull
exec "$VENV/bin/python" -m pytest -n 2 --dist loadfile "$@"
