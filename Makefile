# `make` alone lists the targets. On a fresh Debian machine `make run` and `make test` are all you need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.requirements-dev
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host
# A file's tests stay together, because they share the processes that they start; tests/conftest.py puts slow ones first.
# Three workers on two cores, because tests also wait.
RUN_TESTS := pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not soak and not browsers"
PYTEST := $(BIN)/python -m $(RUN_TESTS)

# Programs that the whole suite needs beside Python. Playwright's own node needs the library.
TEST_COMMANDS := curl nginx node=18 npm chromium libatomic.so.1 systemd-analyze postgres pgbouncer

SHELL_SCRIPTS := .ci/run scripts/audit scripts/ensure-commands scripts/ensure-node-packages scripts/make-venv scripts/smoke scripts/try-fresh-debian

.DEFAULT_GOAL := help

##@ Use

.PHONY: run
run: $(STAMP) ## Start the sandbox and the gateway; print the address, the accounts and what to try
	@exec $(BIN)/python -m sandbox.demo

.PHONY: cluster
cluster: $(STAMP) ## Start two gateways behind nginx, with PostgreSQL, S3 and the sandbox; print what to try
	@scripts/ensure-commands nginx postgres
	@exec $(BIN)/python -m sandbox.cluster

.PHONY: venv
venv: $(STAMP) ## Prepare .venv from the hashed pins

.PHONY: smoke
smoke: ## Check a deployed gateway: make smoke BASE=https://… with COOKIE=name=value in the environment
	@# The script reads both from the environment: a command line would show the cookie to every user of the machine.
	@scripts/smoke

##@ Check

.PHONY: test
test: $(STAMP) ## Run the whole suite; as root, install the programs that it needs
	@scripts/ensure-commands $(TEST_COMMANDS)
	@scripts/ensure-node-packages tests/node
	$(PYTEST) --whole-suite tests

.PHONY: test-unit
test-unit: $(STAMP) ## Run the quick tests only
	@scripts/ensure-commands postgres
	$(PYTEST) tests/unit tests/clients tests/api

.PHONY: coverage
coverage: $(STAMP) ## Run the whole suite, and show which lines and branches of app/ no test executes
	@scripts/ensure-commands $(TEST_COMMANDS)
	@scripts/ensure-node-packages tests/node
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(RUN_TESTS) $(or $(TESTS),tests)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: soak
soak: $(STAMP) ## Run the long tests and print their figures: 200 crashes, 500 jobs with faults, 10,000 database operations
	@scripts/ensure-commands $(TEST_COMMANDS)
	VISIONA_TEST_TURNS=13 $(BIN)/python -m pytest tests/unit/library/test_database.py -k 32_threads
	$(BIN)/python -m pytest -m soak -s tests

.PHONY: browsers
browsers: $(STAMP) ## Try the console in Chromium, Firefox and WebKitGTK, in about three minutes
	@scripts/ensure-commands nginx chromium chromedriver firefox-esr WebKitWebDriver Xvfb
	$(BIN)/python -m pytest -m browsers tests/browsers

.PHONY: bench
bench: $(STAMP) ## Compare the speed with nginx and others, in about eight minutes; writes var/bench.json
	@scripts/ensure-commands nginx curl cc >&2
	@$(BIN)/python -m benchmarks

.PHONY: bench-smoke
bench-smoke: $(STAMP) ## The same in under a minute: one name=ratio per line
	@scripts/ensure-commands nginx curl cc >&2
	@$(BIN)/python -m benchmarks --smoke

.PHONY: lint
lint: $(STAMP) ## Check format, style, types, the direction of imports, shell scripts and the Dockerfile
	@scripts/ensure-commands shellcheck
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy app sandbox scripts wsgi.py
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.errors_page --check
	shellcheck $(SHELL_SCRIPTS)
	$(BIN)/hadolint deploy/Dockerfile

.PHONY: format
format: $(STAMP) ## Format, and apply the safe fixes of the linter
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

##@ Maintain

.PHONY: protos
protos: $(STAMP) ## Generate the reader of ONNX models again from its .proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. app/advice/onnx_model.proto

.PHONY: pins
pins: $(STAMP) ## Compile the requirements again with the newest versions
	$(COMPILE) --upgrade --output-file requirements.txt requirements.in
	$(COMPILE) --upgrade --output-file requirements-s3.txt requirements-s3.in
	$(COMPILE) --upgrade --output-file requirements-dev.txt requirements-dev.in

.PHONY: audit
audit: $(STAMP) ## Ask the advisory service about every pin; exit status 2 if it cannot be asked
	@AUDIT="$(BIN)/pip-audit" scripts/audit requirements.txt requirements-s3.txt requirements-dev.txt

.PHONY: sbom
sbom: $(STAMP) ## Write a bill of materials to var/sbom.json (CycloneDX)
	@mkdir -p var
	$(BIN)/cyclonedx-py requirements --output-reproducible --of JSON --output-file var/sbom.json requirements.txt

.PHONY: hooks
hooks: $(STAMP) ## Let git check each commit as `make lint` does (.pre-commit-config.yaml)
	$(BIN)/pre-commit install

.PHONY: docs
docs: $(STAMP) ## Write the pages that are generated from code
	$(BIN)/python -m scripts.errors_page

.PHONY: clean
clean: ## Remove the virtual environment, caches, and everything under var/
	rm -rf $(VENV) var tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements-dev.txt scripts/make-venv deploy/web_concurrency.pth
	PYTHON="$(PYTHON)" scripts/make-venv $(VENV) requirements-dev.txt
	@touch $@
