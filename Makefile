# make demo: install dida into .venv and make one guided transfer
# make page: the same, with what exports models; open a page that edits photos in the browser
# make test: the same environment with the tools, and every check

PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo page test format

demo: .venv/installed
	$(BIN)/dida transfer --content examples/glasses.png --guide-a examples/smile.png \
	  --out out/demo.png --sheet out/demo-sheet.png

page: .venv/page
	$(BIN)/dida page -m portraits --open

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

.venv/page: .venv/installed
	$(BIN)/pip install --quiet --editable '.[onnx]'
	touch $@

.venv/tools: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
