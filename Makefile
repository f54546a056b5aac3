# The verbs of the project. `make run` and `make test` do everything from a bare Debian 12.

SHELL := /bin/bash
JOBS ?= $(shell nproc)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Package lists: names only, comments stripped.
packages = $(shell sed 's/\#.*//' $(1))

# Golden files of other engines, if somebody put them beside the project.
ifneq ($(wildcard ../shared/golden),)
export CONCLAVE_GOLDEN_DIR ?= $(abspath ../shared/golden)
endif

.DEFAULT_GOAL := help
.PHONY: help setup build run test test-packaging chaos test-asan test-tsan fuzz bench bench-kernels golden format \
        clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# Installs what is missing; does nothing, and needs no network, when all is there. A command of the
# package's name is as good as the package: npm, say, may have come with another build of Node.
define install
	@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null \
	    | grep -q 'ok installed' || command -v $$p >/dev/null || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "Installing:" $$missing; \
	  $(SUDO) apt-get update -q -o Acquire::Retries=3 && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
	    -o Acquire::Retries=3 $$missing; \
	fi
endef

setup: ## Install the Debian packages that build and tests need
	$(call install,$(call packages,packages/build.txt packages/test.txt))

build/%/build.ninja: CMakePresets.json
	cmake --preset $*

build: setup build/release/build.ninja ## Build the release programs into build/release/bin
	cmake --build --preset release -j $(JOBS)

PORT ?= 8000
run: build ## Serve the demo model on PORT and ask it a question (ARGS=--once: end then)
	tools/run-demo build/release/bin $(PORT) $(ARGS)

test: build ## Build and run all tests
	ctest --preset release -j $(JOBS)

CHAOS_SECONDS ?= 300
chaos: build ## Kill, stop, slow down and cut off processes under load, at random (CHAOS_ARGS="--seed N")
	python3 -B tests/chaos/random_faults.py build/release/bin/conclave models/demo/conclave-demo.gguf \
	    --partitions --seconds $(CHAOS_SECONDS) $(CHAOS_ARGS)

test-packaging: setup ## Build the images and compose them with a real Docker engine
	$(call install,$(call packages,packages/packaging.txt))
	/usr/bin/python3 -B tests/packaging/compose_test.py
	/usr/bin/python3 -B tests/packaging/outside_test.py

test-asan: setup build/asan/build.ninja ## The tests under address and undefined-behaviour sanitizers
	cmake --build --preset asan -j $(JOBS)
	ctest --preset asan -j $(JOBS)

test-tsan: setup build/tsan/build.ninja ## The core and golden tests under the thread sanitizer
	cmake --build --preset tsan -j $(JOBS)
	ctest --preset tsan -j $(JOBS)

FUZZ_SECONDS ?= 60
fuzz: setup ## Run every fuzzer for FUZZ_SECONDS
	$(call install,$(call packages,packages/dev.txt))
	cmake --preset fuzz
	cmake --build --preset fuzz -j $(JOBS)
	tests/fuzz/run $(FUZZ_SECONDS)

# MODEL=file: what to measure. LLAMA="chroot DIR" (or "" for PATH) LLAMA_MODELS=/folder: llama.cpp beside
# it. BENCH_ARGS: what else tests/bench/peers.py takes, --rows decode,prefill say.
MODEL ?= models/demo/conclave-demo.gguf
bench: build ## Measure MODEL on this machine (beside llama.cpp: LLAMA=, LLAMA_MODELS=)
	/usr/bin/python3 -B tests/bench/peers.py build/release/bin/conclave $(MODEL) \
	    $(if $(filter undefined,$(origin LLAMA)),,--llama-bin "$(LLAMA)" --llama-models "$(LLAMA_MODELS)") \
	    $(BENCH_ARGS)

bench-kernels: setup ## Run the benchmarks of single parts
	$(call install,$(call packages,packages/dev.txt))
	cmake --preset bench
	cmake --build --preset bench -j $(JOBS)
	@for b in build/bench/bin/*_bench; do echo "== $$b"; $$b || exit 1; done

golden: ## Write the golden models and numbers anew (tests/golden)
	/usr/bin/python3 -B tests/reference/make_models.py
	/usr/bin/python3 -B tests/reference/make_golden.py

format: ## Lay out all C++ sources
	$(call install,$(call packages,packages/dev.txt))
	git ls-files '*.cpp' '*.hpp' | xargs clang-format -i

clean: ## Remove all build outputs
	rm -rf build
