# What a person types. `make ci` is what CI runs; the tasks behind it are in xtask/.
.SUFFIXES:
.PHONY: help demo test bench ci dist tools nextest
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
ARGS ?=
# The version that .config/nextest.toml and the compiler in rust-toolchain.toml are tried with.
NEXTEST := 0.9.143

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 15
	@echo 'More: cargo xtask --help'

demo: tools ## build Moat, the accounts service and the card switch, and show them (ARGS=--exit: do not stay)
	@test -x $(TARGET)/demo/moat || \
	  echo 'make demo: the first build takes five to ten minutes on two cores' >&2
	$(CARGO) build --locked --profile demo -p moat -p moat-accounts -p moat-switch
	$(TARGET)/demo/moat demo $(ARGS)

test: tools nextest ## run every test (ARGS go to cargo nextest run)
	$(CARGO) nextest run --locked --workspace $(ARGS)
	$(CARGO) test --locked --doc --workspace --quiet

bench: tools ## run every benchmark
	$(CARGO) bench --locked --workspace --bench '*' $(ARGS)

ci: tools ## everything that CI checks
	$(CARGO) xtask ci

dist: tools ## one static binary in dist/
	$(CARGO) xtask dist

# The compiler, a C compiler for aws-lc and for linking, and clang for the BPF programs.
tools:
	@command -v $(CARGO) >/dev/null || { \
	  echo 'make: cargo is missing. Install it from https://rustup.rs; it then fetches' >&2; \
	  echo 'make: the compiler that rust-toolchain.toml names.' >&2; exit 1; }
	@command -v cc >/dev/null || { \
	  echo 'make: a C compiler is missing. On Debian or Ubuntu, as root:' >&2; \
	  echo 'make:   apt-get install --yes gcc libc6-dev' >&2; exit 1; }
	@command -v clang >/dev/null && \
	  echo '#include <bpf/bpf_helper_defs.h>' | clang -target bpf -E - >/dev/null 2>&1 || { \
	  echo 'make: clang or the headers of libbpf are missing, for the BPF programs. On Debian or' >&2; \
	  echo 'make: Ubuntu, as root: apt-get install --yes clang libbpf-dev' >&2; exit 1; }

nextest: tools
	@command -v cargo-nextest >/dev/null || { \
	  echo 'make: installing cargo-nextest, some minutes' >&2; \
	  $(CARGO) install --locked cargo-nextest --version $(NEXTEST); }
