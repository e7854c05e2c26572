//! Installs the library by CMake and by the script that `make install` runs, and builds a C program against the result as
//! its users would: with CMake and with pkg-config, shared and static, where it was installed and where it was moved to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod toolchain;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use toolchain::{Workshop, built, finish, root, succeed, tool};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One test at a time: each has cargo look at the same target directory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn cmake() -> Command {
    tool("CMAKE", &["cmake"], "cmake 3.25 or newer (pip install cmake)")
}

fn pkg_config(libdir: &Path) -> Command {
    let mut command = tool("PKG_CONFIG", &["pkg-config", "pkgconf"], "pkg-config");
    command.env("PKG_CONFIG_PATH", libdir.join("pkgconfig")).arg("plasma_store");
    command
}

/// Builds the project with CMake in its own build tree, from what cargo has built for these tests where that is current.
fn build_with_cmake(workshop: &Workshop) -> PathBuf {
    let tree = workshop.path("build");
    let profile = match built().file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut configure = cmake();
    configure.arg("-S").arg(root()).arg("-B").arg(&tree).arg(format!("-DPLASMA_STORE_CARGO_PROFILE={profile}"));
    configure.arg(format!("-DPLASMA_STORE_CARGO_TARGET_DIR={}", built().parent().unwrap().display()));
    succeed(configure.arg("-DCMAKE_INSTALL_LIBDIR=lib"));
    succeed(cmake().arg("--build").arg(&tree));
    tree
}

fn install_with_script(prefix: &Path, destdir: &str, libdir: &str) -> String {
    let mut script = Command::new(root().join("scripts/install.sh"));
    succeed(script.arg(prefix).arg(destdir).arg(built()).env("LIBDIR", libdir))
}

/// Every file below a directory: what it holds, or where it points to, and who may do what with it.
fn contents(directory: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = match metadata.is_symlink() {
            true => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            false => fs::read(&path).unwrap(),
        };
        found.insert(path.strip_prefix(directory).unwrap().to_owned(), (metadata.permissions().mode(), bytes));
    }
    found
}

/// Runs a program made from `tests/installed/main.c` or `main.cpp`, and looks whether it needs the shared library.
fn check_program(program: &Path, libdir: &Path, shared: bool) {
    let mut command = Command::new(program);
    if shared {
        command.env("LD_LIBRARY_PATH", libdir);
    }
    assert_eq!(succeed(&mut command), format!("{VERSION}\n"));
    let dynamic = succeed(tool("READELF", &["readelf"], "readelf of binutils").arg("-d").arg(program));
    assert_eq!(dynamic.contains("[libplasma_store.so.1]"), shared, "{dynamic}");
}

fn use_with_pkg_config(workshop: &Workshop, libdir: &Path) {
    let words = |arguments: &[&str]| -> Vec<String> {
        succeed(pkg_config(libdir).args(arguments)).split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(words(&["--modversion"]), [VERSION]);
    let sources = ["tests/installed/main.c", "tests/installed/main.cpp"].map(|source| root().join(source));
    let ways = [(true, words(&["--libs"])), (false, words(&["--variable=static"]))];
    for ((shared, libraries), source) in ways.iter().flat_map(|way| sources.iter().map(move |source| (way, source))) {
        let (shared, program) = (*shared, workshop.path("program"));
        let mut compiler = toolchain::compiler(source);
        succeed(compiler.arg(source).args(words(&["--cflags"])).args(libraries).arg("-o").arg(&program));
        check_program(&program, libdir, shared);
    }
}

fn configure_user(workshop: &Workshop, prefix: &Path, wanted: &str) -> (PathBuf, Command) {
    let tree = workshop.path("user");
    let _ = fs::remove_dir_all(&tree);
    let mut configure = cmake();
    configure.arg("-S").arg(root().join("tests/installed")).arg("-B").arg(&tree);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())).arg(format!("-DWANTED={wanted}"));
    (tree, configure)
}

fn use_with_cmake(workshop: &Workshop, prefix: &Path, libdir: &Path) {
    let (tree, mut configure) = configure_user(workshop, prefix, "0.1");
    succeed(&mut configure);
    succeed(cmake().arg("--build").arg(&tree));
    check_program(&tree.join("shared"), libdir, true);
    check_program(&tree.join("static"), libdir, false);
    check_program(&tree.join("shared_cpp"), libdir, true);
}

/// The four ways.
fn use_installed(workshop: &Workshop, prefix: &Path, libdir: &str) {
    let libdir = prefix.join(libdir);
    use_with_cmake(workshop, prefix, &libdir);
    use_with_pkg_config(workshop, &libdir);
}

#[test]
fn cmake_and_the_script_install_the_same_and_it_may_be_moved() {
    let _alone = alone();
    let workshop = Workshop::new();
    let tree = build_with_cmake(&workshop);
    let example = succeed(&mut Command::new(tree.join("c-examples/put_get")));
    assert!(example.starts_with("put 51 bytes"), "{example}");

    let (by_cmake, by_script) = (workshop.path("by cmake"), workshop.path("by-script"));
    succeed(cmake().arg("--install").arg(&tree).arg("--prefix").arg(&by_cmake));
    let listed = install_with_script(&by_script, "", "lib");
    let installed = contents(&by_script);
    assert!(installed == contents(&by_cmake), "the installed files differ");
    let listed: Vec<_> = listed.lines().map(PathBuf::from).collect();
    assert_eq!(listed.len(), installed.len());
    assert!(listed.iter().all(|path| installed.contains_key(path.strip_prefix(&by_script).unwrap())));

    use_installed(&workshop, &by_script, "lib");
    let moved = workshop.path("moved/elsewhere");
    fs::create_dir(moved.parent().unwrap()).unwrap();
    fs::rename(&by_script, &moved).unwrap();
    use_installed(&workshop, &moved, "lib");
}

#[test]
fn destdir_goes_in_front_of_the_prefix() {
    let _alone = alone();
    let workshop = Workshop::new();
    let tree = build_with_cmake(&workshop);
    let (by_cmake, by_script) = (workshop.path("a"), workshop.path("b"));
    succeed(cmake().arg("--install").arg(&tree).args(["--prefix", "/opt/plasma"]).env("DESTDIR", &by_cmake));
    install_with_script(Path::new("/opt/plasma"), by_script.to_str().unwrap(), "lib");
    assert!(contents(&by_script) == contents(&by_cmake), "the installed files differ");
    let manifest = fs::read_to_string(tree.join("install_manifest.txt")).unwrap();
    assert!(manifest.lines().any(|line| line == "/opt/plasma/include/plasma_store.h"), "{manifest}");
    // What was made for one place is used from another here.
    use_with_pkg_config(&workshop, &by_script.join("opt/plasma/lib"));
}

/// As Debian has it: the way from the package files up to the prefix is longer.
#[test]
fn libraries_may_lie_deeper() {
    let _alone = alone();
    let workshop = Workshop::new();
    build_with_cmake(&workshop);
    let prefix = workshop.path("deep");
    install_with_script(&prefix, "", "lib/x86_64-linux-gnu");
    let libdir = prefix.join("lib/x86_64-linux-gnu");
    use_with_pkg_config(&workshop, &libdir);
    // CMake itself looks there on Debian only; elsewhere it is told.
    let (tree, mut configure) = configure_user(&workshop, &prefix, "");
    succeed(configure.arg(format!("-Dplasma_store_DIR={}", libdir.join("cmake/plasma_store").display())));
    succeed(cmake().arg("--build").arg(&tree));
    check_program(&tree.join("shared"), &libdir, true);
}

#[test]
fn only_versions_that_fit_are_found() {
    let _alone = alone();
    let workshop = Workshop::new();
    build_with_cmake(&workshop);
    let prefix = workshop.path("prefix");
    install_with_script(&prefix, "", "lib");
    for (wanted, fits) in
        [("0.1", true), (VERSION, true), ("0.0.1", false), ("0.2", false), ("0.99", false), ("1", false), ("99", false)]
    {
        let (_, configure) = configure_user(&workshop, &prefix, wanted);
        let output = finish(&configure);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), fits, "{wanted}: {errors}");
        assert!(fits || errors.contains(VERSION), "the refusal of {wanted} names no version: {errors}");
    }
}

#[test]
fn script_says_what_is_missing() {
    let workshop = Workshop::new();
    let script = || Command::new(root().join("scripts/install.sh"));
    let output = finish(script().arg(workshop.path("prefix")).arg("").arg(workshop.subdirectory("empty")));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no libplasma_store.so in"));
    assert!(!workshop.path("prefix").exists());
    assert_eq!(finish(script().arg("one argument")).status.code(), Some(2));
}

/// The list in `scripts/install.sh` is what this compiler's standard library needs.
#[test]
fn native_libraries_are_those_the_compiler_names() {
    let workshop = Workshop::new();
    let source = workshop.write("empty.rs", "");
    let mut rustc = tool("RUSTC", &["rustc"], "rustc");
    rustc.args(["--crate-type", "staticlib", "--print", "native-static-libs", "-o"]).arg(workshop.path("empty.a"));
    let output = finish(rustc.arg(source));
    let printed = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let named = printed.lines().find_map(|line| line.split_once("native-static-libs: ")).expect(&printed).1;
    let script = fs::read_to_string(root().join("scripts/install.sh")).unwrap();
    assert!(script.contains(&format!("native_static_libs='{named}'")), "the compiler names {named}");
}

/// `make install` ends in the same script, with its own words for prefix and destination.
#[test]
fn make_install_calls_the_script() {
    let mut make = tool("MAKE", &["make"], "make");
    let planned = succeed(make.current_dir(root()).args(["-n", "install", "PREFIX=/p", "DESTDIR=/d"]));
    let call =
        planned.lines().find(|line| line.starts_with("scripts/install.sh ")).unwrap_or_else(|| panic!("{planned}"));
    assert!(call.starts_with("scripts/install.sh \"/p\" \"/d\" ") && call.ends_with("/release\""), "{call}");
}
