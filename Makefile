# Slipway. `make help` lists what there is; Go and git are all that building,
# testing and the demo need. Other tools are built by `go install` at pinned
# versions, once, into $(TOOLS), which clones of the same user share.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

# The binaries are static; tests and linters do the same, so that all of them
# share what has been compiled. Only the race detector needs cgo.
export CGO_ENABLED := 0

# Versions are pinned; dependencies.md of the design tells why these.
GOLANGCI_VERSION := v2.15.0
BUF_VERSION      := v1.75.0

CACHE  := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/slipway
TOOLS  := $(CACHE)/tools-go$(shell go env GOVERSION | tr -d 'a-z')-lint$(GOLANGCI_VERSION)-buf$(BUF_VERSION)
# GOTESTFLAGS adds to every run of tests (-short, -v, -run NAME).
GOTEST := go test $(GOTESTFLAGS)

# Empty without a tag, or without git: the binary then says so itself.
VERSION ?= $(shell git describe --tags --exact-match 2>/dev/null)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)$(shell git diff --quiet HEAD 2>/dev/null || echo -dirty)
STAMP   := github.com/slipway-ci/slipway/shared/version
LDFLAGS := -s -w $(if $(VERSION),-X $(STAMP).Version=$(VERSION)) $(if $(filter-out -dirty,$(COMMIT)),-X $(STAMP).Commit=$(COMMIT))
# No -trimpath here: tests need their paths, and the build shares its cache with
# them. The project's own workflow builds reproducibly, with it.
GOBUILD := go build -ldflags '$(LDFLAGS)'

# slipway embeds the init that is pid 1 of every step; git ignores the file.
EMBED := agent/stepinit/embedded/bin/slipway-init

.PHONY: help
help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Run

.PHONY: demo
demo: build ## the main job, from nothing: a fleet, a real workflow, and what it did
	bin/slipway demo $(ARGS)

.PHONY: dev
dev: build ## leave a fleet running on this machine to play with (Ctrl-C ends it)
	bin/slipway dev $(ARGS)

##@ Build

.PHONY: build
build: $(EMBED) ## static binaries bin/slipway and bin/slipway-init
	$(GOBUILD) -o bin/slipway ./cmd/slipway

# Phony on purpose: the go tool knows best what is stale, and writes nothing new
# when nothing is, so that what embeds the file stays cached.
.PHONY: $(EMBED)
$(EMBED):
	@mkdir -p bin
	@go build -trimpath -ldflags '-s -w' -o bin/slipway-init ./cmd/slipway-init
	@cmp -s bin/slipway-init $@ || install -m 755 bin/slipway-init $@

.PHONY: proto
proto: $(TOOLS)/buf $(TOOLS)/protoc-gens ## generate Go from proto/slipway/v1
	cd proto && PATH="$(TOOLS):$$PATH" buf lint && PATH="$(TOOLS):$$PATH" buf generate

.PHONY: proto-check
proto-check: $(TOOLS)/buf $(TOOLS)/protoc-gens ## fail when generated code is not fresh
	PATH="$(TOOLS):$$PATH" .ci/proto-check

##@ Test

.PHONY: test
test: $(EMBED) ## the tests, on any Linux machine; what is missing there is skipped loudly
	$(GOTEST) -v ./... | .ci/test-report

# End-to-end tests are TestE2E... in files with the build tag e2e (a test sees to
# the names); SLIPWAY_BIN tells them which binary to drive.
.PHONY: e2e
e2e: build ## real processes, Docker, namespaces, the real binary (RUN=NAME narrows it)
	@packages=$$(grep -rlE '^//go:build .*\be2e\b' --include='*_test.go' agent cmd coordinator shared | xargs -rn1 dirname | sort -u | sed 's#^#./#'); \
	test -n "$$packages" || { echo "e2e: no end-to-end tests found" >&2; exit 1; }; \
	set -x; SLIPWAY_BIN=$(CURDIR)/bin/slipway $(GOTEST) -tags e2e -count=1 -timeout 15m -run '^TestE2E$(RUN)' $$packages

.PHONY: race
race: $(EMBED) ## the tests under the race detector (slow; PKG=./shared/... narrows it)
	CGO_ENABLED=1 $(GOTEST) -race -timeout 20m $(or $(PKG),./...)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 20s)
	.ci/fuzz $(or $(FUZZTIME),20s)

.PHONY: bench
bench: ## the benchmarks, with allocations
	$(GOTEST) -run '^$$' -bench . -benchmem $(or $(PKG),./...)

##@ Check

.PHONY: lint
lint: $(TOOLS)/golangci-lint $(EMBED) ## go vet, golangci-lint, formatting
	go vet ./...
	go vet -tags e2e ./...
	$(TOOLS)/golangci-lint run --timeout 10m

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint ## format everything
	$(TOOLS)/golangci-lint fmt

.PHONY: check
check: lint proto-check test ## what a change must pass before it is sent

.PHONY: ci
ci: ## all that continuous integration does
	.ci/run

.PHONY: clean
clean: ## remove what the build made
	rm -rf bin agent/stepinit/embedded/bin/slipway-init

##@ Tools

.PHONY: tools
tools: $(TOOLS)/golangci-lint $(TOOLS)/buf $(TOOLS)/protoc-gens ## build the pinned tools

$(TOOLS)/golangci-lint:
	@echo "building golangci-lint $(GOLANGCI_VERSION), once (some minutes)"
	@GOBIN=$(TOOLS) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(TOOLS)/buf:
	@echo "building buf $(BUF_VERSION), once (some minutes)"
	@GOBIN=$(TOOLS) GOFLAGS= go install github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION)

# The generators are built at the versions of go.mod, so that generated code and
# the library that runs it never drift. Always asked: go knows whether to build.
.PHONY: $(TOOLS)/protoc-gens
$(TOOLS)/protoc-gens:
	@GOBIN=$(TOOLS) go install google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
