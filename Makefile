# What people do with this repository. `make` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# The parts share one build folder, and installing comes before using.
.NOTPARALLEL:

CARGO_DENY_VERSION := 0.20.2
CARGO_MACHETE_VERSION := 0.9.2

# One folder per version: a new version is another file, so that make installs it.
TOOLS := target/tools
CARGO_DENY := $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
CARGO_MACHETE := $(TOOLS)/cargo-machete-$(CARGO_MACHETE_VERSION)/bin/cargo-machete

# Arguments of `make bench`; `make bench BENCH=--help` lists them.
BENCH ?=
RUN := cargo run --locked --bin mcp-authority --
OPENAPI := openapi/authority.json

##@ Run

.PHONY: run
run: ## Build and serve; with no database configured it starts a private PostgreSQL
	@scripts/setup run
	@$(RUN) serve

.PHONY: demo
demo: ## The tour without hands, against a throw-away instance
	@scripts/setup run
	@$(RUN) demo

##@ Verify

.PHONY: test
test: check ## All that CI runs: `make check`, then every test
	# Tests wait more than they compute.
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(getconf _NPROCESSORS_ONLN)))} cargo test --locked --features switches
	scripts/test-python

.PHONY: soak
soak: ## 10,000 revocations for each fault instead of 300; the figures go to docs/soak.md
	@scripts/setup test
	scripts/soak

.PHONY: check
check: setup-test check-format check-queries check-lints check-docs check-generated check-dependencies ## Format, SQL data, lints, docs, generated files, dependencies

.PHONY: bench
bench: ## What the service costs, beside ceilings of the same run; BENCH=--quick takes minutes instead of half an hour
	@scripts/setup bench
	@cargo bench --locked --bench suite -- $(BENCH)

.PHONY: fix
fix: setup-test ## Repair what `make check` finds, as far as a program can
	scripts/sqlx-data write
	cargo clippy --fix --allow-dirty --allow-no-vcs --allow-staged --locked --all-targets --all-features
	cargo fmt
	@mkdir -p $(dir $(OPENAPI))
	$(RUN) openapi > target/openapi.json
	cp target/openapi.json $(OPENAPI)

##@ Parts

.PHONY: setup-test
setup-test:
	@scripts/setup test

.PHONY: check-format
check-format: ## rustfmt changes nothing
	cargo fmt --check

.PHONY: check-queries
check-queries: ## .sqlx/ is what the code and the migrations say
	scripts/sqlx-data check

.PHONY: check-lints
check-lints: ## clippy, warnings are errors
	cargo clippy --locked --all-targets --all-features -- -D warnings

.PHONY: check-docs
check-docs: ## rustdoc, warnings are errors
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --all-features

.PHONY: check-generated
check-generated: ## The API's description is what the code says
	@mkdir -p target
	@$(RUN) openapi > target/openapi.json
	@diff -u $(OPENAPI) target/openapi.json || { echo '$(OPENAPI) is not current: run `make fix` and commit it.' >&2; exit 1; }

.PHONY: check-dependencies
check-dependencies: $(CARGO_DENY) $(CARGO_MACHETE) ## Bans, licences and sources of crates; crates that nothing uses
	$(CARGO_DENY) --locked check bans licenses sources
	$(CARGO_MACHETE) --skip-target-dir

$(CARGO_DENY):
	cargo install --quiet --locked cargo-deny --version $(CARGO_DENY_VERSION) --root $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)

$(CARGO_MACHETE):
	cargo install --quiet --locked cargo-machete --version $(CARGO_MACHETE_VERSION) --root $(TOOLS)/cargo-machete-$(CARGO_MACHETE_VERSION)

.PHONY: help
help:
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
