//! The fuzz targets of `fuzz/`, played with the stable compiler: every input of the corpus, then a bounded number of damaged
//! ones. The open-ended runs are `make fuzz` (docs/testing.md).
//!
//! Every run plays the same inputs; `PLASMA_FUZZ_ROUNDS` plays more of them, `PLASMA_FUZZ_SEED` others. A failure prints its
//! input: put that into a file below `fuzz/corpus/` and it will be played from then on.
// To clippy, what a test calls is no test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fuzz_seeds;
#[path = "support/random.rs"]
#[allow(dead_code)]
mod random;
#[path = "../fuzz/src/lib.rs"]
mod targets;
#[path = "support/watchdog.rs"]
#[allow(dead_code)]
mod watchdog;

use random::Random;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, panic};
use watchdog::Watchdog;

/// A target, and how many damaged inputs it gets: the engine's are whole games.
type Target = (&'static str, fn(&[u8]) -> bool, u64);

const TARGETS: [Target; 9] = [
    ("frame", targets::frame, 50_000),
    ("request", targets::request, 100_000),
    ("reply", targets::reply, 100_000),
    ("notification", targets::notification, 50_000),
    ("tensor", targets::tensor, 50_000),
    ("bundle", targets::bundle, 50_000),
    ("metadata", targets::metadata, 50_000),
    ("engine", targets::engine, 10_000),
    ("ring", targets::ring, 50_000),
];
const LONGEST: usize = 4096;

fn directory(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz/corpus", target].iter().collect()
}

/// All inputs of a target's corpus, by the names of their files.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> = fs::read_dir(directory(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Another input: one of the corpus with a few bytes, words, pieces or its end changed.
fn damaged(random: &mut Random, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let pick = |random: &mut Random| corpus[random.below(corpus.len() as u64) as usize].1.clone();
    let mut input = pick(random);
    for _ in 0..1 + random.below(4) {
        let at = random.below(input.len() as u64 + 1) as usize;
        match random.below(6) {
            0 => input.truncate(at),
            1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            2 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.next() as u8),
            3 => {
                let word = random.pick_word().to_le_bytes();
                input.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = new);
            }
            4 => drop(input.splice(at..at, random.bytes(1 + at as u64 % 12))),
            _ => {
                let other = pick(random);
                input.truncate(at);
                input.extend(&other[random.below(other.len() as u64) as usize..]);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

impl Random {
    /// Often an edge, else anything; four bytes of it, as most lengths and offsets have.
    fn pick_word(&mut self) -> u32 {
        match self.below(4) {
            0 => self.below(5) as u32,
            1 => u32::MAX - self.below(3) as u32,
            2 => self.below(300) as u32,
            _ => self.next() as u32,
        }
    }
}

/// Plays one input; a panic is reported with the bytes that made it.
fn play(target: &Target, name: &str, input: &[u8]) -> bool {
    let played = panic::catch_unwind(|| target.1(input));
    played.unwrap_or_else(|_| {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("target {}, {name}; the input (for xxd -r -p): {hex}", target.0);
    })
}

/// Plays the corpus and damaged inputs. Some of these must be accepted and some refused, or only one side was tested.
fn fuzz(name: &str) {
    let _watchdog = Watchdog::lasting("fuzz targets", Duration::from_secs(30 * 60));
    let target = TARGETS.iter().find(|(target, ..)| *target == name).unwrap();
    let corpus = corpus(name);
    for (file, input) in &corpus {
        let accepted = play(target, file, input);
        assert!(accepted || file.starts_with("crash-"), "fuzz/corpus/{name}/{file} is refused: it seeds nothing");
    }
    let (rounds, first) = (number("PLASMA_FUZZ_ROUNDS", target.2), number("PLASMA_FUZZ_SEED", 0));
    let accepted = (first..first + rounds)
        .filter(|seed| play(target, &format!("seed {seed}"), &damaged(&mut Random(*seed), &corpus)))
        .count() as u64;
    assert!(accepted > rounds / 50 && accepted < rounds, "{accepted} of {rounds} inputs of {name} were accepted");
}

#[test]
fn frames() {
    fuzz("frame");
}

#[test]
fn requests() {
    fuzz("request");
}

#[test]
fn replies() {
    fuzz("reply");
}

#[test]
fn notifications() {
    fuzz("notification");
}

#[test]
fn tensor_messages() {
    fuzz("tensor");
}

#[test]
fn bundles() {
    fuzz("bundle");
}

#[test]
fn metadata_trailers() {
    fuzz("metadata");
}

#[test]
fn games_of_the_engine() {
    fuzz("engine");
}

#[test]
fn records_of_rings() {
    fuzz("ring");
}

/// Seeds that lag behind a changed format would be refused at the first check, and every mutant of them with it.
#[test]
fn the_seeds_are_current() {
    for (target, ..) in TARGETS {
        let directory = directory(target);
        for (name, seed) in fuzz_seeds::seeds(target) {
            let path = directory.join(name);
            if env::var_os("UPDATE_FUZZ_SEEDS").is_some() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&path, &seed).unwrap();
            }
            let current = fs::read(&path).is_ok_and(|found| found == seed);
            let path = path.display();
            assert!(current, "{path} is stale; run: UPDATE_FUZZ_SEEDS=1 cargo test --test fuzz_targets seeds");
        }
    }
}
