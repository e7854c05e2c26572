#!/usr/bin/env bash
# Plays the threads of a store and its clients under ThreadSanitizer: tests/races.rs and tests/room.rs. Usage: races.sh
#
# That needs a nightly compiler, and the standard library's source, which is compiled anew so that the locks in it are understood.
# Where they are missing this says SKIPPED and why.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
  echo "SKIPPED: $1"
  exit 0
}

cargo +nightly --version >/dev/null 2>&1 || skip "ThreadSanitizer needs a nightly compiler: rustup toolchain install nightly"
[ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ] ||
  skip "ThreadSanitizer needs the standard library's source: rustup component add rust-src --toolchain nightly"
host=$(rustc +nightly --version --verbose | sed -n 's/^host: //p')
# What is raced for is told with both stacks, and makes the status 66. The target keeps build scripts out of it.
RUSTFLAGS="-Zsanitizer=thread" exec cargo +nightly test --locked -Zbuild-std --target "$host" \
  --target-dir "${CARGO_TARGET_DIR:-$PWD/target}/races" --test races --test room -- --show-output
