//! The checked-in C header is what the code says today.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{env, fs};

const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/plasma_store.h");
const GENERATED: &str = concat!(env!("OUT_DIR"), "/plasma_store.h");

/// The story: a header that lags behind the library gives callers the wrong arguments, and no compiler notices.
#[test]
fn the_header_is_current() {
    let generated = fs::read_to_string(GENERATED).expect("build.rs writes the header");
    if env::var_os("UPDATE_HEADER").is_some() {
        fs::write(CHECKED_IN, &generated).expect("include/ can be written");
    }
    let checked_in = fs::read_to_string(CHECKED_IN).unwrap_or_default();
    let stale = checked_in.lines().zip(generated.lines()).position(|(old, new)| old != new);
    assert!(
        checked_in == generated,
        "include/plasma_store.h is stale (first at line {}); run: UPDATE_HEADER=1 cargo test --test header",
        stale.map_or(checked_in.lines().count().min(generated.lines().count()), |line| line) + 1
    );
}

#[test]
fn every_declaration_is_explained() {
    let header = fs::read_to_string(GENERATED).expect("build.rs writes the header");
    let lines: Vec<&str> = header.lines().collect();
    let mut declarations = 0;
    for (index, line) in lines.iter().enumerate() {
        let declares = line.starts_with("#define PLASMA_") && !line.contains("STORE_H_")
            || ["plasma_status ", "void ", "const ", "uint", "size_t ", "int"]
                .iter()
                .any(|kind| line.starts_with(kind))
                && line.contains('(');
        if declares {
            declarations += 1;
            assert!(index > 0 && lines[index - 1].trim_end().ends_with("*/"), "no comment above: {line}");
        }
    }
    assert!(declarations > 50, "only {declarations} declarations were found");
}
