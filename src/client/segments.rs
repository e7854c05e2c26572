//! Segments of the store: asked for when an object lies in one that is not mapped yet, and let go of when the store says that
//! nothing lies there any more.
//!
//! Memory of such a segment is free when the last process has unmapped it, and a process that does nothing must not keep it. So
//! a thread of ours sleeps until the store rings; it begins and ends with the connection, and has all signals blocked. A forked
//! child has no such thread: what it inherited it keeps.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};

use crate::client::connection::{Connection, Patience};
use crate::client::mappings::Access;
use crate::client::{lock, unexpected};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::protocol::{Reply, Request};
use crate::shm::mapping::Mapping;
use crate::transport::fork_guard::without_fork;
use crate::transport::knock::listen;
use crate::transport::threads::spawn_without_signals;

/// The thread that lets go of segments, and what the store rings for that.
#[derive(Debug, Default)]
pub struct Retiring {
    listener: Mutex<Option<(JoinHandle<()>, Arc<OwnedFd>)>>,
}

impl Connection {
    /// The whole segment, mapped so. Who writes it can read it too.
    ///
    /// # Errors
    /// What mapping it says, or [`Error::Protocol`] when the store does not give it; for reading, as for a get that does not wait.
    pub fn segment(&self, key: i32, access: Access) -> Result<Arc<Mapping>> {
        if let Some(mapping) = self.mappings().get(key, access) {
            return Ok(mapping);
        }
        let mapped = self.map(key, access);
        // Where it is not given, another thread may have been first, and have sealed something there: then nobody else may.
        match (self.mappings().get(key, access), mapped) {
            (Some(mapping), _) => Ok(mapping),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::Protocol(format!("segment {key} was taken back while an object was there"))),
        }
    }

    fn map(&self, key: i32, access: Access) -> Result<()> {
        let (descriptor, len) = self.pull(key, access)?;
        crash::at(Point::SegmentGiven);
        if access == Access::Write {
            let mapping = Mapping::read_write(&descriptor, len)?;
            mapping.enter_what_is_clear(&descriptor);
            self.mappings().keep(key, Access::Write, mapping);
        }
        self.mappings().keep(key, Access::Read, Mapping::read_only(&descriptor, len)?);
        crash::at(Point::SegmentMapped);
        Ok(())
    }

    /// A segment that only its producer has, and for a while: mapped for writing and nothing else, so that nobody can write when this
    /// mapping is gone. A forked child does not get it.
    ///
    /// # Errors
    /// As for [`Connection::segment`].
    pub(super) fn segment_for_one(&self, key: i32) -> Result<Mapping> {
        let (descriptor, len) = self.pull(key, Access::Write)?;
        let mapping = without_fork(|| {
            let mapping = Mapping::read_write(&descriptor, len)?;
            mapping.leave_out_of_children().map(|()| mapping)
        })?;
        mapping.enter_what_is_clear(&descriptor);
        Ok(mapping)
    }

    /// A segment that several write, who take part in the object there. A forked child gets it, too.
    ///
    /// # Errors
    /// As for [`Connection::segment`].
    pub(super) fn segment_of_several(&self, key: i32) -> Result<Mapping> {
        let (descriptor, len) = self.pull(key, Access::Write)?;
        let mapping = Mapping::read_write(&descriptor, len)?;
        mapping.enter_what_is_clear(&descriptor);
        Ok(mapping)
    }

    /// A copy-on-write mapping of `len` bytes from `offset` of a segment.
    ///
    /// # Errors
    /// As for [`Connection::segment`].
    pub fn private(&self, key: i32, offset: u64, len: u64) -> Result<Mapping> {
        let (descriptor, segment_len) = self.pull(key, Access::Read)?;
        if offset.checked_add(len).is_none_or(|end| end > segment_len) {
            let text = format!("{len} bytes at {offset} lie outside a segment of {segment_len}");
            return Err(Error::Protocol(text));
        }
        Mapping::private(&descriptor, offset, len)
    }

    fn pull(&self, segment: i32, access: Access) -> Result<(OwnedFd, u64)> {
        let pulled = match self.ask_for_segment(segment, access)? {
            Err(_) => {
                // It may want others back first.
                self.return_retired()?;
                self.ask_for_segment(segment, access)?
            }
            pulled => pulled,
        };
        pulled.map_err(|why| Error::Protocol(format!("the store does not give segment {segment}: {why}")))
    }

    /// Descriptor and length, or why the store does not give it.
    fn ask_for_segment(&self, segment: i32, access: Access) -> Result<Result<(OwnedFd, u64), String>> {
        let request = Request::Segment { segment, writable: access == Access::Write };
        let patience = if access == Access::Write { Patience::Unlimited } else { Patience::of_get(0) };
        let (reply, descriptors) = self.call_with_descriptors(&request, patience)?;
        match (reply, descriptors.into_iter().next()) {
            (Reply::Segment { outcome: Ok(len) }, Some(descriptor)) => Ok(Ok((descriptor, len))),
            (Reply::Segment { outcome: Err(why) }, _) => Ok(Err(why)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Lets go of all segments that the store wants back.
    fn return_retired(&self) -> Result<()> {
        let mut returned = Vec::new();
        loop {
            match self.call(&Request::Retired { returned }, Patience::Unlimited)? {
                Reply::Retired { segments } if segments.is_empty() => return Ok(()),
                Reply::Retired { segments } => {
                    crash::at(Point::RetiredTold);
                    segments.iter().for_each(|segment| self.mappings().forget(*segment));
                    crash::at(Point::RetiredUnmapped);
                    returned = segments;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// From now on the store can ask for segments back: by this descriptor, which a thread listens to.
    pub(super) fn listen(self: &Arc<Self>, bell: Arc<OwnedFd>) {
        let connection = Arc::downgrade(self);
        let theirs = bell.clone();
        match spawn_without_signals("plasma-unmap", move || answer(&connection, &theirs)) {
            Ok(thread) => *lock(&self.retiring().listener) = Some((thread, bell)),
            Err(error) => log::warn!("segments stay mapped that the store does not need any more: {error}"),
        }
    }
}

/// Lets go of segments whenever the bell rings, until the connection is gone.
fn answer(connection: &Weak<Connection>, bell: &OwnedFd) {
    loop {
        // An error would come again and again; the next look at the connection tells whether to go on.
        let _ = poll(&mut [PollFd::new(bell.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        listen(bell);
        let returned = connection.upgrade().map(|connection| connection.return_retired());
        if !matches!(returned, Some(Ok(()))) {
            return;
        }
    }
}

impl Retiring {
    /// Ends the thread. The connection is gone by now, so nothing else does. Not for a forked child, where there is none.
    pub fn end(&self) {
        let Some((thread, bell)) = lock(&self.listener).take() else { return };
        // Fails only where it is at its end already.
        let _ = shutdown(bell.as_raw_fd(), Shutdown::Both);
        // The thread itself may be the last one to have had the connection.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            log::error!("the thread that unmaps segments has panicked");
        }
    }
}
