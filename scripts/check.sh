#!/bin/sh
# Lint, format, types, import rules.
set -eu
.venv/bin/ruff check src tests migrations scripts
.venv/bin/ruff format --check src tests migrations scripts
.venv/bin/mypy
.venv/bin/lint-imports --no-logo
