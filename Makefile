# The project's commands. `make demo` and `make test` set up what they need below build/ and target/, without root.
PREFIX ?= /usr/local
PYTHON ?= python3
# How the library is built for the demo: `release` or `debug`.
PROFILE ?= release
# How long `make fuzz` plays each target.
SECONDS ?= 60
ifeq ($(origin CXX),default)
CXX := c++
endif
export CXX PYTHON

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BUILT := $(abspath $(TARGET_DIR)/$(PROFILE))
VENV_PYTHON := build/venv/bin/python
DEMO := build/demo$(if $(filter release,$(PROFILE)),,-$(PROFILE))
DIGITS := build/digits

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

setup: ## make the Python environments that the tests use
	@scripts/setup.sh test

build: ## build the library and the daemon: target/release
	cargo build --locked --profile $(PROFILE:debug=dev)

demo: ## write digits in C++, read them in two Python processes; DAEMON=1 does it through the daemon
	@scripts/setup.sh demo
	@$(MAKE) --no-print-directory $(DEMO)/digits_store $(DIGITS)/images.npy
	@PYTHONPATH=python-ctypes PLASMA_STORE_LIBRARY=$(BUILT)/libplasma_store.so $(VENV_PYTHON) demo/run.py \
		$(DEMO)/digits_store $(DIGITS) $(DEMO)/mean_digits.png \
		$(if $(DAEMON),--daemon $(BUILT)/plasma-store-server)

# The program finds the library beside itself, under the name that it was linked with.
$(DEMO)/digits_store: demo/digits_store.cpp demo/npy.hpp include/plasma_store.h | build
	@mkdir -p $(@D)
	ln -sf $(BUILT)/libplasma_store.so $(@D)/libplasma_store.so.1
	$(CXX) -std=c++17 -O2 -Wall -Wextra -Wpedantic -Iinclude -o $@ $< \
		$(@D)/libplasma_store.so.1 -Wl,-rpath,'$$ORIGIN'

$(DIGITS)/images.npy: demo/digits.py
	$(VENV_PYTHON) demo/digits.py $(DIGITS)

test: setup ## run every test; with CI=true a skipped test is a failure
	@$(VENV_PYTHON) scripts/run_tests.py $(if $(CI),--fail-on-skip)

test-torch: ## run the tests with torch: downloads about 3 GB
	@scripts/setup.sh torch
	cargo build --locked
	PYTHONPATH=python-ctypes PLASMA_STORE_LIBRARY=$(abspath $(TARGET_DIR)/debug)/libplasma_store.so \
		PLASMA_STORE_SERVER=$(abspath $(TARGET_DIR)/debug)/plasma-store-server \
		build/venv-torch/bin/python -m pytest -m torch python-ctypes/tests

test-frameworks: test-torch ## also let all frameworks read what all wrote, torch too, and write docs/interop.md
	PYTHONPATH=python-ctypes PLASMA_STORE_LIBRARY=$(abspath $(TARGET_DIR)/debug)/libplasma_store.so \
		$(VENV_PYTHON) tests/interop/matrix.py docs/interop.md

fuzz: ## run each fuzz target with libFuzzer for SECONDS (60); needs a nightly compiler and cargo-fuzz
	@scripts/fuzz.sh $(SECONDS)

MINUTES ?= 10
soak: setup ## play in full what `make test` plays a little of: an hour or more; a store at 80% for MINUTES (10)
	@$(VENV_PYTHON) scripts/soak.py --minutes $(MINUTES)

COUNT ?= 100
conformance: setup ## play COUNT scripts to Plasma 11's daemon and to ours, and compare every reply
	cargo build --locked
	build/venv-pyarrow11/bin/python tests/conformance/run.py --count $(COUNT) \
		--ours $(abspath $(TARGET_DIR)/debug)/plasma-store-server

bench: ## measure the library beside Plasma 11 and others, and fill in docs/benchmarks.md; ONLY=W2,W7 measures those and leaves it
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory build PROFILE=release
	@build/venv-bench/bin/python bench/run.py $(if $(ONLY),--only "$(ONLY)",--page docs/benchmarks.md)

bench-quick: ## the same in two minutes, with less of everything; results in build/bench/ only
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory build PROFILE=release
	@build/venv-bench/bin/python bench/run.py --size quick $(if $(ONLY),--only "$(ONLY)")

install: ## install header, libraries and daemon below PREFIX (and DESTDIR)
	# Under sudo there may be no cargo; then what was built before is installed.
	@if command -v cargo >/dev/null; then $(MAKE) --no-print-directory build PROFILE=release; fi
	scripts/install.sh "$(PREFIX)" "$(DESTDIR)" "$(TARGET_DIR)/release"

fmt: ## format the Rust code
	cargo fmt

lint: setup ## run the checks that need no test: formatting, clippy, generated code, types
	@$(VENV_PYTHON) scripts/run_tests.py rustfmt clippy "generated code" mypy pyright

clean: ## remove everything that was made
	cargo clean
	rm -rf build

.PHONY: help setup build demo test test-torch test-frameworks soak fuzz bench bench-quick install fmt lint clean conformance
.DEFAULT_GOAL := help
