# edged: `make help` lists what there is. Go, git and make are all that must be there; `make test` installs the rest.

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0)
TAGS      := grpcnotrace
GOTEST    := scripts/gotest.sh
LINT      := go tool -modfile=tools/go.mod golangci-lint
FUZZTIME  ?= 30s
CYCLES    ?= 200
NESTED    := $(patsubst %/go.mod,%,$(filter-out conformance/dapr/go.mod tools/go.mod,$(wildcard */go.mod */*/go.mod)))

export GOFLAGS ?=

.PHONY: help build run test unit nested race lint fuzz bench size cross conformance conformance-dapr torture demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

build: ## build bin/edged and bin/edged-hub
	VERSION=$(VERSION) scripts/gobuild.sh bin/ ./cmd/edged ./cmd/edged-hub

run: build ## start edged and edged-hub on loopback and say what to try
	@scripts/run.sh

test: ## install what tests need, vet, and run every test except Dapr's own cases
	scripts/setup.sh test sdk
	@rm -f .cache/test-counts
	$(MAKE) --no-print-directory unit nested

unit: ## vet and test the main module
	go vet -tags $(TAGS) ./...
	$(GOTEST) . -tags $(TAGS) -timeout 20m ./...

nested: build ## vet and test the modules of the official SDKs and the examples
	scripts/sdk.sh
	set -e; for module in $(NESTED); do (cd $$module && go vet ./...); $(GOTEST) $$module -timeout 20m ./...; done

race: ## test the main module with the race detector
	CGO_ENABLED=1 EDGED_TORTURE_CYCLES=5 $(GOTEST) . -race -short -tags $(TAGS) -timeout 30m ./...

lint: ## check style, floors and scripts
	scripts/setup.sh lint
	$(LINT) run --allow-parallel-runners ./...
	set -e; for module in $(NESTED); do (cd $$module && go tool -modfile="$(CURDIR)/tools/go.mod" golangci-lint run --allow-parallel-runners ./...); done
	git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck --shell=bash --exclude=SC2317

fuzz: ## fuzz every decoder for FUZZTIME each (default 30s)
	scripts/fuzz.sh $(FUZZTIME)

bench: build ## measure edged against what the machine can do
	cd conformance && go run ./bench -edged ../bin/edged

size: ## check the footprint budget: binary size, memory, start
	scripts/size.sh

cross: ## build the release for every architecture into dist/
	./cross-build.sh

conformance: build ## run the official Dapr SDKs against the built binary
	scripts/setup.sh sdk
	scripts/sdk.sh
	$(GOTEST) conformance -count 1 -timeout 20m ./...

conformance-dapr: build ## run Dapr's own integration cases against the built binary
	conformance/dapr/run.sh

torture: build ## kill -9 edged CYCLES times (default 200) under load and look for losses
	EDGED="$(CURDIR)/bin/edged" EDGED_TORTURE_CYCLES=$(CYCLES) go test -tags $(TAGS) -count 1 -timeout 3h -v -run Torture ./cmd/edged

demo: build ## the whole story with real parts: offline, kill -9, back online, and the ledger
	scripts/setup.sh test sdk
	scripts/sdk.sh
	cd examples && go run ./demo -root ..

clean: ## remove what was built, downloaded into the project, or left by make run
	rm -rf bin dist .cache conformance/js/node_modules conformance/python/.venv examples/node_modules
