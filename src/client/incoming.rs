//! What has arrived at a connection's socket, and who waits for what: bytes become answers, with the descriptors behind them, and
//! each goes to the thread that made the call.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sys::eventfd::EventFd;

use crate::client::bells::{new_bell, ring};
use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::protocol::Reply;
use crate::transport::fd_passing::receive;
use crate::transport::stream::Inbox;

/// Bytes read from the socket at once.
const READ_SIZE: usize = 16 << 10;

/// What has arrived, and who waits for what.
#[derive(Debug)]
pub struct Incoming {
    inbox: Inbox,
    descriptors: VecDeque<OwnedFd>,
    /// An answer whose descriptors have not all arrived, and the number of its call.
    half: Option<(u64, Answer)>,
    calls: HashMap<u64, Call>,
    /// Whether a thread reads the socket for all.
    pub has_leader: bool,
    /// Why nothing more will come.
    pub ended: Option<String>,
    /// Bells that nobody sleeps on.
    pub spare_bells: Vec<Arc<EventFd>>,
}

/// An answer, and the descriptors that came with it.
pub type Answer = (Reply, Vec<OwnedFd>);

#[derive(Debug)]
enum Call {
    /// A thread waits; if it sleeps, this wakes it.
    Waiting(Option<Arc<EventFd>>),
    /// The answer is here, the thread has not taken it yet.
    Answered(Box<Answer>),
    /// Nobody waits any more.
    Abandoned,
}

impl Incoming {
    /// So far only these bytes have.
    pub fn new(inbox: Inbox) -> Self {
        Self {
            inbox,
            descriptors: VecDeque::new(),
            half: None,
            calls: HashMap::new(),
            has_leader: false,
            ended: None,
            spare_bells: Vec::new(),
        }
    }

    /// Takes in what has arrived at the socket, if anything has. Returns objects of abandoned answers, to be released once for each
    /// time that they are named.
    pub fn read(&mut self, socket: BorrowedFd<'_>) -> Vec<ObjectId> {
        let mut bytes = [0; READ_SIZE];
        let mut descriptors = Vec::new();
        let received = receive(socket, &mut bytes, &mut descriptors);
        self.descriptors.extend(descriptors);
        match received {
            Ok(0) => self.end("it closed the connection"),
            Ok(count) => self.inbox.push(bytes.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => self.end(&format!("receive: {error}")),
        }
        self.dispatch().unwrap_or_else(|error| {
            self.end(&error.to_string());
            Vec::new()
        })
    }

    /// Hands every whole answer to whom it belongs. Returns objects of abandoned answers.
    fn dispatch(&mut self) -> Result<Vec<ObjectId>> {
        let mut releases = Vec::new();
        while let Some((number, (reply, mut descriptors))) = self.next_answer()? {
            while let missing @ 1.. = descriptors_of(&reply).saturating_sub(descriptors.len()) {
                if !self.inbox.take_descriptor_byte() {
                    self.half = Some((number, (reply, descriptors)));
                    return Ok(releases);
                }
                let lost = || Error::Protocol(format!("a descriptor did not come, {missing} are missing"));
                descriptors.push(self.descriptors.pop_front().ok_or_else(lost)?);
            }
            releases.extend(self.deliver(number, (reply, descriptors))?);
        }
        // A descriptor arrives with the byte that stands for it, so what is left over was never announced.
        self.descriptors.clear();
        Ok(releases)
    }

    fn next_answer(&mut self) -> Result<Option<(u64, Answer)>> {
        if let Some(half) = self.half.take() {
            return Ok(Some(half));
        }
        let Some(frame) = self.inbox.next_frame()? else { return Ok(None) };
        Ok(Some((frame.number, (Reply::decode(frame.message_type, &frame.body)?, Vec::new()))))
    }

    fn deliver(&mut self, number: u64, answer: Answer) -> Result<Vec<ObjectId>> {
        match self.calls.get_mut(&number) {
            Some(call @ Call::Waiting(_)) => {
                if let Call::Waiting(Some(bell)) = std::mem::replace(call, Call::Answered(Box::new(answer))) {
                    ring(&bell);
                }
                Ok(Vec::new())
            }
            Some(Call::Abandoned) => {
                self.calls.remove(&number);
                Ok(held_by(answer.0))
            }
            _ => Err(Error::Protocol(format!("an answer came to request {number}, which was not asked"))),
        }
    }

    /// Marks a call as one that nobody waits for. Returns its answer if that has come meanwhile.
    pub fn abandon(&mut self, number: u64) -> Option<Reply> {
        match self.calls.remove(&number)? {
            Call::Answered(answer) => Some(answer.0),
            Call::Waiting(_) | Call::Abandoned if self.ended.is_none() => {
                self.calls.insert(number, Call::Abandoned);
                None
            }
            Call::Waiting(_) | Call::Abandoned => None,
        }
    }

    /// The answer to a call, which is none any more.
    pub fn take_answer(&mut self, number: u64) -> Option<Answer> {
        if !matches!(self.calls.get(&number), Some(Call::Answered(_))) {
            return None;
        }
        let call = self.calls.remove(&number);
        self.wake_a_leader();
        call.and_then(|call| if let Call::Answered(answer) = call { Some(*answer) } else { None })
    }

    /// Notes a call, and gets the bell that it will sleep on if it has to.
    pub fn begin(&mut self, number: u64) -> Result<Arc<EventFd>> {
        let bell = self.spare_bells.pop().map_or_else(|| new_bell().map(Arc::new), Ok)?;
        self.calls.insert(number, Call::Waiting(None));
        Ok(bell)
    }

    /// Notes a call whose answer nobody waits for.
    pub fn begin_abandoned(&mut self, number: u64) {
        self.calls.insert(number, Call::Abandoned);
    }

    /// From now on this call's thread is woken by its bell.
    pub fn listen(&mut self, number: u64, bell: &Arc<EventFd>) {
        if let Some(Call::Waiting(slot @ None)) = self.calls.get_mut(&number) {
            // It may have been rung for its last owner after that had left.
            let _ = bell.read();
            *slot = Some(bell.clone());
        }
    }

    /// With nobody reading the socket, wakes one of those who wait.
    pub fn wake_a_leader(&self) {
        if !self.has_leader {
            let bell = self.calls.values().find_map(|call| match call {
                Call::Waiting(bell) => bell.as_ref(),
                _ => None,
            });
            bell.into_iter().for_each(|bell| ring(bell));
        }
    }

    /// Wakes all who wait.
    pub fn ring_all(&self) {
        for call in self.calls.values() {
            if let Call::Waiting(Some(bell)) = call {
                ring(bell);
            }
        }
    }

    /// Nothing more will come.
    fn end(&mut self, reason: &str) {
        self.ended.get_or_insert_with(|| reason.to_owned());
        self.ring_all();
    }
}

/// How many descriptors follow an answer.
fn descriptors_of(reply: &Reply) -> usize {
    match reply {
        Reply::NativeSubscribe { outcome: Ok(()) } | Reply::Segment { outcome: Ok(_) } => 1,
        Reply::Share { outcome: Ok(shared) } => usize::from(shared.has_control),
        Reply::Ring { outcome: Ok(true) } | Reply::Index { outcome: Ok(true) } => 3,
        _ => 0,
    }
}

/// Objects that an answer nobody waited for made this connection hold.
pub fn held_by(reply: Reply) -> Vec<ObjectId> {
    let Reply::Get { ids, locations, .. } = reply else { return Vec::new() };
    let found = ids.into_iter().zip(locations).filter(|(_, location)| location.is_some());
    // One answer counts for one hold, however often it names the object; two answers count for two.
    found.map(|(id, _)| id).collect::<HashSet<_>>().into_iter().collect()
}
