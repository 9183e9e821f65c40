.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
export VIRTUAL_ENV := $(CURDIR)/.venv
# Starting processes is half of what the tests do: what each of them imports is compiled once, whatever is set here.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
IAC := .venv-iac
SBOM := $(VENV)/sbom
ENGINE ?= docker
IMAGE ?= zendesk-pipeline:local
PARALLEL := -n auto --maxprocesses 6 --dist loadfile --no-loadscope-reorder
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCAL := $(VENV)/.local
INSTALLED := $(VENV)/.installed
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(ARGS)
# For each direct dependency, the tests that would see it misbehave.
LOWEST := settings/test_environment model/test_redaction_rules orchestration/test_assets zendesk/test_client delivery/test_bucket local/test_services orchestration/celery/test_launcher test_cli commands/secops/test_options commands/metrics/test_command test_definitions
# What would see that a name of Dagster's which it does not promise has changed.
NEWEST := project/test_dagster_names orchestration/test_instance orchestration/test_run_logs orchestration/celery/test_launcher alerts/test_dagster_problems test_definitions

.PHONY: help demo dev install check format test clean browser cluster image sbom lowest newest iac chart faults soak bench lock audit

help: ## Show this list
	@awk -F ':.*## ' '/^## / {print "\n" substr($$0, 4)} /^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(LOCAL): requirements/local.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 14) else f"Python 3.11 to 3.14 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 …")'
	@echo "Setting up $(VENV) (half a minute, once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes --no-deps -r requirements/local.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(INSTALLED): $(LOCAL) requirements/dev.txt
	@echo "Adding to $(VENV) what tests and checks need (a minute, once) …"
	@$(INSTALL) --require-hashes --no-deps -r requirements/dev.txt
	@touch $@

$(IAC)/.installed: requirements/iac.txt
	@echo "Setting up $(IAC) (about a minute, once) …"
	@$(PYTHON) -m venv $(IAC)
	@$(IAC)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/iac.txt
	@touch $@

## Use it

demo: $(LOCAL) ## Collect 48 hours from a simulated Zendesk into a local S3 server and prove the result
	@$(BIN)/zendesk-pipeline demo $(ARGS)

dev: $(LOCAL) ## Open the Dagster UI on http://127.0.0.1:3000 over the same local services
	@$(BIN)/zendesk-pipeline dev $(ARGS)

## Work on it

install: $(INSTALLED) ## Set up all of .venv (the others set up what they need)

check: $(INSTALLED) ## Lint, formatting, types, imports and the Dagster definitions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/deptry --no-ansi zendesk_pipeline
	@$(BIN)/deptry --no-ansi --known-first-party zendesk_pipeline --known-first-party zendesk_pipeline_tests --ignore DEP002,DEP004 zendesk_pipeline_tests docs
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/pyright
	@$(BIN)/dg check defs

format: $(INSTALLED) ## Format the code and fix what the linter can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

test: $(INSTALLED) ## Run every test: no account, no network (ARGS="-k ledger" for some)
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

clean: ## Remove the environment and everything local
	@rm -rf $(VENV) $(IAC) .local .pytest_cache .hypothesis .ruff_cache .coverage .coverage.*

## Prove it

browser: $(INSTALLED) ## Click through the Dagster UI in a headless Chromium (which has to be installed)
	@$(BIN)/python -m pytest -q $(ARGS) zendesk_pipeline_tests/browser/journey.py zendesk_pipeline_tests/browser/two_accounts.py

cluster: $(INSTALLED) ## Try PostgreSQL and Celery workers, and kill some (PostgreSQL and Redis have to be installed)
	@$(BIN)/python -m pytest -q $(ARGS) zendesk_pipeline_tests/deploy/cluster/postgres_storage.py zendesk_pipeline_tests/deploy/cluster/database_outage.py zendesk_pipeline_tests/deploy/cluster/old_runs.py zendesk_pipeline_tests/deploy/cluster/celery_workers.py zendesk_pipeline_tests/deploy/cluster/unstarted_run.py

$(SBOM)/.installed: requirements/sbom.txt
	@$(PYTHON) -m venv $(SBOM)
	@$(SBOM)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/sbom.txt
	@touch $@

# What is installed is read from the image's files by a Python of here: the image has nothing to write it with.
sbom: $(SBOM)/.installed ## Write an image's bill of materials as CycloneDX (IMAGE=zendesk-pipeline:local ENGINE=docker)
	@set -e; where=$$(mktemp -d); trap 'rm -rf "$$where"' EXIT; \
	container=$$($(ENGINE) create $(IMAGE)); trap '$(ENGINE) rm "$$container" >/dev/null; rm -rf "$$where"' EXIT; \
	$(ENGINE) cp "$$container:/srv/venv/lib" "$$where/lib"; \
	$(SBOM)/bin/python -m venv --without-pip "$$where/python"; \
	echo "$$where"/lib/python*/site-packages >"$$(echo "$$where"/python/lib/python*/site-packages)/image.pth"; \
	$(SBOM)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible "$$where/python"

image: $(IAC)/.installed $(SBOM)/.installed $(INSTALLED) ## Build the image and run it, by itself, with Compose, as ECS does, in any order (root, buildah, podman)
	@$(BIN)/python -m pytest -q $(ARGS) zendesk_pipeline_tests/deploy/image/running_image.py zendesk_pipeline_tests/deploy/image/running_compose.py zendesk_pipeline_tests/deploy/image/running_ecs.py zendesk_pipeline_tests/deploy/image/first_boots.py

lowest: ## Try the lowest versions that pyproject.toml admits, in an environment that is removed again
	@set -e; where=$$(mktemp -d); trap 'rm -rf "$$where"' EXIT; \
	$(PYTHON) -m venv "$$where"; \
	pip="$$where/bin/python -m pip install --quiet --disable-pip-version-check"; \
	$$pip --require-hashes --no-deps -r requirements/lowest.txt; \
	$$pip --no-deps --no-build-isolation -e .; \
	"$$where/bin/python" -m pytest -q $(PARALLEL) -p no:cacheprovider $(LOWEST:%=zendesk_pipeline_tests/%.py) $(ARGS)

# Over what is installed: only what has a newer release is downloaded.
newest: $(INSTALLED) ## Try the newest releases that pyproject.toml admits, in an environment that is removed again
	@set -e; where=$$(mktemp -d); trap 'rm -rf "$$where"' EXIT; \
	$(BIN)/python -m venv "$$where"; \
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$(echo "$$where"/lib/python*/site-packages)/locked.pth"; \
	"$$where/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --upgrade --upgrade-strategy eager -e '.[test]'; \
	for program in "$(CURDIR)"/$(BIN)/*; do [ -e "$$where/bin/$${program##*/}" ] || ln -s "$$program" "$$where/bin"; done; \
	"$$where/bin/python" -m pip list --disable-pip-version-check | grep '^dagster'; \
	"$$where/bin/python" -m pytest -q $(PARALLEL) -p no:cacheprovider $(NEWEST:%=zendesk_pipeline_tests/%.py) $(ARGS)

iac: $(IAC)/.installed $(INSTALLED) ## Lint what is in deploy/, look it over for what is not safe, compare Google's names
	@$(IAC)/bin/cfn-lint --non-zero-exit-code informational deploy/aws/*.yaml
	@$(IAC)/bin/checkov --directory deploy/aws --framework cloudformation --skip-download --compact --quiet
	@$(IAC)/bin/hadolint --failure-threshold info deploy/docker/Dockerfile
	@DAGSTER_PG_PASSWORD=checked DAGSTER_LOG_BUCKET=checked \
	    $(IAC)/bin/docker-compose --file deploy/docker/compose.yaml config --no-env-resolution --quiet
	@$(BIN)/python -m pytest -q zendesk_pipeline_tests/deploy/systemd/units.py zendesk_pipeline_tests/deploy/kubernetes/launched_job.py zendesk_pipeline_tests/secops/google_names.py

chart: $(IAC)/.installed $(INSTALLED) ## Render Dagster's Helm chart with our values and check each object (needs uv; CHART=dagster-….tgz)
	@CHART="$(CHART)" $(BIN)/python -m pytest -q $(ARGS) zendesk_pipeline_tests/deploy/kubernetes/rendered_chart.py

faults: $(INSTALLED) ## Try every fault of Zendesk, network and S3, every moment to be killed at, and many histories
	@$(BIN)/python -m zendesk_pipeline_tests.promise.fault_matrix
	@$(BIN)/python -m pytest -q --thorough zendesk_pipeline_tests/promise/test_crashes.py zendesk_pipeline_tests/promise/test_histories.py zendesk_pipeline_tests/commands/verify/test_comparison.py

soak: $(INSTALLED) ## Collect thousands of windows while everything goes wrong, five minutes long, and count every record
	@$(BIN)/python -m zendesk_pipeline_tests.promise.soak $(ARGS)

bench: $(INSTALLED) ## Measure the pipeline against a bare loop on the same servers
	@$(BIN)/python -m zendesk_pipeline_tests.bench $(ARGS)

## Keep it

lock: ## Pin every dependency by hash (needs uv; ARGS=--upgrade takes the newest versions)
	@$(LOCK) pyproject.toml -o requirements/collect.txt
	@$(LOCK) --extra local --constraint requirements/collect.txt pyproject.toml -o requirements/local.txt
	@$(LOCK) --extra dev --constraint requirements/local.txt pyproject.toml -o requirements/dev.txt
	@$(LOCK) --extra image --constraint requirements/dev.txt pyproject.toml -o requirements/production.txt
	@$(LOCK) --group iac -o requirements/iac.txt
	@$(LOCK) --group sbom -o requirements/sbom.txt
	@$(LOCK) --resolution lowest-direct --extra test pyproject.toml -o requirements/lowest.txt

audit: ## Look the locked dependencies up among known vulnerabilities (needs uv and a network)
	@uvx --quiet pip-audit --strict --disable-pip --require-hashes -r requirements/collect.txt -r requirements/local.txt -r requirements/dev.txt -r requirements/production.txt -r requirements/iac.txt -r requirements/sbom.txt
