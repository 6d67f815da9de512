# Build, try and test Shardcast. `make demo` is the quickest look; CONTRIBUTING.md has the rest.

# rustup's directory, for shells that have not read its env file.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.PHONY: all build demo test fuzz bench picture web fmt lint clean

all: build

build:
	@deploy/install-deps build
	cargo build --release --workspace

# Server and a test picture. RTMP_PORT, HTTP_PORT, API_PORT, SRT_PORT and RTC_PORT move its ports.
demo: build
	@deploy/demo

test:
	@deploy/install-deps test
	@deploy/test

# Each parser in turn with ever other inputs, for so many seconds.
FUZZ_SECONDS ?= 60
fuzz:
	@deploy/install-deps build
	FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --release -p shardcast-protocols --lib fuzz:: -- --nocapture --test-threads 1

# The rows of docs/performance.md in short, as a table; target/bench has a file of each. BENCH= takes more options.
bench: build
	target/release/shardbench report --results target/bench $(BENCH)

# Renews docs/top.svg, what a terminal shows of `shardctl top`.
picture: build
	@deploy/picture

# Renews the player that shards/web/vendor keeps. Needs Node; nothing else does.
web:
	deploy/web vendor

fmt:
	cargo fmt --all

lint:
	@deploy/install-deps build
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	deploy/web check
	@if command -v shellcheck >/dev/null; then shellcheck deploy/install-deps deploy/demo deploy/test deploy/web .ci/run; \
	else echo 'lint: shellcheck is not installed; the scripts were not checked'; fi

clean:
	cargo clean
