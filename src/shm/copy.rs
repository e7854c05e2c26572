//! Copies into shared memory at the speed of the memory.
//!
//! A plain copy has every line of its target brought into the cache before it is written: from memory, or from the cache of
//! a processor that has read it, which may take twelve times as long as the copy. Stores that go around the cache
//! (*streaming*) do not; but where the lines are in the own cache they take more than twice as long. Nobody tells which of
//! the two it is, so copies of a middle size find out: a little goes each way first.
//! The measurements behind the sizes are in docs/native-path.md, "Copies".

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, Scope};
use std::time::Instant;
use std::{ptr, thread};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::error::{Error, Result};

/// Below this size a copy is a plain one: it is over before anything is found out.
pub const TRIED_FROM: usize = 64 << 10;
/// From this size on a copy is streamed: it would drive out of the cache what others have there.
pub const STREAMED_FROM: usize = 8 << 20;
/// From this size on several threads copy, where there are any: to start them takes as long as to copy some MiB.
pub const SHARED_FROM: usize = 16 << 20;
/// The most threads that can be asked for; more are a mistake.
pub const MAX_THREADS: usize = 256;
/// What goes each way to find out which one is faster.
const TRIAL: usize = 16 << 10;
/// How many times faster streaming has to be in the trial. Six times and more it is where another processor has the lines, twice
/// where nobody has them; but there the plain copy is the better one: it brings them into the cache, where the next copy to that
/// place finds them.
const MUCH_FASTER: u32 = 4;
/// What a thread takes on at a time.
const PART: usize = 2 << 20;
/// Bytes that a cache moves at once.
const LINE: usize = 64;

/// How many threads copy what is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copier {
    /// Beside the caller's own.
    helpers: usize,
}

impl Copier {
    /// The caller's thread alone.
    pub const ALONE: Self = Self { helpers: 0 };

    /// So many threads, the caller's among them. 0 means as much as 1.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the number when it is more than [`MAX_THREADS`].
    pub fn new(threads: usize) -> Result<Self> {
        if threads > MAX_THREADS {
            return Err(Error::InvalidArgument(format!("copy_threads is at most {MAX_THREADS}, not {threads}")));
        }
        Ok(Self { helpers: threads.saturating_sub(1) })
    }

    /// Copies `len` bytes. They are ordered before whatever the caller stores later, as those of a plain copy are.
    ///
    /// # Safety
    /// `source` may be read and `target` written for `len` bytes; they do not overlap.
    #[inline]
    pub unsafe fn copy(self, source: *const u8, target: *mut u8, len: usize) {
        let ends = Ends { source, target };
        // SAFETY: as the caller promised.
        unsafe {
            match len {
                ..TRIED_FROM => ends.copy_plainly(len),
                TRIED_FROM..STREAMED_FROM => ends.copy_the_better_way(len),
                _ => ends.copy_with(self, len),
            }
        }
    }

    /// Has `work` called for all of `count` pieces of `size` bytes, each of them once: for all in one call, or where that is
    /// much and there are several threads, for some at a time in each of them.
    ///
    /// Who is done takes the next pieces that nobody has. So where a thread cannot be started, or is late, the others do more.
    pub fn share_out(self, count: usize, size: usize, work: impl Fn(Range<usize>) + Sync) {
        if self.helpers == 0 || count.saturating_mul(size) < SHARED_FROM {
            return work(0..count);
        }
        let (next, at_a_time) = (AtomicUsize::new(0), (PART / size).max(1));
        let work_on = || {
            // A number says no more than itself, and the caller waits for all threads.
            let begins = std::iter::repeat_with(|| next.fetch_add(at_a_time, Ordering::Relaxed));
            begins.take_while(|begin| *begin < count).for_each(|begin| work(begin..count.min(begin + at_a_time)));
        };
        thread::scope(|scope| {
            start(scope, self.helpers.min(count.div_ceil(at_a_time) - 1), &work_on);
            work_on();
        });
    }
}

/// Starts threads, or as many as can be, with all signals blocked: those of the host are for the host's own threads.
fn start<'scope>(scope: &'scope Scope<'scope, '_>, count: usize, work: &'scope (impl Fn() + Sync)) {
    let Ok(before) = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK) else { return };
    let mut threads = (0..count).map(|_| Builder::new().name("plasma-copy".into()).spawn_scoped(scope, work));
    let failed = threads.find_map(|started| started.err());
    // Fails for a wrong argument only.
    let _ = before.thread_set_mask();
    if let Some(error) = failed {
        log::debug!("{count} threads should help to copy, and not all of them started: {error}");
    }
}

/// Where a copy begins.
#[derive(Clone, Copy, Debug)]
struct Ends {
    source: *const u8,
    target: *mut u8,
}

// SAFETY: two addresses; whoever follows them answers for what lies there, in whatever thread.
unsafe impl Sync for Ends {}

impl Ends {
    /// # Safety
    /// Both go on for `len` bytes.
    unsafe fn at(self, len: usize) -> Self {
        // SAFETY: as the caller promised.
        unsafe { Self { source: self.source.add(len), target: self.target.add(len) } }
    }

    /// # Safety
    /// As for [`Copier::copy`].
    #[inline]
    unsafe fn copy_plainly(self, len: usize) {
        // SAFETY: as the caller promised.
        unsafe { ptr::copy_nonoverlapping(self.source, self.target, len) };
    }

    /// # Safety
    /// As for [`Copier::copy`].
    unsafe fn copy_streaming(self, len: usize) {
        // SAFETY: as the caller promised.
        unsafe { stream(self.source, self.target, len) };
        finish_streams();
    }

    /// Copies at least two times [`TRIAL`].
    ///
    /// # Safety
    /// As for [`Copier::copy`].
    unsafe fn copy_the_better_way(self, len: usize) {
        let begin = Instant::now();
        // SAFETY: the first bytes of what the caller promised.
        unsafe { self.copy_plainly(TRIAL) };
        let middle = Instant::now();
        // SAFETY: the next ones; and the rest.
        let rest = unsafe {
            self.at(TRIAL).copy_streaming(TRIAL);
            self.at(2 * TRIAL)
        };
        let (streaming, plain) = (middle.elapsed(), middle.saturating_duration_since(begin));
        let left = len - 2 * TRIAL;
        // SAFETY: what is left of what the caller promised.
        unsafe { if plain > streaming * MUCH_FASTER { rest.copy_streaming(left) } else { rest.copy_plainly(left) } }
    }

    /// # Safety
    /// As for [`Copier::copy`].
    unsafe fn copy_with(self, copier: Copier, len: usize) {
        copier.share_out(len, 1, |bytes| {
            // SAFETY: some of the bytes that the caller promised, which no other thread has.
            unsafe { self.at(bytes.start).copy_streaming(bytes.len()) }
        });
    }
}

/// Copies around the cache, where this processor can. [`finish_streams`] is to follow before anybody is told of it.
///
/// # Safety
/// As for [`Copier::copy`].
#[inline]
pub unsafe fn stream(source: *const u8, target: *mut u8, len: usize) {
    // SAFETY: as the caller promised.
    unsafe { stream_with(stream_lines, source, target, len) };
}

/// # Safety
/// As for [`Copier::copy`]; `lines` copies so many whole lines.
#[inline]
unsafe fn stream_with(lines: unsafe fn(*const u8, *mut u8, usize), source: *const u8, target: *mut u8, len: usize) {
    let head = target.align_offset(LINE).min(len);
    let whole = (len - head) / LINE;
    let tail = head + whole * LINE;
    // SAFETY: the three follow each other and are `len` bytes together.
    unsafe {
        ptr::copy_nonoverlapping(source, target, head);
        lines(source.add(head), target.add(head), whole);
        ptr::copy_nonoverlapping(source.add(tail), target.add(tail), len - tail);
    }
}

/// Orders what was streamed before whatever this thread stores later.
pub fn finish_streams() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    x86_64::finish();
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn stream_lines(source: *const u8, target: *mut u8, lines: usize) {
    // SAFETY: as the caller promised.
    unsafe { ptr::copy_nonoverlapping(source, target, lines * LINE) };
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
use x86_64::stream_lines;

/// Stores that go around the cache. The compiler knows of no such thing, only the processor does.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86_64 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128, _mm256_loadu_si256, _mm256_stream_si256,
    };

    use super::LINE;

    pub fn finish() {
        // SAFETY: every x86-64 has it.
        unsafe { _mm_sfence() };
    }

    /// # Safety
    /// `source` may be read and `target` written for so many lines; `target` is the beginning of one.
    pub unsafe fn stream_lines(source: *const u8, target: *mut u8, lines: usize) {
        // SAFETY: as the caller promised, and the processor has what is used.
        unsafe {
            match is_x86_feature_detected!("avx2") {
                true => by_32(source, target, lines),
                false => by_16(source, target, lines),
            }
        }
    }

    /// # Safety
    /// As for [`stream_lines`], and the processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub unsafe fn by_32(source: *const u8, target: *mut u8, lines: usize) {
        for at in (0..lines * LINE).step_by(LINE) {
            // SAFETY: inside, as the caller promised; the target is the beginning of a line.
            unsafe {
                let source = source.add(at).cast::<__m256i>();
                let target = target.add(at).cast::<__m256i>();
                let (first, second) = (_mm256_loadu_si256(source), _mm256_loadu_si256(source.add(1)));
                _mm256_stream_si256(target, first);
                _mm256_stream_si256(target.add(1), second);
            }
        }
    }

    /// # Safety
    /// As for [`stream_lines`].
    pub unsafe fn by_16(source: *const u8, target: *mut u8, lines: usize) {
        for at in (0..lines * LINE).step_by(LINE) {
            // SAFETY: inside, as the caller promised; the target is the beginning of a line.
            unsafe {
                let source = source.add(at).cast::<__m128i>();
                let target = target.add(at).cast::<__m128i>();
                let line = [0, 1, 2, 3].map(|quarter| _mm_loadu_si128(source.add(quarter)));
                for (quarter, bytes) in line.into_iter().enumerate() {
                    _mm_stream_si128(target.add(quarter), bytes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::time::Duration;

    use nix::sys::signal::Signal;

    use super::*;

    const GUARD: u8 = 0xEE;
    /// Guarded bytes on each side.
    const AROUND: usize = 64;

    /// A way to copy.
    type Way = (&'static str, unsafe fn(*const u8, *mut u8, usize));

    /// All ways, so that each is tried whatever would be chosen.
    fn ways() -> Vec<Way> {
        let mut ways: Vec<Way> = vec![
            ("as is best", |source, target, len| {
                // SAFETY: as the caller promised.
                unsafe { Copier::ALONE.copy(source, target, len) }
            }),
            ("streaming", |source, target, len| {
                // SAFETY: as the caller promised.
                unsafe { Ends { source, target }.copy_streaming(len) }
            }),
        ];
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        ways.push(("streaming by 16", |source, target, len| {
            // SAFETY: as the caller promised.
            unsafe { stream_with(x86_64::by_16, source, target, len) };
            finish_streams();
        }));
        ways
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    /// Copies from `skip` bytes into `source` to `offset` bytes into a guarded space, and looks at all of that.
    fn check(copy: impl Fn(*const u8, *mut u8, usize), source: &[u8], offset: usize, len: usize) -> bool {
        let mut space = vec![GUARD; AROUND + offset + len + AROUND];
        let begin = AROUND + offset;
        copy(source.as_ptr(), space[begin..].as_mut_ptr(), len);
        let is_guard = |bytes: &[u8]| bytes.iter().all(|byte| *byte == GUARD);
        space[begin..begin + len] == source[..len] && is_guard(&space[..begin]) && is_guard(&space[begin + len..])
    }

    #[test]
    fn every_length_to_every_place_in_a_line() {
        let source = pattern(1000);
        for (name, way) in ways() {
            for len in 0..=300 {
                for offset in 0..=LINE {
                    // As many places of the source, but not all pairs.
                    let source = &source[(offset * 7 + len) % LINE..];
                    // SAFETY: both are longer.
                    let copy = |from: *const u8, to: *mut u8, len| unsafe { way(from, to, len) };
                    assert!(check(copy, source, offset, len), "{name}: {len} bytes to {offset}");
                }
            }
        }
    }

    #[test]
    fn sizes_where_something_changes() {
        let bounds = [2 * TRIAL, TRIED_FROM, PART, STREAMED_FROM, SHARED_FROM, SHARED_FROM + PART];
        let source = pattern(SHARED_FROM + PART + 100);
        for len in bounds.into_iter().flat_map(|bound| [bound - 1, bound, bound + 1, bound + 77]) {
            for (name, way) in ways() {
                // SAFETY: both are longer.
                let copy = |from: *const u8, to: *mut u8, len| unsafe { way(from, to, len) };
                assert!(check(copy, &source, len % 67, len), "{name}: {len} bytes");
            }
            for threads in 1..=4 {
                let copier = Copier::new(threads).unwrap();
                // SAFETY: both are longer.
                let copy = |from: *const u8, to: *mut u8, len| unsafe { copier.copy(from, to, len) };
                assert!(check(copy, &source, threads * 5, len), "{threads} threads: {len} bytes");
            }
        }
    }

    #[test]
    fn both_ways_of_the_middle_sizes_end_well() {
        let source = pattern(TRIED_FROM + 5);
        for _ in 0..50 {
            // SAFETY: both are longer.
            let copy = |source, target, len| unsafe { Ends { source, target }.copy_the_better_way(len) };
            assert!(check(copy, &source, 3, TRIED_FROM + 5));
        }
        // SAFETY: both are longer.
        let copy = |source, target, len| unsafe { Ends { source, target }.copy_the_better_way(len) };
        assert!(check(copy, &source, 0, 2 * TRIAL), "with nothing left");
    }

    #[test]
    fn every_piece_is_worked_on_once() {
        for (count, size) in [(0, 1), (5, 0), (1, SHARED_FROM), (7, SHARED_FROM), (SHARED_FROM, 1), (9999, 4096)] {
            for threads in 0..=5 {
                let ranges = Mutex::new(BTreeMap::new());
                Copier::new(threads).unwrap().share_out(count, size, |range| {
                    assert!(ranges.lock().unwrap().insert(range.start, range.end).is_none(), "{range:?}");
                });
                let mut end = 0;
                for (begin, next) in ranges.into_inner().unwrap() {
                    assert_eq!(begin, end, "of {count} by {size}");
                    end = next;
                }
                assert_eq!(end, count);
            }
        }
    }

    #[test]
    fn what_is_small_is_left_to_the_caller() {
        let caller = thread::current().id();
        Copier::new(4).unwrap().share_out(SHARED_FROM - 1, 1, |range| {
            assert_eq!((range, thread::current().id()), (0..SHARED_FROM - 1, caller));
        });
    }

    #[test]
    fn threads_that_help_get_no_signals_and_the_caller_gets_those_it_got() {
        let before = SigSet::thread_get_mask().unwrap();
        let (caller, helper_mask) = (thread::current().id(), Mutex::new(None));
        let give_up = Instant::now() + Duration::from_secs(20);
        Copier::new(2).unwrap().share_out(4, SHARED_FROM, |_| {
            if thread::current().id() != caller {
                *helper_mask.lock().unwrap() = Some(SigSet::thread_get_mask().unwrap());
            }
            while helper_mask.lock().unwrap().is_none() && Instant::now() < give_up {
                thread::yield_now();
            }
        });
        let mask = helper_mask.into_inner().unwrap().unwrap();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGALRM] {
            assert!(mask.contains(signal), "{signal}");
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    #[test]
    fn too_many_threads_are_refused_by_number() {
        let error = Copier::new(MAX_THREADS + 1).unwrap_err().to_string();
        assert!(error.contains("257") && error.contains("256"), "{error}");
        assert_eq!(Copier::new(0).unwrap(), Copier::ALONE);
        assert_eq!(Copier::new(1).unwrap(), Copier::ALONE);
        assert_ne!(Copier::new(2).unwrap(), Copier::ALONE);
    }
}
