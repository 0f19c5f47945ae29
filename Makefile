# Everything runs in its own virtual environment, .venv; `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-out
# torch to install. With an NVIDIA GPU take the registry's own build; without one only a CPU build will do,
# as the other brings gigabytes of CUDA packages. Choose another with TORCH="torch==…".
TORCH_VERSION := 2.13.0
# The torchvision that was built with it, for networks of timm and segmentation-models-pytorch. Any other cannot be imported, and then
# neither can torchmetrics, so where none fits it lies aside, for tests alone (tests/torchvision_aside.py).
TORCHVISION_VERSION := 0.28.0
HAS_GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo yes)
CPU_INDEX := https://download.pytorch.org/whl/cpu
# Where the published schemas of STAC's extensions lie, or are fetched to.
STAC_SCHEMAS := $(or $(RSDATA_STAC_SCHEMAS),$(VENV)/stac-schemas)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help install demo test lint format schemas docs check-docs bench-tile bench-splits bench-terrain bench-feeding bench-labels bench-shards bench-video bench-video-training fuzz-video check-fuzz check-network check-texts check-training check-kill check-exports bench-models bench-catalog bench-scaling bench-queue check-deploy check-slurm check-compose clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Create .venv with rsdata, torch and the tools for tests

$(VENV)/.installed: pyproject.toml .ci/constraints.txt
	@echo "Installing into $(VENV) ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifdef TORCH
	$(PIP) install --progress-bar off "$(TORCH)"
else ifeq ($(HAS_GPU)$(shell uname -s),Linux)
	$(PIP) install --progress-bar off "torch==$(TORCH_VERSION)+cpu" 2>/dev/null \
	  || $(PIP) install --progress-bar off --index-url $(CPU_INDEX) "torch==$(TORCH_VERSION)"
else
	$(PIP) install --progress-bar off "torch==$(TORCH_VERSION)"
endif
	$(PIP) freeze | grep -i '^torch==' > $(VENV)/torch.txt
	$(PIP) install --progress-bar off -q -c .ci/constraints.txt -c $(VENV)/torch.txt -e ".[train,s1,download,video,llm,score,taco,dev]" huggingface-hub
	$(PIP) install --progress-bar off -q --no-deps -c .ci/constraints.txt segmentation-models-pytorch timm  # they would bring a torchvision
ifdef TORCH
	$(PIP) install --progress-bar off -q -c $(VENV)/torch.txt torchvision || true
else ifeq ($(HAS_GPU)$(shell uname -s),Linux)
	$(PIP) install --progress-bar off -q -c $(VENV)/torch.txt "torchvision==$(TORCHVISION_VERSION)+cpu" 2>/dev/null \
	  || $(PIP) install --progress-bar off -q --retries 0 -c $(VENV)/torch.txt --index-url $(CPU_INDEX) "torchvision==$(TORCHVISION_VERSION)" || true
else
	$(PIP) install --progress-bar off -q -c $(VENV)/torch.txt "torchvision==$(TORCHVISION_VERSION)" || true
endif
	$(BIN)/python -c "import torchvision" 2>/dev/null || { $(PIP) uninstall -q -y torchvision; \
	  $(PIP) install --progress-bar off -q --no-deps --upgrade --target $(VENV)/torchvision-aside "torchvision==$(TORCHVISION_VERSION)" || true; }
	@touch $@

demo: install ## Build the demonstration dataset, train on it, and name the report to open
	$(BIN)/rsdata demo --out $(OUT)

test: install ## Lint, check types and run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

lint: install ## Lint, check formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: install ## Write schemas/ from the records
	$(BIN)/python -c "from pathlib import Path; from rsdata.records import write_schemas; write_schemas(Path('schemas'))"

docs: install ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check-docs: install docs ## Run every command and program of the documentation, slow ones too
	RSDATA_ALL_BLOCKS=1 $(BIN)/pytest tests/test_docs.py tests/test_docs_extending.py tests/test_gallery.py

bench-tile: install ## Build one full-size tile and print wall time per stage and peak memory
	$(BIN)/python tests/benchmarks/full_tile.py

bench-splits: install ## Divide and audit half a million generated patches; fails where a bound is missed
	$(BIN)/python tests/benchmarks/splits.py

bench-terrain: install ## Terrain correct one full-size tile of Sentinel-1 and print time and peak memory
	$(BIN)/python tests/benchmarks/terrain.py --threads 2 --profile

bench-shards: install ## Convert 4,000 patches and read them, against other tools; fails where a bound is missed
	$(BIN)/python tests/benchmarks/convert.py
	$(PIP) install --progress-bar off -q -c .ci/constraints.txt -c $(VENV)/torch.txt -e ".[bench]"
	$(BIN)/python -c "import torchvision" 2>/dev/null || $(PIP) uninstall -q -y torchvision  # one for GPUs, which nothing here needs
	$(BIN)/python tests/benchmarks/reading.py

bench-labels: install ## Rasterize and label one full-size tile and print time and accuracy
	$(BIN)/python tests/benchmarks/labels.py

bench-video: install ## Compare video shards with xarrayvideo's way, in rate and speed; fails where a bound is missed
	$(BIN)/python tests/benchmarks/video.py

bench-video-training: install ## Train on exact and on lossy series of the demonstration; fails if the scores differ by more than seeds do
	$(BIN)/python tests/benchmarks/video_training.py

fuzz-video: install ## Read 10,000 damaged video blobs; fails if one crashes the reader or exceeds its bounds
	$(BIN)/python tests/benchmarks/video_fuzz.py

check-fuzz: install ## Damage every kind of file that is read, for SECONDS (default 600); fails if one does anything but be refused in words
	$(BIN)/python tests/benchmarks/fuzz.py --seconds $(or $(SECONDS),600)

check-network: install ## Run commands without a network, under strace; fails if one reaches for it, or a key of the environment shows
	RSDATA_NETWORK=full $(BIN)/pytest -q tests/test_network.py

check-training: install ## Train three seeds on the demonstration dataset, and learn real patches by heart; fails where a bound is missed
	$(BIN)/python tests/benchmarks/training.py

bench-feeding: install ## Time the loader alone and beside a network
	$(BIN)/python tests/benchmarks/feeding.py --on-device

check-texts: install ## Try texts at full size: facts, every answer, the check, a language model's captions; fails where a bound is missed
	$(BIN)/python tests/benchmarks/facts.py --reference 500
	$(BIN)/python tests/benchmarks/facts.py
	$(BIN)/python tests/benchmarks/texts.py
	$(BIN)/python tests/benchmarks/mutations.py
	$(PIP) install --progress-bar off -q -c .ci/constraints.txt -c $(VENV)/torch.txt -e ".[serve]"
	$(BIN)/python tests/benchmarks/chat.py --transformers

bench-catalog: install ## Write STAC, Croissant, the card and the report of 100,000 generated patches; fails where a bound is missed
	$(BIN)/python tests/benchmarks/catalog.py
	$(BIN)/python tests/benchmarks/report.py

check-exports: install ## Read every export with programs that are not ours, torchgeo among them, and try the report in a browser
	$(PIP) install --progress-bar off -q -c .ci/constraints.txt -c $(VENV)/torch.txt -e ".[bench]"
	$(BIN)/python -c "import torchvision" 2>/dev/null || $(PIP) uninstall -q -y torchvision  # one for GPUs, which nothing here needs
	$(PIP) install --progress-bar off -q --no-deps --upgrade --target $(VENV)/torchgeo-aside "torchgeo==0.8.1" "einops==0.8.2"
	$(BIN)/python tests/stac_schemas.py $(STAC_SCHEMAS)
	RSDATA_STAC_SCHEMAS=$(STAC_SCHEMAS) $(BIN)/pytest $(wildcard tests/test_exports_*.py tests/test_card.py tests/test_report*.py tests/test_catalog*.py)

check-kill: install ## Kill a build thirty times and compare every byte with an undisturbed one; fails if one differs
	$(BIN)/python tests/benchmarks/kill.py

bench-scaling: install ## Build with one worker and with two, stage by stage, and print what datasets cost; fails where a bound is missed
	$(BIN)/python tests/benchmarks/cost.py
	$(BIN)/python tests/benchmarks/scaling.py

bench-queue: install ## Queue 100,000 scenes on a Dask scheduler and draw its memory; fails if it grows
	$(BIN)/python tests/benchmarks/queueing.py

check-deploy: install ## Start a Prefect server, deploy a build and have a Prefect worker do it
	$(BIN)/python tests/benchmarks/deploy.py

check-slurm: install ## Start a SLURM of one node and build on it, also with a job cancelled and with the build stopped
	$(BIN)/python tests/benchmarks/slurm_cluster.py

check-compose: install ## Make the image, start the compose file with a Docker that runs, and build on it, also with the build stopped
	$(BIN)/python tests/benchmarks/compose.py

bench-models: install ## Print parameters and the cost of a training step on one core for every model
	$(BIN)/python tests/benchmarks/models.py

clean: ## Remove the virtual environment and everything that was built
	rm -rf $(VENV) $(OUT) site build *.egg-info
