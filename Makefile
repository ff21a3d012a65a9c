# GNU make. Everything here needs only Python >= 3.11 with pip, git and make; the rest is brought in by the set-up.

# Variables of `make chat`, given on its command line: make chat DB=path-or-url SESSION=id
DB = chat.db
SESSION = demo
# Which servers `make services` starts, if not those that tests need: make services ONLY="postgres redis"
ONLY =
# The interpreter that .venv is made from; the first fitting one of these unless given.
PYTHON = python3 python3.13 python3.12 python3.11

# Where this is set nothing is compiled, and every process of every test pays for it.
unexport PYTHONDONTWRITEBYTECODE
# The set-up means .venv, whatever environment the shell is in.
unexport VIRTUAL_ENV UV_PROJECT_ENVIRONMENT

BIN = .venv/bin
READY = .venv/.ready
PYPROJECTS = pyproject.toml core/pyproject.toml $(wildcard plugins/*/pyproject.toml)

.DEFAULT_GOAL = help
.PHONY: help setup chat test lint type docs fix capabilities bench services services-down clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(firstword $(MAKEFILE_LIST)) | while read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(READY) ## make .venv: every distribution in editable mode, and the test tools
	@echo '.venv is ready'

chat: export TURNKEEP_CHAT_DB = $(value DB)
chat: export TURNKEEP_CHAT_SESSION = $(value SESSION)
chat: $(READY) ## talk to the demo agent; DB=path-or-url and SESSION=id choose where
	@$(BIN)/turnkeep chat --db "$$TURNKEEP_CHAT_DB" --session "$$TURNKEEP_CHAT_SESSION"

test: $(READY) .tox/.ready ## every check; the last line is pytest's
	@$(BIN)/python tests/run.py

lint: $(READY) ## rules and format
	@$(BIN)/tox run -q -e lint

fix: $(READY) ## format, and repair what the rules can repair
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

type: $(READY) ## strict types
	@$(BIN)/tox run -q -e type

docs: $(READY) ## build the documentation into site/
	@$(BIN)/tox run -q -e docs

capabilities: $(READY) ## run the test kit on each adapter, on all the servers; write the README's table of what they can do
	@PYTHONPATH=tests $(BIN)/python -m docs.capabilities

bench: $(READY) ## measure one turn against the bare driver
	@$(BIN)/python benchmarks/turn.py

services: $(READY) ## start the servers that tests use; their addresses go to .services.env; ONLY="names" chooses
	@PYTHONPATH=tests $(BIN)/python -m services up $(ONLY)

services-down: $(READY) ## end the servers that `make services` started
	@PYTHONPATH=tests $(BIN)/python -m services down

clean: ## remove what was built (databases stay)
	@if [ -x $(BIN)/python ] && [ -d .services ]; then PYTHONPATH=tests $(BIN)/python -m services down; fi
	@rm -rf .venv .tox .cache .pytest_cache .ruff_cache .hypothesis .services .services.env build dist site uv.lock
	@find core plugins tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Standard input is kept from the set-up: it belongs to `make chat`. So is standard output.
$(READY): $(PYPROJECTS)
	@{ set -e; echo "Setting up .venv" >&2; \
	if ! $(BIN)/uv --version >/dev/null 2>&1; then \
	    for python in $(PYTHON) ''; do \
	        [ -n "$$python" ] || { echo "make: found no Python >= 3.11; try: make setup PYTHON=/path/to/python" >&2; exit 1; }; \
	        "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    done; \
	    "$$python" -m venv --clear --without-pip .venv; \
	    "$$python" -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-warn-script-location 'uv>=0.9,<0.14'; \
	fi; \
	$(BIN)/uv sync --quiet --all-packages --all-extras; \
	touch $@; } </dev/null >&2

# tox knows a distribution by its path and would not see a dependency that its pyproject.toml gained.
.tox/.ready: $(PYPROJECTS) tox.ini
	@rm -rf .tox && mkdir .tox && touch $@
