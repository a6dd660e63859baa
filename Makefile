# Run `make` or `make help` for the list of targets.

GO ?= go
TOOL = $(GO) tool -modfile=.ci/tools/go.mod
VERSION ?= dev

# Packages whose tests take seconds: without real processes, disks and Redis servers.
QUICK = ./routes/... ./fallbacks/... ./cmd/... ./internal/breaker/... ./internal/events/... ./internal/admin/... \
	./internal/metrics/... ./internal/accesslog/... ./internal/telemetry/... ./internal/problem/...

.DEFAULT_GOAL := help
.PHONY: help build test quick lint bench demo cover ci

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: ## build dist/cbproxy as a release does
	CGO_ENABLED=0 $(GO) build -tags grpcnotrace -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o dist/cbproxy ./cmd/cbproxy

test: ## run all tests of the main module
	$(GO) test -timeout 20m ./...

quick: ## gofmt, vet and the fast tests, in under a minute
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "not formatted: run gofmt -w on these files"; exit 1; }
	$(GO) vet ./...
	$(GO) test $(QUICK)

lint: ## gofmt, vet, staticcheck, govulncheck and gosec
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "not formatted: run gofmt -w on these files"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) govulncheck ./...
	$(GO) -C .ci/gosec run . $(CURDIR)

bench: ## compare cbproxy with other proxies (20 minutes)
	$(GO) run ./internal/bench

demo: ## run the proxy with five simulated upstreams
	$(GO) run ./cmd/cbproxy demo --tour

cover: ## coverage of the unit and the end-to-end tests together
	.ci/cover

ci: ## everything that must pass before a change is merged (needs root and Debian)
	.ci/run
