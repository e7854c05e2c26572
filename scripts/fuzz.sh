#!/usr/bin/env bash
# Runs libFuzzer on the targets of fuzz/, one after the other. Usage: fuzz.sh SECONDS [TARGET...]    all targets when none is named
#
# Needs a nightly compiler and cargo-fuzz, and says so where they are missing. What is found stays: inputs that reach new code
# in build/fuzz/corpus/, those that fail in build/fuzz/crashes/. The status is 1 when a target failed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: fuzz.sh SECONDS [TARGET...]}
shift
if ! cargo +nightly --version >/dev/null 2>&1; then
  echo 'fuzz.sh: libFuzzer needs a nightly compiler: rustup toolchain install nightly' >&2
  exit 1
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo 'fuzz.sh: there is no cargo-fuzz: cargo install cargo-fuzz' >&2
  exit 1
fi

found=$PWD/build/fuzz
target_dir=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
mkdir -p "$found/crashes"
cargo +nightly fuzz build --target-dir "$target_dir"
if [ $# = 0 ]; then
  mapfile -t targets < <(cargo +nightly fuzz list)
  set -- "${targets[@]}"
fi
failed=()
for target; do
  echo "== $target: $seconds s"
  mkdir -p "$found/corpus/$target"
  # Bodies of 4 KiB reach everything that longer ones reach; what one input may take is bounded for the sake of all.
  cargo +nightly fuzz run --target-dir "$target_dir" "$target" "$found/corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$found/crashes/$target-" 2>"$found/$target.log" || failed+=("$target")
  grep -E 'stat::number_of_executed_units|Done |panicked at|ERROR|SUMMARY' "$found/$target.log" || tail -5 "$found/$target.log"
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}; the inputs are in build/fuzz/crashes/, what was said in build/fuzz/*.log" >&2
  exit 1
fi
