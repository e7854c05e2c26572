//! The C ABI as a C compiler and a linker see it, and the C programs of `tests/c`, which misuse it, race it and fork it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod toolchain;

use std::collections::BTreeSet;
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::PathBuf;
use std::process::Command;

use dlpack_rs::ffi;
use toolchain::{SANITIZED, STRICT, Workshop, again, compiler, memcheck, root, shared_library, succeed, tool};

/// A source file of `tests/c`.
fn program(name: &str) -> PathBuf {
    root().join("tests/c").join(name).with_extension("c")
}

/// What `plasma_store.h` declares, with the calls left out that take nothing.
fn declared_functions() -> BTreeSet<String> {
    let header = fs::read_to_string(root().join("include/plasma_store.h")).unwrap();
    let code = header.lines().filter(|line| !line.starts_with([' ', '/', '#', '}']));
    let names = code.filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next().map(str::to_owned));
    names.filter(|name| name.starts_with("plasma_") || name.starts_with("tensor_")).collect()
}

/// Compiles a source text that includes the header, as strictly as can be.
fn compiles(workshop: &Workshop, standard: &str, includes: &[PathBuf], text: &str) {
    let ending = if standard.starts_with("c++") { "cpp" } else { "c" };
    let source = workshop.write(&format!("source.{ending}"), text);
    let mut command = compiler(&source);
    command.arg(format!("-std={standard}")).args(STRICT).arg("-fsyntax-only");
    for directory in includes {
        command.arg("-I").arg(directory);
    }
    succeed(command.arg("-I").arg(root().join("include")).arg(&source));
}

#[test]
fn header_stands_alone_in_every_dialect() {
    let workshop = Workshop::new();
    for standard in ["c99", "c11", "c++17"] {
        compiles(&workshop, standard, &[], "#include <plasma_store.h>\n#include <plasma_store.h>\nint nothing;\n");
    }
}

#[test]
fn header_may_be_in_two_files_of_one_program() {
    let workshop = Workshop::new();
    let main = "#include <plasma_store.h>\nunsigned other(void);\n\
                int main(void) { return plasma_abi_version() == other() ? 0 : 1; }\n";
    let other =
        "#include <plasma_store.h>\nunsigned other(void);\nunsigned other(void) { return PLASMA_ABI_VERSION; }\n";
    let sources = [workshop.write("main.c", main), workshop.write("other.c", other)];
    let program = workshop.build("two_files", &sources, &[&["-std=c99"][..], &STRICT].concat());
    succeed(&mut Command::new(program));
}

/// Whichever DLPack header comes first wins, and one from before 1.0 is enough for all but one function.
#[test]
fn header_gets_on_with_the_programs_own_dlpack() {
    let workshop = Workshop::new();
    let ours = fs::read_to_string(root().join("include/plasma_store_dlpack.h")).unwrap();
    let theirs = ours.replace("#define DLPACK_MAJOR_VERSION", "#define THEIRS 1\n#define DLPACK_MAJOR_VERSION");
    workshop.write("new/dlpack/dlpack.h", &theirs);
    workshop.write("elsewhere/dlpack.h", &theirs);
    let (old, rest) = ours.split_once("/* The same since DLPack 1.0").unwrap();
    let old =
        old.replace("#define DLPACK_MAJOR_VERSION 1\n#define DLPACK_MINOR_VERSION 3", "#define DLPACK_VERSION 80");
    let (_, end) = rest.split_once("} DLManagedTensorVersioned;\n").unwrap();
    workshop.write("old/dlpack/dlpack.h", &format!("{old}{end}"));

    let (new, elsewhere, old) = (workshop.path("new"), workshop.path("elsewhere"), workshop.path("old"));
    let needs = |what: &str| format!("#ifndef {what}\n#error {what} is missing\n#endif\n");
    let use_it = "DLManagedTensorVersioned *tensor;\nDLManagedTensor *legacy;\n";
    let store = "#include <plasma_store.h>\n";
    let found = format!("{store}{}{use_it}", needs("THEIRS"));
    let before = format!("#include <dlpack.h>\n{store}{}{use_it}", needs("THEIRS"));
    let after = format!("{store}#include <dlpack.h>\n{}{use_it}", needs("DLPACK_MAJOR_VERSION"));
    let outdated = format!("{store}{}{use_it}", needs("DLPACK_VERSION"));
    for standard in ["c99", "c11", "c++17"] {
        compiles(&workshop, standard, &[], &format!("{store}{use_it}"));
        compiles(&workshop, standard, std::slice::from_ref(&new), &found);
        compiles(&workshop, standard, std::slice::from_ref(&elsewhere), &before);
        compiles(&workshop, standard, std::slice::from_ref(&elsewhere), &after);
        compiles(&workshop, standard, std::slice::from_ref(&old), &outdated);
    }
}

/// One assertion in C for each number that both sides must agree on.
fn dlpack_layout() -> Vec<String> {
    let mut facts = Vec::new();
    macro_rules! layout {
        ($type:ident: $($field:ident),*) => {
            facts.push(format!("sizeof({}) == {}", stringify!($type), size_of::<ffi::$type>()));
            $(facts.push(format!(
                "offsetof({}, {}) == {}", stringify!($type), stringify!($field), offset_of!(ffi::$type, $field)
            ));)*
        };
    }
    macro_rules! numbers {
        ($module:path: $($name:ident),*) => {{
            use $module as numbers;
            $(facts.push(format!("{} == {}", stringify!($name), numbers::$name));)*
        }};
    }
    layout!(DLPackVersion: major, minor);
    layout!(DLDevice: device_type, device_id);
    layout!(DLDataType: code, bits, lanes);
    layout!(DLTensor: data, device, ndim, dtype, shape, strides, byte_offset);
    layout!(DLManagedTensor: dl_tensor, manager_ctx, deleter);
    layout!(DLManagedTensorVersioned: version, manager_ctx, deleter, flags, dl_tensor);
    numbers!(dlpack_rs::ffi: DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION, DLPACK_FLAG_BITMASK_READ_ONLY,
        DLPACK_FLAG_BITMASK_IS_COPIED, DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED);
    numbers!(dlpack_rs::ffi::DLDeviceType: kDLCPU, kDLCUDA, kDLCUDAHost, kDLOpenCL, kDLVulkan, kDLMetal, kDLVPI,
        kDLROCM, kDLROCMHost, kDLExtDev, kDLCUDAManaged, kDLOneAPI, kDLWebGPU, kDLHexagon, kDLMAIA, kDLTrn, kDLTPU,
        kDLTPUHost);
    numbers!(dlpack_rs::ffi::DLDataTypeCode: kDLInt, kDLUInt, kDLFloat, kDLOpaqueHandle, kDLBfloat, kDLComplex, kDLBool,
        kDLFloat8_e3m4, kDLFloat8_e4m3, kDLFloat8_e4m3b11fnuz, kDLFloat8_e4m3fn, kDLFloat8_e4m3fnuz, kDLFloat8_e5m2,
        kDLFloat8_e5m2fnuz, kDLFloat8_e8m0fnu, kDLFloat6_e2m3fn, kDLFloat6_e3m2fn, kDLFloat4_e2m1fn, kDLBcomplex);
    facts
}

#[test]
fn dlpack_header_is_laid_out_as_the_library_is() {
    let workshop = Workshop::new();
    for (standard, assertion) in [("c11", "_Static_assert"), ("c++17", "static_assert")] {
        let assert = |fact: &String| format!("{assertion}({fact}, \"{fact}\");\n");
        let assertions: String = dlpack_layout().iter().map(assert).collect();
        compiles(&workshop, standard, &[], &format!("#include <plasma_store_dlpack.h>\n{assertions}"));
    }
}

#[test]
fn exports_are_what_the_header_declares_each_with_a_version() {
    let mut nm = tool("NM", &["nm"], "nm of binutils");
    let listed = succeed(nm.args(["-D", "--defined-only"]).arg(shared_library()));
    let names = listed.lines().filter_map(|line| line.rsplit(' ').next()).filter(|name| *name != "PLASMA_1.0");
    let unversioned = |name: &str| name.strip_suffix("@@PLASMA_1.0").map(str::to_owned).ok_or(name.to_owned());
    let names: Result<BTreeSet<String>, String> = names.map(unversioned).collect();
    assert_eq!(names, Ok(declared_functions()));
}

#[test]
fn soname_is_the_one_that_the_header_names() {
    let mut readelf = tool("READELF", &["readelf"], "readelf of binutils");
    let dynamic = succeed(readelf.arg("-d").arg(shared_library()));
    assert!(dynamic.contains("Library soname: [libplasma_store.so.1]"), "{dynamic}");
    let header = fs::read_to_string(root().join("include/plasma_store.h")).unwrap();
    assert!(header.contains("The soname is libplasma_store.so.1."));
}

#[test]
fn every_function_is_misused() {
    let sources: String = ["misuse", "tensor_misuse", "bundle_misuse", "shared_misuse", "ring_misuse"]
        .map(|name| fs::read_to_string(program(name)).unwrap())
        .concat();
    let forgotten: Vec<_> =
        declared_functions().into_iter().filter(|name| !sources.contains(&format!("{name}("))).collect();
    assert!(forgotten.is_empty(), "no program of misuse calls {forgotten:?}");
}

/// Builds one of the programs.
fn build(workshop: &Workshop, name: &str, flags: &[&str]) -> PathBuf {
    workshop.build(name, &[program(name)], &[&["-std=c11"][..], &STRICT, flags].concat())
}

/// Plays one of those that take the socket of a store.
fn play(name: &str) {
    let workshop = Workshop::new();
    let program = build(&workshop, name, &SANITIZED);
    let daemon = workshop.daemon(8 << 20);
    assert_eq!(succeed(Command::new(program).arg(&daemon.socket)), format!("{name}: ok\n"));
}

#[test]
fn misuse_is_answered_and_harms_nobody() {
    let workshop = Workshop::new();
    let program = build(&workshop, "misuse", &SANITIZED);
    assert_eq!(succeed(Command::new(program).arg(workshop.subdirectory("d"))), "misuse: ok\n");
}

#[test]
fn misuse_of_tensors_is_answered_and_harms_nobody() {
    play("tensor_misuse");
}

#[test]
fn misuse_of_bundles_and_names_is_answered_and_harms_nobody() {
    play("bundle_misuse");
}

#[test]
fn misuse_of_shared_tensors_is_answered_and_harms_nobody() {
    play("shared_misuse");
}

#[test]
fn processes_lock_a_shared_tensor_and_one_dies_with_the_lock() {
    play("shared");
}

#[test]
fn misuse_of_rings_is_answered_and_harms_nobody() {
    play("ring_misuse");
}

#[test]
fn processes_pass_messages_by_a_ring_and_one_dies_with_a_message() {
    play("ring");
}

#[test]
fn threads_share_a_client_and_calls_are_interrupted() {
    let workshop = Workshop::new();
    let program = build(&workshop, "threads", &SANITIZED);
    let daemon = workshop.daemon(1 << 20);
    assert_eq!(succeed(Command::new(program).arg(&daemon.socket)), "threads: ok\n");
}

#[test]
fn sealed_objects_are_got_without_a_system_call() {
    let workshop = Workshop::new();
    let program = build(&workshop, "no_syscall", &["-O2"]);
    let daemon = workshop.daemon(1 << 20);
    assert_eq!(succeed(Command::new(program).arg(&daemon.socket).arg("200000")), "no_syscall: ok\n");
}

#[test]
fn children_read_on_and_connect_anew() {
    let workshop = Workshop::new();
    let program = build(&workshop, "fork", &SANITIZED);
    assert_eq!(succeed(Command::new(program).arg(workshop.subdirectory("d"))), "fork: ok\n");
}

#[test]
fn valgrind_finds_nothing() {
    let Some(valgrind) = memcheck() else { return };
    let workshop = Workshop::new();
    let daemon = workshop.daemon(8 << 20);
    let check = |name: &str, leaks: &str, arguments: &[PathBuf]| {
        let program = build(&workshop, name, &["-g"]);
        let mut command = again(&valgrind);
        let printed = succeed(command.arg(leaks).arg(program).args(arguments));
        assert_eq!(printed, format!("{name}: ok\n"));
    };
    check("misuse", "--leak-check=full", &[workshop.subdirectory("misuse.d")]);
    check("tensor_misuse", "--leak-check=full", std::slice::from_ref(&daemon.socket));
    check("bundle_misuse", "--leak-check=full", std::slice::from_ref(&daemon.socket));
    check("shared_misuse", "--leak-check=full", std::slice::from_ref(&daemon.socket));
    check("ring_misuse", "--leak-check=full", std::slice::from_ref(&daemon.socket));
    check("threads", "--leak-check=full", &[daemon.socket.clone(), "5".into()]);
    // A child cannot free what belongs to threads that did not come along.
    check("fork", "--leak-check=no", &[workshop.subdirectory("fork.d")]);
}
