#!/bin/sh
# Format, lint, types (two checkers: each finds what the other does not), import rules.
set -eu
.venv/bin/ruff check src tests migrations scripts
.venv/bin/ruff format --check src tests migrations scripts
.venv/bin/mypy
.venv/bin/basedpyright
.venv/bin/lint-imports --no-logo
