//! The list of points and the code are the same.

use std::fs;
use std::path::Path;

use plasma_store::crash::Point;

/// All text below a folder but for the list itself.
fn code(folder: &Path) -> String {
    let mut text = String::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => text += &code(&path),
            false if path.ends_with("crash.rs") => {}
            false => text += &fs::read_to_string(path).unwrap(),
        }
    }
    text
}

#[test]
fn every_point_of_the_list_is_in_the_code() {
    let code = code(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let calls: Vec<_> = code.split("crash::at(Point::").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    for (point, _) in Point::ALL {
        assert!(calls.contains(&format!("{point:?}").as_str()), "no code comes by {point:?}");
    }
    assert!(Point::ALL.len() >= 60 && calls.len() >= Point::ALL.len(), "does this test still read the code?");
}
