# `make demo` and `make test` set up everything they need in .venv; the second time they start at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETTINGS := setup.cfg pyproject.toml
RESULTS := benchmarks/results

.PHONY: help demo test quick lint format faults engines gpu parity browser docs site fuzz nightly bench clean

help:
	@echo "make help     this list"
	@echo "make demo     the main job on real images: files, Beam job, shards, training, embeddings, timing"
	@echo "make test     linters, types and tests: what CI runs, some 8 minutes on two cores"
	@echo "make quick    linters and the tests that need no TensorFlow: under a minute"
	@echo "make lint     linters, format and types only"
	@echo "make format   rewrite all files in the project's format"
	@echo "make faults   kills, power cuts, full disks, damage and memory: some 25 minutes, prints its figures"
	@echo "make engines  conversions on Dask, through s3fs into an S3 server; exports by TFDS, Croissant, DALI; Ray"
	@echo "make parity   every augmentation on 128 photographs against Pillow; regions against torchvision, if installed"
	@echo "make gpu      every op, policy and batch transform on a GPU against the CPU, bit by bit"
	@echo "make browser  the pages that tfpipe writes, in a real Chromium (TFPIPE_CHROMIUM, or chromium on the PATH)"
	@echo "make docs     the site without a warning, every code block of the documentation, the examples, the notebook"
	@echo "make site     the documentation as pages, in site/"
	@echo "make nightly  the tests that take long (tests/nightly.txt), read compiled programs or the wall clock"
	@echo "make fuzz     1,200,000 broken inputs"
	@echo "make bench    every benchmark, small, without other packages; JSON into $(RESULTS)"
	@echo "make clean    remove .venv, builds, caches and demo_output"

demo: $(VENV)/demo.done
	$(BIN)/tfpipe demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # tests/conftest.py has the order

# The files are listed in tests/quick.txt; one that loads TensorFlow ends the run.
quick: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q --without_tensorflow @tests/quick.txt

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd benchmarks && MYPYPATH=.:.. $(abspath $(BIN))/mypy --config-file ../pyproject.toml *.py

format: $(VENV)/dev.done
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

# As root, so that small disks can be mounted; otherwise those tests are skipped and say so.
faults: $(VENV)/dev.done
	$(BIN)/python -m pytest tests/faults tests/reader/test_stream.py -m faults

engines: $(VENV)/dev.done $(VENV)/dask.done $(VENV)/aws.done $(VENV)/ray.done
	$(BIN)/python -m pip install --quiet "moto[server,s3]>=5" "tensorflow-datasets>=4.9" "mlcroissant>=1.0"
	$(BIN)/python -m pip install --quiet nvidia-dali-cuda120
	$(BIN)/python -m pytest tests/engines -m engines

# torchvision is in no extra (some GB): pip install torchvision, and uninstall triton, which crashes beside TensorFlow.
# Without it those tests are skipped, and say so.
parity: $(VENV)/dev.done
	$(BIN)/python -m pytest tests/augment/test_parity.py tests/regions/test_torchvision.py -m parity

# The other suites hide the GPU (tests/conftest.py). Without one, every test is skipped and says so.
gpu: $(VENV)/dev.done
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} TF_FORCE_GPU_ALLOW_GROWTH=true $(BIN)/python -m pytest tests/gpu -m gpu

browser: $(VENV)/docs.done
	$(BIN)/python -m pip install --quiet "playwright>=1.50"
	$(BIN)/python -m pytest tests/browser -m browser

docs: site
	$(BIN)/python -m pytest tests/docs -m docs

# mkdocs-material's notice about another tool is switched off.
site: $(VENV)/docs.done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# In three runs: a process keeps all programs that it compiled, 8 GB of them after two thirds of these tests.
NIGHTLY := python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "xla or slow"
nightly: $(VENV)/dev.done
	$(BIN)/$(NIGHTLY) tests/reader tests/timing
	$(BIN)/$(NIGHTLY) tests/augment
	$(BIN)/$(NIGHTLY) --ignore tests/reader --ignore tests/timing --ignore tests/augment

fuzz: $(VENV)/dev.done
	$(BIN)/python benchmarks/fuzz.py

# One small run of each; benchmarks/README.md has the settings of the published figures.
bench: $(VENV)/demo.done
	cd benchmarks && $(abspath $(BIN))/python bench_convert.py --count 4000 --peers loop --json results/convert.json
	cd benchmarks && $(abspath $(BIN))/python bench_read.py --count 1024 --rows tfpipe,stock,book --json results/read.json
	cd benchmarks && $(abspath $(BIN))/python bench_augment.py --only tfpipe --json results/augment.json
	cd benchmarks && $(abspath $(BIN))/python bench_ops.py --json results/ops.json
	cd benchmarks && $(abspath $(BIN))/python bench_regions.py --repeats 3 --json results/regions.json
	cd benchmarks && $(abspath $(BIN))/python bench_resize.py --count 600 --json results/resize.json
	cd benchmarks && $(abspath $(BIN))/python bench_shuffle.py --json results/shuffle.json
	cd benchmarks && $(abspath $(BIN))/python bench_check.py --megabytes 200 --json results/check.json
	cd benchmarks && $(abspath $(BIN))/python bench_report.py --count 2000 --json results/report.json
	cd benchmarks && $(abspath $(BIN))/python bench_book.py --json results/book.json

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tfpipe needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# demo.done, dev.done: the extra of that name is installed, for the present settings.
$(VENV)/%.done: $(BIN)/python $(SETTINGS)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) demo_output build dist *.egg-info .ruff_cache .mypy_cache .hypothesis
