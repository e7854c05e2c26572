//! Room in this client's own segments that it may fill before it asks for anything: granted by the store with the answer to what was put before.
//!
//! The store takes such room back when it needs memory and nobody uses it; that is seen when somebody is about to.
#![forbid(unsafe_code)]

use std::sync::Mutex;

use crate::client::lock;
use crate::shm::ring::grants::Grantee;
use crate::shm::ring::record::Outcome;
use crate::shm::ring::{GRANTS, MOST_GRANTED};

/// Objects of about one size are to fit into the same room.
const STEP: u64 = 4096;

/// Room that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// What records call it.
    pub number: u64,
    /// Key of its segment.
    pub segment: i32,
    /// Where it begins there.
    pub offset: u64,
    len: u64,
}

/// All that this client was granted and does not use.
#[derive(Debug)]
pub(super) struct Rooms {
    grantee: Grantee,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Room>,
    /// Bytes that are asked for: follows the sizes of what is put, up at once and down slowly.
    wanted: u64,
}

impl Rooms {
    /// None yet.
    pub fn new(grantee: Grantee) -> Self {
        Self { grantee, state: Mutex::default() }
    }

    /// Begins to use room for so many bytes, the smallest that there is.
    pub fn take(&self, size: u64) -> Option<Room> {
        let mut state = lock(&self.state);
        loop {
            let fitting = state.idle.iter().enumerate().filter(|(_, room)| room.len >= size);
            let (at, _) = fitting.min_by_key(|(_, room)| room.len)?;
            let room = state.idle.swap_remove(at);
            // What was taken back is forgotten.
            if self.grantee.begin(room.number) {
                return Some(room);
            }
        }
    }

    /// Room that was not used after all.
    pub fn put_back(&self, room: Room) {
        self.grantee.end(room.number);
        lock(&self.state).idle.push(room);
    }

    /// How much to ask for with an object of so many bytes; 0 for nothing.
    pub fn wanted_after(&self, size: u64) -> u64 {
        let mut state = lock(&self.state);
        if size <= MOST_GRANTED {
            state.wanted = size.max(state.wanted - state.wanted / 8).next_multiple_of(STEP);
        }
        if size > MOST_GRANTED || state.idle.len() >= GRANTS { 0 } else { state.wanted }
    }

    /// Takes up what was granted with the outcome of a seal.
    pub fn keep(&self, outcome: &Outcome) {
        let location = outcome.location;
        let room = Room {
            number: location.metadata_size,
            segment: location.segment,
            offset: location.offset,
            len: location.data_size,
        };
        if outcome.refusal == 0 && room.number != 0 {
            lock(&self.state).idle.push(room);
        }
    }
}
