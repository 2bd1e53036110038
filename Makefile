# Every target but install, lint and test only calls the command of its name.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
STAMP := .venv/.installed

# LANG is also the shell's locale variable: it is a language here only when it stands on make's own
# command line, and it never reaches a child process as the locale. Nor does it reach the shell's parser:
# make does not expand it (value), and the shell sees it as one variable (NAMED), whatever is in it.
ifeq ($(origin LANG),command line)
  override RECIPE := $(value LANG)
else
  override RECIPE :=
endif
unexport LANG LC_ALL
export BACKATTN_RECIPE = $(or $(RECIPE),$(DEFAULT_RECIPE))
NAMED := -- "$$BACKATTN_RECIPE"
export PYTHONUTF8 := 1

need-lang = $(if $(RECIPE),,$(error say which language: make $@ LANG=de (the recipes: $(basename $(notdir $(wildcard pipelines/*.toml))))))

# Number of processes that share the test files, each with one thread of torch.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install demo wheel test test-fast faults lint audit bench models features check train report corpus align project translator charlm english clean

help:
	@echo 'make demo                    install, run both stages on the embedded sample, print and save a table'
	@echo 'make wheel                   build dist/*.whl, which carries the recipes and the sample'
	@echo 'make test | lint | bench     the tests; style and types; the benchmarks'
	@echo 'make test-fast               the quick tests: no real models, no kills, no fuzzing (a minute or two)'
	@echo 'make faults                  test the cache against kills, full disks and damage (an hour)'
	@echo 'make audit                   ask an online service about known holes in the pinned versions'
	@echo 'make corpus LANG=es          print statistics of a corpus'
	@echo 'make models LANG=es          train all models of a recipe that are missing'
	@echo 'make translator LANG=es      train the translator of a recipe'
	@echo 'make english                 train the English tagger that all languages share'
	@echo 'make features LANG=es        stage one: translate, tag, write the feature cache'
	@echo 'make check LANG=es           compare the cache with corpus and recipe'
	@echo 'make train LANG=es           stage two: train the taggers'
	@echo 'make report LANG=es          print and write tables of the runs'
	@echo 'make align LANG=es           measure the alignment error rate of the translator'
	@echo 'make project LANG=es         project English tags through A, with no training'
	@echo 'make charlm LANG=es          train the character language models of a recipe'
	@echo 'Options of a command go into ARGS: make train LANG=es ARGS="--seeds 1,2"'

install: $(STAMP)

# fairseq and seqeval build from source against what is in place (no build isolation): their own build
# environments would fetch a second torch of several GB.
$(STAMP): requirements.txt requirements-build.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), f"Python 3.11 is needed, this is {sys.version}: make PYTHON=..."'
	@echo 'Installing into .venv: torch, fairseq (which compiles), flair; a few minutes, once.'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --requirement requirements-build.txt
	$(PIP) --no-build-isolation --requirement requirements.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

demo: install
	$(BIN)/backattn demo $(ARGS)

wheel: install
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

test: install
	$(PYTEST) $(ARGS)

test-fast: install
	$(PYTEST) -m 'not slow' $(ARGS)

faults: install
	PYTHONPATH=tests $(BIN)/python -m faults.damage
	PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)
	$(BIN)/python -m pytest -m slow tests/features/test_ray_engine.py tests/experiments/test_cluster_runs.py

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# In an environment of its own: what the auditor needs is no part of the product. Strict, and with no resolving:
# a version that the service does not know fails instead of passing unseen.
audit: .venv-audit/.installed
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip \
	  --requirement requirements.txt --requirement requirements-build.txt \
	  $$(sed -n 's/^\([A-Z][^ ]*\) .*/--ignore-vuln \1/p' audit-exceptions.txt) $(ARGS)

.venv-audit/.installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip --disable-pip-version-check install --quiet pip-audit==2.10.1
	touch $@

bench: install
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(ARGS)

models features check train corpus report align project: install
	$(need-lang)
	$(BIN)/backattn $@ $(ARGS) $(NAMED)

translator: install
	$(need-lang)
	$(BIN)/backattn translator train $(ARGS) $(NAMED)

charlm: install
	$(need-lang)
	$(BIN)/backattn charlm train $(ARGS) $(NAMED)

english: DEFAULT_RECIPE := english
english: install
	$(BIN)/backattn english train $(ARGS) $(NAMED)

clean:
	rm -rf .venv .venv-audit build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
