# make fit    train on the real data set; pass flags with ARGS="--trainer.max_epochs 1"
# make test   run the tests; pass pytest's flags with ARGS
# Both make .venv first, once. Another Python: make fit PYTHON=python3.12
# Another installer than pip: INSTALL, see .github/workflows/ci.yml

PYTHON ?= python3
ARGS ?=
VENV := .venv
READY := $(VENV)/.installed
INSTALL := $(or $(INSTALL),$(VENV)/bin/pip install --quiet --disable-pip-version-check)

.PHONY: fit test

fit: $(READY)
	@$(VENV)/bin/python -m fashion_lightning.fit $(ARGS)

test: $(READY)
	@$(VENV)/bin/python -m pytest $(ARGS)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "error: expected Python 3.11 or newer as $(PYTHON): install it, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { echo "error: $(PYTHON) has no venv: install it, on Debian with 'apt-get install python3-venv'" >&2; exit 1; }
	@echo "installing into $(VENV) (once, some minutes)"
	@$(INSTALL) --editable ".[dev]" >$(VENV)/install.log 2>&1 \
		|| { echo "error: pip could not install, is there a network? See $(VENV)/install.log, then try again" >&2; exit 1; }
	@touch $@
