# What one does with this repository. Each target sets its own environment; see scripts/env.sh.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export CARGO_TARGET_DIR ?= $(HOME)/.cache/backstay/target
ENV := . scripts/env.sh;

.PHONY: help build demo demo-databases test setup lint fmt tests fuzz model soak bench clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

build: ## Build the release binary and link it as ./target/backstay
	@$(ENV) cargo build --release --package backstay-cli
	@mkdir -p target
	@ln -sfn "$(CARGO_TARGET_DIR)/release/backstay" target/backstay
	@echo "target/backstay -> $(CARGO_TARGET_DIR)/release/backstay"

demo: build ## Back up a directory and a Postgres server of its own, restore both, compare every byte
	@scripts/demo.sh target/backstay

demo-databases: build setup ## Five systems in one snapshot, each of them back in a fresh server and compared
	@scripts/demo-databases.sh target/backstay

test: setup ## Everything that must hold before a commit: lint and tests; with CI=1 or FUZZ_SECONDS=60 fuzzing too
	@scripts/test.sh

setup: ## Install what build and tests need
	@scripts/setup.sh

lint: ## Formatting, clippy, rustdoc, spelling, shell, licences
	@scripts/test.sh lint

fmt: ## Format the code
	@cargo fmt --all

tests: ## The tests alone, without the gates
	@scripts/test.sh tests

fuzz: ## Fuzz every decoder, each for 60 s or 40 s, or for FUZZ_SECONDS
	@scripts/fuzz.sh

model: ## Search the protocol of backups and prune for lost data, all setups; half an hour and 4 GiB, or more with MODEL_STATES
	@cargo run --release --package backstay-protocol --example full -- $(MODEL_STATES)

soak: ## Backups and prunes at once, frozen and killed at random: ten minutes in a folder and on S3, or SOAK_SECONDS for both
	@$(ENV) cargo build -p backstay-cli && SOAK_SECONDS=$${SOAK_SECONDS:-1200} cargo test -p backstay-tests --test e2e soak:: -- --nocapture

bench: build ## Compare with other tools; see benches/compare.sh
	@benches/compare.sh

clean: ## Remove this workspace's build output, but not the RocksDB archive
	@cargo clean
	@rm -rf target
