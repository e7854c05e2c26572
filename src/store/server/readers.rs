//! Peers that get objects without asking: the files that they are given, and their kicks.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::protocol::{Reply, Shared};
use crate::shm::mapping::HUGE_PAGE;
use crate::shm::one_writer::OneWriter;
use crate::shm::pins::files::IndexFile;
use crate::shm::pins::store::SharedIndex;
use crate::store::engine::Asker;
use crate::store::peers::PeerId;
use crate::store::segments::Segments;
use crate::store::server::{KICK, Server};
use crate::store::subscription::socket_pair;
use crate::transport::fork_guard::Guarded;
use crate::transport::knock::{knock, listen};
use crate::transport::stream::SharedDescriptor;

/// The index, and how peers get it.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) file: IndexFile,
    descriptor: Arc<Guarded<OwnedFd>>,
}

/// How far a peer is with it. Through its bell each side wakes the other: the store, when the peer lets go of something or submits; the
/// peer, when it has segments to let go of.
#[derive(Debug)]
pub(super) enum Reader {
    /// It was given its files, and may not have mapped them.
    Invited { pins: Guarded<OneWriter>, bell: Guarded<OwnedFd> },
    /// It reads. The file of large pins is kept, as what is to be gathered must be somebody's.
    Admitted { bell: Guarded<OwnedFd>, _pins: Option<Arc<Guarded<OwnedFd>>> },
}

impl Offer {
    /// An index that can name so many objects.
    pub(super) fn new(objects: u32) -> Result<(Self, SharedIndex)> {
        let (descriptor, (file, index)) = Guarded::open_with(|| {
            let (file, index, descriptor) = IndexFile::create(objects)?;
            Ok((descriptor, (file, index)))
        })?;
        Ok((Self { file, descriptor: Arc::new(descriptor) }, index))
    }

    /// Has the index gathered in huge pages.
    pub(super) fn gather_by(&self, segments: &Segments) {
        segments.gather_file(&(self.descriptor.clone() as SharedDescriptor), self.file.bytes());
    }
}

impl Server {
    /// A native peer wants to read the index, or has mapped what it was given for that.
    pub(super) fn serve_index(&mut self, asker: Asker, mapped: bool) {
        let files = match mapped {
            false => self.invite(asker.peer).map(Some),
            true => self.admit(asker.peer).map(|()| None),
        };
        let outcome = files.as_ref().map(Option::is_some).map_err(ToString::to_string);
        self.send_with(asker, Reply::Index { outcome }, files.into_iter().flatten().flatten());
    }

    fn invite(&mut self, peer: PeerId) -> Result<[SharedDescriptor; 3]> {
        let connection = self.connections.get_mut(&peer).filter(|connection| connection.reader.is_none());
        let Some(connection) = connection else {
            return Err(Error::Protocol("it has asked for the index before".into()));
        };
        let pins = Guarded::open(|| self.index.file.new_pins())?;
        let for_peer = Guarded::open(|| {
            pins.as_fd().try_clone_to_owned().map_err(|error| Error::io("dup of a peer's pins", error))
        })?;
        let (bell, theirs) = socket_pair()?;
        crash::at(Point::PinsMade);
        connection.reader = Some(Reader::Invited { pins, bell });
        Ok([self.index.descriptor.clone(), Arc::new(for_peer), Arc::new(theirs)])
    }

    fn admit(&mut self, peer: PeerId) -> Result<()> {
        let reader = self.connections.get_mut(&peer).and_then(|connection| connection.reader.take());
        let Some(Reader::Invited { pins, bell }) = reader else {
            return Err(Error::Protocol("it was not given the index".into()));
        };
        let len = pins.len();
        let file = Arc::new(Guarded::open(|| pins.written_by_peer())?);
        let pins = self.index.file.pins_of_peer(&*file)?;
        crash::at(Point::PinsMapped);
        let event = EpollEvent::new(EpollFlags::EPOLLIN, peer | KICK);
        self.epoll.0.add(&*bell, event).map_err(Error::from_errno("epoll_ctl"))?;
        self.engine.add_reader(peer, &pins)?;
        self.engine.pages().gather_file(&(file.clone() as SharedDescriptor), len);
        let _pins = (len >= HUGE_PAGE).then_some(file);
        if let Some(connection) = self.connections.get_mut(&peer) {
            connection.reader = Some(Reader::Admitted { bell, _pins });
        }
        Ok(())
    }

    /// What a peer that is gone woke the store with does so no more, although somebody may still have it.
    pub(super) fn forget_bell(&self, reader: Option<&Reader>) {
        if let Some(Reader::Admitted { bell, .. }) = reader {
            // Not there when the peer has closed its end before.
            let _ = self.epoll.0.delete(&**bell);
        }
    }

    /// A reader has let go of something that the store waits for, or has submitted something.
    pub(super) fn kicked(&mut self, peer: PeerId) {
        if let Some(bell) = self.bell_of(peer)
            && listen(bell).is_none()
            && let Err(errno) = self.epoll.0.delete(&**bell)
        {
            log::error!("epoll_ctl for a peer's bell: {errno}");
        }
        self.engine.look_at_readers();
    }

    /// Tells a peer that it has segments to let go of.
    pub(super) fn ring(&self, peer: PeerId) {
        self.bell_of(peer).into_iter().for_each(knock);
    }

    fn bell_of(&self, peer: PeerId) -> Option<&Guarded<OwnedFd>> {
        match self.connections.get(&peer)?.reader.as_ref()? {
            Reader::Admitted { bell, .. } => Some(bell),
            Reader::Invited { .. } => None,
        }
    }

    /// Sends the descriptor of a segment.
    pub(super) fn lend(&mut self, asker: Asker, segment: i32, writable: bool) {
        let lent = self.engine.pages().descriptor(segment, writable);
        crash::at(Point::SegmentLent);
        let outcome = lent.as_ref().map(|(len, _)| *len).map_err(ToString::to_string);
        self.send_with(asker, Reply::Segment { outcome }, lent.ok().map(|(_, descriptor)| descriptor));
    }

    /// Answers who takes part in a shared object from now on, with the descriptor of its control file.
    pub(super) fn share(&mut self, asker: Asker, mut shared: Shared) {
        let control = self.engine.pages().control(shared.location.segment);
        shared.has_control = control.is_some();
        crash::at(Point::ControlLent);
        self.send_with(asker, Reply::Share { outcome: Ok(shared) }, control);
    }
}
