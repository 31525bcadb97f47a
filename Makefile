# `make demo` and `make test` set up everything they need in .venv; the second time they start at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETTINGS := setup.cfg pyproject.toml

.PHONY: help demo test lint faults engines parity nightly fuzz clean

help:
	@echo "make demo    the main job on real images: files, Beam job, shards, training, embeddings, timing"
	@echo "make test    linters, types and tests"
	@echo "make lint    linters and types only"
	@echo "make faults  kills, full disks, damage and memory: some 20 minutes, prints its figures"
	@echo "make engines conversions on Dask, and through s3fs into a server that speaks S3"
	@echo "make parity  every augmentation on 128 photographs against Pillow, both forms"
	@echo "make nightly what reads compiled programs or the wall clock: for a quiet machine"
	@echo "make fuzz    1,200,000 broken inputs"
	@echo "make clean   remove .venv, caches and demo_output"

demo: $(VENV)/demo.done
	$(BIN)/tfpipe demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd benchmarks && MYPYPATH=. $(abspath $(BIN))/mypy --config-file ../pyproject.toml *.py

# As root, so that small disks can be mounted; otherwise those tests are skipped and say so.
faults: $(VENV)/dev.done
	$(BIN)/python -m pytest tests/faults tests/reader/test_stream.py -m faults

engines: $(VENV)/dev.done $(VENV)/dask.done $(VENV)/aws.done
	$(BIN)/python -m pip install --quiet "moto[server,s3]>=5"
	$(BIN)/python -m pytest tests/engines -m engines

parity: $(VENV)/dev.done
	$(BIN)/python -m pytest tests/augment/test_parity.py -m parity

nightly: $(VENV)/dev.done
	$(BIN)/python -m pytest -m 'xla or slow'

fuzz: $(VENV)/dev.done
	$(BIN)/python benchmarks/fuzz.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tfpipe needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# demo.done, dev.done: the extra of that name is installed, for the present settings.
$(VENV)/%.done: $(BIN)/python $(SETTINGS)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) demo_output build *.egg-info .ruff_cache .mypy_cache .hypothesis
