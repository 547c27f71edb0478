# Everything sets itself up: a plain `make demo` or `make test` on a fresh checkout is enough.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Test processes; most tests wait for servers, so four suit two cores. JOBS=0 runs them in pytest's own process.
JOBS ?= 4
# Where PYTHONDONTWRITEBYTECODE is set, each of the thousands of starts in the tests would compile everything anew.
COMPILE = @$(BIN)/python -m compileall -q ocisync
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-strip-extras \
	--group pyproject.toml:build pyproject.toml

.PHONY: help demo run check test prove bench lock schema monitoring package sbom clean runtime dev debian helm packaging judges docs docs-tools

help:
	@echo "make demo [ARGS=--once]  the daemon on a sample drop folder, served and pulled back"
	@echo "make run [ARGS=…]        the daemon: ocisync run"
	@echo "make test [ARGS=…]       check, then every test (ARGS go to pytest; JOBS=0: in one process)"
	@echo "make check               ruff, mypy --strict, import-linter"
	@echo "make prove [ARGS=…]      the long proofs"
	@echo "make bench [ARGS=…]      measure beside other tools: ARGS=--tiny, ARGS=\"many typical --work DIR\""
	@echo "make lock [ARGS=…]       lock the dependencies (ARGS=--upgrade: their newest versions)"
	@echo "make schema              write config/ocisync.schema.json"
	@echo "make monitoring          write the dashboard, and the alerts for Kubernetes"
	@echo "make package             wheel, sdist, .deb, container image and Helm chart, into dist/ (as root)"
	@echo "make docs                the documents as a site, in build/site; every link is checked"
	@echo "make sbom                write ocisync.cdx.json, what an installation consists of (CycloneDX)"
	@echo "make clean               remove the virtual environment and caches"

demo: runtime
	@$(BIN)/ocisync demo $(ARGS)

run: runtime
	@$(BIN)/ocisync run $(ARGS)

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check debian helm
	$(COMPILE)
	$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)
	@$(BIN)/python tools/faults.py

prove: dev debian helm packaging judges
	$(COMPILE)
	$(BIN)/pytest -m prove --timeout 0 $(ARGS)

bench: dev debian
	@$(BIN)/python -m bench $(ARGS)

lock:
	@PYTHON="$(PYTHON)" tools/setup lock-tool
	$(BIN)/uv pip compile $(LOCK) $(ARGS) --extra postgres --extra sigstore -o requirements.lock
	$(BIN)/uv pip compile $(LOCK) $(ARGS) --extra dev -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-strip-extras \
		$(ARGS) --group pyproject.toml:docs -o requirements-docs.lock

schema: runtime
	$(BIN)/ocisync config schema > config/ocisync.schema.json.new
	@mv config/ocisync.schema.json.new config/ocisync.schema.json

package: dev helm packaging
	tools/package all

docs: runtime docs-tools
	@NO_MKDOCS_2_WARNING=1 build/docs-venv/bin/mkdocs build --strict --quiet && echo "the site is build/site/index.html"

monitoring: runtime
	$(BIN)/python tools/monitoring.py

runtime dev debian helm packaging judges docs-tools:
	@PYTHON="$(PYTHON)" tools/setup $@

sbom:
	@$(PYTHON) tools/sbom.py > ocisync.cdx.json.new
	@mv ocisync.cdx.json.new ocisync.cdx.json

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
