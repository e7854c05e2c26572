//! What the attackers say: nonsense, damaged requests, and requests that end in the middle.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;

use plasma_store::protocol::frame::{Dialect, encode};
use plasma_store::protocol::{InlineObject, Request};

use crate::support::{Random, id, progress};

/// Some valid request.
fn request(random: &mut Random) -> Request {
    let name = id(random.below(6));
    let ids = |random: &mut Random| (0..random.below(4)).map(|_| id(random.below(6))).collect();
    match random.below(18) {
        0 => Request::Connect { abilities: random.below(2) },
        1..=3 => {
            let (data_size, metadata_size) = (random.below(5000) as i64, random.below(50) as i64);
            Request::Create {
                id: name,
                data_size,
                metadata_size,
                evict_if_full: random.below(2) == 0,
                device_num: 0,
                ttl_ms: random.below(20),
                wait_ms: random.below(3) as i64 - 1,
                immutable: false,
            }
        }
        4 | 5 => Request::Seal { id: name, digest: [7; 8] },
        6 => Request::Get { ids: ids(random), timeout_ms: random.below(3) as i64 - 1 },
        7 => Request::Release { id: name },
        8 => Request::Delete { ids: ids(random) },
        9 => Request::Contains { id: name },
        10 => Request::List,
        11 => Request::GetDebugString,
        12 => Request::RefreshLru { ids: ids(random) },
        13 => Request::Cancel { number: random.below(5) },
        14 => Request::CreateAndSealBatch {
            objects: vec![InlineObject { id: name, data: vec![1; 9], metadata: vec![], digest: [0; 8] }],
            evict_if_full: true,
        },
        15 => Request::NativeSubscribe { skip_existing: random.below(2) == 0 },
        16 => Request::Stats,
        _ => Request::Abort { id: name },
    }
}

/// A frame that means nothing, or nearly so.
pub fn random_frame(random: &mut Random) -> Vec<u8> {
    let length = random.below(100);
    let mut frame = random.bytes(length);
    let header = [0, random.below(40) as i64, random.below(200) as i64];
    if random.below(4) > 0 {
        let words: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        frame.splice(0..0, words);
    }
    frame
}

/// Four valid requests and one that `spoil` has changed, in either dialect.
pub fn conversation(random: &mut Random, spoil: impl Fn(&mut Random, &mut Vec<u8>)) -> Vec<u8> {
    let mut said = Vec::new();
    let mut dialect = Dialect::Plasma;
    if random.below(2) == 0 {
        let (message_type, body) = Request::Connect { abilities: 1 }.encode();
        said.extend(encode(dialect, message_type, 0, &body));
        dialect = Dialect::Native;
    }
    for last in [false, false, false, false, true] {
        let (message_type, body) = request(random).encode();
        let mut frame = encode(dialect, message_type, random.below(4), &body);
        if last {
            spoil(random, &mut frame);
        }
        said.extend(frame);
    }
    said
}

/// Changes one to four bytes or bits.
pub fn damage(random: &mut Random, frame: &mut [u8]) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(frame.len() as u64) as usize;
        frame[at] = if random.below(2) == 0 { random.next() as u8 } else { frame[at] ^ 1 << random.below(8) };
    }
}

/// Leaves the end out.
pub fn cut_off(random: &mut Random, frame: &mut Vec<u8>) {
    frame.truncate(random.below(frame.len() as u64) as usize);
}

/// Connects, says all that, and leaves without listening.
fn say(socket: &Path, bytes: &[u8]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    // The store may have hung up in the middle.
    let _ = stream.write_all(bytes);
}

/// Lets four threads say `each(thread's random numbers)` until `count` were said.
pub fn say_in_threads(socket: &Path, count: u64, each: impl Fn(&mut Random) -> Vec<u8> + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let each = &each;
            scope.spawn(move || {
                let mut random = Random(thread);
                for said in 0..count / 4 {
                    say(socket, &each(&mut random));
                    if thread == 0 {
                        progress(4 * said, count, "connections");
                    }
                }
            });
        }
    });
}
