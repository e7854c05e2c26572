//! The programs of `c-examples`, in C, C++ and Python: each alone, and each language's writer with the other's reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod toolchain;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use toolchain::{SANITIZED, STRICT, TUTORIAL, Workshop, again, finish, python, python_example, root, succeed, watched};

/// An example, and what both its programs print.
struct Example {
    source: &'static str,
    standard: &'static str,
    python: &'static str,
    halves: [&'static str; 2],
    outputs: [&'static str; 2],
}

const EXAMPLES: [Example; 3] = [
    Example {
        source: "put_get.c",
        standard: "-std=c99",
        python: "put_get.py",
        halves: ["put", "get"],
        outputs: [
            "put 51 bytes, 10 bytes of metadata\n",
            "got text/plain: Seven bytes or seven gigabytes, it is all the same.\n",
        ],
    },
    Example {
        source: "tensor.c",
        standard: "-std=c99",
        python: "tensor.py",
        halves: ["write", "read"],
        outputs: [
            "wrote matrix: float64 3 x 4\nwrote counts: int32 2 x 3\n",
            "read matrix: float64 3 x 4\n   0.5   1.5   2.5   3.5\n  10.5  11.5  12.5  13.5\n  20.5  21.5  22.5  23.5\n\
             read counts: int32 2 x 3, read-only\n     1     2     3\n     4     5     6\n",
        ],
    },
    Example {
        source: "tutorial.cpp",
        standard: "-std=c++17",
        python: "tutorial.py",
        halves: ["put", "get"],
        outputs: TUTORIAL,
    },
];

impl Example {
    fn build(&self, workshop: &Workshop) -> Command {
        let source = root().join("c-examples").join(self.source);
        let flags = [&[self.standard][..], &STRICT, &SANITIZED].concat();
        Command::new(workshop.build(self.source.split('.').next().unwrap(), &[source], &flags))
    }

    fn python(&self, python: &Path) -> Command {
        python_example(python, self.python)
    }
}

/// Without arguments, both halves run in one process; with a wrong one, the usage is told.
fn runs_alone(example: &Example, program: &Command) {
    assert_eq!(succeed(&mut again(program)), example.outputs.concat());
    let misused = finish(again(program).arg("nonsense"));
    assert_eq!(misused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&misused.stderr).starts_with("usage: "));
}

/// One writes, the other reads, twice: what the first time left is replaced.
fn pass_objects(example: &Example, writer: &Command, reader: &Command, socket: &Path) {
    for _ in 0..2 {
        assert_eq!(succeed(again(writer).arg(socket).arg(example.halves[0])), example.outputs[0]);
        assert_eq!(succeed(again(reader).arg(socket).arg(example.halves[1])), example.outputs[1]);
    }
}

#[test]
fn examples_run_alone() {
    let workshop = Workshop::new();
    for example in &EXAMPLES {
        runs_alone(example, &example.build(&workshop));
    }
}

#[test]
fn examples_use_the_daemon() {
    let workshop = Workshop::new();
    let daemon = workshop.daemon(1 << 20);
    for example in &EXAMPLES {
        let program = example.build(&workshop);
        pass_objects(example, &program, &program, &daemon.socket);
    }
}

/// Without a store there is one line that says so, and no success.
#[test]
fn examples_say_what_failed() {
    let workshop = Workshop::new();
    let nowhere = workshop.path("nowhere.sock");
    for example in &EXAMPLES {
        let output = finish(example.build(&workshop).arg(&nowhere).arg(example.halves[1]));
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.starts_with("plasma_connect: "), "{message}");
        assert!(message.contains(&nowhere.display().to_string()), "{message}");
    }
}

#[test]
fn python_examples_run_alone() {
    let Some(python) = python() else { return };
    for example in &EXAMPLES {
        runs_alone(example, &example.python(&python));
    }
}

#[test]
fn c_and_python_examples_read_what_the_other_wrote() {
    let Some(python) = python() else { return };
    let workshop = Workshop::new();
    let daemon = workshop.daemon(1 << 20);
    for example in &EXAMPLES {
        let (c, python) = (example.build(&workshop), example.python(&python));
        pass_objects(example, &c, &python, &daemon.socket);
        pass_objects(example, &python, &c, &daemon.socket);
        pass_objects(example, &python, &python, &daemon.socket);
    }
}

/// How many frames a watcher saw and missed of the camera's, which it says if it saw the last one.
fn frames(watched: &str) -> (u32, u32) {
    let numbers: Vec<u32> = watched.trim_end().split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let line = |seen: u32, missed: u32| format!("saw {seen} frames, missed {missed}, the last was 99");
    assert!(numbers.len() == 2 + 1 && watched == line(numbers[0], numbers[1]) + "\n", "{watched}");
    (numbers[0], numbers[1])
}

const FILMED: &str = "filmed 100 frames\n";

fn camera(workshop: &Workshop) -> Command {
    let flags = [&["-std=c++17"][..], &STRICT, &SANITIZED].concat();
    Command::new(workshop.build("camera", &[root().join("c-examples/camera.cpp")], &flags))
}

/// Who comes when all is filmed sees what is left in the ring's four slots, and its end.
fn sees_the_last_frames(camera: &Command, watcher: &Command, socket: &Path) {
    for _ in 0..2 {
        assert_eq!(succeed(again(camera).arg(socket).arg("film")), FILMED);
        assert_eq!(succeed(again(watcher).arg(socket).arg("watch")), "saw 4 frames, missed 96, the last was 99\n");
    }
}

/// Who watches meanwhile, and lags, sees frames in order, none of them mixed, and the last one; the camera does not wait.
fn lags(camera: &Command, watcher: &Command) {
    let workshop = Workshop::new();
    let daemon = workshop.daemon(1 << 20);
    let mut watcher = watched(again(watcher).arg(&daemon.socket).arg("watch"));
    let watching = watcher.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(succeed(again(camera).arg(&daemon.socket).arg("film")), FILMED);
    let output = watching.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (seen, missed) = frames(&String::from_utf8_lossy(&output.stdout));
    assert!(seen >= 4 && seen + missed == 100, "saw {seen}, missed {missed}");
}

#[test]
fn a_camera_films_on_while_who_watches_lags() {
    let workshop = Workshop::new();
    let camera = camera(&workshop);
    let both = succeed(&mut again(&camera));
    let (seen, missed) = frames(both.strip_prefix(FILMED).unwrap());
    assert_eq!(seen + missed, 100);
    let daemon = workshop.daemon(1 << 20);
    sees_the_last_frames(&camera, &camera, &daemon.socket);
    lags(&camera, &camera);
    assert_eq!(finish(again(&camera).arg("nonsense")).status.code(), Some(2));
}

#[test]
fn a_camera_in_cpp_films_on_while_a_watcher_in_python_lags() {
    let Some(python) = python() else { return };
    let workshop = Workshop::new();
    let (camera, watcher) = (camera(&workshop), python_example(&python, "camera.py"));
    let daemon = workshop.daemon(1 << 20);
    sees_the_last_frames(&camera, &watcher, &daemon.socket);
    lags(&camera, &watcher);
    assert_eq!(finish(again(&watcher).arg("nonsense")).status.code(), Some(2));
}

/// A host serves other processes until its input ends, and then ends well.
fn serves(host: &Command, readers: &[&Command]) {
    let example = &EXAMPLES[2];
    let mut process = watched(again(host).arg("--in-process"));
    let mut process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap() + "\n", example.outputs[0]);
    let socket = lines.next().unwrap().strip_prefix("socket ").unwrap().to_owned();
    for reader in readers {
        assert_eq!(succeed(again(reader).args([&socket, "get"])), example.outputs[1]);
    }
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
    assert!(!Path::new(&socket).exists());
}

#[test]
fn tutorial_hosts_a_store() {
    let workshop = Workshop::new();
    let program = EXAMPLES[2].build(&workshop);
    serves(&program, &[&program]);
}

#[test]
fn tutorial_hosts_a_store_for_the_other_language() {
    let Some(python) = python() else { return };
    let workshop = Workshop::new();
    let (cpp, python) = (EXAMPLES[2].build(&workshop), EXAMPLES[2].python(&python));
    serves(&cpp, &[&python]);
    serves(&python, &[&cpp, &python]);
}
