//! Who may use whom. The layers are what lets each part be tested alone and replaced alone; this keeps them apart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// For each module: the modules it may use. Everyone may use `object`, `error`, `metadata` and `crash`.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("crash", &[]),
    ("object", &[]),
    ("error", &[]),
    ("metadata", &[]),
    ("protocol", &[]),
    ("shm", &[]),
    ("tensor", &["shm::copy"]),
    ("transport", &["protocol::frame"]),
    ("store", &["protocol", "transport", "shm"]),
    ("client", &["protocol", "transport", "shm", "tensor"]),
    ("ffi", &["client", "store", "tensor", "transport::wait"]),
];
const FOR_EVERYONE: [&str; 4] = ["object", "error", "metadata", "crash"];

/// Files that may use unsafe code, by the beginning of their path below `src`.
const MAY_BE_UNSAFE: [&str; 6] = ["shm/", "transport/", "ffi/", "tensor/dlpack.rs", "tensor/mod.rs", "protocol/mod.rs"];
/// Their code is generated.
const GENERATED: &str = "generated.rs";

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below `directory`, with its path below `src` and its text.
fn sources(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(source_root()).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// What stands behind `crate::` wherever it occurs outside comments, with `{a, b}` taken apart.
fn used_paths(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let mut used = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
        match rest.strip_prefix('{') {
            Some(list) => used.extend(list.split('}').next().unwrap().split(',').map(|path| path.trim().to_owned())),
            None => drop(used.insert(path)),
        }
    }
    used
}

fn is_allowed(module: &str, path: &str) -> bool {
    let target = path.split("::").next().unwrap_or_default();
    let (_, allowed) = MAY_USE.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("module {module}"));
    let mut allowed = allowed.iter().chain(&FOR_EVERYONE);
    target == module || allowed.any(|allowed| path == *allowed || path.starts_with(&format!("{allowed}::")))
}

#[test]
fn modules_use_only_what_they_may() {
    let mut edges = 0;
    for (name, text) in sources(&source_root()) {
        let module = name.split(['/', '.']).next().unwrap();
        if ["lib", "bin"].contains(&module) {
            continue;
        }
        for path in used_paths(&text) {
            edges += 1;
            assert!(is_allowed(module, &path), "src/{name} must not use crate::{path}");
        }
    }
    assert!(edges > 100, "only {edges} uses were found; does this test still read the code?");
}

#[test]
fn the_rule_itself_can_fail() {
    assert!(!is_allowed("shm", "protocol::Reply"));
    assert!(!is_allowed("transport", "protocol::Request"));
    assert!(is_allowed("transport", "protocol::frame::encode"));
    assert_eq!(
        used_paths("use crate::{a::b, c}; // crate::d\ncrate::e::f()"),
        ["a::b", "c", "e::f"].map(String::from).into()
    );
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    let sources = sources(&source_root());
    let forbids =
        |wanted: &str| sources.iter().any(|(name, text)| name == wanted && text.contains("#![forbid(unsafe_code)]"));
    for (name, _) in &sources {
        let allowed = MAY_BE_UNSAFE.iter().any(|start| name.starts_with(start)) || name.ends_with(GENERATED);
        let has_modules_only = name == "lib.rs";
        // A module's ban holds for everything below it.
        let room = name.split_once('/').map(|(room, _)| format!("{room}/mod.rs"));
        let is_safe = forbids(name) || room.is_some_and(|room| forbids(&room));
        assert!(allowed || is_safe || has_modules_only, "src/{name} must say #![forbid(unsafe_code)]");
    }
}

#[test]
fn every_file_says_what_room_it_is() {
    for (name, text) in sources(&source_root()) {
        assert!(text.starts_with("//!") || name.ends_with(GENERATED), "src/{name} does not open with //!");
    }
}

/// All text of the Rust and Python tests, and of the code with the tests in it.
fn tests_and_code() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = ["src", "tests", "python-ctypes/tests"].map(|folder| root.join(folder)).to_vec();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("rs" | "py") => text += &fs::read_to_string(path).unwrap(),
                _ if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    text
}

#[test]
fn every_test_that_is_named_for_a_defect_of_old_plasma_exists() {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/testing.md")).unwrap();
    let rows: Vec<_> =
        document.lines().filter(|line| line.starts_with("| ") && line[2..].starts_with(char::is_numeric)).collect();
    assert_eq!(rows.len(), 30);
    let text = tests_and_code();
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names = tests.split('`').skip(1).step_by(2).filter(|name| !name.ends_with(".py"));
        for name in names {
            assert!(text.contains(&format!("fn {name}(")) || text.contains(&format!("def {name}(")), "{name} of {row}");
        }
    }
}
