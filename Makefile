# Everything runs in a virtual environment of its own, .venv, made on first use.
PYTHON ?= python3.11
BIN := .venv/bin
EXTRAS := embedded,pyserini,ir_datasets,dev
SOURCES := $(shell find llmrankers_groupwise prompts -name '*.py' -o -name '*.toml')

.PHONY: help demo test lint clean
help:
	@echo "make demo   rerank the demo collection and print what changed"
	@echo "make test   run all tests on the installed package"
	@echo "make lint   ruff and mypy --strict"
	@echo "make clean  remove the virtual environments and caches"

demo: .venv/demo
	$(BIN)/run-groupwise run --run_path examples/demo/bm25.trec \
	    --query_file examples/demo/queries.tsv --corpus examples/demo/corpus.jsonl \
	    --qrels examples/demo/qrels.txt --save_path out/demo.trec --show q01 groupwise

test: .venv/dev
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info out

# Debian's python3.11 comes without ensurepip until python3.11-venv is installed.
.venv/bin/pip:
	$(PYTHON) -m venv .venv || (apt-get update && apt-get install --yes python3-venv && \
	    $(PYTHON) -m venv --clear .venv)

.venv/demo: .venv/bin/pip setup.py constraints.txt $(SOURCES)
	$(BIN)/pip install --quiet --constraint constraints.txt '.[embedded]'
	mkdir -p out
	touch $@

.venv/dev: .venv/bin/pip setup.py pyproject.toml constraints.txt $(SOURCES)
	$(BIN)/pip install --quiet --constraint constraints.txt '.[$(EXTRAS)]'
	touch $@
