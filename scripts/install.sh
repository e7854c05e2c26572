#!/usr/bin/env bash
# Installs what cargo built: headers, libraries, daemon, pkg-config file, CMake package. `make install` and
# `cmake --install` both end here, so they install the same. Prints the path of every installed file, without DESTDIR.
#
# usage: install.sh PREFIX DESTDIR BUILT
#   PREFIX   where it will be used, such as /usr/local; everything found there is found by its own place, so it may move
#   DESTDIR  in front of every path while installing, for those who make packages; "" for none
#   BUILT    where cargo put the libraries: target/release
#
# The variable LIBDIR is the directory for libraries below PREFIX: lib, where distributions do not have it otherwise.
set -euo pipefail

# What a program that links the static library needs as well, as `cargo rustc -- --print native-static-libs` says. Written
# down, since root may have no cargo; tests/install.rs compares it with what the compiler says.
native_static_libs='-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc'

if [ $# != 3 ]; then
  sed -n 's/^# \(usage: .*\)/\1/p' "$0" >&2
  exit 2
fi
prefix=$1 destdir=$2 built=$3
libdir=${LIBDIR:-lib}
if [[ $libdir = /* ]]; then
  echo "install.sh: LIBDIR is below PREFIX, so $libdir cannot be it: it begins with a slash" >&2
  exit 1
fi
source=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$source/Cargo.toml")
# Not PLASMA_ABI_VERSION, which grows when functions are added.
soname=$(sed -n 's/.*-soname,\(libplasma_store\.so\.[0-9]*\)".*/\1/p' "$source/build.rs")

for file in libplasma_store.so libplasma_store.a plasma-store-server; do
  if [ ! -f "$built/$file" ]; then
    echo "install.sh: no $file in $built; build it first: cargo build --release --locked --lib --bins" >&2
    exit 1
  fi
done

# place MODE FROM TO: copies FROM to TO below PREFIX.
place() {
  install -D -m "$1" "$2" "$destdir$prefix/$3"
  echo "$prefix/$3"
}

# place_link TARGET TO: makes TO below PREFIX a link to TARGET, which lies beside it.
place_link() {
  ln -sf "$1" "$destdir$prefix/$2"
  echo "$prefix/$2"
}

# The way from one directory below PREFIX up to PREFIX: from_lib_pkgconfig is "../..".
way_up() {
  sed 's|[^/]\{1,\}|..|g' <<<"$1"
}

# fill TEMPLATE TO: copies a template and fills in its @WORDS@.
fill() {
  local filled
  filled=$(mktemp)
  sed -e "s|@VERSION@|$version|g" \
    -e "s|@SONAME@|$soname|g" \
    -e "s|@LIBDIR@|$libdir|g" \
    -e "s|@PREFIX_FROM_PC@|$(way_up "$libdir/pkgconfig")|g" \
    -e "s|@PREFIX_FROM_CMAKE@|$(way_up "$libdir/cmake/plasma_store")|g" \
    -e "s|@NATIVE_STATIC_LIBS@|$native_static_libs|g" \
    -e "s|@NATIVE_STATIC_LIBS_LIST@|${native_static_libs// /;}|g" \
    "$source/$1" >"$filled"
  place 644 "$filled" "$2"
  rm "$filled"
}

place 644 "$source/include/plasma_store.h" include/plasma_store.h
place 644 "$source/include/plasma_store_dlpack.h" include/plasma_store_dlpack.h
place 644 "$source/include/plasma_store.hpp" include/plasma_store.hpp
for header in "$source"/include/plasma_store/*.hpp; do
  place 644 "$header" "include/plasma_store/$(basename "$header")"
done
place 755 "$built/libplasma_store.so" "$libdir/libplasma_store.so.$version"
place_link "libplasma_store.so.$version" "$libdir/$soname"
place_link "$soname" "$libdir/libplasma_store.so"
place 644 "$built/libplasma_store.a" "$libdir/libplasma_store.a"
place 755 "$built/plasma-store-server" bin/plasma-store-server
fill plasma_store.pc.in "$libdir/pkgconfig/plasma_store.pc"
fill cmake/plasma_store-config.cmake.in "$libdir/cmake/plasma_store/plasma_store-config.cmake"
fill cmake/plasma_store-config-version.cmake.in "$libdir/cmake/plasma_store/plasma_store-config-version.cmake"
