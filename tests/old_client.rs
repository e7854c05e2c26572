//! A C++ program that is linked with Plasma 11's own client library, as the wheel of pyarrow 11 brings it, does the tutorial and
//! every other call of that client, against Plasma 11's daemon and against ours. It has to see the same.
//!
//! `$PLASMA_TEST_PYARROW11` is a Python that has pyarrow 11; without it the test is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;

use toolchain::{STRICT, Workshop, compiler, root, succeed};

/// Where pyarrow 11 lies, with Arrow's headers and libraries and the old daemon.
fn pyarrow_11() -> Option<PathBuf> {
    let Some(python) = std::env::var_os("PLASMA_TEST_PYARROW11") else {
        println!("SKIPPED: $PLASMA_TEST_PYARROW11 is not set to a Python with pyarrow 11");
        return None;
    };
    let place = succeed(Command::new(python).args(["-c", "import pyarrow; print(pyarrow.__path__[0])"]));
    Some(PathBuf::from(place.trim_end()))
}

/// Builds the program as whoever used the wheel's libraries had to: they have the older of libstdc++'s two ABIs.
fn build(workshop: &Workshop, pyarrow: &Path) -> PathBuf {
    let (source, program) = (root().join("tests/old_client/tutorial.cpp"), workshop.path("tutorial"));
    let mut command = compiler(&source);
    // Plasma's own header warns that Plasma is to be removed.
    command.args(["-std=c++17", "-D_GLIBCXX_USE_CXX11_ABI=0", "-Wno-cpp"]).args(STRICT);
    command.arg("-isystem").arg(pyarrow.join("include")).arg(source).arg("-o").arg(&program);
    command.args(["libplasma.so.1100", "libarrow.so.1100"].map(|library| pyarrow.join(library)));
    succeed(command.arg(format!("-Wl,-rpath,{}", pyarrow.display())));
    program
}

#[test]
fn an_old_cpp_program_sees_in_our_daemon_what_it_saw_in_its_own() {
    let Some(pyarrow) = pyarrow_11() else { return };
    let workshop = Workshop::new();
    let program = build(&workshop, &pyarrow);
    let run = |daemon: toolchain::Daemon| succeed(Command::new(&program).arg(&daemon.socket));
    let with_ours = run(workshop.daemon(10_000_000));
    assert!(with_ours.contains("\ntensor of 1000 float, sum 2000, read where it lies\n"), "{with_ours}");
    std::fs::remove_file(workshop.path("daemon.sock")).unwrap();
    assert_eq!(with_ours, run(workshop.daemon_of(&pyarrow.join("plasma-store-server"), 10_000_000)));
}
