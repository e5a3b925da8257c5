# wisp: every target says what it does in `make help`.
GO       ?= go
OUT      ?= out
SHARED   ?= ../shared
LINT_VERSION := v2.15.0
WISP     := bin/wisp
# CGO is off everywhere but in the race detector: BLAS is opened at run time.
export CGO_ENABLED := 0
# Loops of training in vector instructions (internal/vec), where this Go has the experiment.
export GOEXPERIMENT := $(shell GOEXPERIMENT=simd $(GO) env GOEXPERIMENT 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help build wasm wasm-check ptx ptx-check web test test-gpu test-web test-race test-arm64 fuzz bench bench-peers bench-guest bench-browser bench-recipes bench-games encoder golden results lint fmt demo check clean setup-demo setup-test setup-encoder setup-web

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

build: ## build bin/wisp and bin/wisp-edge (static, no cgo)
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./cmd/...

setup-demo:
	@scripts/setup.sh demo

setup-test:
	@scripts/setup.sh test

setup-encoder:
	@scripts/setup.sh encoder

setup-web:
	@scripts/setup.sh web

demo: setup-demo build ## the main job on real data: fetch, prepare, train, compress, sign, eval, recommend, report
	@WISP=$(WISP) OUT=$(OUT)/demo scripts/demo.sh

wasm: ## build wasm/kernel.wasm from wasm/guest (clang-19, lld-19)
	$(MAKE) -C wasm/guest

wasm-check: ## rebuild the guest kernel and compare it, bit for bit, with the committed one
	$(MAKE) -C wasm/guest check

# The compiler of the GPU's kernels, out of a package registry: it needs no GPU.
NVRTC := $(OUT)/nvrtc/nvidia/cuda_nvrtc/lib/libnvrtc.so.11.2
PTX    = $(GO) run ./hostgpu/cuda/ptx --nvrtc $(abspath $(NVRTC)) --out hostgpu/cuda/kernels.ptx
$(NVRTC):
	@mkdir -p $(OUT)/nvrtc
	@pip3 download --quiet --no-deps --dest $(OUT)/nvrtc nvidia-cuda-nvrtc-cu11==11.8.89
	@cd $(OUT)/nvrtc && python3 -m zipfile -e nvidia_cuda_nvrtc_cu11-*.whl .

ptx: $(NVRTC) ## build hostgpu/cuda/kernels.ptx from hostgpu/cuda (linux/amd64, pip3)
	$(PTX)

ptx-check: $(NVRTC) ## rebuild the GPU's kernels and compare them, byte for byte, with the committed ones
	$(PTX) --check

web: setup-demo setup-web build ## the demo page on http://127.0.0.1:8000: fetches, trains and signs a model first (minutes, once)
	@WISP=$(WISP) OUT=$(OUT)/web scripts/web.sh

test: setup-test ## the tests; sets up what they need and says what it could not have
	$(GO) vet ./...
	$(GO) test -timeout 40m ./... # busy machines take several times as long
	GOEXPERIMENT= $(GO) test ./internal/vec # without vector instructions
	@if command -v clang-19 >/dev/null && command -v wasm-ld-19 >/dev/null; then $(MAKE) --no-print-directory wasm-check; \
	else echo "test: clang-19 or lld-19 missing: kernel.wasm was not rebuilt and compared"; fi
	@if $(MAKE) --no-print-directory $(NVRTC) >/dev/null 2>&1; then $(MAKE) --no-print-directory ptx-check; \
	else echo "test: NVRTC could not be fetched with pip3: kernels.ptx was not rebuilt and compared"; fi
	@$(MAKE) --no-print-directory test-web

test-gpu: ## the tests of training on this machine's NVIDIA GPU, and how long its steps take (beside PyTorch where it is)
	@GO=$(GO) SHARED=$(SHARED) scripts/test-gpu.sh

test-web: setup-web ## the browser package in Chromium and Firefox
	@scripts/test-web.sh

test-race: ## the concurrent packages under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m ./edge/... ./artifact/... ./internal/eval/... ./cmd/wisp-edge/...

test-arm64: ## the identity tests compiled for arm64, under qemu-user
	@scripts/test-arm64.sh

fuzz: ## each fuzz target for a bounded number of inputs
	@scripts/fuzz.sh

bench: ## benchmarks of the sandbox, the oracle and training
	$(GO) test -run '^$$' -bench . -benchtime 200x ./edge ./internal/q8
	$(GO) test -run '^$$' -bench . -benchtime 5x ./hostgpu

bench-peers: setup-demo ## training speed side by side with PyTorch, into docs/results/peers.* (downloads some 800 MB)
	@mkdir -p bin && $(GO) -C bench build -trimpath -o ../bin/bench . && bin/bench -shared $(SHARED) -venv $(OUT)/peers/venv

bench-guest: build ## the guest side by side with native C, Faiss and onnxruntime-web, into docs/results/peers-guest.* (needs clang-19, node, npm and Chromium)
	@mkdir -p bin && $(GO) -C bench build -trimpath -o ../bin/bench . && \
	bin/bench -topic guest -shared $(SHARED) -venv $(OUT)/peers/venv

bench-browser: build setup-web ## the browser package side by side with onnxruntime-web, into docs/results/browser.* (after make web; needs Chromium and Firefox)
	@mkdir -p bin && $(GO) -C bench build -trimpath -o ../bin/bench . && \
	bin/bench -topic browser -shared $(SHARED) -venv $(OUT)/peers/venv -artefact $(OUT)/web/served/demo.wisp

bench-recipes: build ## what public software makes of the encoder's teacher, into docs/results/peers-recipes.* (after wisp results --topic encoder)
	@mkdir -p bin && $(GO) -C bench build -trimpath -o ../bin/bench . && \
	bin/bench -topic recipes -shared $(SHARED) -venv $(OUT)/peers/venv -work $(OUT)/results

bench-games: ## quality of a training side by side with PyTorch, into docs/results/peers-games.* (hours; goes on where it was)
	@mkdir -p bin && $(GO) -C bench build -trimpath -o ../bin/bench . && \
	bin/bench -topic games -shared $(SHARED) -venv $(OUT)/peers/venv -work $(OUT)/results

DISTIL = $(WISP) distil-encoder --teacher $(SHARED)/models/all-MiniLM-L6-v2 --wordnet /usr/share/wordnet --augment 400000 --batch 128 \
  --titles $(SHARED)/data/movietweetings/movies.dat --titles $(SHARED)/data/movietweetings/dbpedia-mappings.csv --texts $(OUT)/retail.txt
encoder: setup-encoder build ## distil the built-in text encoders anew from MiniLM in $(SHARED), by way of $(OUT)/encoder (hours; goes on where it was)
	@mkdir -p $(OUT)
	@zcat $(SHARED)/data/online-retail/online_retail.csv.gz | cut -d, -f3 | sort -u | iconv -c -f utf-8 -t utf-8 >$(OUT)/retail.txt
	@$(DISTIL) --epochs 40 --patience 40 --out $(OUT)/encoder-first $(if $(wildcard $(OUT)/encoder-first/distil-encoder.safetensors),--resume)
	@$(DISTIL) --seed 2 --start $(OUT)/encoder-first --lr 0.0015 --epochs 32 --patience 32 --out $(OUT)/encoder $(if $(wildcard $(OUT)/encoder/distil-encoder.safetensors),--resume)
	@mkdir -p $(OUT)/encoder-nano/run && cp $(OUT)/encoder-first/run/targets.bin $(OUT)/encoder-nano/run
	@$(DISTIL) --size nano --epochs 24 --patience 24 --out $(OUT)/encoder-nano $(if $(wildcard $(OUT)/encoder-nano/distil-encoder.safetensors),--resume)
	cp $(OUT)/encoder/encoder.bin quantize/builtin/encoder.bin
	cp $(OUT)/encoder-nano/encoder.bin quantize/builtin/encoder-nano.bin

golden: ## rewrite golden files (read the diff before you commit it)
	UPDATE_GOLDEN=1 $(GO) test ./...

results: setup-demo build ## remake docs/results from the data in $(SHARED) (about an hour on 2 cores)
	$(WISP) results --shared $(SHARED) --work $(OUT)/results --docs docs/results

.tools/bin/golangci-lint-$(LINT_VERSION):
	@mkdir -p .tools/bin
	GOBIN=$(CURDIR)/.tools/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv .tools/bin/golangci-lint $@

lint: .tools/bin/golangci-lint-$(LINT_VERSION) ## golangci-lint with the list in .golangci.yml, formatting included; and whether everything compiles for Windows
	$< run ./...
	GOOS=windows GOEXPERIMENT= $(GO) vet ./...

fmt: .tools/bin/golangci-lint-$(LINT_VERSION) ## format the Go code
	$< fmt ./...

check: lint test test-race test-arm64 fuzz ## everything that CI runs

clean: ## remove what the targets above made
	rm -rf bin $(OUT)
