//! Vectors that every language checks itself against, here against the Rust side: ids of names, metadata trailers.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail by panicking")]

mod fixtures;

use fixtures::{cases, unhex};
use plasma_store::metadata::{self, Trailer};
use plasma_store::object::ObjectId;

#[test]
fn ids_of_names() {
    for case in cases("object_names.json") {
        let (namespace, name) = (case.text("namespace"), case.text("name"));
        assert_eq!(ObjectId::from_name(namespace, name).to_string(), case.text("id"), "{namespace:?} {name:?}");
    }
}

/// `1:0410 3:6e` as a trailer.
fn trailer(entries: &str) -> Trailer {
    let mut trailer = Trailer::default();
    for (key, value) in entries.split(' ').filter_map(|entry| entry.split_once(':')) {
        trailer.push(key.parse().unwrap(), &unhex(value)).unwrap();
    }
    trailer
}

#[test]
fn metadata_are_split_where_the_user_ends() {
    for case in cases("metadata_trailer.json") {
        let (name, stored, user) = (case.text("case"), case.bytes("stored"), case.bytes("user"));
        let entries = Some(case.text("entries")).filter(|&entries| entries != "null");
        assert!(stored.starts_with(&user), "{name}");
        assert_eq!(metadata::split(&stored), (user.len(), entries.map(trailer)), "{name}");
    }
}

#[test]
fn metadata_are_written_as_the_vectors_say() {
    let mut written = 0;
    for case in cases("metadata_trailer.json") {
        let entries = case.text("entries");
        if entries != "null" && !entries.is_empty() {
            let (name, stored) = (case.text("case"), case.bytes("stored"));
            assert_eq!(trailer(entries).append_to(&case.bytes("user")), stored, "{name}");
            written += 1;
        }
    }
    assert!(written >= 3);
}
