//! The Go module `bindings/go`: its own tests, its form, and the tutorial with Python on the other side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod toolchain;

use std::path::PathBuf;
use std::process::Command;

use toolchain::{
    TUTORIAL, Workshop, again, built, find, finish, pass_tutorial, python, python_example, root, succeed, tool,
};

/// The go command in the module, which finds the header and the library of these tests, and asks nobody on the net.
fn go(workshop: &Workshop) -> Option<Command> {
    let Some(go) = find("go") else {
        println!("SKIPPED: go is not installed");
        return None;
    };
    let (include, libraries) = (root().join("include"), workshop.path(""));
    let package = format!(
        "Name: plasma_store\nDescription: of a test\nVersion: 0\nCflags: -I{}\nLibs: -L{} -lplasma_store\n",
        include.display(),
        libraries.display()
    );
    workshop.write("plasma_store.pc", &package);
    let pkg_config = tool("PKG_CONFIG", &["pkg-config", "pkgconf"], "pkg-config");
    let mut command = Command::new(go);
    command.current_dir(root().join("bindings/go")).env("PKG_CONFIG", pkg_config.get_program());
    command.env("PKG_CONFIG_PATH", &libraries).env("CGO_LDFLAGS", format!("-Wl,-rpath,{}", libraries.display()));
    command.envs([("GOPROXY", "off"), ("GOFLAGS", "-mod=mod"), ("CGO_ENABLED", "1"), ("GOTOOLCHAIN", "local")]);
    command.env("GOCACHE", built().parent().unwrap().join("go-build"));
    Some(command)
}

/// With the check that no pointer of Go's stays with C.
#[test]
fn the_tests_of_the_module_pass() {
    let workshop = Workshop::new();
    let Some(mut go) = go(&workshop) else { return };
    let printed = succeed(go.env("GODEBUG", "cgocheck=1").args(["test", "-count=1", "-timeout", "200s", "./..."]));
    assert!(printed.contains("ok  \tplasmastore\t"), "{printed}");
}

#[test]
fn the_module_is_vetted_and_formatted() {
    let workshop = Workshop::new();
    let Some(mut go) = go(&workshop) else { return };
    succeed(go.args(["vet", "./..."]));
    let gofmt = find("gofmt").expect("gofmt beside go");
    assert_eq!(
        succeed(Command::new(gofmt).arg("-l").args(["bindings/go", "tests/interop/go"]).current_dir(root())),
        ""
    );
}

/// Builds the tutorial.
fn tutorial(workshop: &Workshop) -> Option<Command> {
    let program: PathBuf = workshop.path("tutorial");
    succeed(go(workshop)?.args(["build", "-o"]).arg(&program).arg("./tutorial"));
    Some(Command::new(program))
}

#[test]
fn the_tutorial_runs_alone_and_says_what_failed() {
    let workshop = Workshop::new();
    let Some(tutorial) = tutorial(&workshop) else { return };
    assert_eq!(succeed(&mut again(&tutorial)), TUTORIAL.concat());
    let misused = finish(again(&tutorial).arg("nonsense"));
    assert_eq!(misused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&misused.stderr).starts_with("usage: "));
    let nowhere = finish(again(&tutorial).args(["/nowhere.sock", "get"]));
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere.sock"));
}

#[test]
fn go_and_python_read_what_the_other_wrote() {
    let workshop = Workshop::new();
    let (Some(go), Some(python)) = (tutorial(&workshop), python()) else { return };
    let python = python_example(&python, "tutorial.py");
    let daemon = workshop.daemon(1 << 20);
    pass_tutorial(&go, &python, &daemon.socket);
    pass_tutorial(&python, &go, &daemon.socket);
    pass_tutorial(&go, &go, &daemon.socket);
}
