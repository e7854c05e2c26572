//! The thread, and its desk without a thread.

use std::fs;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sys::stat::fstat;

use super::*;
use crate::shm::mapping::Mapping;
use crate::shm::one_writer::OneWriter;
use crate::shm::segment::Segment;

const KEY: i32 = 1;
const PIECES: u64 = 4;
const LEN: u64 = PIECES * HUGE_PAGE;

/// Waits for something that comes by itself; a test that waits a minute has failed.
fn eventually(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it has not come within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn segment(name: &str, len: u64) -> Arc<Segment> {
    let segment = Segment::create(name, len).unwrap();
    segment.allocate(0..len).unwrap();
    Arc::new(segment)
}

fn as_shared(segment: &Arc<Segment>) -> SharedDescriptor {
    segment.clone()
}

/// Bytes that this mapping has by entries for whole huge pages, of what it has looked at.
fn in_huge_pages(name: &str) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let of_file = smaps.lines().skip_while(|line| !line.contains(name));
    let mut figures = of_file.filter_map(|line| line.strip_prefix("ShmemPmdMapped:"));
    figures.next().unwrap().trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn memory(fd: BorrowedFd<'_>) -> u64 {
    fstat(fd).unwrap().st_blocks as u64 * 512
}

/// Whether this machine gathers pages at all; says so where it does not.
fn works_here() -> bool {
    let segment = segment("probe", HUGE_PAGE);
    match collapse(&segment, 0..HUGE_PAGE) {
        Ok(()) => true,
        Err(error) => {
            assert!(is_for_good(&error), "{error}");
            println!(
                "no huge pages to gather objects in, so only that nothing else depends on them is tested: {error}"
            );
            false
        }
    }
}

fn touch(mapping: &Mapping) -> Vec<u8> {
    let mut seen = vec![0; (mapping.len() / HUGE_PAGE) as usize];
    for (n, byte) in seen.iter_mut().enumerate() {
        mapping.read(n as u64 * HUGE_PAGE + 5, std::slice::from_mut(byte)).unwrap();
    }
    seen
}

#[test]
fn what_is_given_lies_in_huge_pages_then_also_for_those_who_have_it_mapped() {
    let is_possible = works_here();
    let segment = segment("four-pieces", LEN);
    for n in 0..PIECES {
        segment.write_at(n * HUGE_PAGE + 5, &[n as u8 + 1]).unwrap();
    }
    let mapping = Mapping::read_only(&*segment, LEN).unwrap();
    assert_eq!((touch(&mapping), in_huge_pages("four-pieces")), (vec![1, 2, 3, 4], 0));
    let collapser = Collapser::start(Duration::ZERO).unwrap();
    collapser.give(KEY, &as_shared(&segment), 0..LEN);
    eventually(|| collapser.done() != Done::default() && collapser.desk.lock().waiting.is_empty());
    drop(collapser);
    assert_eq!(touch(&mapping), [1, 2, 3, 4]);
    assert_eq!(in_huge_pages("four-pieces") > 0, is_possible);
    assert_eq!(memory((*segment).as_fd()), LEN);
}

#[test]
fn a_sealed_file_is_gathered_through_the_descriptor_of_its_readers() {
    if !works_here() {
        return;
    }
    let (writer, read_only) = OneWriter::create("sealed-and-gathered", LEN).unwrap().write_here().unwrap();
    let read_only: SharedDescriptor = Arc::new(read_only);
    let collapser = Collapser::start(Duration::ZERO).unwrap();
    collapser.give(KEY, &read_only, 0..LEN);
    eventually(|| collapser.done().bytes == LEN);
    let reader = Mapping::read_only(&*read_only, LEN).unwrap();
    writer.write(HUGE_PAGE + 5, &[7]).unwrap();
    assert_eq!(touch(&reader), [0, 7, 0, 0]);
    assert_eq!(collapser.done(), Done { bytes: LEN, failures: 0 });
}

#[test]
fn only_whole_pieces_of_a_range_are_touched() {
    if !works_here() {
        return;
    }
    let segment = Arc::new(Segment::create("partly", LEN).unwrap());
    // All but the first page of the second piece, and all of the third; the rest is a hole.
    segment.allocate(HUGE_PAGE + 4096..3 * HUGE_PAGE).unwrap();
    let before = memory((*segment).as_fd());
    let collapser = Collapser::start(Duration::ZERO).unwrap();
    collapser.give(KEY, &as_shared(&segment), HUGE_PAGE + 4096..3 * HUGE_PAGE + 4096);
    collapser.give(KEY, &as_shared(&segment), 64..HUGE_PAGE + 64);
    eventually(|| collapser.done().bytes == HUGE_PAGE);
    assert_eq!((memory((*segment).as_fd()), collapser.done().failures), (before, 0));
}

#[test]
fn memory_comes_back_by_the_small_page() {
    if !works_here() {
        return;
    }
    let segment = segment("given-back", LEN);
    let collapser = Collapser::start(Duration::ZERO).unwrap();
    collapser.give(KEY, &as_shared(&segment), 0..LEN);
    eventually(|| collapser.done().bytes == LEN);
    let mapping = Mapping::read_only(&*segment, LEN).unwrap();
    touch(&mapping);
    segment.punch(HUGE_PAGE + 65536..HUGE_PAGE + 2 * 65536).unwrap();
    assert_eq!(memory((*segment).as_fd()), LEN - 65536);
}

/// A desk without a thread: what waits stays.
fn idle() -> Collapser {
    Collapser { desk: Arc::default(), thread: None }
}

fn waiting(collapser: &Collapser) -> Vec<u64> {
    collapser.desk.lock().waiting.iter().map(|piece| piece.place.offset / HUGE_PAGE).collect()
}

#[test]
fn what_is_forgotten_does_not_wait_any_more() {
    let (segment, collapser) = (as_shared(&segment("forgotten", HUGE_PAGE)), idle());
    collapser.give(KEY, &segment, 0..8 * HUGE_PAGE);
    collapser.forget(KEY + 1, &(0..8 * HUGE_PAGE));
    assert_eq!(waiting(&collapser), [0, 1, 2, 3, 4, 5, 6, 7]);
    collapser.forget(KEY, &(HUGE_PAGE - 1..2 * HUGE_PAGE));
    collapser.forget(KEY, &(5 * HUGE_PAGE + 1..6 * HUGE_PAGE + 1));
    assert_eq!(waiting(&collapser), [2, 3, 4, 7]);
}

#[test]
fn whoever_forgets_waits_for_what_is_in_hand() {
    let collapser = Arc::new(idle());
    collapser.give(KEY, &as_shared(&segment("in-hand", HUGE_PAGE)), 0..HUGE_PAGE);
    let piece = collapser.desk.next().unwrap();
    collapser.forget(KEY, &(HUGE_PAGE..2 * HUGE_PAGE)); // another one
    let theirs = collapser.clone();
    let forgetting = std::thread::spawn(move || theirs.forget(KEY, &(0..1)));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!forgetting.is_finished());
    drop(piece);
    collapser.desk.put_down(None);
    forgetting.join().unwrap();
}

#[test]
fn work_beside_a_file_waits_for_what_is_in_hand_and_loses_nothing() {
    let collapser = Arc::new(idle());
    collapser.give(KEY, &as_shared(&segment("beside", HUGE_PAGE)), 0..2 * HUGE_PAGE);
    let piece = collapser.desk.next().unwrap();
    let mut is_done = false;
    collapser.keep_off(KEY + 1, || is_done = true);
    assert!(is_done, "another file");
    let theirs = collapser.clone();
    let working = std::thread::spawn(move || theirs.keep_off(KEY, || ()));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!working.is_finished());
    drop(piece);
    collapser.desk.put_down(None);
    working.join().unwrap();
    assert_eq!(waiting(&collapser), [1]);
}

#[test]
fn pieces_wait_for_their_time() {
    let desk = Arc::new(Desk { delay: Duration::from_millis(30), ..Desk::default() });
    let collapser = Collapser { desk, thread: None };
    let begin = Instant::now();
    collapser.give(KEY, &as_shared(&segment("early", HUGE_PAGE)), 0..HUGE_PAGE);
    assert!(collapser.desk.next().is_some());
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn pieces_wait_longer_while_others_come_but_not_for_ever() {
    let (collapser, segment) = (idle(), as_shared(&segment("others", HUGE_PAGE)));
    collapser.give(KEY, &segment, 0..HUGE_PAGE);
    let mut state = collapser.desk.lock();
    let due = state.waiting[0].due;
    let seconds = [0, 1, 4, 5, 3600].map(|seconds| {
        state.calm_at = Some(due + Duration::from_secs(seconds));
        state.due().unwrap() - due
    });
    assert_eq!(seconds, [0, 1000, 4000, 4500, 4500].map(Duration::from_millis));
}

#[test]
fn the_end_does_not_wait_for_pieces_that_are_not_due() {
    let collapser = Collapser::start(Duration::from_secs(3600)).unwrap();
    collapser.give(KEY, &as_shared(&segment("late", HUGE_PAGE)), 0..HUGE_PAGE);
    drop(collapser); // else this hangs
}

#[test]
fn the_queue_is_bounded_and_the_oldest_go() {
    let (segment, collapser) = (as_shared(&segment("many", HUGE_PAGE)), idle());
    collapser.give(KEY, &segment, 0..2 * HUGE_PAGE);
    collapser.give(KEY, &segment, 10 * HUGE_PAGE..(10 + MAX_WAITING - 1) * HUGE_PAGE);
    assert_eq!((waiting(&collapser).len() as u64, waiting(&collapser)[0]), (MAX_WAITING, 1));
    collapser.give(KEY, &segment, 0..u64::MAX);
    let end = u64::MAX / HUGE_PAGE;
    assert_eq!((waiting(&collapser).len() as u64, waiting(&collapser)[0]), (MAX_WAITING, end - MAX_WAITING));
}

#[test]
fn a_file_that_is_gone_is_not_kept_and_is_no_failure() {
    let collapser = idle();
    let segment = as_shared(&segment("gone", LEN));
    collapser.give(KEY, &segment, 0..LEN);
    let file = Arc::downgrade(&segment);
    drop(segment);
    assert!(file.upgrade().is_none());
    let desk = collapser.desk.clone();
    let thread = std::thread::spawn(move || desk.work());
    eventually(|| waiting(&collapser).is_empty());
    assert_eq!(collapser.done(), Done::default());
    drop(collapser);
    thread.join().unwrap();
}

#[test]
fn where_it_cannot_be_done_it_is_tried_once() {
    let collapser = Collapser::start(Duration::ZERO).unwrap();
    // The end of a file that is too short for a piece is an error, and says nothing about others.
    let short = as_shared(&segment("short", HUGE_PAGE / 2));
    collapser.give(KEY, &short, 0..HUGE_PAGE);
    eventually(|| collapser.done().failures == 1);
    assert!(!collapser.desk.lock().is_over);
    drop(collapser);
    // What a kernel says that knows no such advice.
    let collapser = idle();
    collapser.give(KEY, &short, 0..8 * HUGE_PAGE);
    let refused = || Some(Err(Error::io("madvise", Errno::EINVAL.into())));
    collapser.desk.put_down(refused());
    assert_eq!((waiting(&collapser).len(), collapser.desk.lock().is_over), (0, true));
    collapser.give(KEY, &short, 0..8 * HUGE_PAGE);
    assert!(waiting(&collapser).is_empty() && collapser.desk.next().is_none());
}

#[test]
fn one_refusal_after_a_success_ends_nothing() {
    let collapser = idle();
    collapser.desk.put_down(Some(Ok(())));
    collapser.desk.put_down(Some(Err(Error::io("madvise", Errno::EINVAL.into()))));
    assert_eq!(collapser.done(), Done { bytes: HUGE_PAGE, failures: 1 });
    assert!(!collapser.desk.lock().is_over);
}
