# make demo: install dida into .venv and make one guided transfer
# make test: the same environment with the tools, and every check

PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test format

demo: .venv/installed
	$(BIN)/dida transfer --content examples/glasses.png --guide-a examples/smile.png \
	  --out out/demo.png --sheet out/demo-sheet.png

test: .venv/tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --dist worksteal

format: .venv/tools
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/tools: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
