# The two commands to know: `make app` opens the demo in a browser, `make test` checks everything.

PYTHON ?= python3
WORKSPACE ?= work/fashion
PORT ?= 8501
ARGS ?=

# Paths are relative, so that a checkout under a folder with spaces works.
RUN := .venv/bin/python
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install app test lint bench bench-peers clean
.DELETE_ON_ERROR:

help:
	@echo "make app      install, make the Fashion-MNIST demo and serve it on http://127.0.0.1:$(PORT)   (PORT=... for another)"
	@echo "make test     install, lint and run the tests        (ARGS='-k index' is passed to pytest)"
	@echo "make install  make .venv with everything pinned in requirements-dev.txt"
	@echo "make lint     ruff and mypy"
	@echo "make bench    run the benchmarks                     (ARGS='...' is passed on)"
	@echo "make bench-peers    other libraries beside ours, in an environment of their own under work/"
	@echo "make clean    remove .venv and caches; workspaces under work/ are kept"

install: $(STAMP)

# Made again only when a requirements file is newer than the stamp, which is written last.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Whence needs Python 3.11 or newer and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1 | tail -n 1): name a newer one, e.g. make install PYTHON=python3.12" >&2; exit 1; }
	@test -x .venv/bin/pip || "$(PYTHON)" -m venv .venv
	@echo "Installing into .venv. PyTorch and its CUDA libraries are several gigabytes: this takes a minute or more."
	@$(RUN) -m pip install --disable-pip-version-check --no-input -r requirements-dev.txt
	@$(RUN) -m pip install --disable-pip-version-check --no-input --quiet --no-deps --editable .
	@touch $(STAMP)

app: install
	$(RUN) -m attribution demo fashion --workspace "$(WORKSPACE)"
	$(RUN) -m attribution app --workspace "$(WORKSPACE)" --port $(PORT)

# Several processes, each with whole files, so that what a file builds is built once.
TESTERS ?= 2

test: install lint
	$(RUN) -m pytest --numprocesses $(TESTERS) --dist loadfile $(ARGS)

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: install
	$(RUN) -m benchmarks $(ARGS)

bench-peers: install
	$(RUN) -m benchmarks.peers $(ARGS)

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
