# Kijabi: `make up` runs a cluster, `make test` proves it. Both install what is missing from Debian.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: up down test prove lint bench microbench
.DEFAULT_GOAL := up

# Where `make up` keeps its cluster.
export KIJABI_DATA ?= /var/lib/kijabi

up: ## install what is missing, build, start a cluster, run the demo
	@scripts/up.sh

down: ## stop the cluster and remove everything that `make up` made
	@scripts/down.sh

test: ## install what is missing, run all tests
	@scripts/test.sh

prove: ## three members under load and faults, 30 seeds: about a quarter of an hour
	@scripts/prove.sh

lint: ## formatting, clippy, docs, dependency policy; changes nothing
	@scripts/lint.sh

bench: ## our store beside Debian's etcd; the report goes to target/bench (BENCH="--rounds 1 --only put" narrows it)
	@scripts/install.sh build test
	@source scripts/env.sh && cargo run --release --locked -p kijabi -- --log=warn bench compare $(BENCH)

microbench: ## criterion benches of the pure parts
	@source scripts/env.sh && cargo bench -p kijabi-benches --bench micro
