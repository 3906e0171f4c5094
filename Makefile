# Two commands matter: `make demo` and `make test`. Everything is installed into .venv; data goes to .data.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
ENGINE ?= docker
.DEFAULT_GOAL := help
.PHONY: help setup tools demo run lint test check test-newest image image-test bench faults fuzz docs fix migrate lock

help: ## show this help
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.installed ## make .venv with wattos in it

.venv/.installed: requirements-dev.txt pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh

demo: setup ## the main job: documents in, cited answers out, through a fallback chain (ARGS=--once ends after it)
	@$(BIN)/wattos demo $(ARGS)

run: setup ## serve on 127.0.0.1:8080 with embedded defaults (ARGS=--port …)
	@$(BIN)/wattos serve $(ARGS)

tools: setup node_modules/.installed ## fetch what only other registries have: npm's tools, promtool

node_modules/.installed: package-lock.json scripts/tools.sh
	@sh scripts/tools.sh

lint: setup ## format, lint, types and import rules only
	@sh scripts/lint.sh

test: lint tools ## lint, types, import rules, tests (ARGS=… goes to pytest)
	@MODELS_DIR=.data/models $(BIN)/wattos models pull && $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: test ## what CI runs, which is `make test`

test-newest: setup tools ## the tests again on the newest Python found
	@sh scripts/test_newest.sh $(ARGS)

image: ## build the container image (ENGINE=docker, podman or buildah; ARGS=--build-arg …)
	@$(ENGINE) build --tag wattos:$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) $(ARGS) .

image-test: tools ## build the image and run it, read-only and without root (needs root and scripts/system_packages.sh)
	@sh scripts/image_test.sh $(ARGS)

bench: setup ## WattOS beside LiteLLM's proxy: CPU, latency, memory (ARGS=--full, ARGS='--only wattos --case plain-60-10')
	@sh scripts/bench.sh $(ARGS)

faults: setup ## pull every plug under load, a minute each; docs/RESILIENCE.md has the table (ARGS='--hold 10 --only Valkey')
	@PYTHONPATH=tests $(BIN)/python -m faults.matrix $(ARGS); missed=$$?; $(BIN)/python -m scripts.generate && exit $$missed

fuzz: tools ## schemathesis for longer than `make test` does (ARGS=40: examples an operation)
	@$(BIN)/python tests/load/fuzz.py $(ARGS)

docs: setup ## write the generated pages anew: settings, errors, metrics, readiness
	@$(BIN)/python -m scripts.generate

fix: setup ## format and mend what can be mended by itself
	@$(BIN)/ruff check --fix-only src tests migrations scripts && $(BIN)/ruff format src tests migrations scripts

migrate: setup ## bring the database (DATABASE_URL, or the embedded one) to the newest schema
	@$(BIN)/wattos db upgrade

lock: setup ## resolve pyproject.toml anew into the hashed requirement files (needs the package registry)
	@sh scripts/lock.sh
