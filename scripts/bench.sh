#!/bin/sh
# `make bench`: WattOS beside LiteLLM's proxy, which gets a venv of its own under .bench (about a minute, once).
# Arguments go to tests/bench/gateway: --full, --only wattos, --case plain-60-10, --memory …
set -eu
venv=.bench/litellm
lock=tests/bench/gateway/requirements-litellm.txt
case " $* " in
*" --only wattos "* | *" --only=wattos "* | *" --report "* | *" --help "* | *" -h "*) ;; # LiteLLM is not needed
*)
  if ! cmp -s "$lock" "$venv/.installed"; then
    echo "Installing LiteLLM's proxy into $venv …" >&2
    rm -rf "$venv"
    .venv/bin/python -m venv "$venv" # the same Python for both
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r "$lock"
    cp "$lock" "$venv/.installed"
  fi
  ;;
esac
exec env PYTHONPATH=tests .venv/bin/python -m bench.gateway --litellm "$venv/bin/litellm" "$@"
