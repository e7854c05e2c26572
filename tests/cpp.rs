//! `plasma_store.hpp` as C++ compilers see it, the programs of `tests/cpp`, and the tutorial on Arrow's C++ types.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use toolchain::{
    SANITIZED, STRICT, Workshop, again, compiler, find, finish, memcheck, pass_tutorial, python, python_example, root,
    succeed,
};

const STANDARDS: [&str; 2] = ["-std=c++17", "-std=c++20"];

/// The headers of the C++ face but the one for Arrow, as they are included.
fn headers() -> Vec<String> {
    let parts = fs::read_dir(root().join("include/plasma_store")).unwrap();
    let names = parts.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<_> =
        names.filter(|name| name != "arrow.hpp").map(|name| format!("plasma_store/{name}")).collect();
    assert!(found.len() >= 8, "{found:?}");
    found.push("plasma_store.hpp".to_owned());
    found
}

/// `$CXX` or c++, and clang++ where it is.
fn compilers(source: &Path) -> Vec<Command> {
    let clang = find("clang++").map(Command::new);
    [Some(compiler(source)), clang].into_iter().flatten().collect()
}

/// Without a warning.
fn compiles(command: &mut Command, source: &Path, given: &[&str]) {
    command.args(STRICT).args(["-Wshadow", "-Wconversion", "-Wold-style-cast"]).args(given);
    succeed(command.arg("-fsyntax-only").arg("-I").arg(root().join("include")).arg(source));
}

#[test]
fn each_header_stands_alone() {
    let workshop = Workshop::new();
    for header in headers() {
        let source = workshop.write("alone.cpp", &format!("#include <{header}>\n#include <{header}>\nint nothing;\n"));
        compiles(&mut compiler(&source), &source, &["-std=c++17"]);
    }
}

#[test]
fn every_compiler_and_standard_takes_the_header_without_a_warning() {
    let workshop = Workshop::new();
    let source = workshop.write("all.cpp", "#include <plasma_store.hpp>\nint nothing;\n");
    for standard in STANDARDS {
        for mut command in compilers(&source) {
            compiles(&mut command, &source, &[standard]);
        }
    }
}

/// A program's own DLPack header from before 1.0 is enough for all but the calls that give the struct of 1.x.
#[test]
fn an_old_dlpack_header_is_enough() {
    let workshop = Workshop::new();
    let ours = fs::read_to_string(root().join("include/plasma_store_dlpack.h")).unwrap();
    let (old, rest) = ours.split_once("/* The same since DLPack 1.0").unwrap();
    let (_, end) = rest.split_once("} DLManagedTensorVersioned;\n").unwrap();
    workshop.write("dlpack/dlpack.h", &format!("{}{end}", old.replace("#define DLPACK_MAJOR_VERSION", "#define OLD")));
    let source = workshop.write("old.cpp", "#include <plasma_store.hpp>\n#ifndef OLD\n#error not ours\n#endif\n");
    let directory = format!("-I{}", workshop.path("").display());
    compiles(&mut compiler(&source), &source, &["-std=c++17", &directory]);
}

/// What throws compiles as well, and ends the program when it would.
#[test]
fn exceptions_are_not_needed() {
    let workshop = Workshop::new();
    let text = "#include <plasma_store.hpp>\n\
                int main(int count, char**) {\n\
                \x20 if (plasma::Client::try_connect(\"/nowhere\")) return 1;\n\
                \x20 if (count > 1) plasma::Client::connect(\"/nowhere\");\n\
                }\n";
    let source = workshop.write("without.cpp", text);
    let program = workshop.build("without", &[source], &["-std=c++17", "-fno-exceptions", "-fno-rtti"]);
    succeed(&mut Command::new(&program));
    let ended = finish(Command::new(&program).arg("throw"));
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("plasma_connect: "));
}

#[test]
fn no_macro_gets_out() {
    for header in headers().iter().chain([&"plasma_store/arrow.hpp".to_owned()]) {
        let text = fs::read_to_string(root().join("include").join(header)).unwrap();
        let defined: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with("#define")).collect();
        assert!(defined.len() == 1 && defined[0].ends_with("_HPP_"), "{header}: {defined:?}");
    }
}

/// Two files of one program, of different standards: a span of the one is a span of the other.
#[test]
fn files_of_both_standards_make_one_program() {
    let workshop = Workshop::new();
    let declared = "#include <plasma_store.hpp>\nfloat first(plasma::span<const float> values);\n";
    let other = workshop
        .write("other.cpp", &format!("{declared}float first(plasma::span<const float> v) {{ return v[0]; }}\n"));
    let main = "int main() { std::vector<float> one{1}; return first(one) == 1 ? 0 : 1; }\n";
    let main = workshop.write("main.cpp", &format!("{declared}{main}"));
    let object = workshop.path("other.o");
    let mut compile = compiler(&other);
    succeed(
        compile.arg("-std=c++17").arg("-c").arg("-I").arg(root().join("include")).arg(&other).arg("-o").arg(&object),
    );
    succeed(&mut Command::new(workshop.build("both", &[main, object], &["-std=c++20"])));
}

/// The files of one program.
fn faces() -> [PathBuf; 3] {
    ["faces.cpp", "bundles.cpp", "rings.cpp"].map(|file| root().join("tests/cpp").join(file))
}

#[test]
fn every_handle_does_what_it_says() {
    let workshop = Workshop::new();
    for standard in STANDARDS {
        let program = workshop.build(standard, &faces(), &[&[standard][..], &STRICT, &SANITIZED].concat());
        assert_eq!(succeed(&mut Command::new(program)), "faces: ok\n");
    }
}

/// The other compiler where it is; nothing is lost where it is not.
#[test]
fn every_compiler_makes_the_same_program() {
    let workshop = Workshop::new();
    for mut command in compilers(&faces()[0]).into_iter().skip(1) {
        let program = workshop.path("faces");
        command.arg("-std=c++17").args(STRICT).arg("-I").arg(root().join("include")).args(faces());
        succeed(workshop.link(&mut command).arg("-o").arg(&program));
        assert_eq!(succeed(&mut Command::new(program)), "faces: ok\n");
    }
}

#[test]
fn valgrind_finds_nothing_in_cpp() {
    let Some(mut command) = memcheck() else { return };
    let workshop = Workshop::new();
    let program = workshop.build("faces", &faces(), &["-std=c++17", "-g"]);
    assert_eq!(succeed(command.arg("--leak-check=full").arg(program)), "faces: ok\n");
}

/// Arrow's headers and library, as a wheel of pyarrow brings them.
struct Arrow {
    directory: PathBuf,
    flags: &'static [&'static str],
}

impl Arrow {
    /// The pyarrow of a Python, with what its compiler wants.
    fn of(python: &Path, flags: &'static [&'static str]) -> Option<Self> {
        let found = finish(Command::new(python).args(["-c", "import pyarrow; print(pyarrow.__path__[0])"]));
        if !found.status.success() {
            println!("SKIPPED: {} has no pyarrow", python.display());
            return None;
        }
        let directory = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim_end());
        Some(Self { directory, flags })
    }

    /// The current one, whose headers are C++20.
    fn current() -> Option<Self> {
        Self::of(&python()?, &["-std=c++20"])
    }

    /// The last one with Plasma; its library has the older of libstdc++'s two ABIs.
    fn old() -> Option<Self> {
        let Some(python) = env::var_os("PLASMA_TEST_PYARROW11") else {
            println!("SKIPPED: $PLASMA_TEST_PYARROW11 is not set to a Python with pyarrow 11");
            return None;
        };
        Self::of(Path::new(&python), &["-std=c++17", "-D_GLIBCXX_USE_CXX11_ABI=0"])
    }

    /// `libarrow.so.NUMBER`.
    fn library(&self) -> PathBuf {
        let files = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("libarrow.so.");
        files.into_iter().find(is_it).expect("libarrow.so beside pyarrow")
    }

    fn build(&self, workshop: &Workshop, name: &str, source: &Path) -> PathBuf {
        let program = workshop.path(name);
        let mut command = compiler(source);
        command.args(self.flags).args(STRICT).arg("-I").arg(root().join("include"));
        command.arg("-isystem").arg(self.directory.join("include")).arg(source).arg("-o").arg(&program);
        command.arg(self.library()).arg(format!("-Wl,-rpath,{}", self.directory.display()));
        succeed(workshop.link(&mut command));
        program
    }
}

#[test]
fn objects_are_arrows_buffers_and_tensors() {
    let Some(arrow) = Arrow::current() else { return };
    let workshop = Workshop::new();
    let program = arrow.build(&workshop, "arrow", &root().join("tests/cpp/arrow.cpp"));
    assert_eq!(succeed(&mut Command::new(program)), "arrow: ok\n");
}

#[test]
fn objects_are_the_types_of_an_old_arrow() {
    let Some(arrow) = Arrow::old() else { return };
    let workshop = Workshop::new();
    let program = arrow.build(&workshop, "arrow", &root().join("tests/cpp/arrow.cpp"));
    assert_eq!(succeed(&mut Command::new(program)), "arrow: ok\n");
}

#[test]
fn the_tutorial_with_arrows_types_and_python_read_what_the_other_wrote() {
    let (Some(arrow), Some(python)) = (Arrow::current(), python()) else { return };
    let workshop = Workshop::new();
    let daemon = workshop.daemon(1 << 20);
    let program = arrow.build(&workshop, "tutorial", &root().join("c-examples/tutorial_arrow.cpp"));
    let (cpp, python) = (Command::new(program), python_example(&python, "tutorial.py"));
    pass_tutorial(&cpp, &python, &daemon.socket);
    pass_tutorial(&python, &cpp, &daemon.socket);
    let misused = finish(again(&cpp).arg("nonsense"));
    assert_eq!(misused.status.code(), Some(2));
    let nowhere = finish(again(&cpp).args(["/nowhere.sock", "get"]));
    assert!(String::from_utf8_lossy(&nowhere.stderr).starts_with("plasma_connect: "));
}
