# Everything a checkout can do. One profile (dev) and one target directory serve all of it, so that nothing compiles twice.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Each test may start cameras, which decode, encode and upload: more tests at once than this and two cores are too slow for them.
TEST_THREADS ?= 2
TEST_LOG := target/test.log
# Not a call of $(MAKE): make runs a line that holds one even when it was asked only to show it (-n).
SUMMARY = grep -E '^(     Running|   Doc-tests|test result:)' $(TEST_LOG) || echo 'No test ran: the reason stands in $(TEST_LOG).'

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: deps
deps: ## Install the Debian packages that are missing (root or sudo; SKIP_DEPS=1 leaves the system alone)
	@scripts/install-deps.sh

.PHONY: build
build: deps ## Compile the daemon and its test bed
	@cargo build --workspace --locked --bins

.PHONY: demo
demo: build ## Haul four test cameras into ./demo-data until Ctrl-C, or for DEMO_SECONDS=30
	@target/debug/testbed demo

.PHONY: demo-nvr
demo-nvr: build ## Haul 20 tasks of a sheet from two recorders into ./demo-nvr-data with three workers [DEMO_SECONDS=60]
	@target/debug/testbed demo-nvr

.PHONY: test
test: deps ## Run all tests; the last lines are cargo's summaries
	@mkdir -p $(dir $(TEST_LOG))
	@status=0; \
	CARGO_TERM_COLOR=never RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --locked --no-fail-fast 2>&1 | tee $(TEST_LOG) || status=$$?; \
	echo; $(SUMMARY); \
	exit $$status

.PHONY: test-summary
test-summary: ## Show the summaries of the last `make test` again
	@$(SUMMARY)

.PHONY: lint
lint: deps ## Check format, clippy's warnings and the docs
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

.PHONY: accept
accept: build ## Run a piece of work's acceptance: NAME=live-path-1, live-path-2, spool, delivery, fast-capture, push, recorders-1 or recorders-2 [LINES=2,5] [BENCH=FILE: for push, what `make bench JSON=FILE` found]
	@[[ -n '$(NAME)' ]] || { echo 'accept: which one? NAME=live-path-1, live-path-2, spool, delivery, fast-capture, push, recorders-1 or recorders-2' >&2; exit 1; }
	@[[ '$(NAME)' != fast-capture ]] || scripts/install-deps.sh valgrind
	@[[ '$(NAME)' != push ]] || scripts/install-deps.sh redis-server
	@[[ '$(NAME)' != recorders-2 ]] || scripts/install-deps.sh libreoffice-calc-nogui
	@target/debug/testbed accept --name '$(NAME)' $(if $(LINES),--only '$(LINES)')

# ROUNDS=N lengthens these: N kills, N damaged spools, 200 N cases of the model, 2,000 at the cap, every boundary and every
# refused call in place of some, every bit in place of one a byte. The other scenarios with a daemon are as long as ever.
.PHONY: faults
faults: build ## Inject faults into spool, journal and daemon; ROUNDS=500: every boundary and bit, 500 kills and damaged spools
	@export $(if $(ROUNDS),ROUNDS='$(ROUNDS)' PROPTEST_CASES=$$((200 * $(ROUNDS))),PROPTEST_CASES=1500); \
	begun=$$SECONDS; status=0; \
	cargo test --locked -p framehaul --lib -- --nocapture spool::tests:: journal::tests:: || status=$$?; \
	cargo test --locked -p framehaul --test faults --test faults_damaged --test faults_live --test faults_delivery --no-fail-fast \
		-- --nocapture --test-threads=1 || status=$$?; \
	echo; echo "faults: $$((SECONDS - begun)) s, $$([[ $$status = 0 ]] && echo passed || echo FAILED)"; \
	exit $$status

# A part alone makes a page below target/; all of them docs/benchmarks.md and the README's headline.
.PHONY: bench
bench: build ## Measure where framehaul stands [PARTS='burst sustained pipeline rtsp cameras criterion spool'] [QUICK=1: the shorter cases] [JSON=FILE] [BENCH_DIR=...]
	@scripts/install-deps.sh redis-server
	@cargo bench --locked --profile dev -p framehaul --bench push -- \
		$(PARTS) $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)') $(if $(OUT),--out '$(OUT)') $(if $(JSON),--json '$(JSON)')

.PHONY: audit
audit: ## Check the licences and sources of all crates by deny.toml (needs cargo-deny, installed by hand)
	@cargo deny --version >/dev/null 2>&1 || { echo 'audit: cargo-deny is missing: cargo install --locked cargo-deny' >&2; exit 1; }
	@cargo deny --locked check bans licenses sources

.PHONY: clean
clean: ## Remove what was compiled (also the test cameras' clips)
	@cargo clean
