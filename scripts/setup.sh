#!/usr/bin/env bash
# Makes what the project's own programs need, below build/, without root and once. Usage: setup.sh demo|test|bench|torch
#
#   demo    build/venv with demo/requirements.txt
#   test    also tests/requirements.txt, cmake and pkg-config where the machine has none that will do, build/venv-pyarrow11
#           with the last pyarrow that had Plasma and what its own tests need, where the machine has a Python from 3.9 to
#           3.11, and valgrind and Go, which PyPI does not have: by apt-get where that can be; and what `bench` makes, which is
#           tested
#   bench   build/venv-bench with bench/requirements.txt, and build/venv-pyarrow11
#   torch   also build/venv-torch with torch: about 3 GB of downloads, as PyPI's torch brings CUDA
#
# PYTHON names the Python to use (3.9 or newer). pip's own configuration, such as an index of one's own, is honoured.
set -euo pipefail
cd "$(dirname "$0")/.."

explain() {
  printf '%s\n' "$@" >&2
  exit 1
}

# Whether Python $1 runs, is at least $2 and at most $3 (as "3 9"), and can make a venv.
suits() {
  "$1" -c "import ensurepip, sys, venv; sys.exit(not ((${2/ /,}) <= sys.version_info[:2] <= (${3/ /,})))" 2>/dev/null
}

# The first Python that suits, of the names given.
find_python() { # least most name...
  local least=$1 most=$2
  shift 2
  for name; do
    suits "$name" "$least" "$most" && { command -v "$name"; return; }
  done
  return 1
}

# Installs a Debian package where we are root on Debian or its kin; fails elsewhere.
install_package() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return
  echo "installing the Debian package $1"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$1"; } >/dev/null
}

find_python_or_install() {
  find_python "3 9" "3 99" "${PYTHON:-python3}" python3.{14,13,12,11,10,9} && return
  install_package python3-venv >&2 && find_python "3 9" "3 99" python3 && return
  explain "No Python from 3.9 on that can make a venv was found (PYTHON=${PYTHON:-python3})." \
    "On Debian and its kin: apt-get install python3-venv. Elsewhere name one: make PYTHON=/path/to/python3"
}

# Whether there is a cmake, and as new as CMakeLists.txt wants it.
cmake_suits() {
  local wanted found
  wanted=$(sed -n 's/^cmake_minimum_required(VERSION \(.*\))/\1/p' CMakeLists.txt)
  found=$(cmake --version 2>/dev/null | sed -n 's/^cmake version //p')
  [ -n "$found" ] && [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ]
}

# A venv in $2, made by Python $3, that holds what the rest of the arguments tell pip. Done once for each $1.
make_venv() {
  local stamp=$2/installed-$1 directory=$2 python=$3 wanted
  shift 3
  wanted=$(printf '%s\n' "$@"; cat {demo,tests,bench}/requirements.txt)
  if "$directory/bin/python" -c '' 2>/dev/null && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then return; fi
  # A venv whose making was interrupted has a Python, but no pip.
  if ! "$directory/bin/python" -m pip --version >/dev/null 2>&1; then "$python" -m venv --clear "$directory"; fi
  echo "setting up $directory: $*"
  "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
  printf '%s\n' "$wanted" >"$stamp"
}

make_bench_venvs() {
  local old
  make_venv bench build/venv-bench "$python" -r bench/requirements.txt
  if old=$(find_python "3 9" "3 11" "${PYTHON:-python3}" python3.{11,10,9} "$python"); then
    make_venv test build/venv-pyarrow11 "$old" --only-binary=:all: pyarrow==11.0.0 "numpy<2" "pandas<2.1" pytest
  else
    echo "no Python from 3.9 to 3.11 here: tests against pyarrow 11 are reported as skipped, and Plasma 11 is not measured"
  fi
}

make_test_venvs() {
  local tools=()
  cmake_suits || tools+=(cmake)
  command -v pkg-config >/dev/null || tools+=(pkgconf)
  make_venv test build/venv "$python" "${tools[@]}" -r demo/requirements.txt -r tests/requirements.txt
  make_bench_venvs
  command -v valgrind >/dev/null || install_package valgrind ||
    echo "no valgrind here: its tests are reported as skipped (on Debian and its kin: apt-get install valgrind)"
  command -v go >/dev/null || install_package golang-go ||
    echo "no Go here: the tests of bindings/go are reported as skipped (on Debian and its kin: apt-get install golang-go)"
}

command -v cargo >/dev/null || explain "cargo is missing: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer."
command -v "${CXX:-c++}" >/dev/null || explain "A C++ compiler is missing (looked for: ${CXX:-c++})." \
  "On Debian and its kin: apt-get install g++. Elsewhere name one: make CXX=clang++"
python=$(find_python_or_install)
mkdir -p build
case ${1:-} in
  demo) make_venv demo build/venv "$python" -r demo/requirements.txt ;;
  test) make_test_venvs ;;
  bench) make_bench_venvs ;;
  torch)
    make_test_venvs
    make_venv torch build/venv-torch "$python" -r demo/requirements.txt -r tests/requirements.txt torch
    ;;
  *) explain "usage: setup.sh demo|test|bench|torch" ;;
esac
