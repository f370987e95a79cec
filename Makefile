# Each target installs what it needs into .venv: 'make run' the workflow, all other targets every extra. An installation
# is repeated only when pyproject.toml or requirements.lock have changed.
PYTHON ?= python3
VENV := .venv
RUNNABLE := $(VENV)/.runnable
INSTALLED := $(VENV)/.installed
PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet --constraint requirements.lock --editable
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-fast test-rest test-slurm coverage lint bench docs mlflow install clean help

run: $(RUNNABLE) ## train and evaluate the default experiment and print its results
	snakemake --cores all
	snakemake --quiet all --report results/report.html
	nfbench show

test: install ## run all tests except those that need Slurm
	$(PYTEST)

test-fast: install ## run the fast tests: no runs of the workflow
	$(PYTEST) -m "not slow and not workflow and not slurm"

test-rest: install ## run the tests that 'make test-fast' leaves out
	$(PYTEST) -m "(slow or workflow) and not slurm"

test-slurm: install ## run the workflow on a local Slurm, with faults; needs root
	command -v slurmctld > /dev/null || { apt-get update && apt-get install -y --no-install-recommends \
	slurmctld slurmd slurm-client munge; } > /dev/null 2>&1 || echo "Slurm could not be installed; its tests will be skipped"
	pytest -m slurm tests/slurm

coverage: install ## measure which lines the fast tests run; list the files with the most missing lines
	$(PYTEST) --cov=nfbench --cov-report= -m "not slow and not workflow and not slurm"
	coverage report --sort=miss --skip-covered

lint: install ## check formatting, style, types and the workflow
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

docs: install ## build the documentation, with the reports of finished runs
	mkdocs build --quiet --strict
	test ! -d results/reports || cp -r results/reports site/
	test ! -d site/reports || sed -i.md 's|../../docs/predict.md|../predict.html|' site/reports/*.html && rm -f site/reports/*.md
	@echo "documentation: $(CURDIR)/site/index.html"

mlflow: install ## show the tracked runs in MLflow, on this machine
	nfbench mlflow

bench: install ## compare speed with other implementations
	python benchmarks/run.py

install: $(INSTALLED) ## install nfbench with all extras into .venv

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(RUNNABLE): pyproject.toml requirements.lock | $(VENV)/bin/python
	$(PIP_INSTALL) '.[pipeline,demo]'
	touch $@

$(INSTALLED): pyproject.toml requirements.lock | $(VENV)/bin/python
	$(PIP_INSTALL) '.[pipeline,search,tracking,export,peers,demo,cluster,test,dev]'
	touch $(RUNNABLE) $@

clean: ## remove all results, but not data/
	rm -rf results/* .snakemake site

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'
