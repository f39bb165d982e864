# Every target makes .venv and installs the project first, if that has not been done for this pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help run test soak check format docs results bench clean

help: ## say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(READY) ## train the embedded default end to end and show the result
	@echo "make run: training configs/digits_mlp.yaml, then measuring its test split"
	$(BIN)/dnntrain run configs/digits_mlp.yaml --test

test: $(READY) ## run the whole test suite
	@echo "make test: running the test suite with pytest, one worker a core"
	$(BIN)/python -m pytest -n auto

soak: $(READY) ## kill, starve and fuzz for minutes, and say how often
	@echo "make soak: running tests/faults at full length"
	DNNTRAIN_SOAK=1 DNNTRAIN_SOAK_SECONDS=60 $(BIN)/python -m pytest tests/faults

check: $(READY) ## lint, formatting, types and generated docs, all without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

format: $(READY) ## format the code and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## rewrite docs/reference.md from the registry
	$(BIN)/python docs/generate.py

results: $(READY) ## rewrite the tables of docs/results.md from docs/runs
	$(BIN)/python docs/studies.py table

bench: $(READY) ## time a training step, a comparison of many runs, sweeps, and folded networks, beside bare ones
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/compare_many.py
	$(BIN)/python benchmarks/sweep_asha.py
	$(BIN)/python benchmarks/folding.py
	$(BIN)/python benchmarks/frozen_layers.py

clean: ## remove the environment and every cache; runs/ is left alone
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@echo "setting up .venv (a minute or two, once)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $@
