//! Memory that several peers write: an object that was not sealed yet and is shared by those who joined it.
//!
//! Beside the object's own segment each has a *control file*: words by which its participants agree, and from which they learn which of
//! them are gone. [`files`] makes and maps it, [`control`] is what all participants have in it,
//! [`lock`] is for those of a tensor, and [`ring`] is slots of memory that go round.
//!
//! The participants trust each other with these words and with nothing else. The store never reads or writes one itself: it has the
//! kernel add to it, which is an error return where the memory is gone, and no signal. So nothing that anybody writes there can harm it.

pub mod control;
pub mod files;
pub mod lock;
pub mod ring;

/// Words of a control file, 8 bytes each.
pub const CONTROL_WORDS: usize = FIRST_LIFE + MOST_PARTICIPANTS as usize;
/// Where the words stand by which participants wait, each in a line of its own.
pub const ALARMS: [usize; 3] = [0, 8, 16];
/// What the store adds to an alarm: bit 0 belongs to those who sleep.
pub const ALARM_STEP: u32 = 2;
/// Where the lives of participants stand, one word for each. The store adds 1 when one joins and when one is gone: odd is alive.
pub const FIRST_LIFE: usize = if cfg!(loom) { 40 } else { 512 };
/// Participants that there can be at a time.
pub const MOST_PARTICIPANTS: u32 = if cfg!(loom) { 4 } else { 512 };
