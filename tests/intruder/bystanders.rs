//! Those whom an intruder must not harm. They hold objects and know their bytes, put and get beside it, and wait.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use plasma_store::client::{Buffer, Client};
use plasma_store::error::Error;
use plasma_store::object::ObjectId;

use crate::support::{Random, connect, eventually, id, put};

/// Bytes of the objects that are held all the time.
const HELD: [u64; 6] = [0, 1, 100, 5_000, 100_000, 1 << 20];

/// A client with objects that it has got, and their bytes.
pub struct Witness {
    pub client: Client,
    held: Vec<(Buffer, Vec<u8>)>,
}

impl Witness {
    pub fn new(socket: &Path) -> Self {
        let (maker, client) = (connect(socket), connect(socket));
        let mut random = Random(7);
        let mut held = Vec::new();
        for (n, size) in (0..).zip(HELD) {
            let (name, bytes) = (id(1 << 40 | n), random.bytes(size));
            put(&maker, name, &bytes);
            let got = client.get(&[name], 0, Default::default()).unwrap().remove(0).unwrap();
            held.push((got, bytes));
        }
        Self { client, held }
    }

    /// All that it holds is as it was.
    pub fn check(&self) {
        for (buffer, bytes) in &self.held {
            let mut read = vec![0; bytes.len()];
            buffer.read(0, &mut read).unwrap();
            assert!(read == *bytes, "an object of {} bytes was changed while it was held", bytes.len());
        }
    }
}

/// Clients in threads of their own.
pub struct Bystanders {
    over: AtomicBool,
    rounds: AtomicU64,
    putting: Client,
    waiting: Client,
}

/// What somebody waits for all the time.
pub fn awaited() -> ObjectId {
    id(1 << 41)
}

impl Bystanders {
    /// How many connections they have.
    pub const CLIENTS: u64 = 2;

    pub fn new(socket: &Path) -> Self {
        let [putting, waiting] = [(); 2].map(|()| connect(socket));
        Self { over: AtomicBool::new(false), rounds: AtomicU64::new(0), putting, waiting }
    }

    /// Puts, gets, compares and deletes, one object after the other, to the end.
    pub fn put(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let round = self.rounds.load(Ordering::Relaxed);
            let served = put_and_get(&self.putting, id(1 << 39 | round), round as u8);
            self.rounds.fetch_add(u64::from(served), Ordering::Relaxed);
        }
    }

    /// Waits for what comes in the end, and says whether it came.
    pub fn wait(&self) -> bool {
        let got = self.waiting.get(&[awaited()], -1, Default::default());
        got.is_ok_and(|mut got| got.remove(0).is_some())
    }

    /// Returns when somebody was served who began after this call.
    pub fn are_served(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        eventually(|| self.rounds.load(Ordering::Relaxed) > before + 1 || self.over.load(Ordering::Relaxed));
        assert!(!self.over.load(Ordering::Relaxed), "a bystander has failed");
    }

    /// Lets all of them come to an end, also when one of them, or a test, fails.
    pub fn at_the_end(&self) -> impl Drop {
        struct End<'a>(&'a Bystanders);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.over.store(true, Ordering::Relaxed);
                self.0.waiting.interrupt();
            }
        }
        End(self)
    }
}

/// Returns whether there was room, of which an intruder may take all as long as it is there.
fn put_and_get(client: &Client, name: ObjectId, byte: u8) -> bool {
    let buffer = match client.create(name, 1000, b"", Default::default()) {
        Err(Error::StoreFull(_)) => return false,
        created => created.unwrap(),
    };
    buffer.write(0, &[byte; 1000]).unwrap();
    client.seal(name).unwrap();
    let got = client.get(&[name], 0, Default::default()).unwrap().remove(0).expect("it is held, by whoever made it");
    let mut bytes = [0; 1000];
    got.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [byte; 1000]);
    drop((buffer, got));
    // Another may hold it, or have deleted it.
    let _ = client.delete(&[name]).unwrap();
    true
}
