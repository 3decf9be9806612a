# Two commands do everything on a machine that has Python 3.11, pip and make:
#   make run    install, then the whole pipeline from data checks to generated text, offline
#   make test   install, then everything CI runs
# and a third makes a site of the notebooks and pages, to read in a browser without a network:
#   make docs   install, then build/docs/index.html

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
BROWSER := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.PHONY: install run test lint browser docs unit notebooks refresh lock clean

install: $(INSTALLED)

# The lock holds every package with its version, so pip has nothing to resolve: a third faster than from pyproject.toml.
# The second line adds what only some builds want, such as the CUDA libraries of torch's build for Linux.
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --editable .
	touch $@

run: install
	$(BIN)/e2t run --profile quick

test: lint browser docs unit notebooks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The browser of tests/browser, which skip themselves where there is none.
browser:
ifeq ($(BROWSER),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium; \
	fi > /dev/null; command -v chromium > /dev/null || echo "no Chromium: the browser tests will be skipped"
endif

# The source folder is the project itself, so that a link between notebooks, pages and README is the same everywhere.
# All pages are read anew (-E): one that has not changed may link to one that has come or gone.
docs: install
	$(BIN)/sphinx-build -q -E -W --keep-going -n -c docs -d build/doctrees . build/docs

unit: install
	$(BIN)/pytest tests

notebooks: install
	$(BIN)/pytest -p no:cacheprovider --nbval --nbval-cell-timeout=300 notebooks

refresh: install
	$(BIN)/e2t refresh

# From an environment in which everything is green.
lock:
	( echo "# Exact versions known to install and run together (Python 3.11). Made by \`make lock\`."; \
	  $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' ) > requirements.lock

clean:
	rm -rf .venv build runs data/models
