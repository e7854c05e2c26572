//! A ring: requests of one peer in shared memory, and what became of them, where nobody has to be woken while both are awake.
//!
//! There are two files for each peer. One the peer writes: records, how many there are, and the bytes of small objects. One the store
//! writes: for each record whether it is done and how, and bells. Each side reads the other's file and believes nothing: the store
//! copies a record before it looks at it, the peer takes what it is told as it takes an answer from the socket.
//!
//! - [`record`]: what a record and its outcome say.
//! - [`submitter`]: the peer's side.
//! - [`collector`]: the store's side.
//! - [`files`]: both as files.
//! - [`doze`]: how a thread sleeps until a word changes, and is woken only when it does sleep.
//! - [`grants`]: room that the peer has before it asks for it.
//!
//! Why no record and no wake is lost is in `docs/native-path.md`.
#![forbid(unsafe_code)]

pub mod collector;
pub mod doze;
pub mod files;
pub mod grants;
pub mod record;
pub mod submitter;
#[cfg(test)]
mod tests;

/// Records that can be under way. A record's place is its number modulo this.
pub const SLOTS: usize = if cfg!(loom) { 2 } else { 512 };
/// Threads of a peer that can wait for an object.
pub const BELLS: usize = if cfg!(loom) { 1 } else { 64 };
/// Bells end here. Those from [`BELLS`] on have no thread: the store lists them as rung and knocks at a door, a descriptor to poll.
pub const ALL_BELLS: usize = 1 << 16;
/// Grants that a peer can have.
pub const GRANTS: usize = if cfg!(loom) { 1 } else { 8 };
/// What is granted at once at most, in bytes: of larger objects a round trip is no part of the cost.
pub const MOST_GRANTED: u64 = 8 << 20;
/// Bytes of small objects that can be under way.
pub const STAGING_BYTES: u64 = 256 << 10;
/// Data and metadata of the largest object whose bytes go this way.
pub const MOST_STAGED: u64 = 64 << 10;

/// Words of a line, which is what processors pass to one another.
const LINE: usize = 8;
/// Words of a record: two lines. The last word is not 0 while somebody sleeps until the record is done.
const RECORD_WORDS: usize = 2 * LINE;
const AT_ASLEEP: usize = RECORD_WORDS - 1;
/// Words of an outcome. The first is the record's number plus one when it is done.
const OUTCOME_WORDS: usize = LINE;

/// In the peer's file: how many records there are.
const AT_TAIL: usize = 0;
/// How many records have to be served before whoever sleeps until then is woken; 0 when nobody does.
const AT_AWAITED: usize = 1;
/// One word for each bell, not 0 while its thread sleeps.
const AT_SLEEPERS: usize = LINE;
/// One word for each grant: its number while it is in use.
const AT_IN_USE: usize = AT_SLEEPERS + BELLS.next_multiple_of(LINE);
const AT_RECORDS: usize = AT_IN_USE + GRANTS.next_multiple_of(LINE);
/// Words before the bytes of small objects.
pub(super) const PEER_WORDS: usize = AT_RECORDS + SLOTS * RECORD_WORDS;

/// In the store's file: outcomes, and behind them a line for each bell that a thread can sleep by.
const AT_BELLS: usize = SLOTS * OUTCOME_WORDS;
/// How many bells without a thread were rung, and behind it the last of them.
const AT_RUNG: usize = AT_BELLS + BELLS * LINE;
const AT_LAST_RUNG: usize = AT_RUNG + LINE;
/// As many are listed.
const LAST_RUNG: usize = if cfg!(loom) { 2 } else { 1024 };
/// One word for each grant: its number while it stands.
const AT_GRANTED: usize = AT_LAST_RUNG + LAST_RUNG;
/// Behind them, on a line of its own: so many records were served.
const AT_SERVED: usize = AT_GRANTED + GRANTS.next_multiple_of(LINE);
pub(super) const STORE_WORDS: usize = AT_SERVED + LINE;
