#!/bin/sh
# Resolves pyproject.toml into hashed requirement files. uv.lock holds registry addresses, so it is not kept.
set -eu
.venv/bin/uv lock --quiet "$@"
.venv/bin/uv export --quiet --frozen --no-emit-project --no-header --no-dev --output-file requirements.txt
.venv/bin/uv export --quiet --frozen --no-emit-project --no-header --output-file requirements-dev.txt
.venv/bin/uv export --quiet --frozen --no-emit-project --no-header --only-group build --output-file requirements-build.txt
rm -f uv.lock
