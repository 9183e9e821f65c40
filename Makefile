.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
export VIRTUAL_ENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
IAC := .venv-iac
PARALLEL := -n auto --maxprocesses 6 --dist loadfile --no-loadscope-reorder
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCAL := $(VENV)/.local
INSTALLED := $(VENV)/.installed
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(ARGS)
# For each direct dependency, the tests that would see it misbehave.
LOWEST := settings/test_environment model/test_redaction_rules orchestration/test_assets zendesk/test_client delivery/test_bucket local/test_services orchestration/celery/test_launcher test_cli commands/secops/test_options test_definitions

.PHONY: help install demo dev test lowest coverage browser cluster bench year hourly faults soak stories first-hour screenshots check docs iac format lock audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(LOCAL): requirements-local.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 14) else f"Python 3.11 to 3.14 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 …")'
	@echo "Setting up $(VENV) (half a minute, once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes --no-deps -r requirements-local.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(INSTALLED): $(LOCAL) requirements-dev.txt
	@echo "Adding to $(VENV) what tests and checks need (a minute, once) …"
	@$(INSTALL) --require-hashes --no-deps -r requirements-dev.txt
	@touch $@

install: $(INSTALLED) ## Set up all of .venv (other targets set up what they need)

demo: $(LOCAL) ## Collect 48 hours from a simulated Zendesk into a local S3 server and prove the result
	@$(BIN)/zendesk-pipeline demo $(ARGS)

dev: $(LOCAL) ## Open the Dagster UI on http://127.0.0.1:3000 over the same local services
	@$(BIN)/zendesk-pipeline dev $(ARGS)

test: $(INSTALLED) ## Run every test (no account, no network)
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

lowest: ## Try the lowest versions that pyproject.toml admits, in an environment that is removed again
	@set -e; where=$$(mktemp -d); trap 'rm -rf "$$where"' EXIT; \
	$(PYTHON) -m venv "$$where"; \
	pip="$$where/bin/python -m pip install --quiet --disable-pip-version-check"; \
	$$pip --require-hashes --no-deps -r requirements-lowest.txt; \
	$$pip --no-deps --no-build-isolation -e .; \
	"$$where/bin/python" -m pytest -q $(PARALLEL) -p no:cacheprovider $(LOWEST:%=zendesk_pipeline_tests/%.py) $(ARGS)

coverage: $(INSTALLED) ## The same with coverage, which takes nearly twice the time
	@$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term $(ARGS)

browser: $(INSTALLED) ## Click through the Dagster UI in a headless Chromium (which has to be installed)
	@$(BIN)/python -m pytest -q $(ARGS) zendesk_pipeline_tests/browser/journey.py zendesk_pipeline_tests/browser/two_accounts.py

cluster: $(INSTALLED) ## Try PostgreSQL and Celery workers, and kill some (PostgreSQL and Redis have to be installed)
	@$(BIN)/python -m pytest -q $(ARGS) zendesk_pipeline_tests/deploy/cluster/postgres_storage.py zendesk_pipeline_tests/deploy/cluster/database_outage.py zendesk_pipeline_tests/deploy/cluster/old_runs.py zendesk_pipeline_tests/deploy/cluster/celery_workers.py zendesk_pipeline_tests/deploy/cluster/unstarted_run.py

bench: $(INSTALLED) ## Measure the pipeline against a bare loop on the same servers
	@$(BIN)/python -m zendesk_pipeline_tests.bench $(ARGS)

hourly: $(INSTALLED) ## Measure the hourly run, from the tick of its schedule to the object in the bucket
	@$(BIN)/python -m zendesk_pipeline_tests.bench.hourly

year: $(INSTALLED) ## Measure a backfill of a year beside the least that Dagster takes for it (an hour; ARGS="--windows 720")
	@$(BIN)/python -m zendesk_pipeline_tests.bench.year $(ARGS)

faults: $(INSTALLED) ## Try every fault of Zendesk, network and S3, and every moment to be killed at
	@$(BIN)/python -m zendesk_pipeline_tests.promise.fault_matrix
	@$(BIN)/python -m pytest -q --thorough zendesk_pipeline_tests/promise/test_crashes.py

soak: $(INSTALLED) ## Collect thousands of windows while everything goes wrong, five minutes long, and count every record
	@$(BIN)/python -m zendesk_pipeline_tests.promise.soak $(ARGS)

stories: $(INSTALLED) ## Tell the stories of self-healing: daemon down, Zendesk down, a poisoned window
	@$(BIN)/python -m zendesk_pipeline_tests.promise.stories $(ARGS)

first-hour: $(INSTALLED) ## Go the way of a new user, from an empty account to verified windows, with a clock
	@$(BIN)/python -m zendesk_pipeline_tests.project.first_hour

screenshots: $(INSTALLED) ## Take the pictures of the documentation again, in the same Chromium
	@$(BIN)/python -m zendesk_pipeline_tests.browser.screenshots $(ARGS)

check: $(INSTALLED) ## Lint, formatting, types and the Dagster definitions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/deptry --no-ansi zendesk_pipeline
	@$(BIN)/deptry --no-ansi --known-first-party zendesk_pipeline --known-first-party zendesk_pipeline_tests --ignore DEP002,DEP004 zendesk_pipeline_tests docs
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/pyright
	@$(BIN)/dg check defs

docs: $(INSTALLED) ## Build the documentation as a site into .local/site
	@$(BIN)/mkdocs --quiet build

$(IAC)/.installed: requirements-iac.txt
	@echo "Setting up $(IAC) (about a minute, once) …"
	@$(PYTHON) -m venv $(IAC)
	@$(IAC)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-iac.txt
	@touch $@

iac: $(IAC)/.installed $(INSTALLED) ## Lint what is in deploy/ and look it over for what is not safe
	@$(IAC)/bin/cfn-lint --non-zero-exit-code informational deploy/aws/*.yaml
	@$(IAC)/bin/checkov --directory deploy/aws --framework cloudformation --skip-download --compact --quiet
	@$(IAC)/bin/hadolint --failure-threshold info deploy/docker/Dockerfile
	@DAGSTER_PG_PASSWORD=checked DAGSTER_LOG_BUCKET=checked \
	    $(IAC)/bin/docker-compose --file deploy/docker/compose.yaml config --no-env-resolution --quiet
	@$(BIN)/python -m pytest -q zendesk_pipeline_tests/deploy/systemd/units.py

format: $(INSTALLED) ## Format the code and mend what the linter can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

lock: ## Pin every dependency by hash (needs uv; ARGS=--upgrade takes the newest versions)
	@$(LOCK) pyproject.toml -o requirements.txt
	@$(LOCK) --extra local --constraint requirements.txt pyproject.toml -o requirements-local.txt
	@$(LOCK) --extra dev --constraint requirements-local.txt pyproject.toml -o requirements-dev.txt
	@$(LOCK) --extra image --constraint requirements-dev.txt pyproject.toml -o requirements-production.txt
	@$(LOCK) --group iac -o requirements-iac.txt
	@$(LOCK) --resolution lowest-direct --extra test pyproject.toml -o requirements-lowest.txt

audit: ## Look the locked dependencies up among known vulnerabilities (needs uv and a network)
	@uvx --quiet pip-audit --strict --disable-pip --require-hashes -r requirements.txt -r requirements-local.txt -r requirements-dev.txt -r requirements-production.txt -r requirements-iac.txt

clean: ## Remove the environment and everything local
	@rm -rf $(VENV) $(IAC) .local .pytest_cache .hypothesis .ruff_cache .coverage .coverage.*
