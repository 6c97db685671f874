# kvc: make [build] | demo | test | eval | bench | asan | tsan | neon | format | clean ...   "make help" lists all.
SHELL := /bin/bash
export MAKE
JOBS ?= $(shell nproc)
SETUP := cmake/setup.sh
CTEST := ctest --no-tests=ignore -j$(JOBS) --output-on-failure

# Fast and most telling first: a broken tree shows within minutes.
STAGES := check-tidy test-release test-package test-bindings test-python test-neon test-asan test-tsan

.PHONY: build debug demo eval bench test test-full help clean setup format format-check tidy asan tsan neon \
        check-tidy test-release test-package test-bindings test-python test-neon test-asan test-tsan
.DEFAULT_GOAL := build

build: ## build the release (build/release/libkvc.so); the default
	@$(SETUP) build test
	@cmake --preset release && cmake --build --preset release -j$(JOBS)

debug: ## build without optimization
	@$(SETUP) build test
	cmake --preset debug && cmake --build --preset debug -j$(JOBS)

demo: ## the main job: a real language model runs on compressed caches
	@$(SETUP) build test python
	@$(MAKE) --no-print-directory build
	@.venv/bin/python tools/demo.py

eval: ## quality of every preset on a real model and text, with an HTML report
	@$(SETUP) build test python
	@$(MAKE) --no-print-directory build
	./kvc-eval --model smollm2 --html out/eval.html --json out/eval.json

bench: ## speed of the kernels on this machine
	@$(SETUP) build test bench
	cmake --preset release -DKVC_BENCH=ON && cmake --build --preset release -j$(JOBS)
	@build/release/bench/kvc_bench

test: ## everything the gate checks, in stages
	@$(SETUP) build test cross bindings python
	@cmake/stages.sh $(STAGES)

check-tidy: ## the form of the tree: layers, lengths, names, symbols
	@PYTHONDONTWRITEBYTECODE=1 python3 tests/tidy/test_tidy.py
	@PYTHONDONTWRITEBYTECODE=1 python3 tests/tidy/tidy.py

test-release: ## release build and its tests
	@$(MAKE) --no-print-directory build
	@$(CTEST) --test-dir build/release

test-package: ## a program built against the installed package
	@if [ -e build/release/libkvc.so ]; then tests/package/run build/release; else echo "package: no library yet"; fi

test-bindings:
	@if [ -x bindings/test ]; then bindings/test; fi

test-python:
	@if [ -d tests/python ]; then .venv/bin/python -m pytest tests/python; fi

test-neon neon: ## aarch64 build, tests under qemu
	@$(SETUP) build test cross
	@cmake --preset neon && cmake --build --preset neon -j$(JOBS)
	@$(CTEST) --test-dir build/neon

test-asan asan: ## tests under the address and undefined-behaviour sanitizers
	@$(SETUP) build test
	@cmake --preset asan && cmake --build --preset asan -j$(JOBS)
	@$(CTEST) --test-dir build/asan

test-tsan tsan: ## tests under the thread sanitizer
	@$(SETUP) build test
	@cmake --preset tsan && cmake --build --preset tsan -j$(JOBS)
	@$(CTEST) --test-dir build/tsan

clean: ## remove what was built (keeps .venv)
	rm -rf build out

help: ## this list
	@grep -E '^[a-z -]+:.*##' Makefile | sed -E 's/:.*## /\t/' | column -t -s$$'\t'
