# Headwater. The two commands of the README are `make run` and `make test`; each installs what the machine lacks.

CARGO ?= cargo
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)
CONFIG ?=

.PHONY: run build test lint bench soak web packages

## Builds the release binary with its pages and runs it with a test picture on the channel `demo`.
run: build
	$(TARGET_DIR)/release/headwater serve --demo $(if $(CONFIG),--config $(CONFIG))

## The release binary, with its web pages in it.
build: packages web
	$(CARGO) build --release --locked

## Everything: format, lints, documentation, unit, property and driver tests, and the system tests with real
## encoders, players and stores. GARAGE=path adds a Garage server to the stores.
test:
	GARAGE=$(GARAGE) scripts/test

## Format, lints and documentation alone.
lint: packages web
	scripts/lint

## Criterion for the hot paths, then whole processes; prints the figures of the README.
bench: build
	scripts/install-packages bench
	scripts/bench

## Half an hour of the demo (MINUTES=30): fails on a gap, a warning in the log, or growth of memory.
soak: build
	scripts/install-packages test
	$(CARGO) bench --locked --bench soak

packages:
	scripts/install-packages build

web: web/node_modules/hls.js/dist/hls.min.js

web/node_modules/hls.js/dist/hls.min.js: web/package.json web/package-lock.json | packages
	cd web && npm ci --no-audit --no-fund --loglevel=error
	touch $@
