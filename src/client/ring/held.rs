//! Which slots of a ring the callers of one handle have, and how many views of each are out.
//!
//! A caller names a slot by a token, its number and how often it was acquired: one that is used after the slot was given back names
//! nothing any more.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::shm::shared::lock::this_thread;
use crate::shm::shared::ring::Handle;

/// What a caller has a slot for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To fill it.
    Write,
    /// To read what is there.
    Read,
}

const TOKEN_MASK: u64 = (1 << Handle::TOKEN_BITS) - 1;
const READ: u64 = 1 << Handle::TOKEN_BITS;
const HELD: u64 = READ << 1;
const VIEW: u64 = HELD << 1;

/// All slots of a ring.
#[derive(Debug)]
pub struct Held(Box<[Entry]>);

/// One of them.
#[derive(Debug, Default)]
struct Entry {
    /// By which token callers have it and for what, and the number of views; 0 when they do not have it.
    word: AtomicU64,
    /// The thread that got it.
    thread: AtomicU32,
}

impl Held {
    /// Nobody has any of so many slots.
    pub fn new(slots: u64) -> Self {
        Self((0..slots).map(|_| Entry::default()).collect())
    }

    /// A caller has a slot from now on. Returns its token.
    pub fn add(&self, handle: Handle, purpose: Purpose) -> u64 {
        if let Some(entry) = self.0.get(handle.slot() as usize) {
            entry.thread.store(this_thread(), Ordering::Relaxed);
            entry.word.store(held(handle.token(), purpose), Ordering::Release);
        }
        handle.token()
    }

    /// Whether the calling thread got all slots, and nobody has given one back.
    pub fn all_are_of_this_thread(&self) -> bool {
        let here = this_thread();
        self.0
            .iter()
            .all(|entry| entry.word.load(Ordering::Acquire) != 0 && entry.thread.load(Ordering::Relaxed) == here)
    }

    /// What a token names.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the caller does not have that slot for this, or not any more.
    pub fn get(&self, token: u64, purpose: Purpose) -> Result<Handle> {
        self.word(token, purpose).map(|_| Handle::of_token(token))
    }

    /// The same for whatever purpose.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_any(&self, token: u64) -> Result<(Handle, Purpose)> {
        let of = |purpose| self.get(token, purpose).map(|handle| (handle, purpose));
        of(Purpose::Read).or_else(|_| of(Purpose::Write))
    }

    /// The caller has it no more.
    ///
    /// # Errors
    /// As for [`get`](Self::get); [`Error::Busy`] while there are views of it.
    pub fn take_back(&self, token: u64, purpose: Purpose) -> Result<Handle> {
        let word = self.word(token, purpose)?;
        match word.compare_exchange(held(token, purpose), 0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Handle::of_token(token)),
            Err(now) if now & (VIEW - 1) == held(token, purpose) => {
                let (slot, views) = (Handle::of_token(token).slot(), now / VIEW);
                Err(Error::Busy(format!("{views} views of slot {slot} are still there")))
            }
            Err(_) => Err(stale(token)),
        }
    }

    /// There is one more view of a slot.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn add_view(&self, token: u64, purpose: Purpose) -> Result<()> {
        let word = self.word(token, purpose)?;
        let more = |now: u64| (now & (VIEW - 1) == held(token, purpose)).then(|| now + VIEW);
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map(drop).map_err(|_| stale(token))
    }

    /// A view of a slot is gone. Nobody gave the slot back meanwhile.
    pub fn remove_view(&self, slot: u32) {
        self.0.get(slot as usize).into_iter().for_each(|entry| _ = entry.word.fetch_sub(VIEW, Ordering::AcqRel));
    }

    /// All slots without views that callers have; they have them no more.
    pub fn take_all(&self) -> Vec<(Handle, Purpose)> {
        self.0.iter().map(|entry| &entry.word).filter_map(Self::take_one).collect()
    }

    fn take_one(word: &AtomicU64) -> Option<(Handle, Purpose)> {
        let now = word.load(Ordering::Acquire);
        let is_idle = now & HELD != 0 && now < VIEW;
        let purpose = if now & READ != 0 { Purpose::Read } else { Purpose::Write };
        let taken = is_idle && word.compare_exchange(now, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        taken.then(|| (Handle::of_token(now & TOKEN_MASK), purpose))
    }

    fn word(&self, token: u64, purpose: Purpose) -> Result<&AtomicU64> {
        let entry = self.0.get(Handle::of_token(token & TOKEN_MASK).slot() as usize).filter(|_| token <= TOKEN_MASK);
        entry
            .map(|entry| &entry.word)
            .filter(|word| word.load(Ordering::Acquire) & (VIEW - 1) == held(token, purpose))
            .ok_or_else(|| stale(token))
    }
}

fn held(token: u64, purpose: Purpose) -> u64 {
    token | HELD | if purpose == Purpose::Read { READ } else { 0 }
}

fn stale(token: u64) -> Error {
    Error::InvalidArgument(format!("slot token {token:#x} names no slot that the caller has, or not for this"))
}
