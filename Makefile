# make quickstart and make test are all that a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup quickstart test lint format bench bench-op bench-gpu clean

setup: $(READY)

$(READY): pyproject.toml setup.py $(wildcard ops/pyproject.toml ops/setup.py)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip setuptools wheel
	$(BIN)/python -m pip install -q -e '.[dev,quickstart]'
	@test ! -e ops/pyproject.toml || $(BIN)/python -m pip install -v ./ops > .venv/ops.log 2>&1 \
	  || echo "ops: not built, the slower PyTorch path is used; why is below, or in .venv/ops.log"
	@grep -hs '^ *ops: ' .venv/ops.log | sort -u || true
	touch $@

quickstart: $(READY)
	$(BIN)/python tools/quickstart.py

# a test process that dies ends the run, which would wait for it for ever
test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/segcore bench
	$(BIN)/segcore bench-loader
	$(BIN)/segcore bench-loader --annotations
	$(BIN)/python tools/bench_detector.py
	$(BIN)/python tools/bench_refine.py
	$(BIN)/python tools/bench_queries.py

bench-op: $(READY)
	$(BIN)/python ops/bench.py

bench-gpu: $(READY)
	$(BIN)/python tools/bench_gpu.py

clean:
	rm -rf .venv output
