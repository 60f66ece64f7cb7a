# Two commands are all a newcomer needs: `make demo` and `make test`. Both make .venv if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format lfw clean

demo: $(VENV)/.demo
	$(BIN)/maskfix demo

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# LFW with the shared data; see README for your own.
lfw: $(VENV)/.dev
	$(BIN)/python -m benchmarks.lfw --data ../shared/data/lfw \
	  --embedder arcface:../shared/models/mobilefacenet-arcface/mobilefacenet.onnx \
	  --templates ../shared/data/masktheface --weights cadf_small_128 --out runs/lfw

# uv resolves and downloads in parallel: minutes less than pip for torch and its libraries.
$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
