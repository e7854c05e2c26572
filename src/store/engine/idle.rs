//! Memory that lies free goes back to the system when nobody has needed any for a while.
//!
//! Free memory is kept warm for whoever comes next, which is of use while somebody does. What stays then is the pool.

use std::time::{Duration, Instant};

use crate::store::engine::Engine;
use crate::store::space::Pages;

/// For how long no object must have come or gone.
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// What is given back at once is bounded; the rest follows after this time.
const PACE: Duration = Duration::from_millis(1);

impl<P: Pages> Engine<P> {
    /// Gives a part of what lies free back when the time has come.
    pub(super) fn look_if_idle(&mut self, now: Instant) {
        if self.space.take_changed() {
            self.idle_at = now.checked_add(IDLE);
        } else if self.idle_at.is_some_and(|idle| now >= idle) {
            let is_more = self.space.give_back_idle();
            self.space.restock();
            self.idle_at = now.checked_add(PACE).filter(|_| is_more);
        }
    }
}
