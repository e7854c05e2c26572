//! What stands for the kernel's futex: threads of a model that sleep do nothing until they are woken. Where all of them sleep loom
//! says so, and the model does not hold.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use nix::errno::Errno;

use super::{AtomicU64, Ordering};

/// Who sleeps on which word, in the order in which they went to sleep.
#[derive(Default)]
struct Sleepers {
    last: u64,
    asleep: Vec<(usize, u64)>,
}

struct Futex {
    sleepers: Mutex<Sleepers>,
    woken: Condvar,
}

thread_local! {
    /// loom runs all threads of a model in the thread of its test.
    static FUTEX: RefCell<Option<Arc<Futex>>> = const { RefCell::new(None) };
}

/// To be called where a model begins.
pub fn reset() {
    let new = Futex { sleepers: Mutex::new(Sleepers::default()), woken: Condvar::new() };
    FUTEX.set(Some(Arc::new(new)));
}

fn the_futex() -> Arc<Futex> {
    FUTEX.with_borrow(|futex| futex.clone()).unwrap()
}

fn address(word: &AtomicU64) -> usize {
    std::ptr::from_ref(word).addr()
}

/// Sleeps while the word is that. Never for a while only: so nothing depends on that.
pub fn wait(word: &AtomicU64, since: u32, _: Duration) -> bool {
    let futex = the_futex();
    let mut sleepers = futex.sleepers.lock().unwrap();
    if word.load(Ordering::SeqCst) as u32 != since {
        return false;
    }
    sleepers.last += 1;
    let me = (address(word), sleepers.last);
    sleepers.asleep.push(me);
    while sleepers.asleep.contains(&me) {
        sleepers = futex.woken.wait(sleepers).unwrap();
    }
    false
}

/// Adds to the word and wakes all who sleep on it.
pub fn add_and_wake_all(word: &AtomicU64, number: u32) -> Result<(), Errno> {
    word.fetch_add(u64::from(number), Ordering::SeqCst);
    wake(word, i32::MAX);
    Ok(())
}

/// Wakes those who have slept longest. Returns how many.
pub fn wake(word: &AtomicU64, most: i32) -> i64 {
    let futex = the_futex();
    let mut sleepers = futex.sleepers.lock().unwrap();
    let before = sleepers.asleep.len();
    let mut left = most;
    sleepers.asleep.retain(|(its_word, _)| {
        let is_woken = *its_word == address(word) && left > 0;
        left -= i32::from(is_woken);
        !is_woken
    });
    futex.woken.notify_all();
    (before - sleepers.asleep.len()) as i64
}
