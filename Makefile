# Two commands are all a newcomer needs: `make demo` and `make test`. Both make .venv if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-deepface lint format lfw clean

demo: $(VENV)/.demo
	$(BIN)/maskfix demo

# As many processes as there are cores; a file goes to one of them, so that what its tests share is made once.
test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

# deepface and tensorflow in an environment of their own; the tests need no download.
test-deepface: $(VENV)-deepface/.ready
	DEEPFACE_HOME=$(VENV)-deepface $(VENV)-deepface/bin/python -m pytest tests/deepface_environment

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
	@# For the tests of its seam. Its own dependency, dlib, is built from source; dlib-bin is there already.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps face_recognition
	touch $@

# deepface imports werkzeug, which it declares for its web service only.
$(VENV)-deepface/.ready: pyproject.toml tests/deepface_environment/overrides.txt | $(BIN)/uv
	$(PYTHON) -m venv $(VENV)-deepface
	$(BIN)/uv pip install --quiet --python $(VENV)-deepface/bin/python --editable '.[demo]' pytest scipy \
	  deepface werkzeug tensorflow-cpu tf-keras --override tests/deepface_environment/overrides.txt
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-deepface build dist *.egg-info
