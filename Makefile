PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: search test style quality clean

search: $(VENV)/.installed
	$(BIN)/tangle-hf search --num_processes 1 gpt2 --output_dir runs/search_gpt --arch_learning_rate 0.0625 $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

style: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quality: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamp files: an install runs again only when pyproject.toml is newer.
$(VENV)/bin/python:
	@echo "creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing tangle_hf into $(VENV) (the first time downloads PyTorch, which takes a few minutes)"
	@$(PIP) install -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing tangle_hf and pytest into $(VENV) (the first time downloads PyTorch, which takes a few minutes)"
	@$(PIP) install -e '.[test]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing tangle_hf and the development tools into $(VENV)"
	@$(PIP) install -e '.[dev]'
	@touch $@
