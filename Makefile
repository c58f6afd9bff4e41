# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch torchvision
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test check docs site picture wheel release format fuzz crash bench bench-methods bench-quick gpu clean

$(STAMP): pyproject.toml
	@echo "Setting up $(VENV) (once; downloads torch and torchvision, about 5 GB on disk)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

demo: $(STAMP)      ## a complete first run without data, network or GPU, ending in a report
	$(BIN)/coview demo
	@echo "Commands: $(BIN)/coview, or coview after: source $(BIN)/activate"

test: $(STAMP)      ## all tests, a file to a core
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(STAMP)     ## linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)      ## the pages and drawings that are made from the code: methods, commands, studies
	$(BIN)/python scripts/methods_page.py docs
	$(BIN)/python scripts/commands_page.py docs
	$(BIN)/python scripts/studies_page.py docs

site: $(STAMP)      ## the documentation as a site in site/; python -m http.server -d site shows it, with its search
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

picture: $(STAMP)   ## the pictures of README and docs: a demo, and its report in headless Chromium
	$(BIN)/python scripts/report_picture.py docs/pictures

wheel: $(STAMP)     ## a wheel in dist/, tried in a fresh environment with the dependencies of this one
	$(BIN)/python scripts/try_wheel.py

release: $(STAMP)   ## the same with all dependencies installed anew (about 5 GB)
	$(BIN)/python scripts/try_wheel.py --dependencies

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(STAMP)      ## damaged, lying and hostile files: make fuzz COUNT=1000 SEED=3 (default: a hundredth of a night)
	$(BIN)/python benchmarks/fuzz.py --seed $(or $(SEED),0) $(if $(COUNT),--count $(COUNT)) --record

bench: $(STAMP)     ## every figure in docs/benchmarks, beside the peers (installs them; takes about half an hour)
	$(BIN)/python -m pip install --quiet --editable ".[dev,peers,jpeg]"
	$(BIN)/python benchmarks/all.py

bench-methods: $(STAMP)   ## every method on CIFAR-10 at CPU size: CIFAR=folder with train.parquet and test.parquet
	$(BIN)/python benchmarks/methods.py $(CIFAR)/train.parquet $(CIFAR)/test.parquet

gpu:                ## is it right on a GPU, and how fast: at most 9 minutes, without an installation: OUT=folder CIFAR=train.parquet
	PYTHONPATH=src $(PYTHON) benchmarks/gpu.py --out $(or $(OUT),gpu-results) $(if $(CIFAR),--data $(CIFAR))

crash: $(STAMP)     ## whole runs under kills, signals, faults, damage and company: SHARE=1 is a night, SEED=0
	$(BIN)/python benchmarks/crash.py --share $(or $(SHARE),0.02) --seed $(or $(SEED),0) --record

bench-quick: $(STAMP)
	$(BIN)/python benchmarks/all.py --quick

clean:
	rm -rf $(VENV) runs site dist .pytest_cache .mypy_cache .ruff_cache
