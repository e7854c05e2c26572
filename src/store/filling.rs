//! Memory for whole files at once: huge pages where they are to be had at once, and cleared pages of the usual size everywhere else.
//!
//! A file that has one page in each 2 MiB is gathered in huge pages by one call (see `collapse`), and the kernel clears the rest of
//! each: where such pages lie free that takes a fifth of the time that pages take one by one. Where it first has to move other memory it
//! takes three times as long, so then it is left for later.
//!
//! Pages of the usual size are written here, with zeros. Pages that are only allocated are cleared when somebody touches them first,
//! each with a fault of its own; of those that are clear the kernel maps sixteen at once.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::error::{Error, Result};
use crate::shm::mapping::{HUGE_PAGE, Mapping};
use crate::shm::one_writer::OneWriter;
use crate::transport::fork_guard::without_fork;

/// How much of the processor's time a huge page may take to get when it lies free; three times what it takes.
const PATIENCE: Duration = Duration::from_micros(400);
/// How long nobody tries again when it took more.
const PAUSE: Duration = Duration::from_secs(1);

/// Puts memory behind files, and remembers whether huge pages are to be had at once.
#[derive(Debug, Default)]
pub(super) struct Filler {
    paused_until: Option<Instant>,
}

impl Filler {
    /// Puts memory behind a range that has none. Returns whether all of it lies in huge pages now.
    ///
    /// # Errors
    /// As for [`OneWriter::allocate`]; what was done by then stays.
    pub(super) fn fill(&mut self, file: &OneWriter, range: Range<u64>) -> Result<bool> {
        let whole = whole_pieces(&range);
        let gathered = whole.start..self.gather_what_is_quick(file, whole);
        // They are there; should somebody have given them back meanwhile, now they are.
        file.allocate(gathered.clone())?;
        file.clear(range.start..gathered.start)?;
        file.clear(gathered.end..range.end)?;
        Ok(gathered == range)
    }

    /// Puts huge pages behind as many of these pieces as is done quickly. Returns where that ends.
    fn gather_what_is_quick(&mut self, file: &OneWriter, pieces: Range<u64>) -> u64 {
        for piece in pieces.clone().step_by(HUGE_PAGE as usize) {
            if self.paused_until.is_some_and(|end| Instant::now() < end) {
                return piece;
            }
            let begun = time_of_thread();
            let outcome = put_huge_page(file, piece);
            if outcome.is_err() || time_of_thread().saturating_sub(begun) > PATIENCE {
                self.paused_until = Instant::now().checked_add(PAUSE);
            }
            if outcome.is_err() {
                return piece;
            }
        }
        pieces.end
    }
}

/// What this thread has had of the processor so far. It does not grow while others have it.
fn time_of_thread() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// The whole pieces of 2 MiB in a range.
pub(super) fn whole_pieces(range: &Range<u64>) -> Range<u64> {
    let start = range.start.checked_next_multiple_of(HUGE_PAGE).filter(|start| *start <= range.end);
    let start = start.unwrap_or(range.end);
    start..(range.end - range.end % HUGE_PAGE).max(start)
}

/// Has the kernel put a huge page behind a piece, where nothing is yet.
fn put_huge_page(file: &OneWriter, piece: u64) -> Result<()> {
    file.allocate(piece..piece + 1)?;
    collapse(file, piece..piece + HUGE_PAGE)
}

/// Gathers what lies in whole pieces of a file in huge pages. Children that fork off meanwhile do not get the mapping, as they would
/// keep the memory of a store that has ended.
pub(super) fn collapse(file: impl AsFd, pieces: Range<u64>) -> Result<()> {
    let mapping = without_fork(|| {
        let mapping = Mapping::part(file, pieces.start, pieces.end - pieces.start)?;
        mapping.leave_out_of_children()?;
        Ok(mapping)
    })?;
    mapping.collapse().map_err(|error| Error::io("madvise(MADV_COLLAPSE)", error))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::fstat;

    use super::*;

    #[test]
    fn all_of_a_range_has_memory_and_nothing_beside_it() {
        for range in
            [0..8 * HUGE_PAGE, 4096..HUGE_PAGE, HUGE_PAGE - 4096..3 * HUGE_PAGE + 4096, 5 * HUGE_PAGE..6 * HUGE_PAGE]
        {
            let file = OneWriter::create_sparse("filled", 8 * HUGE_PAGE).unwrap();
            Filler::default().fill(&file, range.clone()).unwrap();
            assert_eq!(fstat(file.as_fd()).unwrap().st_blocks as u64 * 512, range.end - range.start, "{range:?}");
        }
    }

    #[test]
    fn memory_that_does_not_exist_is_an_error() {
        let file = OneWriter::create_sparse("filled", 2 * HUGE_PAGE).unwrap();
        assert!(Filler::default().fill(&file, 0..3 * HUGE_PAGE).is_err());
        assert!(Filler::default().fill(&file, 3 * HUGE_PAGE..4 * HUGE_PAGE).is_err());
    }

    #[test]
    fn without_huge_pages_it_is_as_full_and_also_where_nothing_can_be_written_any_more() {
        let paused_until = Instant::now().checked_add(Duration::from_secs(3600));
        for is_sealed in [false, true] {
            let file = OneWriter::create_sparse("filled", 2 * HUGE_PAGE).unwrap();
            if is_sealed {
                file.end_chances(&[]).unwrap();
            }
            assert!(!Filler { paused_until }.fill(&file, 0..2 * HUGE_PAGE).unwrap());
            assert_eq!(fstat(file.as_fd()).unwrap().st_blocks as u64 * 512, 2 * HUGE_PAGE);
        }
    }

    #[test]
    fn pieces_are_whole() {
        const P: u64 = HUGE_PAGE;
        let cases = [
            (0..P, 0..P),
            (1..2 * P, P..2 * P),
            (0..P - 1, 0..0),
            (5..P - 5, P - 5..P - 5),
            (5..2 * P - 5, P..P),
            (P..3 * P + 7, P..3 * P),
        ];
        for (range, whole) in cases {
            assert_eq!(whole_pieces(&range), whole);
        }
    }
}
