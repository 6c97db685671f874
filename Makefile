# kvc. "make" builds the release; "make help" lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := build
JOBS ?= $(shell nproc)
SETUP := cmake/setup.sh
PYTHON := .venv/bin/python
CLANG_FORMAT := .venv/bin/clang-format
CTEST := ctest --no-tests=error -j$(JOBS) --output-on-failure
# What one build compiled no other compiles again (the library of the gates is the release's). The cache lies in the clone.
export CCACHE_DIR ?= $(CURDIR)/build/ccache
ifneq ($(shell command -v ccache),)
export CMAKE_C_COMPILER_LAUNCHER ?= ccache
export CMAKE_CXX_COMPILER_LAUNCHER ?= ccache
endif
PYTEST_FOLDERS = $(sort $(dir $(wildcard tests/quality/test_*.py tests/python/test_*.py)))
GENERATED = ':!bindings/generated' ':!bindings/*/generated/*' ':!bindings/go/raw'
CPP_FILES = git ls-files -- '*.h' '*.cpp' '*.c' '*.cu' '*.cuh' $(GENERATED)

# What the gate checks, in this order: fast and telling first, so that a broken tree shows within minutes.
STAGES := check-tidy format-check test-release test-cuda test-package test-bindings test-devices conformance test-python test-servers test-neon test-asan test-tsan
STAGES_FULL := $(STAGES) test-bindings-long conformance-long test-bars test-release-full test-neon-full test-asan-full test-tsan-full test-avx512 test-debug gates-all tidy

.PHONY: build library python-binding debug cuda gates gates-full gates-all demo eval eval-long bench test test-full clean help format format-check tidy asan tsan neon \
        fuzz-snapshot stream-long conformance conformance-long avx512 test-avx512 test-debug test-release-full test-neon-full test-asan-full test-tsan-full test-bars test-go test-rust test-java test-csharp \
        test-python-binding test-bindings-long \
        serve-go serve-rust serve-java serve-csharp $(STAGES)

# What ninja says where there is nothing to do is no news to who runs a program that makes sure of its library first.
NEWS_OF_NINJA := { grep --line-buffered -Ev '^(\[0/[0-9]+\] Re-checking globbed directories\.\.\.|ninja: no work to do\.)$$' || true; }

define configure_and_build
	@cmake --preset $(1) $(2) $(if $(filter OFF,$(KVC_CUDA)),-DKVC_CUDA=OFF) && cmake --build --preset $(1) -j$(JOBS)
endef

# What the gate leaves out in this kind of build (cmake/tests.cmake).
define build_and_test_later
	@cmake --build --preset $(1) -j$(JOBS) --target kvc_later_tests && $(CTEST) --test-dir build/$(1) -L later
endef

build: ## the release, build/release/libkvc.so (the default)
	@$(SETUP) build test
	$(call configure_and_build,release)

library: ## libkvc.so, and the same as an archive; without tests and benchmarks
	@$(SETUP) build
	@[ -e build/release/build.ninja ] || cmake --preset release -DKVC_TESTS=OFF -DKVC_BENCH=OFF
	@set -o pipefail; cmake --build --preset release -j$(JOBS) --target kvc kvc_static 2>&1 | $(NEWS_OF_NINJA)

python-binding: library ## the compiled part of the Python binding, over the release
	@$(MAKE) --no-print-directory -C bindings python

debug: ## the same without optimization
	@$(SETUP) build test
	$(call configure_and_build,debug)

cuda: ## the CUDA kernels by nvcc, and the programs that test and time them on a GPU; none is needed to build
	@$(SETUP) build test cuda
	$(call configure_and_build,cuda)

gates: ## what the machine code of the CUDA kernels costs, within its budgets, one line a kernel: all for sm_90a, one of each family for the others
	@$(SETUP) build test cuda
	$(call configure_and_build,gates)
	@$(PYTHON) kernels/cuda/gates.py build/gates --families

gates-full: cuda ## the same of every kernel for sm_80, too
	@$(PYTHON) kernels/cuda/gates.py build/cuda

gates-all: ## the same of what a build has by default: every kernel, every architecture, PTX, and the library's size; half an hour; not with KVC_CUDA=OFF
	@if [ "$(KVC_CUDA)" = OFF ]; then echo "gates-all: left out, KVC_CUDA=OFF"; else \
	  $(SETUP) build test cuda && cmake --preset gates-all && cmake --build --preset gates-all -j$(JOBS) && \
	  $(PYTHON) kernels/cuda/gates.py build/gates-all && python3 tests/cuda/library.py build/gates-all; fi

demo: ## the main job: a real language model writes text from compressed caches under one byte budget
	@$(SETUP) build python
	@$(MAKE) --no-print-directory library python-binding
	@$(PYTHON) tools/demo.py

eval: ## quality of every preset on a real model and text; writes out/eval.json and out/eval.html
	@$(SETUP) build python
	@$(MAKE) --no-print-directory library python-binding
	@mkdir -p out
	./kvc-eval --model smollm2 --json out/eval.json --html out/eval.html

eval-long: ## long contexts, hours: KL and perplexity by position at 8k and 32k, needles to 32k, StreamingLLM far past the trained length; out/eval-long*
	@$(SETUP) build python
	@$(MAKE) --no-print-directory library python-binding
	@mkdir -p out
	./kvc-eval --tokens 8192 --chunk 256 --by-position 1024 --tasks 2048,4096,7792 --modes "int8,int4,k3v2,int2,h2o:20%,streaming:20%" \
	  --json out/eval-long.json --html out/eval-long.html
	./kvc-eval --tokens 12288 --chunk 256 --stream 1020 --stream-gaps 4096,10240,12288,14336,16384,65536,262144 \
	  --json out/eval-long-stream.json --html out/eval-long-stream.html
	./kvc-eval --model gemma3 --tokens 32768 --chunk 256 --by-position 4096 --judge-every 4 --needles 0 --tasks 8192,32000 --modes "int4,int2" \
	  --json out/eval-long-gemma3.json --html out/eval-long-gemma3.html

bench: ## speed of kvc on this machine; writes out/bench.json (bench/peers/run compares with other systems)
	@$(SETUP) build test
	$(call configure_and_build,release)
	@mkdir -p out
	@build/release/bench/kvc_bench --benchmark_out=out/bench.json --benchmark_out_format=json

test: ## everything the gate checks, in stages
	@$(SETUP) build test cross bindings python $(if $(filter OFF,$(KVC_CUDA)),,cuda)
	@cmake/stages.sh $(STAGES)

test-full: ## the gate, and what takes too long for it: storms of the bindings, full quality bars, all of NEON, AVX-512, a debug build, all CUDA architectures, clang-tidy
	@$(SETUP) build test cross bindings bindings-long python lint avx512
	@KVC_MODEL_SECONDS=300 cmake/stages.sh $(STAGES_FULL)

check-tidy: ## the form of the tree: layers, lengths, names, symbols
	@PYTHONDONTWRITEBYTECODE=1 python3 tests/tidy/test_tidy.py
	@PYTHONDONTWRITEBYTECODE=1 python3 tests/tidy/tidy.py

test-release: ## the C++ and C tests
	@$(MAKE) --no-print-directory build
	@$(CTEST) --test-dir build/release -LE later
	@python3 tests/cuda/library.py build/release

test-release-full: build ## the laws over devices, whole, and what runs on the emulated one in all orders of lanes
	$(call build_and_test_later,release)

test-debug: debug ## the same tests with assertions and without optimization
	@$(CTEST) --test-dir build/debug -LE later

test-cuda: ## the library with the CUDA backend, and the budgets of its kernels (test-release runs them on the emulator); not with KVC_CUDA=OFF
	@if [ "$(KVC_CUDA)" = OFF ]; then echo "cuda: left out, KVC_CUDA=OFF"; else \
	  python3 tests/cuda/test_gates.py && $(MAKE) --no-print-directory gates && python3 tests/cuda/library.py build/gates; fi

test-package: ## a program built against the installed package
	@$(MAKE) --no-print-directory build
	@tests/package/run build/release

test-bindings: ## every language: its layers, its replayer, its examples, and that all give the same digests
	@$(SETUP) build bindings python
	@$(MAKE) --no-print-directory library
	@PATH="$$PATH:$(CURDIR)/.venv/bin" bindings/test

test-go test-rust test-java test-csharp test-python-binding: ## one language alone
	@$(SETUP) build bindings $(if $(filter test-python-binding,$@),python)
	@$(MAKE) --no-print-directory library
	@PATH="$$PATH:$(CURDIR)/.venv/bin" bindings/test c $(patsubst test-%,%,$(@:-binding=))

test-devices: ## one program in every language, on the CPU and on the emulated GPU, and what bindings do with device memory; not with KVC_CUDA=OFF
	@if [ "$(KVC_CUDA)" = OFF ]; then echo "devices: left out, KVC_CUDA=OFF"; else \
	  $(SETUP) build test bindings python && cmake --preset release -DKVC_CUDA=AUTO > /dev/null && \
	  cmake --build --preset release -j$(JOBS) --target kvc kvc_static kvc_emulated && \
	  export PATH="$$PATH:$(CURDIR)/.venv/bin" && $(PYTHON) bindings/devices && \
	  $(MAKE) --no-print-directory -C bindings go-on-device rust-on-device java-on-device; fi

test-bindings-long: ## what takes every language too long for the gate: storms, sanitizers and valgrind, packages
	@$(SETUP) build test bindings bindings-long python
	@cmake --preset release $(if $(filter OFF,$(KVC_CUDA)),-DKVC_CUDA=OFF) > /dev/null
	@cmake --build --preset release -j$(JOBS) --target kvc kvc_static kvc_script
	@PATH="$$PATH:$(CURDIR)/.venv/bin" $(MAKE) --no-print-directory -C bindings go-long rust-long java-long csharp-long python-long

test-servers: ## servers of a real model over HTTP, each held to docs/SERVERS.md by one black-box test
	@$(SETUP) build bindings python
	@$(MAKE) --no-print-directory library python-binding
	@PATH="$$PATH:$(CURDIR)/.venv/bin" examples/servers/test

serve-go serve-rust serve-java serve-csharp: ## a server of SmolLM2 on port 8080, with kvc as its cache
	@$(SETUP) build $(subst serve-,,$@) python
	@$(MAKE) --no-print-directory library
	@$(MAKE) --no-print-directory -C bindings installed
	@PATH="$$PATH:$(CURDIR)/.venv/bin" $(MAKE) --no-print-directory -C examples/servers $@

LANGUAGES :=
conformance: SCRIPTS ?= 1000
conformance-long: SCRIPTS ?= 20000
conformance: ## random scripts in every language (LANGUAGES="go rust": in these) must print one digest; one line a language; SCRIPTS=1000
	@$(SETUP) build test bindings python
	@cmake --preset release $(if $(filter OFF,$(KVC_CUDA)),-DKVC_CUDA=OFF) > /dev/null
	@cmake --build --preset release -j$(JOBS) --target kvc kvc_script
	@PATH="$$PATH:$(CURDIR)/.venv/bin" bindings/conformance/run --scripts $(SCRIPTS) $(LANGUAGES)

conformance-long: ## the same of SCRIPTS=20000 that the gate does not have; adds a row to bindings/conformance/ledger.md
	@$(SETUP) build test bindings python
	@cmake --preset release $(if $(filter OFF,$(KVC_CUDA)),-DKVC_CUDA=OFF) > /dev/null
	@cmake --build --preset release -j$(JOBS) --target kvc kvc_script
	@PATH="$$PATH:$(CURDIR)/.venv/bin" bindings/conformance/long $(SCRIPTS)

test-python: ## kvc-eval, the demo and the model-level quality bars
	@$(SETUP) build python
	@$(MAKE) --no-print-directory library python-binding
	@$(PYTHON) -m pytest -q $(PYTEST_FOLDERS)

test-bars: ## the quality bars at full length: every preset on 2,048 tokens with needles, Gemma 3 as a second architecture
	@mkdir -p out
	./kvc-eval --model smollm2 --tokens 2048 --json out/bars_smollm2.json \
	  --modes "fp16,bf16,int8,int4,int3,k3v2,int2,kivi4,kivi2,streaming:4+512,streaming:20%,streaming:30%,h2o:20%,h2o:20%,mass=observed,h2o:20%,mass=page,h2o:20%,merge=keys+values,merge_layers=10..19,h2o:50%,mean_attention:20%,best:20%,int4+h2o:50%,streaming:20%,sinks=0"
	./kvc-eval --model gemma3 --tokens 1024 --needles 0 --modes int8,int4,int2 --json out/bars_gemma3.json
	./kvc-eval --model gemma3 --tokens 1024 --write-dump out/gemma3.safetensors
	./kvc-eval --dump out/gemma3.safetensors --modes int8,int4,k3v2,int2 --json out/bars_gemma3_dump.json
	@$(PYTHON) tests/quality/full_bars.py out/bars_smollm2.json out/bars_gemma3.json out/bars_gemma3_dump.json

test-neon neon: ## the C++ and C tests for aarch64, under qemu
	@$(SETUP) build test cross
	$(call configure_and_build,neon)
	@$(CTEST) --test-dir build/neon -LE later

test-neon-full: test-neon ## the laws and the model too: they take too long under qemu for the gate
	$(call build_and_test_later,neon)

test-avx512 avx512: ## the kernel and lane tests with AVX-512, on a processor that Bochs emulates
	@$(SETUP) build test avx512
	@cmake --preset release && cmake --build --preset release -j$(JOBS) --target kvc_avx512_tests
	@python3 tests/avx512/run.py build/release/tests/avx512/kvc_avx512_tests

test-asan asan: ## the C++ and C tests under the address and undefined-behaviour sanitizers
	@$(SETUP) build test
	$(call configure_and_build,asan)
	@$(CTEST) --test-dir build/asan -LE later

test-asan-full: test-asan ## the laws over a device, too, whose memory no build can touch anyway
	$(call build_and_test_later,asan)

test-tsan tsan: ## what runs threads, under the thread sanitizer: the C API, scripts, examples, and of the laws those that name threads
	@$(SETUP) build test
	$(call configure_and_build,tsan)
	@$(CTEST) --test-dir build/tsan -LE later

test-tsan-full: test-tsan ## the kernels and all laws too, which take long and run on one thread
	$(call build_and_test_later,tsan)

SECONDS := 3600
fuzz-snapshot: ## mutated snapshots under the sanitizers for SECONDS=3600; adds a row to tests/snapshot/fuzz_ledger.md
	@$(SETUP) build test
	@cmake --preset asan && cmake --build --preset asan -j$(JOBS) --target kvc_snapshot_tests
	@tests/snapshot/fuzz $(SECONDS)

TOKENS := 1000000000
stream-long: ## TOKENS=1000000000 through one sequence, memory flat; adds a row to tests/laws/stream_ledger.md
	@$(SETUP) build test
	@cmake --preset release && cmake --build --preset release -j$(JOBS) --target kvc_laws_tests
	@tests/laws/stream $(TOKENS)

format: ## rewrite the C and C++ sources in the project's format
	@$(SETUP) python
	@$(CPP_FILES) | xargs -r $(CLANG_FORMAT) -i

format-check: ## fail if "make format" would change something
	@$(SETUP) python
	@$(CPP_FILES) | xargs -r $(CLANG_FORMAT) --dry-run --Werror && echo "format: all files as clang-format wants them"

tidy: ## clang-tidy over the library's sources
	@$(SETUP) build test lint
	@cmake --preset release
	@git ls-files -- 'core/*.cpp' 'capi/*.cpp' 'kernels/cpu/*.cpp' | grep -v '/neon' \
	  | xargs -r -n 1 -P $(JOBS) clang-tidy-19 -p build/release --quiet

clean: ## remove what was built (.venv stays)
	rm -rf build out

help: ## this list
	@grep -E '^[a-z0-9 -]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 24
