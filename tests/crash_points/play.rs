//! What is played until somebody dies: everything that a client can have half done, a round at a time.

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use plasma_store::client::tensor::TensorOptions;
use plasma_store::client::{Buffer, Client, ConnectOptions, CreateOptions, GetOptions};
use plasma_store::crash::Side;
use plasma_store::error::Error;
use plasma_store::object::ObjectId;
use plasma_store::protocol::{Refusal, Reply, Request};
use plasma_store::shm::mapping::Mapping;
use plasma_store::tensor::dtype::DType;
use plasma_store::tensor::layout::Layout;

use crate::rings::{PLAIN, message, options as ring_options};
use crate::support::{Random, RawPeer, create_of};
use crate::{MEBIBYTE, id, pattern};

type Step = Result<(), Error>;

const PUT: CreateOptions = CreateOptions { no_evict: false, ttl_ms: 0, wait_ms: 0, immutable: false, name: None };
const IMMUTABLE: CreateOptions = CreateOptions { immutable: true, ..PUT };
const GET: GetOptions = GetOptions { private: false, no_ask: false };

/// Names of one round.
const NAMES: u64 = 1024;
/// Rounds of one player.
pub const ROUNDS: u64 = 16;
/// Two objects that fill a segment together, and how many of such fill the store nearly.
const NEARLY_A_SEGMENT: u64 = 1_850_000;
const THE_REST: u64 = 150_000;
const SEGMENTS: u64 = 7;
/// A tensor that both clients write.
const SHARED: u64 = 600;
/// A ring between both.
const RING: u64 = 601;

/// Two clients of one process.
pub struct Player<'a> {
    socket: &'a Path,
    first: u64,
    side: Side,
    a: Client,
    b: Client,
    /// What `b` holds across rounds.
    pub kept: &'a Mutex<Vec<(u64, Buffer)>>,
}

fn connect(socket: &Path) -> Result<Client, Error> {
    Client::connect(Some(socket), ConnectOptions::default())
}

/// How long the object of a name is.
fn size_of(name: u64) -> u64 {
    match name % NAMES {
        0..10 => 100 * (name % 10),
        10..20 => 200_000 + name % 10,
        20..30 => 3000,
        30..40 => 250_000,
        40..60 => 120_000,
        100..200 => 64,
        300..400 => NEARLY_A_SEGMENT,
        400..500 => THE_REST,
        _ => 8 * MEBIBYTE,
    }
}

/// An object must be the one of its name: all bytes, and the metadata.
pub fn check(name: u64, buffer: &Buffer) {
    if name % NAMES == SHARED {
        return buffer.is_immutable().then_some(()).expect("it was shared, and is sealed for the kernel");
    }
    let mut bytes = vec![0; buffer.size() as usize];
    buffer.read(0, &mut bytes).unwrap();
    assert!(bytes == pattern(name, size_of(name)), "object {name} has other bytes");
}

fn fails_when_held(outcome: Result<(), Error>) -> Step {
    match outcome {
        Ok(()) | Err(Error::ObjectInUse(_) | Error::ObjectNotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Any name goes from one list to the other.
fn exchange(random: &mut Random, from: &mut Vec<u64>, to: &mut Vec<u64>) -> u64 {
    let name = from.swap_remove(random.below(from.len() as u64) as usize);
    to.push(name);
    name
}

/// Creates an immutable object; its seal is refused as long as it is mapped. `None` when the store is gone.
fn seal_twice(mut peer: RawPeer, name: u64) -> Option<()> {
    let (id, data_size) = (id(name), size_of(name) as i64);
    let create = create_of(id, data_size, true);
    let Reply::Create { outcome: Ok(place), .. } = peer.try_ask(&create)? else { panic!("{create:?} is refused") };
    let lend = Request::Segment { segment: place.segment, writable: true };
    let Reply::Segment { outcome: Ok(length) } = peer.try_ask(&lend)? else { panic!("{lend:?} is refused") };
    let mapping = Mapping::read_write(peer.descriptors.pop_back().unwrap(), length).unwrap();
    mapping.write(place.offset, &pattern(name, size_of(name))).unwrap();
    let seal = Request::Seal { id, digest: [0; 8] };
    let outcome = |reply| if let Reply::Seal { outcome, .. } = reply { outcome } else { panic!("{reply:?}") };
    assert_eq!(peer.try_ask(&seal).map(outcome)?, Err(Refusal::StillWritable));
    drop(mapping);
    assert_eq!(peer.try_ask(&seal).map(outcome)?, Ok(()));
    Some(())
}

impl<'a> Player<'a> {
    /// Connects both. The names of all rounds begin at `first`.
    pub fn new(socket: &'a Path, first: u64, side: Side, kept: &'a Mutex<Vec<(u64, Buffer)>>) -> Result<Self, Error> {
        Ok(Self { socket, first, side, a: connect(socket)?, b: connect(socket)?, kept })
    }

    /// Plays all rounds, unless the store dies.
    pub fn play(&self) -> Step {
        (0..ROUNDS).try_for_each(|round| self.round(self.first + round * NAMES))
    }

    fn round(&self, base: u64) -> Step {
        self.small(base)?;
        self.large(base)?;
        self.read(base)?;
        self.granted(base)?;
        self.alone(base)?;
        self.doom(base)?;
        self.wait(base)?;
        self.watch(base)?;
        self.retire(base)?;
        self.share(base)?;
        self.go_round(base)?;
        if self.side == Side::Store {
            self.refused(base)?;
            self.churn(base)?;
            self.compact(base)?;
        }
        self.clear(base)
    }

    fn put(&self, client: &Client, name: u64) -> Step {
        client.put(id(name), &pattern(name, size_of(name)), b"meta", PUT)
    }

    fn put_async(&self, name: u64) -> Step {
        self.a.put_async(id(name), &pattern(name, size_of(name)), b"meta", PUT)
    }

    fn small(&self, base: u64) -> Step {
        self.put(&self.a, base)?;
        for name in base + 1..base + 5 {
            self.put_async(name)?;
        }
        let refused = self.a.flush()?;
        assert!(refused.is_empty(), "{refused:?}");
        Ok(())
    }

    fn large(&self, base: u64) -> Step {
        let [whole, given_up, late] = [base + 10, base + 11, base + 12];
        self.put(&self.a, whole)?;
        drop(self.a.create(id(given_up), size_of(given_up), b"meta", PUT)?);
        self.a.abort(id(given_up))?;
        let buffer = self.a.create(id(late), size_of(late), b"meta", PUT)?;
        buffer.write(0, &pattern(late, size_of(late)))?;
        self.a.seal_async(id(late))?;
        drop(buffer);
        self.a.flush().map(drop)
    }

    /// What is put where memory was before has room granted for the next one, which is used then, and so on.
    fn granted(&self, base: u64) -> Step {
        for name in base + 40..base + 43 {
            self.put(&self.a, name)?;
            self.delete(&[name])?;
        }
        self.put(&self.a, base + 43)?;
        self.put_async(base + 44)?;
        self.a.flush()?;
        (base + 43..base + 45).try_for_each(|name| self.get(&self.b, name).map(drop))
    }

    /// Objects that nobody can write once they are sealed: one stays, one is given up.
    fn alone(&self, base: u64) -> Step {
        let [stays, given_up] = [base + 50, base + 51];
        self.a.put(id(stays), &pattern(stays, size_of(stays)), b"meta", IMMUTABLE)?;
        let held = self.get(&self.b, stays)?;
        self.kept.lock().unwrap().push((stays, held));
        drop(self.a.create(id(given_up), size_of(given_up), b"meta", IMMUTABLE)?);
        self.a.abort(id(given_up))
    }

    /// A peer asks for the seal of such an object while it can still write it, and then when it cannot.
    fn refused(&self, base: u64) -> Step {
        let clients = self.a.stats()?.clients;
        let name = base + 52;
        let peer = RawPeer::try_pulling(self.socket);
        peer.and_then(|peer| seal_twice(peer, name)).ok_or_else(|| Error::Disconnected("a peer was left".into()))?;
        self.get(&self.b, name).map(drop)?;
        self.until(|| Ok(self.a.stats()?.clients == clients))
    }

    /// Gets a name that must be there.
    fn get(&self, client: &Client, name: u64) -> Result<Buffer, Error> {
        let buffer = client.get_one(id(name), 0, GET)?.unwrap_or_else(|| panic!("object {name} is not there"));
        check(name, &buffer);
        Ok(buffer)
    }

    fn read(&self, base: u64) -> Step {
        let names: Vec<ObjectId> = (base..base + 5).map(id).collect();
        let all = self.b.get(&names, 0, GET)?;
        let missing: Vec<_> = names.iter().zip(&all).filter(|(_, got)| got.is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} are not there of {:?} {:?}", self.a.list(), self.a.stats());
        let held = [self.get(&self.b, base + 2)?, self.get(&self.b, base + 10)?];
        assert!(self.b.get_one(id(base + 99), 0, GET)?.is_none());
        let mut kept = self.kept.lock().unwrap();
        if kept.len() > 3 {
            kept.clear();
        }
        kept.extend([base + 2, base + 10].into_iter().zip(held));
        Ok(())
    }

    /// Deleted while it is read, and gone when it is not.
    fn doom(&self, base: u64) -> Step {
        let held = self.get(&self.b, base + 1)?;
        self.delete(&[base + 1])?;
        // The store sleeps by then, most of the time.
        thread::sleep(Duration::from_micros(500));
        drop(held);
        self.until(|| Ok(!self.a.contains(id(base + 1))?))
    }

    fn until(&self, done: impl Fn() -> Result<bool, Error>) -> Step {
        while !done()? {
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// One thread waits for what another puts.
    fn wait(&self, base: u64) -> Step {
        let name = base + 20;
        let waiting = self.a.stats()?.waiting_gets;
        thread::scope(|scope| {
            let waiter = scope.spawn(|| self.b.get_one(id(name), -1, GET));
            self.until(|| Ok(self.a.stats()?.waiting_gets > waiting))?;
            self.put(&self.a, name)?;
            let got = waiter.join().unwrap()?.expect("it was put");
            check(name, &got);
            Ok(())
        })
    }

    fn watch(&self, base: u64) -> Step {
        let name = base + 21;
        self.b.watch(&[id(name)])?;
        self.put(&self.a, name)?;
        self.until(|| Ok(!self.b.rung(8)?.is_empty()))?;
        self.get(&self.b, name).map(drop)
    }

    /// A producer goes, and so does what it left: its segment is retired, and those who read there are told.
    fn retire(&self, base: u64) -> Step {
        let clients = self.a.stats()?.clients;
        let name = base + 30;
        let producer = connect(self.socket)?;
        self.put(&producer, name)?;
        self.get(&self.b, name).map(drop)?;
        drop(producer);
        self.delete(&[name])?;
        self.until(|| {
            let stats = self.a.stats()?;
            Ok(stats.clients == clients && stats.retired_bytes == 0)
        })
    }

    /// Small objects come and go in any order: first more than there is room for in the index, then so many and in so many places that
    /// its hash table is made anew.
    fn churn(&self, base: u64) -> Step {
        let mut random = Random(base);
        let (mut there, mut gone) = ((base + 100..base + 120).collect::<Vec<_>>(), (base + 120..base + 140).collect());
        there.iter().try_for_each(|name| self.put_async(*name))?;
        (0..14).try_for_each(|_| self.delete(&[exchange(&mut random, &mut there, &mut gone)]))?;
        for _ in 0..150 {
            self.delete(&[exchange(&mut random, &mut there, &mut gone)])?;
            self.put_async(exchange(&mut random, &mut gone, &mut there))?;
        }
        self.a.flush().map(drop)
    }

    /// Little is left in many segments; the store moves it when it needs their memory.
    fn compact(&self, base: u64) -> Step {
        self.kept.lock().unwrap().clear();
        self.clear(base)?;
        let clients = self.a.stats()?.clients;
        for n in 0..SEGMENTS {
            let producer = connect(self.socket)?;
            self.put(&producer, base + 300 + n)?;
            self.put(&producer, base + 400 + n)?;
        }
        self.until(|| Ok(self.a.stats()?.clients == clients))?;
        (0..SEGMENTS).try_for_each(|n| self.delete(&[base + 300 + n]))?;
        self.put(&self.b, base + 500)?;
        (0..SEGMENTS).try_for_each(|n| self.get(&self.b, base + 400 + n).map(drop))
    }

    /// Both write one tensor in turns. Then it is frozen.
    fn share(&self, base: u64) -> Step {
        let name = id(base + SHARED);
        let layout = Layout::row_major(DType::from_dlpack(1, 64, 1).unwrap(), vec![20_000]).unwrap();
        let one = self.a.tensor_share(name, &layout, TensorOptions::default(), false, |_| Ok(()))?;
        let other = self.b.tensor_open_shared(name, 0)?;
        for shared in [&one, &other].repeat(3) {
            shared.lock(-1)?;
            shared.unlock()?;
        }
        drop(other);
        one.freeze(-1)
    }

    /// Slots go round between both, until the ring ends.
    fn go_round(&self, base: u64) -> Step {
        let one = self.a.ring_create(id(base + RING), &ring_options(PLAIN, 2))?;
        let other = self.b.ring_open(id(base + RING), 0)?;
        for number in 0..5 {
            message::put(&one, number, -1)?;
            let slot = other.take(-1)?;
            assert_eq!(message::read(slot.data), number);
            other.release(slot.token)?;
        }
        one.close()?;
        let ended = other.take(-1);
        assert!(matches!(ended, Err(Error::Closed(_))), "{ended:?}");
        Ok(())
    }

    fn delete(&self, names: &[u64]) -> Step {
        let ids: Vec<_> = names.iter().copied().map(id).collect();
        self.a.delete(&ids)?.into_iter().try_for_each(fails_when_held)
    }

    /// Deletes everything of a round.
    fn clear(&self, base: u64) -> Step {
        let names =
            [0..5, 10..13, 20..22, 30..31, 40..45, 50..53, 100..140, 300..307, 400..407, 500..501, SHARED..SHARED + 1];
        names.into_iter().flatten().try_for_each(|name| self.delete(&[base + name]))
    }
}
