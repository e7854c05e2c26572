//! What a process does with a ring until it dies, and what it says of that in a journal.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use plasma_store::client::Client;
use plasma_store::client::ring::{Slot, TensorRing};
use plasma_store::error::{Error, Result};

use super::message::{self, BEHIND_PRODUCER};
use super::{PLAIN, options};
use crate::Death;
use crate::support::{connect, id};

/// How long somebody pauses who is slow.
pub const PAUSE: Duration = Duration::from_micros(200);
const VARIABLE: &str = "PLASMA_TEST_RING";

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Publishes, one or several, and gives up some slots.
    Fill,
    /// Takes or reads, one or several.
    Take,
    /// Comes, takes, and leaves with a slot in hand.
    Visit,
    /// Takes when a descriptor says that it is worth it.
    Poll,
    /// Publishes, and closes the ring with slots in hand.
    Close,
    /// Publishes, and aborts the ring.
    Abort,
    /// Makes rings of its own.
    Make,
}

const PARTS: [Part; 7] = [Part::Fill, Part::Take, Part::Visit, Part::Poll, Part::Close, Part::Abort, Part::Make];

impl Part {
    /// Whether it takes messages away from others, where one gets each.
    pub fn takes(self) -> bool {
        matches!(self, Self::Take | Self::Visit | Self::Poll)
    }
}

/// One process that is to die.
#[derive(Debug)]
pub struct Order<'a> {
    pub socket: &'a Path,
    pub ring: u64,
    pub part: Part,
    pub is_slow: bool,
    pub producer: u64,
    pub journal: PathBuf,
}

impl Order<'_> {
    /// Starts it, and waits until it has died as it was to.
    pub fn carry_out(&self, death: &Death) {
        let Self { socket, ring, part, is_slow, producer, journal } = self;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "rings::part::part", "--nocapture", "--test-threads=1"]);
        let said = format!("{} {} {ring} {part:?} {is_slow} {producer}", socket.display(), journal.display());
        command.env(VARIABLE, said).stdin(Stdio::null()).stdout(Stdio::null());
        death.order(&mut command);
        death.expect(&mut command.spawn().unwrap());
    }
}

/// What is noted: before a message's publication and after it, when it was taken, and before it is released.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begun,
    Published,
    Taken,
    Released,
}

/// What somebody who died has said.
#[derive(Debug, Default)]
pub struct Journal {
    /// How many publications began, and how many were said to be.
    pub begun: u64,
    pub published: u64,
    pub taken: Vec<u64>,
    pub released: Vec<u64>,
}

impl Journal {
    pub fn read(path: &Path) -> Self {
        let mut said = Self::default();
        for record in fs::read(path).unwrap_or_default().chunks(9) {
            let number = u64::from_le_bytes(record[1..].try_into().unwrap());
            match record[0] {
                0 => said.begun += number,
                1 => said.published += number,
                2 => said.taken.push(number),
                _ => said.released.push(number),
            }
        }
        said
    }

    /// What it had taken and not begun to release.
    pub fn in_hand(&self) -> impl Iterator<Item = u64> {
        self.taken.iter().copied().filter(|number| !self.released.contains(number))
    }
}

/// The process.
struct Player {
    socket: PathBuf,
    client: Client,
    ring: TensorRing,
    name: u64,
    is_slow: bool,
    producer: u64,
    next: u64,
    journal: File,
}

/// No test, but what the test starts.
#[test]
fn part() {
    let Some(said) = std::env::var_os(VARIABLE) else { return };
    let said = said.into_string().unwrap();
    let [socket, journal, name, part, is_slow, producer] = said.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let part = *PARTS.iter().find(|known| format!("{known:?}") == part).unwrap();
    let journal = OpenOptions::new().create(true).append(true).open(journal).unwrap();
    let (client, name) = (connect(Path::new(socket)), name.parse().unwrap());
    let ring = client.ring_open(id(name), 0).unwrap();
    let (is_slow, producer) = (is_slow.parse().unwrap(), producer.parse().unwrap());
    let socket = PathBuf::from(socket);
    let mut player = Player { socket, client, ring, name, is_slow, producer, next: 0, journal };
    let ended = (0..).map(|round| player.play(part, round)).find_map(Result::err);
    panic!("it has not died: {ended:?}");
}

impl Player {
    fn note(&mut self, event: Event, number: u64) {
        let mut record = [event as u8; 9];
        record[1..].copy_from_slice(&number.to_le_bytes());
        self.journal.write_all(&record).unwrap();
    }

    fn play(&mut self, part: Part, round: u64) -> Result<()> {
        if self.is_slow {
            thread::sleep(PAUSE);
        }
        match part {
            Part::Fill => self.fill(round),
            Part::Take => self.take(round),
            Part::Visit => self.visit(),
            Part::Poll => self.poll(),
            Part::Close => self.close(round),
            Part::Abort => self.abort(round),
            Part::Make => self.client.ring_create(id(self.name + 1), &options(PLAIN, 2)).map(drop),
        }
    }

    fn fill(&mut self, round: u64) -> Result<()> {
        match round % 3 {
            0 => self.put(),
            1 => self.put_many(1 + round / 3 % 3),
            _ => self.ring.acquire(-1).and_then(|slot| self.ring.abandon(slot.token)),
        }
    }

    fn number(&self) -> u64 {
        self.producer << BEHIND_PRODUCER | self.next
    }

    fn put(&mut self) -> Result<()> {
        self.note(Event::Begun, 1);
        message::put(&self.ring, self.number(), -1)?;
        self.next += 1;
        self.note(Event::Published, 1);
        Ok(())
    }

    fn put_many(&mut self, count: u64) -> Result<()> {
        self.note(Event::Begun, count);
        let first = self.number();
        let (done, outcome) = self.ring.put_many(count as usize, -1, |index, place| {
            message::write(place, first + index as u64);
            Ok(())
        })?;
        outcome?;
        assert_eq!(done as u64, count);
        self.next += count;
        self.note(Event::Published, count);
        Ok(())
    }

    fn taken(&mut self, timeout_ms: i64) -> Result<(Slot, u64)> {
        let slot = self.ring.take(timeout_ms)?;
        let number = message::read(slot.data);
        self.note(Event::Taken, number);
        Ok((slot, number))
    }

    fn release(&mut self, (slot, number): (Slot, u64)) -> Result<()> {
        self.note(Event::Released, number);
        self.ring.release(slot.token)
    }

    fn take(&mut self, round: u64) -> Result<()> {
        if round % 3 == 1 {
            return self.take_many();
        }
        let first = self.taken(-1)?;
        if round % 3 == 2
            && let Ok(second) = self.taken(0)
        {
            self.release(second)?;
        }
        self.release(first)
    }

    fn take_many(&mut self) -> Result<()> {
        let mut journal = self.journal.try_clone().unwrap();
        let note = |_, place: *const u8| {
            let number = message::read(place.cast_mut());
            for event in [Event::Taken, Event::Released] {
                let mut record = [event as u8; 9];
                record[1..].copy_from_slice(&number.to_le_bytes());
                journal.write_all(&record).unwrap();
            }
            Ok(())
        };
        self.ring.take_many(3, -1, note).map(drop)
    }

    /// Another participant of this process takes; what it has comes back when it goes.
    fn visit(&mut self) -> Result<()> {
        let other = connect(&self.socket);
        let mine = std::mem::replace(&mut self.ring, other.ring_open(id(self.name), 0)?);
        let released = self.taken(-1).and_then(|first| self.release(first));
        let kept = self.taken(20);
        kept.into_iter().for_each(|(_, number)| self.note(Event::Released, number));
        drop(std::mem::replace(&mut self.ring, mine));
        released
    }

    fn poll(&mut self) -> Result<()> {
        // SAFETY: it is the ring's, which lives longer.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.ring.descriptor()?) };
        poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
        loop {
            match self.taken(0) {
                Ok(taken) => self.release(taken)?,
                Err(Error::Timeout(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn close(&mut self, round: u64) -> Result<()> {
        if round < self.producer % 3 {
            return self.put();
        }
        let slots = [self.ring.acquire(-1)?, self.ring.acquire(-1)?];
        self.note(Event::Begun, 2);
        slots.iter().for_each(|slot| message::write(slot.data, self.number()));
        self.ring.close()?;
        for slot in slots {
            let refused = self.ring.publish(slot.token, None);
            assert!(matches!(refused, Err(Error::Closed(_))), "{refused:?}");
        }
        Ok(())
    }

    fn abort(&mut self, round: u64) -> Result<()> {
        if round < self.producer % 20 { self.put() } else { self.ring.abort() }
    }
}
