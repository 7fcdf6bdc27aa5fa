# The same words at the desk and in CI. `make` alone says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOTPATH := $(wildcard kdns/hotpath/*.pyx kdns/hotpath/*.pxd) setup.py pyproject.toml
PORT ?= 1053
BENCH_LOADS ?= hits,ndots,nodata,srv,headless-20,tcp,cached

.DEFAULT_GOAL := help
.PHONY: help build run test soak figures check bench bench-quick bench-full debug image clean tools

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

tools:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: apt-get install python3 python3-venv python3-dev" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old, 3.11 or later is needed: apt-get install python3.11, then make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is missing: apt-get install gcc libc6-dev" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || { echo "Python.h is missing: apt-get install python3-dev" >&2; exit 1; }

$(BIN)/python: | tools
	@$(PYTHON) -m venv $(VENV)

# Editable: the compiled modules are built beside their sources.
$(VENV)/.built: $(HOTPATH) | $(BIN)/python
	@echo "building kdns (a minute at first)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check]'
	@touch $@

build: $(VENV)/.built ## build kdns in .venv

run: build ## serve examples/cluster on 127.0.0.1:1053 (PORT=...)
	@echo "kdns serves examples/cluster on port $(PORT); try, in another terminal:"
	@sed -n 's/^# dig /  dig @127.0.0.1 -p $(PORT) /p' examples/Corefile
	@exec $(BIN)/kdns -conf examples/Corefile -dns.port $(PORT) --manifests examples/cluster

test: build ## run every test (KDNS_TEST_EXAMPLES=1: the property tests four times as long)
	@command -v dig >/dev/null || { echo "dig is missing: apt-get install bind9-dnsutils" >&2; exit 1; }
	@command -v ip >/dev/null || { echo "ip is missing: apt-get install iproute2" >&2; exit 1; }
	@command -v openssl >/dev/null || { echo "openssl is missing: apt-get install openssl" >&2; exit 1; }
	-@$(BIN)/python -m tests.controlplane.build
	@KDNS_TEST_EXAMPLES=$${KDNS_TEST_EXAMPLES:-0.25} $(BIN)/python -m pytest $(ARGS)

soak: build ## changes, faults and restarts for SOAK_MINUTES=10, every reply judged
	@SOAK_MINUTES=$(or $(SOAK_MINUTES),10) $(BIN)/python -m pytest -s tests/live/test_soak.py $(ARGS)

figures: build ## what following a real control plane costs, beside a CoreDNS (COREDNS=path), about fifteen minutes
	@$(BIN)/python -m tests.live_controlplane.figures $(if $(COREDNS),--coredns $(COREDNS)) $(ARGS)
	@CONTROLPLANE_TESTS=all $(BIN)/python -m pytest tests/live_controlplane

check: build ## lint, types, import contracts, stubs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m mypy.stubtest --ignore-missing-stub --allowlist tests/hotpath/stubtest-allowlist.txt $(patsubst kdns/hotpath/%.pyx,kdns.hotpath.%,$(wildcard kdns/hotpath/*.pyx))

# Plots need a library that serving does not.
$(VENV)/.bench: $(VENV)/.built pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench,test,check]'
	@touch $@

bench: $(VENV)/.bench ## measure beside the peers that are installed (about ten minutes)
	@$(BIN)/python -m bench run $(BENCH_LOADS) --peers all --minutes 10 $(ARGS)

bench-quick: build ## a smoke test of the bench (less than 90 seconds)
	@$(BIN)/python -m bench quick $(ARGS)

bench-full: $(VENV)/.bench ## everything, on a quiet machine, and bench/README.md with its figures (two hours)
	@$(BIN)/python -m bench full $(ARGS)

debug: build ## tests of the compiled path on a build with AddressSanitizer and UBSan
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	@sh tests/hotpath/sanitize.sh $(BIN)/python

image: ## build the container image
	docker build -t kdns .

clean: ## remove what was built
	@rm -rf $(VENV) build dist *.egg-info kdns/hotpath/*.c kdns/hotpath/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
