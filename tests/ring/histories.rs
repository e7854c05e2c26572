//! Histories: old and native clients work on a few names at once, and what each of them saw must fit one life of each object:
//! created, sealed, got, deleted, and only then created again. Every object's bytes say which of that name it is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use plasma_store::client::Client;
use plasma_store::error::Error;
use plasma_store::protocol::{Refusal, Reply, Request};

use crate::support::{Random, RawPeer, Watchdog, connect, id, report, store, times};
use crate::{GET, MEBIBYTE, PUT, bytes_of};

const NAMES: u64 = 5;
const CLIENTS: u64 = 4;
/// Words of an object, each of which says which it is.
const WORDS: usize = 40;

/// When something began and when it had ended, by a clock that all threads share.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: u64,
    end: u64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// An object was made, `life` in its words, and sealed in this time.
    Made { life: u64, sealed: Span },
    /// This one was found.
    Found { life: u64 },
    /// None was there, and it was not waited for.
    Missed,
    /// A delete was asked for; `is_gone` when it was done at once.
    Deleted { is_gone: bool },
}

/// What a client saw of a name.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: u64,
    span: Span,
    what: What,
}

/// Time, and the numbers of objects.
#[derive(Default)]
struct Clock {
    now: AtomicU64,
    lives: AtomicU64,
}

impl Clock {
    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }

    fn next_life(&self) -> u64 {
        1 + self.lives.fetch_add(1, Ordering::SeqCst)
    }

    fn span<T>(&self, work: impl FnOnce() -> T) -> (T, Span) {
        let begin = self.tick();
        let done = work();
        (done, Span { begin, end: self.tick() })
    }
}

fn words_of(life: u64) -> Vec<u8> {
    life.to_le_bytes().repeat(WORDS)
}

/// Which object these bytes are of; all of them.
fn life_of(bytes: &[u8]) -> u64 {
    let life = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(life > 0 && bytes == words_of(life), "an object that was not complete, or is gone: {bytes:?}");
    life
}

/// A client that plays.
trait Player {
    /// Makes an object: when it was created and when it was sealed, unless one is there.
    fn make(&mut self, clock: &Clock, name: u64, life: u64, how: u64) -> Option<(Span, Span)>;
    fn find(&mut self, name: u64, how: u64) -> Option<u64>;
    /// Whether it is gone, if it was there.
    fn delete(&mut self, name: u64) -> Option<bool>;
    /// Whether `find` may wait with this `how`.
    fn waits(&self, how: u64) -> bool;
}

impl Player for Client {
    fn make(&mut self, clock: &Clock, name: u64, life: u64, how: u64) -> Option<(Span, Span)> {
        let (id, bytes) = (id(name), words_of(life));
        if how < 2 {
            let (put, span) = clock.span(|| match how {
                0 => Client::put(self, id, &bytes, b"", PUT),
                _ => self
                    .put_async(id, &bytes, b"", PUT)
                    .and_then(|()| self.flush())
                    .map(|mut failed| failed.pop().map_or(Ok(()), |(_, why)| Err(why)))?,
            });
            return made(put).map(|()| (span, span));
        }
        let (created, span) = clock.span(|| self.create(id, bytes.len() as u64, b"", PUT));
        let buffer = made(created)?;
        buffer.write(0, &bytes).unwrap();
        if how == 3 {
            std::thread::yield_now();
        }
        drop(buffer);
        let seal = || match how {
            2 => self.seal(id).unwrap(),
            _ => {
                self.seal_async(id).unwrap();
                assert!(self.flush().unwrap().is_empty());
            }
        };
        let ((), sealed) = clock.span(seal);
        Some((span, sealed))
    }

    fn find(&mut self, name: u64, how: u64) -> Option<u64> {
        let timeout_ms = if self.waits(how) { 2 } else { 0 };
        match how {
            0 | 1 => self.get_one(id(name), timeout_ms, GET).unwrap(),
            _ => self.get(&[id(name), id(name)], timeout_ms, GET).unwrap().pop().unwrap(),
        }
        .map(|buffer| life_of(&bytes_of(&buffer)))
    }

    fn delete(&mut self, name: u64) -> Option<bool> {
        match Client::delete(self, &[id(name)]).unwrap().remove(0) {
            Ok(()) => Some(true),
            Err(Error::ObjectInUse(_)) => Some(false),
            // One that is not sealed goes when it is: as if it had been in use.
            Err(Error::ObjectNotSealed(_)) => Some(false),
            Err(Error::ObjectNotFound(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn waits(&self, how: u64) -> bool {
        how % 2 == 1
    }
}

fn made<T>(outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(made) => Some(made),
        Err(Error::ObjectExists(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// An old client, and the segment that all of them map.
struct Old {
    peer: RawPeer,
    memory: Option<File>,
}

impl Old {
    fn memory(&mut self) -> &File {
        self.memory.get_or_insert_with(|| File::from(self.peer.descriptors.pop_front().unwrap()))
    }
}

impl Player for Old {
    fn make(&mut self, clock: &Clock, name: u64, life: u64, _: u64) -> Option<(Span, Span)> {
        let bytes = words_of(life);
        let (created, span) = clock.span(|| self.peer.create(id(name), bytes.len() as i64));
        let location = match created {
            Ok(location) => location,
            Err(refused) if refused.refusal == Refusal::ObjectExists => return None,
            Err(refused) => panic!("{refused:?}"),
        };
        self.memory().write_all_at(&bytes, location.offset).unwrap();
        let (sealed, seal) = clock.span(|| self.peer.seal(id(name)));
        sealed.unwrap();
        self.peer.release(id(name));
        Some((span, seal))
    }

    fn find(&mut self, name: u64, how: u64) -> Option<u64> {
        let timeout_ms = if self.waits(how) { 2 } else { 0 };
        let reply = self.peer.ask(&Request::Get { ids: vec![id(name)], timeout_ms });
        let Reply::Get { locations, .. } = reply else { panic!("{reply:?}") };
        let location = locations[0]?;
        let mut bytes = vec![0; location.data_size as usize];
        self.memory().read_exact_at(&mut bytes, location.offset).unwrap();
        self.peer.release(id(name));
        Some(life_of(&bytes))
    }

    fn delete(&mut self, name: u64) -> Option<bool> {
        let reply = self.peer.ask(&Request::Delete { ids: vec![id(name)] });
        let Reply::Delete { outcomes, .. } = reply else { panic!("{reply:?}") };
        match outcomes[0] {
            Ok(()) => Some(true),
            Err(Refusal::ObjectNotFound) => None,
            Err(_) => Some(false),
        }
    }

    fn waits(&self, how: u64) -> bool {
        how == 1
    }
}

fn play(player: &mut impl Player, clock: &Clock, mut random: Random, turns: u64) -> Vec<Entry> {
    let mut history = Vec::new();
    for _ in 0..turns {
        let (name, how) = (random.below(NAMES), random.below(4));
        let (span, what) = match random.below(6) {
            0 | 1 => {
                let life = clock.next_life();
                let Some((span, sealed)) = player.make(clock, name, life, how) else { continue };
                (span, What::Made { life, sealed })
            }
            2 => {
                let (Some(is_gone), span) = clock.span(|| player.delete(name)) else { continue };
                (span, What::Deleted { is_gone })
            }
            _ => {
                let (found, span) = clock.span(|| player.find(name, how));
                match found {
                    Some(life) => (span, What::Found { life }),
                    None if player.waits(how) => continue,
                    None => (span, What::Missed),
                }
            }
        };
        history.push(Entry { name, span, what });
    }
    history
}

/// An object of a name, from what its maker saw, until somebody asked for its end.
struct Life {
    number: u64,
    created: Span,
    sealed: Span,
    /// When the first delete began that may have meant it.
    end_asked: u64,
    /// When the first delete had ended that began after its seal and removed what was there.
    gone: u64,
}

/// The lives of a name.
fn lives(history: &[Entry]) -> Vec<Life> {
    let deletes = |is_asked: &dyn Fn(&Span, bool) -> bool| {
        let spans = history.iter().filter_map(|entry| match entry.what {
            What::Deleted { is_gone } if is_asked(&entry.span, is_gone) => Some(entry.span),
            _ => None,
        });
        spans.collect::<Vec<_>>()
    };
    let life = |entry: &Entry| match entry.what {
        What::Made { life: number, sealed } => {
            let created = entry.span;
            let end_asked = deletes(&|span, _| span.end > created.begin).iter().map(|span| span.begin).min();
            let gone = deletes(&|span, is_gone| is_gone && span.begin > sealed.end).iter().map(|span| span.end).min();
            let (end_asked, gone) = (end_asked.unwrap_or(u64::MAX), gone.unwrap_or(u64::MAX));
            Some(Life { number, created, sealed, end_asked, gone })
        }
        _ => None,
    };
    history.iter().filter_map(life).collect()
}

/// What cannot be of one name, if there is something.
fn lie(history: &[Entry]) -> Option<String> {
    let lives = lives(history);
    history.iter().find_map(|entry| {
        // Surely there all the time: sealed before, and nobody had asked for its end.
        let is_there = |life: &&Life| life.sealed.end < entry.span.begin && entry.span.end < life.end_asked;
        let there = lives.iter().find(is_there).map(|life| life.number);
        match (entry.what, there) {
            (What::Missed | What::Made { .. }, Some(there)) => Some(format!("{entry:?}, but {there} was there")),
            (What::Found { life }, _) => lies_of(&lives, life, entry.span).map(|lie| format!("{entry:?}: {lie}")),
            _ => None,
        }
    })
}

/// Why an object cannot have been found then.
fn lies_of(lives: &[Life], number: u64, found: Span) -> Option<&'static str> {
    let Some(life) = lives.iter().find(|life| life.number == number) else { return Some("nobody made it") };
    [
        (life.created.begin > found.end, "it was not created"),
        (life.sealed.begin > found.end, "it was not sealed"),
        (life.gone < found.begin, "it had gone"),
    ]
    .into_iter()
    .find_map(|(is_so, lie)| is_so.then_some(lie))
}

fn histories(socket: &Path, seed: u64, turns: u64) -> Vec<Entry> {
    let clock = Clock::default();
    std::thread::scope(|scope| {
        let clock = &clock;
        let old = (0..CLIENTS).map(|n| {
            let mut player = Old { peer: RawPeer::old(socket), memory: None };
            scope.spawn(move || play(&mut player, clock, Random(seed + n), turns))
        });
        let mut threads: Vec<_> = old.collect();
        threads.extend((CLIENTS..2 * CLIENTS).map(|n| {
            let mut player = connect(socket);
            scope.spawn(move || play(&mut player, clock, Random(seed + n), turns))
        }));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn what_old_and_native_clients_see_fits_one_life_of_each_object() {
    let _watchdog = Watchdog::new("what_old_and_native_clients_see_fits_one_life_of_each_object");
    let mut found = 0;
    let games = times(3, 100);
    for game in 0..games {
        let store = store(16 * MEBIBYTE);
        let history = histories(store.socket(), 100 * game, times(300, 2000));
        for name in 0..NAMES {
            let history: Vec<_> = history.iter().filter(|entry| entry.name == name).copied().collect();
            assert_eq!(lie(&history), None, "game {game}");
        }
        found += history.iter().filter(|entry| matches!(entry.what, What::Found { .. })).count();
    }
    report(&format!("{games} histories of eight clients: {found} objects found, and each where it could be"));
    assert!(found as u64 > games * 100, "only {found} were found");
}

/// The rules that a history is checked by can fail.
#[test]
fn histories_that_cannot_be_are_noticed() {
    let span = |begin, end| Span { begin, end };
    let entry = |begin, end, what| Entry { name: 0, span: span(begin, end), what };
    let made = |life, begin, seal, end| entry(begin, seal, What::Made { life, sealed: span(seal, end) });
    let fine = vec![
        made(1, 0, 2, 3),
        entry(4, 5, What::Found { life: 1 }),
        entry(6, 7, What::Deleted { is_gone: true }),
        entry(8, 9, What::Missed),
        made(2, 10, 11, 12),
    ];
    assert_eq!(lie(&fine), None);
    let wrong = [
        entry(4, 5, What::Missed),
        entry(8, 9, What::Found { life: 1 }),
        entry(8, 9, What::Found { life: 2 }),
        entry(8, 9, What::Found { life: 3 }),
        made(3, 13, 14, 15),
    ];
    for entry in wrong {
        let history = [&fine[..], &[entry]].concat();
        assert!(lie(&history).is_some(), "nobody noticed {entry:?}");
    }
}
