#!/bin/sh
# `make bench`: WattOS beside LiteLLM's proxy, which gets a venv of its own under .bench (about a minute, once).
# Arguments go to tests/bench/gateway/bench.py: --full, --only wattos, --case plain-60-10, --memory …
set -eu
python=${PYTHON:-python3}
venv=.bench/litellm
lock=tests/bench/gateway/requirements-litellm.txt
case " $* " in
*" --only wattos "* | *" --only=wattos "* | *" --memory "* | *" --help "* | *" -h "*) ;; # LiteLLM is not needed
*)
  if ! cmp -s "$lock" "$venv/.installed"; then
    echo "Installing LiteLLM's proxy into $venv …" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    cp "$lock" "$venv/.installed"
  fi
  ;;
esac
exec .venv/bin/python tests/bench/gateway/bench.py --litellm "$venv/bin/litellm" "$@"
