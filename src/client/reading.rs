//! Getting objects without asking the store: by its index, which this process reads, and pins, which the store looks at.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::unistd::write;

use crate::client::buffer::{Buffer, Hold};
use crate::client::connection::Patience;
use crate::client::{Client, unexpected};
use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::protocol::{Reply, Request};
use crate::shm::pins::files::open_peer;
use crate::shm::pins::peer::Lookup;

/// What became of an attempt to get an object without asking.
pub(super) enum Read {
    /// It is here.
    Buffer(Buffer),
    /// There was a moment when no such object was sealed.
    Missing,
    /// The store has to be asked.
    Unknown,
}

impl Client {
    /// Gets what it takes to read without asking. A store that refuses is asked for every object.
    pub(super) fn begin_reading(&self) -> Result<()> {
        let files = Request::Index { mapped: false };
        // Answered at once, or the store is stopped.
        let patience = Patience::of_get(0);
        let (reply, descriptors) = self.connection.call_with_descriptors(&files, patience)?;
        let Ok([index, pins, kick, retire]) = <[OwnedFd; 4]>::try_from(descriptors) else { return refused(reply) };
        // Fails only when the store has been kicked 2^64 times and has not looked.
        let kick = move || {
            let _ = write(&kick, &1_u64.to_le_bytes());
        };
        let reader = open_peer(&index, &pins, kick)?;
        self.connection.set_retire_bell(retire);
        match self.connection.call(&Request::Index { mapped: true }, patience)? {
            Reply::Index { outcome: Ok(false) } => self.connection.set_reader(reader),
            other => return refused(other),
        }
        Ok(())
    }

    /// Gets an object if it is sealed and in the index. A segment that is not mapped yet is asked for.
    pub(super) fn read(&self, id: ObjectId, private: bool) -> Result<Read> {
        let Some(reader) = self.connection.reader() else { return Ok(Read::Unknown) };
        let pin = match reader.get(&id) {
            Lookup::Found(pin) if !pin.is_doomed() => pin,
            Lookup::Found(pin) => {
                reader.release(pin);
                return Ok(Read::Unknown);
            }
            Lookup::Missing => return Ok(Read::Missing),
            Lookup::AskStore => return Ok(Read::Unknown),
        };
        let location = pin.location();
        let hold = Hold::pinned(id, self.connection.clone(), pin);
        Buffer::new(Arc::new(hold), location, private).map(Read::Buffer)
    }

    /// Whether a sealed object of this id is in the store, if that can be seen.
    pub(super) fn sees(&self, id: ObjectId) -> Result<Option<bool>> {
        if !self.is_usable() {
            return Err(Error::Forked);
        }
        let Some(reader) = self.connection.reader() else { return Ok(None) };
        Ok(match reader.get(&id) {
            Lookup::Found(pin) => {
                let is_doomed = pin.is_doomed();
                reader.release(pin);
                // Whether a deleted object is gone depends on others, so the store is asked.
                (!is_doomed).then_some(true)
            }
            Lookup::Missing => Some(false),
            Lookup::AskStore => None,
        })
    }
}

fn refused(reply: Reply) -> Result<()> {
    match reply {
        Reply::Index { outcome: Err(reason) } => {
            log::info!("the store is asked for every object: {reason}");
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}
