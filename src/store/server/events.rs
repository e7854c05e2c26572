//! The sockets of subscribers: how they come to be, what is written to them, how they end.
//!
//! An old client sends the socket that it wants to be written to. A native one gets a socket with the answer, so that nothing has
//! to be taken from it.

use std::cell::LazyCell;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::slice;
use std::sync::Arc;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::error::{Error, Result};
use crate::protocol::notification::{self, Event};
use crate::protocol::{Dialect, Reply};
use crate::store::engine::{Asker, SubscriptionId};
use crate::store::peers::PeerId;
use crate::store::server::{SUBSCRIPTION, Server};
use crate::store::subscription::{Subscription, socket_pair, subscriber_socket};
use crate::transport::fd_passing::receive;
use crate::transport::fork_guard::Guarded;
use crate::transport::stream::SharedDescriptor;

impl Server {
    /// Begins a subscription: that of an old client waits for its socket, a native one is answered with one.
    pub(super) fn subscribe(&mut self, asker: Asker, id: SubscriptionId) {
        let Some(connection) = self.connections.get_mut(&asker.peer) else { return };
        let is_native = connection.dialect == Dialect::Native;
        self.subscriptions.insert(id, Subscription::new(asker.peer, is_native));
        if is_native {
            self.answer_subscriber(asker, id);
        } else {
            connection.awaited_socket = Some(id);
        }
    }

    fn answer_subscriber(&mut self, asker: Asker, id: SubscriptionId) {
        let begun = socket_pair().and_then(|(ours, theirs)| self.begin_events(id, ours).map(|()| theirs));
        let refusal = |error| format!("the store has no socket for one more subscription: {error}");
        let (outcome, theirs) = match begun {
            Ok(theirs) => (Ok(()), Some(Arc::new(theirs) as SharedDescriptor)),
            Err(error) => (Err(refusal(error)), None),
        };
        if let Err(reason) = &outcome {
            self.end_events(id, reason);
        }
        self.send_with(asker, Reply::NativeSubscribe { outcome }, theirs);
    }

    /// The byte behind a SubscribeRequest, and the socket that comes with it. It is the only descriptor that is ever taken
    /// from a client; all others are dropped by the kernel.
    pub(super) fn receive_descriptor(&mut self, peer: PeerId) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        let mut descriptors = Vec::new();
        match receive(connection.socket.as_fd(), &mut [0], &mut descriptors) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(error) => return self.end(peer, Some(&error.to_string())),
            Ok(0) => return self.end(peer, None),
            Ok(_) => connection.expects_descriptor = false,
        }
        // A second subscription changes nothing; its socket is dropped.
        match (subscriber_socket(descriptors), connection.awaited_socket.take()) {
            (Err(error), _) => self.end(peer, Some(&error.to_string())),
            (Ok(_), None) => {}
            (Ok(socket), Some(id)) => match self.begin_events(id, socket) {
                Ok(()) => self.flush_events(id),
                Err(error) => self.end_events(id, &error.to_string()),
            },
        }
    }

    fn begin_events(&mut self, id: SubscriptionId, socket: Guarded<OwnedFd>) -> Result<()> {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return Ok(()) };
        let event = EpollEvent::new(EpollFlags::empty(), id | SUBSCRIPTION);
        self.epoll.0.add(&*socket, event).map_err(Error::from_errno("epoll_ctl"))?;
        subscription.socket = Some(socket);
        Ok(())
    }

    /// Queues events: for old subscribers in one frame, for native ones in a frame each.
    pub(super) fn notify(&mut self, to: &[SubscriptionId], events: &[Event]) {
        let together = LazyCell::new(|| notification::encode(events));
        let each = LazyCell::new(|| events.iter().map(slice::from_ref).map(notification::encode).collect::<Vec<_>>());
        for id in to {
            let Some(subscription) = self.subscriptions.get_mut(id) else { continue };
            let frames = if subscription.is_native { each.as_slice() } else { slice::from_ref(&*together) };
            frames.iter().for_each(|frame| subscription.push(frame.clone()));
            match subscription.interest.is_empty() {
                true => self.flush_events(*id),
                // Its socket is full, and epoll will tell when it is not.
                false => self.drop_if_slow(*id),
            }
        }
    }

    /// A subscriber's socket has room, or is gone.
    pub(super) fn serve_subscriber(&mut self, id: SubscriptionId, events: EpollFlags) {
        match events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            true => self.end_events(id, "it closed the socket"),
            false => self.flush_events(id),
        }
    }

    /// Writes events, and waits for room when there is none.
    fn flush_events(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if let Err(error) = subscription.flush() {
            return self.end_events(id, &error.to_string());
        }
        self.drop_if_slow(id);
        self.watch_subscriber(id);
    }

    /// Drops a subscriber that leaves too many events unread. A native one is still to read why.
    fn drop_if_slow(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let Some(reason) = subscription.overflow() else { return };
        let is_native = subscription.is_native;
        subscription.finish(&reason);
        self.engine.unsubscribe(id);
        log::warn!("dropped the subscription of {}: {reason}", self.subscriber(id));
        if !is_native {
            self.subscriptions.remove(&id);
        }
    }

    fn watch_subscriber(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if subscription.is_finished() {
            self.subscriptions.remove(&id);
            return;
        }
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLOUT, subscription.is_waiting());
        let Some(socket) = subscription.socket.as_ref().filter(|_| subscription.interest != interest) else { return };
        let changed = self.epoll.0.modify(&**socket, &mut EpollEvent::new(interest, id | SUBSCRIPTION));
        subscription.interest = interest;
        if let Err(errno) = changed {
            self.end_events(id, errno.desc());
        }
    }

    fn end_events(&mut self, id: SubscriptionId, reason: &str) {
        self.engine.unsubscribe(id);
        log::info!("ended the subscription of {}: {reason}", self.subscriber(id));
        self.subscriptions.remove(&id);
    }

    /// Whose subscription it is, for the log.
    fn subscriber(&self, id: SubscriptionId) -> String {
        let subscription = self.subscriptions.get(&id);
        let connection = subscription.and_then(|subscription| self.connections.get(&subscription.peer));
        connection.map_or_else(
            || "nobody".into(),
            |connection| format!("process {} (uid {})", connection.credentials.pid(), connection.credentials.uid()),
        )
    }
}
