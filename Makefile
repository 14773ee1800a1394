# make builds the binary; make help tells what else there is.
# A fresh Debian machine needs Go, git and make: demo and test install the rest.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.ONESHELL:
.DELETE_ON_ERROR:

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
ARCH     ?= $(shell go env GOARCH)
IMAGE    ?= buildenv:$(VERSION)
ENGINE   ?= $(firstword $(foreach engine,podman buildah docker,$(if $(shell command -v $(engine)),$(engine))))
ROUNDS   ?= 300
FUZZTIME ?= 30s
BENCH    ?= .

# Where the Debian image root of the tests is kept.
export BUILDENV_CACHE ?= $(CURDIR)/.cache

GOBUILD = CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X buildenv/entrypoint.version=$(VERSION)'
TOOL    = go tool -modfile=tools/go.mod
GOFILES = find . -path './.?*' -prune -o -name '*.go' -print
SCRIPTS = tools/setup tools/debian-root .ci/run

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  variables: VERSION ARCH IMAGE ENGINE FUZZTIME BENCH, e.g. make image ENGINE=docker'

.PHONY: build
build: bin/buildenv-$(ARCH) ## build bin/buildenv for this machine (or ARCH)
	@ln -f $< bin/buildenv

.PHONY: static
static: bin/buildenv-amd64 bin/buildenv-arm64 ## build the static binaries of both architectures

# The go command knows better than make what is up to date.
.PHONY: FORCE
bin/buildenv-%: FORCE
	GOOS=linux GOARCH=$* $(GOBUILD) -o $@ ./cmd/buildenv

.PHONY: image
image: bin/buildenv-$(ARCH) ## build the container image, with podman, buildah or docker
	$(if $(ENGINE),,$(error no podman, buildah or docker here; try: tools/setup pods))
	$(ENGINE) build --target static --platform linux/$(ARCH) --build-arg VERSION=$(VERSION) -t $(IMAGE) .

.PHONY: demo
demo: build ## run a whole job on this machine: a root, a real ssh into it, an archive
	tools/setup demo
	bin/buildenv demo

# The race detector is the one thing here that needs a C compiler.
.PHONY: test
test: ## install what the tests need, then run all of them, with containers and the race detector
	tools/setup e2e pods race
	tools/debian-root
	go test ./artifacts/squashfs # what is too much for the race detector
	go test -race -tags pods -timeout 30m ./...

.PHONY: race
race: ## run the tests as they are on any machine: nothing is installed, skips say why
	go test -race -timeout 30m ./...

.PHONY: e2e
e2e: ## run the tests of the binary, with real clients, image roots and containers
	tools/setup e2e pods
	tools/debian-root
	go test -tags pods -timeout 30m ./e2e

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME
	@for package in $$(go list ./...); do
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do
			echo "$$package $$target"
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$package
		done
	done

.PHONY: soak
soak: ## have 10 MiB fetched ROUNDS times by clients that keep the machine busy, and 1 GiB by rsync
	tools/setup e2e
	tools/debian-root
	go test -run '^TestOutputIsCompleteOverSSH$$' -timeout 60m -v ./sshd -rounds $(ROUNDS)
	RSYNC_MIB=1024 go test -run '^TestClients$$/./^rsync-file$$' -timeout 60m -v ./e2e

.PHONY: bench
bench: ## run the benchmarks that match BENCH, with their yardsticks
	tools/setup e2e
	tools/debian-root
	go test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 2h ./...

.PHONY: cover
cover: ## write cover.out: what the tests reach, in the binary under test too
	rm -rf .cache/cover && mkdir -p .cache/cover
	BUILDENV_COVERDIR=$(CURDIR)/.cache/cover go test -count=1 -cover -coverpkg=./... ./... -args -test.gocoverdir=$(CURDIR)/.cache/cover
	go tool covdata textfmt -i=.cache/cover -o cover.out
	go tool cover -func=cover.out | tail -n 1

.PHONY: lint
lint: ## check formatting, then look for mistakes in code and scripts
	@unformatted=$$(gofmt -l $$($(GOFILES))); [[ -z "$$unformatted" ]] || { echo "gofmt would change: $$unformatted" >&2; exit 1; }
	go vet -tags pods ./...
	$(TOOL) staticcheck -tags pods ./...
	tools/setup lint
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); else echo 'shellcheck: not installed, scripts were not checked' >&2; fi

.PHONY: vuln
vuln: ## look the dependencies up in Go's vulnerability database (needs the network)
	$(TOOL) govulncheck ./...

.PHONY: fmt
fmt: ## format the Go code
	gofmt -w $$($(GOFILES))

.PHONY: docs
docs: ## write the generated tables of docs/ anew
	go test ./entrypoint -run TestConfigurationTable -update
	go test ./sshd/sshdconfig -run TestDirectiveTable -update

.PHONY: golden
golden: ## accept the binary's dependencies as they are now
	go test ./internal/layering -run TestDependencies -update

.PHONY: ci
ci: lint test ## what every change must pass

.PHONY: clean
clean: ## remove what was built; the Debian root of the tests stays
	rm -rf bin dist cover.out .cache/cover buildenv-demo
