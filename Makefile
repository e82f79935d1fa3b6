# Two commands do everything on a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Without bytecode every process of a run or a test compiles the package anew, which takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-portable check fmt docs clean

demo: $(VENV)/.installed
	$(BIN)/secateur run studies/demo.yaml --out runs/demo --jobs 2

# CI runs the slow tests as well: on a desk they are `make test SLOW=1`.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist worksteal $(if $(CI)$(SLOW),,-m "not slow")

# The attacks again with the plainest kernels of PyTorch: what they find does not depend on the processor.
test-portable: $(VENV)/.installed
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow or kernels" tests/attacks

check: $(VENV)/.installed
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy

fmt: $(VENV)/.installed
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

# The documentation as a site, in site/. Warnings are errors.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
