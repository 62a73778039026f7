# Every target sets up .venv by itself, and again when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# The two large wheels go first, so that an interrupted set-up does not fetch them twice.
TORCH := $(shell grep -E '^(torch|torchvision)==' constraints.txt)
# All but metrics, which needs Java, and search, which only indexes beyond 100,000 pictures need.
EXTRAS := coreml,dev,executorch,inc,logs,nncf,onnx,openvino,optimum,qr,ray,train,video
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help setup quickstart test check bench

help:
	@echo "make setup       set up .venv (once, about 6 GB, most of it torch)"
	@echo "make quickstart  the whole pipeline on drawn pictures, with a report: runs/quickstart"
	@echo "make test        all tests"
	@echo "make check       style, types and import rules"
	@echo "make bench       measure the quickstart's bundles on this machine"

setup: $(READY)

quickstart: $(READY)
	$(BIN)/blip-edge quickstart -o runs/quickstart

test: $(READY)
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	@set -- $$(ls -d runs/quickstart/*/manifest.json runs/quickstart/*/*/manifest.json 2>/dev/null); \
	if [ $$# -eq 0 ]; then echo "error: there are no bundles yet; run: make quickstart" >&2; exit 3; fi; \
	set -x; $(BIN)/blip-edge bench $$(dirname "$$@")

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is missing or older than 3.11; name another: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv (1 of 2): $(TORCH)"
	@$(PIP) $(TORCH)
	@echo "setting up .venv (2 of 2): blip-edge[$(EXTRAS)]"
	@$(PIP) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
