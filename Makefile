# What a person types. Each step says how long it took; the first one that fails ends the run.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint clean images bench dependencies

STEP := tests/scripts/step
DEVICE := -p lifeboot-contract -p lifeboot-init -p lifeboot-rescue
ARCH ?= aarch64
export RUST_LIB_BACKTRACE = 0
# Where Debian has mkfs, cryptsetup, and what dpkg needs; a user's own PATH leaves them out.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

help:
	@echo 'make demo       build an image, boot it in QEMU, repair an encrypted disk by ssh, start a Debian over HTTP'
	@echo '                  ARCH=x86_64  the other architecture (aarch64 is the default)'
	@echo '                  KEEP=1       leave it running and say how to log in'
	@echo 'make test       everything that takes minutes: unit, pipeline, CLI, the most telling end-to-end runs'
	@echo 'make test-all   everything'
	@echo 'make lint       formatting, clippy for host and device, generated documents, licences'
	@echo 'make bench      the figures of docs/benchmarks.md, measured here'
	@echo 'make images     what the end-to-end tests boot'
	@echo 'make clean      remove what was built here; packages and OS images stay in the cache directory'

dependencies:
	@$(STEP) 'packages and toolchain' tests/scripts/dependencies

demo: dependencies
	@$(STEP) 'the demo itself' cargo build --quiet --package lifeboot-tests --bin demo
	@ARCH=$(ARCH) KEEP=$(KEEP) cargo run --quiet --package lifeboot-tests --bin demo

images: dependencies
	@$(STEP) 'test harness' cargo build --quiet --package lifeboot-tests --bins
	@$(STEP) 'images' cargo run --quiet --package lifeboot-tests --bin prepare

test: images
	@$(STEP) 'unit, pipeline and command line' cargo test --quiet --workspace --exclude lifeboot-tests
	@$(STEP) 'harness' cargo test --quiet --package lifeboot-tests --lib
	@$(STEP) 'end to end' cargo test --package lifeboot-tests --test e2e -- --test-threads=2

test-all: images
	@$(STEP) 'unit, pipeline and command line' cargo test --quiet --workspace --exclude lifeboot-tests -- --include-ignored
	@$(STEP) 'harness' cargo test --quiet --package lifeboot-tests --lib
	@$(STEP) 'end to end' cargo test --package lifeboot-tests --test e2e -- --test-threads=2 --include-ignored

lint: dependencies
	@$(STEP) 'rustfmt' cargo fmt --all --check
	@$(STEP) 'clippy, host' cargo clippy --quiet --workspace --all-targets -- --deny warnings
	@$(STEP) 'clippy, device' cargo clippy --quiet $(DEVICE) --target aarch64-unknown-linux-musl -- --deny warnings
	@$(STEP) 'generated documents' cargo test --quiet --package lifeboot-contract
	@$(STEP) 'licences and sources' tests/scripts/deny

bench: images
	@cargo run --quiet --package lifeboot-tests --bin bench

clean:
	cargo clean
