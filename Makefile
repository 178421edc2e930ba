# Which instance type and serving stack should serve a model? `make report` answers that for configs/quickstart.yml.
# Without make, the same commands are in: .venv/bin/python -m helpers --help

PYTHON ?= python3
CONFIG ?= configs/quickstart.yml
BIN := .venv/bin
# uv takes seconds where pip takes minutes. pip is the fallback if uv cannot install (a mirror that only pip is configured for).
UV = $(shell uv --version >/dev/null 2>&1 && command -v uv || echo $(BIN)/uv)
INSTALL = $(UV) pip install --quiet --python $(BIN)/python $(1) \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1)
# Not empty if .venv's Python is gone or was upgraded (with Studio's image), or its folder was moved: .venv is then recreated.
STALE := $(if $(wildcard .venv/.setup),$(shell $(BIN)/python -c 'import importlib.util as u; u.find_spec("helpers").origin' \
	2>/dev/null || echo stale))
# FAIL_IF="tied; usd_per_month > 2000": make hands it on in the environment, where the shell reads nothing into it.
GATES = $(if $(FAIL_IF),--fail-if "$$FAIL_IF")
# Images of containers often set this. Each of the dozens of Python processes of a run would compile all its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup report submit follow status import plan history cleanup cleanup-orphans lab kernel schema test test-quick test-thorough test-cluster test-tools benchmark reference-report lint clean stale

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: .venv/.setup  ## create .venv with everything that a run needs

.venv/.setup: requirements.txt pyproject.toml $(STALE)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Python 3.11 to 3.13 is needed; this is $$($(PYTHON) --version). Next: make PYTHON=python3.11 ..."; exit 1; }
	$(if $(STALE),@rm -rf .venv && echo "Recreating .venv: its Python has changed or its folder was moved")
	$(PYTHON) -m venv .venv
	@test -x "$(UV)" || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 || true
	$(call INSTALL,-r requirements.txt -e .)
	@touch $@

.venv/.setup-dev: requirements-dev.txt .venv/.setup
	$(call INSTALL,-r requirements-dev.txt)
	@touch $@

.venv/.setup-ray: requirements-ray.txt .venv/.setup
	$(call INSTALL,-r requirements-ray.txt)
	@touch $@

.venv/.setup-lab: requirements-lab.txt .venv/.setup
	$(call INSTALL,-r requirements-lab.txt)
	@touch $@

report: .venv/.setup  ## run the five notebooks on CONFIG=configs/x.yml and write the report; RUN=... continues a run; FAIL_IF=... is a gate
	@$(BIN)/python -m helpers report $(if $(RUN),--run-dir $(RUN)) \
		$(if $(and $(RUN),$(filter file,$(origin CONFIG))),,--config $(CONFIG)) $(GATES)

status: .venv/.setup  ## progress of RUN=<run id, folder or s3://...>, and which process runs it
	@$(BIN)/python -m helpers status $(RUN)

submit: .venv/.setup  ## run CONFIG as a job of SageMaker, see docs/running.md; the report comes with make follow
	@$(BIN)/python -m helpers submit --config $(CONFIG)

follow: .venv/.setup  ## show what the job of RUN=s3://... prints until it ends, and fetch its report
	@$(BIN)/python -m helpers follow $(RUN)

import: .venv/.setup  ## report on other tools' results, named in CONFIG=configs/x.yml; see docs/import.md
	@$(BIN)/python -m helpers import --config $(CONFIG) $(GATES)

plan: .venv/.setup  ## what a run on CONFIG would create and cost; CHECK=1 also tries files, prompts and servers; creates nothing
	@$(BIN)/python -m helpers plan --config $(CONFIG) $(if $(CHECK),--check)

history: .venv/.setup  ## all runs of CONFIG on one page: verdicts, prices and latencies over time, what really changed
	@$(BIN)/python -m helpers history --config $(CONFIG)

cleanup: .venv/.setup  ## delete the remaining resources of RUN=<run id, folder or s3://...>
	@$(BIN)/python -m helpers cleanup $(RUN)

cleanup-orphans: .venv/.setup  ## list what runs left in REGION=<region> on SageMaker, by tag, and delete it if you confirm
	@$(BIN)/python -m helpers cleanup-orphans $(if $(REGION),--region $(REGION)) $(if $(EXPIRED),--expired) $(if $(YES),--yes)

lab: .venv/.setup-lab  ## explore the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

kernel: .venv/.setup  ## register .venv as a Jupyter kernel, for SageMaker Studio and other Jupyters
	$(BIN)/python -m ipykernel install --user --name llm-serving-verdict --display-name "LLM serving verdict"

schema: .venv/.setup  ## write configs/schema.json, which gives editors completion in configs
	@$(BIN)/python -m helpers schema

test: .venv/.setup-dev  ## all tests except test-thorough, test-cluster and test-tools
	@MADE_ONCE=$$(mktemp -d) && export MADE_ONCE && trap 'rm -rf "$$MADE_ONCE"' EXIT \
		&& $(BIN)/python -m pytest -m "not timing and not tools and not thorough" --numprocesses 3 --dist worksteal `# many of them mostly wait` \
		&& $(BIN)/python -m pytest -m "timing and not thorough"

test-quick: .venv/.setup-dev  ## tests that need no engine, no browser, no network and no timing: the loop to work in
	$(BIN)/python -m pytest -m "not slow and not timing and not tools and not thorough and not browser and not network" --numprocesses 2 \
		--dist worksteal

test-thorough: .venv/.setup-dev  ## more of the kinds of tests that take long, about 20 minutes
	$(BIN)/python -m pytest -m "thorough and not timing" --numprocesses 3 --dist worksteal
	$(BIN)/python -m pytest -m "thorough and timing"

test-cluster: .venv/.setup-dev .venv/.setup-ray  ## load from the nodes of a Ray cluster: installs Ray, about 8 minutes
	$(BIN)/python -m pytest tests/load/test_cluster.py

test-tools: .venv/.setup-dev  ## the commands of docs/import.md: runs the other tools, a few minutes
	$(BIN)/python -m pytest -m tools

benchmark: benchmark-instrument benchmark-verdict benchmark-analysis  ## the three below, about 15 minutes

benchmark-instrument: .venv/.setup  ## speed and accuracy of the load generator, and of a simple client for comparison
	@$(BIN)/python tests/benchmarks/instrument.py

benchmark-verdict: .venv/.setup-dev  ## is the verdict right? 300 simulated campaigns with known truth, and 60 of each harder world
	@$(BIN)/python tests/benchmarks/planted_truth.py
	@$(BIN)/python tests/benchmarks/harder_worlds.py

benchmark-analysis: .venv/.setup-dev  ## time and memory of analysing a million request records
	@$(BIN)/python tests/benchmarks/analysis.py

benchmark-race: .venv/.setup  ## the quickstart raced and in full, by turns on this machine, about 20 minutes
	@$(BIN)/python tests/benchmarks/raced_pairs.py

benchmark-cluster: .venv/.setup-dev .venv/.setup-ray  ## load from two nodes against load from one and from none, about 3 minutes
	@$(BIN)/python tests/benchmarks/cluster.py

reference-report: .venv/.setup  ## write docs/reference_report.html again, where the raw data of the report of 2024 are at hand
	@$(BIN)/python tests/support/reference_page.py

lint: .venv/.setup-dev  ## style, import layers, declared dependencies, notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry src
	$(BIN)/nbstripout --verify --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb

clean:           ## delete .venv; run folders stay
	rm -rf .venv
