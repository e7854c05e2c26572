//! Build script: how the shared library is linked, and the C header, which it writes below `OUT_DIR` only.
//!
//! `include/plasma_store.h` is a checked-in copy; `tests/header.rs` fails when it is stale and says how to renew it.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

/// The files of the C ABI, in the order in which a C reader should see them.
const HEADER_SOURCES: [&str; 17] = [
    "status",
    "version",
    "object_id",
    "client",
    "put_batch",
    "streaming",
    "buffer",
    "object_list",
    "control",
    "stats",
    "subscription",
    "watching",
    "tensor",
    "tensor_shared",
    "tensor_ring",
    "bundle",
    "store",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    println!("cargo:rerun-if-changed=src/ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=plasma_store.map");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libplasma_store.so.1");
    println!("cargo:rustc-cdylib-link-arg=-Wl,--version-script={root}/plasma_store.map");
    let header = Path::new(&env::var("OUT_DIR")?).join("plasma_store.h");
    fs::write(header, generate_header(&root)?)?;
    Ok(())
}

fn generate_header(root: &str) -> Result<String, Box<dyn Error>> {
    let mut config = cbindgen::Config::from_file(Path::new(root).join("cbindgen.toml"))?;
    let version = env::var("CARGO_PKG_VERSION")?;
    config.after_includes = config.after_includes.map(|text| text.replace("@VERSION@", &version));
    let builder = HEADER_SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, source| {
        builder.with_src(format!("{root}/src/ffi/{source}.rs"))
    });
    let mut header = Vec::new();
    builder.generate()?.write(&mut header);
    Ok(without_safety_sections(&String::from_utf8(header)?))
}

/// Leaves out what a comment says to Rust callers: its `# Safety` section, which ends it.
fn without_safety_sections(header: &str) -> String {
    let mut text = String::with_capacity(header.len());
    let mut skipping = false;
    for line in header.lines() {
        skipping = (skipping || line.trim() == "* # Safety") && line.trim() != "*/";
        if !skipping {
            if line.trim() == "*/" && text.ends_with("\n *\n") {
                text.truncate(text.len() - " *\n".len());
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}
