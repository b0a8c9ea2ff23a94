# What can be done here; `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: help build check test chaos fuzz e2e demo tour bench static image clean
SHELL := /bin/bash

TARGET := x86_64-unknown-linux-musl
STATIC := target/$(TARGET)/release/ambassador

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /\1\t/' | expand -t 10

build: ## the release binary for this machine
	cargo build --locked --release

check: ## format, lints, unit tests, documentation, units
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --lib
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
	scripts/packages.sh systemd:systemd-analyze
	units/check.sh

test: ## all tests, with a real etcd and redis (installed when missing), and Docker where it answers
	scripts/test.sh

# FUZZ_SECONDS=600 for more of it, FUZZ=NAME for one target.
chaos: ## 5 minutes of random faults of everything, with clients that notice nothing
	scripts/chaos.sh

fuzz: ## each fuzz target for a minute
	scripts/fuzz.sh

e2e: ## the article's five units, one after the other, on a Docker engine
	scripts/local-images.sh
	$(MAKE) image
	tests/article.sh

demo: ## the article's story on screen: register, restart, fail-over
	cargo build --locked --release
	scripts/demo.sh target/release/ambassador

tour: ## the demo once more: what its proxy says in an incident, for README (needs Chromium)
	cargo build --locked --release
	scripts/tour.sh target/release/ambassador

# BENCH takes options of the comparison, for example BENCH=--quick.
bench: static ## beside HAProxy, nginx, socat and others on this machine; rewrites the table in README
	scripts/packages.sh haproxy:haproxy nginx:nginx libnginx-mod-stream socat:socat systemd \
	    docker.io:docker-proxy redis-server:redis-server redis-tools:redis-benchmark
	AMBASSADOR_BIN=$(CURDIR)/$(STATIC) cargo bench --locked --bench compare -- \
	    --json target/bench.json --readme README.md $(BENCH)

static: ## the static binary, for musl
	scripts/packages.sh musl-tools:musl-gcc # for ring, which has C and assembler in it
	cargo_musl=$$(scripts/musl-target.sh) && $$cargo_musl build --locked --release --target $(TARGET)
	@ls -l $(STATIC)

image: static ## the scratch images: ambassador, simple-amb, docker-register, dynamic-etcd-amb
	scripts/image.sh $(STATIC)

clean: ## remove what was built
	cargo clean
