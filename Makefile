# make run: install, make the demonstration data, train, evaluate, report.
# make test: install and run the tests. PYTHON chooses the interpreter (3.11 or 3.12);
# PIP_ARGS is handed to pip, for example an index with CPU builds of torch.
# make table-ubfc UBFC=/data/UBFC-rPPG/DATASET_2: run the recipes of params/tables/ubfc and print their table
# beside the published numbers; also table-pure PURE=..., table-vipl VIPL=..., table-cross UBFC=... PURE=....
# ARGS is handed on, for example ARGS="--seeds 0 1 2".
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
DEMO := data/demo
# Two processes of one thread each: half the time of one process on two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

TABLES := table-ubfc table-pure table-vipl table-cross

.PHONY: setup run test test-all lint bench clean $(TABLES)

setup: .venv/.installed

.venv/.installed: requirements.txt $(wildcard vendor/wheels/*.whl)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else \
	  "Python 3.11 or 3.12 is needed, this is %d.%d: mediapipe 0.10.14 has no build for it. Try: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -r requirements.txt
	@touch $@

run: setup
	@$(BIN)/python main.py synthesise $(DEMO)
	@$(BIN)/python main.py run

$(TABLES): table-%: setup
	@$(BIN)/python main.py reproduce $* $(if $(UBFC),--root ubfc_rppg_2="$(UBFC)") \
	  $(if $(PURE),--root pure="$(PURE)") $(if $(VIPL),--root vipl_hr="$(VIPL)") $(ARGS)

# CUDA reads it once, at the first product that any test makes.
export CUBLAS_WORKSPACE_CONFIG := :4096:8

test: setup
	$(PYTEST) -m "not slow"

test-all: setup
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench $(ARGS)

clean:
	rm -rf runs data/store data/demo
