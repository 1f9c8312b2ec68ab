# Two commands do everything: `make quickstart` and `make test`.
#
#   make quickstart   install what the build needs, build, record this host for 10 s under a small load, show the reports
#   make test         install what the tests need, then format, lint and test everything
#   make build        the three programs, optimised, in target/release
#   make install      copy them to $(PREFIX)/bin
#   make bench        what recording costs, beside perf, bpftrace and the BCC tools
#   make soak         recorded + lost = produced, under floods of each kind (SOAK_SECONDS, by default 600)
#   make test-kernels the probes on Debian's kernels from 5.10 to the newest, in qemu
#   make proof        what the promises of docs/PROMISES.md give, kills, power losses, failing disks and floods included; an hour
#   make readers      every table of the samples, read by pandas, Polars, DuckDB and Spark (downloads half a gigabyte)
#   make naming       of how many of a profile's samples the function has a name, for programs that are installed (docs/NAMING.md)
#   make fuzz         coverage-guided fuzzing of what reads captures and kernel records, FUZZ_SECONDS for each target
#   make mutants      spoils the recorder in one place at a time, and sees whether a test fails
#   make calibrate    how often `ebrec compare` is wrong, on captures recorded in qemu
#   make bless        rewrite the files that are generated from declarations

PREFIX ?= /usr/local
CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
BIN := target/release
VENV := target/venv

# The recorder runs on hosts that have nothing but a kernel, so it is linked statically. The flag goes to the program alone:
# build scripts and procedural macros of its dependencies can't be static.
STATIC := -- -C target-feature=+crt-static

# Which programs the tests run: the recorder as it is shipped, not the one that cargo builds along with the tests.
TESTED := EBREC_RECORD=$(CURDIR)/$(BIN)/ebrec-record EBREC_WORKLOAD=$(CURDIR)/$(BIN)/ebrec-workload

# What the tests compile is linted on the way.
LINTED := RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/clippy

.PHONY: quickstart test build install bench soak test-kernels proof fuzz mutants readers naming calibrate bless deps test-deps rust check-format recorder workload analyzer clean

quickstart: deps build
	scripts/demo

build: rust recorder analyzer

recorder: rust
	$(CARGO) rustc --locked --release -p ebrec-record --bin ebrec-record $(STATIC)

workload: rust
	$(CARGO) rustc --locked --release -p ebrec-tests --bin ebrec-workload $(STATIC)

# With it comes `ebrec`, the front command.
analyzer: rust
	$(CARGO) build --locked --release -p ebrec-analyze

install: build
	install -s -Dm755 -t $(DESTDIR)$(PREFIX)/bin $(BIN)/ebrec $(BIN)/ebrec-record $(BIN)/ebrec-analyze

# The tests take the recorder as it is shipped (optimised, static) and the analyzer as it builds fastest.
test: deps test-deps rust check-format recorder workload $(VENV)/.done
	$(LINTED) $(CARGO) build --locked --workspace --bins
	$(TESTED) $(LINTED) $(CARGO) test --locked --workspace --no-fail-fast
	[ -n "$$EBREC_TEST_NO_KERNELS" ] || $(MAKE) test-kernels

check-format:
	$(CARGO) fmt --all --check
	clang-format --dry-run -Werror bpf/*.bpf.c $(filter-out bpf/events.h,$(wildcard bpf/*.h))

test-kernels: rust recorder workload
	$(SUDO) tests/vm/install.sh
	$(TESTED) $(LINTED) EBREC_TEST_KERNELS=1 $(CARGO) test --locked --workspace --test kernels -- --nocapture

bench: build workload test-deps $(VENV)/.done
	tests/bench
	tests/bench-reports

proof: deps test-deps rust recorder workload
	$(LINTED) $(CARGO) build --locked --workspace --bins
	$(SUDO) tests/vm/install.sh
	$(SUDO) env EBREC_RECORD=$(CURDIR)/$(BIN)/ebrec-record EBREC_ANALYZE=$(CURDIR)/target/debug/ebrec-analyze tests/proof/promises --write

# Spark runs on Java.
readers:
	@command -v java >/dev/null || { echo "make readers: Spark needs Java 17 or later: apt-get install default-jre-headless" >&2; exit 2; }
	python3 -m venv $(VENV)-readers
	$(VENV)-readers/bin/pip install -q -r tests/requirements.txt pyspark==4.*
	$(VENV)-readers/bin/python tests/readers

naming: build workload
	$(SUDO) tests/naming -o docs/NAMING.md

fuzz: rust
	tests/fuzz/run

mutants: deps test-deps rust workload
	$(LINTED) $(CARGO) build --locked --workspace --bins
	$(SUDO) env $(LINTED) EBREC_WORKLOAD=$(CURDIR)/$(BIN)/ebrec-workload tests/mutants

soak: build workload
	$(SUDO) tests/soak

calibrate: build workload
	$(SUDO) tests/vm/install.sh
	tests/calibrate

bless:
	EBREC_BLESS=1 $(CARGO) test --locked --workspace --test generated
	EBREC_BLESS=1 $(CARGO) test --locked --workspace --test queries --test reports --test triage --test samples --test compare

deps:
	@scripts/install-deps build

test-deps:
	@scripts/install-deps test

$(VENV)/.done: tests/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r tests/requirements.txt
	touch $@

# One line says how to get a Rust that is new enough, because distributions often have none.
rust:
	@scripts/check-rust

clean:
	$(CARGO) clean
