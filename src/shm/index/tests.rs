//! The index by its words, in a plain buffer; Miri runs these too.

use std::collections::HashMap;

use super::encoding::{IdWords, Stage, State, entry, index_in};
use super::layout::{Geometry, MOST_OBJECTS, PROBE_LIMIT};
use super::reader::{Absent, IndexReader};
use super::writer::{Descriptor, IndexWriter};
use crate::error::Error;
use crate::object::{Location, ObjectId};
use crate::shm::seeded::Seeded;
use crate::shm::sync::{AtomicU64, Ordering};
use crate::shm::words::Words;

const KEY: [u64; 2] = [0x1234, 0x5678];

fn id(n: u64) -> ObjectId {
    let mut bytes = [0xa5; 20];
    bytes[4..12].copy_from_slice(&n.to_le_bytes());
    ObjectId::new(bytes)
}

fn place(n: u64) -> Location {
    Location { segment: -7, offset: 64 * n, data_size: n, metadata_size: n + 1 }
}

fn index(capacity: u32) -> (IndexWriter, IndexReader, Words<AtomicU64>) {
    let geometry = Geometry::new(capacity).unwrap();
    let words = Words::private(geometry.words());
    let writer = IndexWriter::create(words.clone(), geometry, 99, KEY).unwrap();
    (writer, IndexReader::attach(&words).unwrap(), words)
}

/// What a search finds when nothing changes meanwhile.
fn find(reader: &IndexReader, id: &ObjectId) -> Result<Location, Absent> {
    let wanted = reader.wanted(id);
    let has_it = |index| reader.state(index).is_gettable() && reader.is_of(index, &wanted);
    reader.search(&wanted, |index| has_it(index).then(|| reader.location(index)))
}

fn remove(writer: &mut IndexWriter, descriptor: Descriptor) {
    writer.condemn(&descriptor);
    writer.free(descriptor);
}

#[test]
fn what_is_entered_is_found_until_it_goes() {
    let (mut writer, reader, _) = index(4);
    assert_eq!((writer.capacity(), reader.capacity(), reader.nonce()), (4, 4, 99));
    let descriptor = writer.insert(&id(1), place(1)).unwrap();
    assert_eq!((find(&reader, &id(1)), find(&reader, &id(2))), (Ok(place(1)), Err(Absent::Missing)));
    assert_eq!((writer.id(&descriptor), writer.len(), writer.is_empty()), (id(1), 1, false));
    assert_eq!(writer.state(&descriptor), State::new(0, Stage::Sealed));
    assert_eq!(writer.condemn(&descriptor), Stage::Sealed);
    assert_eq!(find(&reader, &id(1)), Err(Absent::Missing));
    writer.restore(&descriptor, Stage::Doomed);
    assert_eq!(find(&reader, &id(1)), Ok(place(1)));
    remove(&mut writer, descriptor);
    assert_eq!(find(&reader, &id(1)), Err(Absent::Missing));
    let next = writer.insert(&id(2), place(2)).unwrap();
    assert_eq!((next.index(), writer.state(&next)), (0, State::new(1, Stage::Sealed)));
}

#[test]
fn what_has_no_room_is_asked_of_the_store() {
    let (mut writer, reader, _) = index(2);
    let first = writer.insert(&id(1), place(1)).unwrap();
    writer.insert(&id(2), place(2)).unwrap();
    assert_eq!(writer.insert(&id(3), place(3)), None);
    assert_eq!(writer.unindexed(), 1);
    for absent in [3, 4] {
        assert_eq!(find(&reader, &id(absent)), Err(Absent::Unknown));
    }
    assert_eq!(find(&reader, &id(2)), Ok(place(2)));
    remove(&mut writer, first);
    writer.forget_unindexed();
    assert_eq!(find(&reader, &id(3)), Err(Absent::Missing));
}

#[test]
fn any_operations_agree_with_a_map() {
    let (games, capacity) = if cfg!(miri) { (400, 8) } else { (20_000, 64) };
    let (mut writer, reader, _) = index(capacity);
    let (mut random, mut model) = (Seeded(11), HashMap::new());
    for _ in 0..games {
        let n = random.below(2 * u64::from(capacity));
        match model.remove(&n) {
            Some(descriptor) => remove(&mut writer, descriptor),
            None if model.len() < capacity as usize => {
                model.insert(n, writer.insert(&id(n), place(n)).unwrap());
            }
            None => assert_eq!(find(&reader, &id(n)), Err(Absent::Missing)),
        }
        if random.below(100) == 0 {
            writer.rebuild();
        }
        let asked = random.below(2 * u64::from(capacity));
        let expected = model.get(&asked).map(|_| place(asked)).ok_or(Absent::Missing);
        assert_eq!(find(&reader, &id(asked)), expected);
        assert_eq!(writer.len(), model.len());
    }
    for n in 0..2 * u64::from(capacity) {
        assert_eq!(find(&reader, &id(n)).is_ok(), model.contains_key(&n));
    }
}

/// Ids whose searches begin in `slot` of a table with `slots`.
fn beginning_in(slot: u64, slots: u64) -> impl Iterator<Item = ObjectId> {
    (0..).map(id).filter(move |id| IdWords::new(id).hash(KEY) % slots == slot)
}

#[test]
#[cfg_attr(miri, ignore = "ten thousand ids take minutes")]
fn a_search_has_an_end() {
    let (mut writer, reader, _) = index(128);
    let ids: Vec<_> = beginning_in(0, 256).take(PROBE_LIMIT + 1).collect();
    let mut entered: Vec<_> = ids[..PROBE_LIMIT].iter().map(|id| writer.insert(id, place(1)).unwrap()).collect();
    assert_eq!(writer.insert(&ids[PROBE_LIMIT], place(1)), None);
    assert_eq!(writer.len(), PROBE_LIMIT);
    assert!(ids[..PROBE_LIMIT].iter().all(|id| find(&reader, id).is_ok()));
    assert_eq!(find(&reader, &ids[PROBE_LIMIT]), Err(Absent::Unknown));
    remove(&mut writer, entered.remove(30));
    writer.forget_unindexed();
    // The chain is as long as before, by a tombstone.
    assert_eq!(find(&reader, &ids[PROBE_LIMIT]), Err(Absent::Unknown));
    writer.insert(&ids[PROBE_LIMIT], place(2)).unwrap();
    assert_eq!(find(&reader, &ids[PROBE_LIMIT]), Ok(place(2)));
}

/// A new table is filled in another order than the old one was, and then the chain of one id may be full.
#[test]
#[cfg_attr(miri, ignore = "ten thousand ids take minutes")]
fn what_finds_no_slot_in_a_new_table_is_not_missing() {
    let (mut writer, reader, _) = index(256);
    let in_the_first: Vec<_> = beginning_in(0, 512).take(2).collect();
    writer.insert(&in_the_first[0], place(0)).unwrap();
    // These make the second one's descriptor a late one, and their own are used by those who come after it.
    let others = beginning_in(300, 512).take(PROBE_LIMIT - 1);
    let others: Vec<_> = others.map(|id| writer.insert(&id, place(0)).unwrap()).collect();
    let late = writer.insert(&in_the_first[1], place(9)).unwrap();
    others.into_iter().for_each(|descriptor| remove(&mut writer, descriptor));
    let _in_the_second: Vec<_> =
        beginning_in(1, 512).take(PROBE_LIMIT - 1).map(|id| writer.insert(&id, place(1)).unwrap()).collect();
    assert_eq!((find(&reader, &in_the_first[1]), writer.unindexed()), (Ok(place(9)), 0));
    writer.rebuild();
    assert_eq!((find(&reader, &in_the_first[1]), writer.unindexed()), (Err(Absent::Unknown), 1));
    assert!(beginning_in(1, 512).take(PROBE_LIMIT - 1).all(|id| find(&reader, &id) == Ok(place(1))));
    assert_eq!(find(&reader, &id(u64::MAX)), Err(Absent::Unknown));
    remove(&mut writer, late);
    assert_eq!((find(&reader, &in_the_first[1]), writer.unindexed()), (Err(Absent::Unknown), 0));
    assert_eq!(find(&reader, &id(u64::MAX)), Err(Absent::Missing));
}

#[test]
fn numbers_out_of_bounds_are_named() {
    for wrong in [0, MOST_OBJECTS + 1] {
        let error = Geometry::new(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("not {wrong}")), "{error}");
    }
    assert!(Geometry::new(MOST_OBJECTS).is_ok());
    let geometry = Geometry::new(3).unwrap();
    let short = Words::private(geometry.words() - 1);
    assert!(matches!(IndexWriter::create(short, geometry, 0, KEY), Err(Error::Protocol(_))));
}

#[test]
fn a_header_that_lies_is_refused() {
    for (at, value) in [(0, 1), (1, 2), (3, 0), (3, 5), (3, u64::MAX)] {
        let (_, _, words) = index(4);
        words.all()[at].store(value, Ordering::Relaxed);
        assert!(matches!(IndexReader::attach(&words), Err(Error::Protocol(_))), "word {at} is {value}");
    }
    assert!(matches!(IndexReader::attach(&Words::private(3)), Err(Error::Protocol(_))));
}

#[test]
fn any_words_are_read_without_harm() {
    let (mut writer, reader, words) = index(8);
    let _kept: Vec<_> = (0..8).map(|n| writer.insert(&id(n), place(n)).unwrap()).collect();
    let mut random = Seeded(5);
    for _ in 0..if cfg!(miri) { 200 } else { 20_000 } {
        let word = &words.all()[random.below(words.all().len() as u64) as usize];
        let value = match random.below(3) {
            0 => random.below(u64::MAX),
            1 => entry(IdWords::new(&id(random.below(8))).hash(KEY), random.below(20) as usize),
            _ => random.below(4),
        };
        word.store(value, Ordering::Relaxed);
        let _ = find(&reader, &id(random.below(8)));
        let _ = reader.store_is_alive();
        let _ = IndexReader::attach(&words);
    }
}

#[test]
fn slots_and_states_hold_what_they_were_given() {
    let hash = 0xabcd_0000_0000_0001;
    assert_eq!(index_in(entry(hash, 7), hash), Some(7));
    assert_eq!(index_in(entry(hash, 7), 0xabce_0000_0000_0001), None);
    assert_eq!((index_in(0, 0), index_in(u64::MAX, u64::MAX)), (None, None));
    for stage in [Stage::Free, Stage::Sealed, Stage::Doomed, Stage::Condemned] {
        assert_eq!((State::new(9, stage).stage(), State::new(9, stage).generation()), (stage, 9));
    }
    assert_eq!(State(0x9ff).stage(), Stage::Free);
    assert_eq!(IdWords::new(&id(77)).id(), id(77));
}

/// Half of the bits change when one bit of the id does, also among those that choose the slot and the tag.
#[test]
fn the_hash_uses_every_bit_of_the_id() {
    let bytes = *id(3).as_bytes();
    for bit in 0..160 {
        let mut other = bytes;
        other[bit / 8] ^= 1 << (bit % 8);
        let hash = |bytes| IdWords::new(&ObjectId::new(bytes)).hash([0x9e37_79b9, 0x7f4a_7c15_1234_5678]);
        let changed = hash(bytes) ^ hash(other);
        assert!(changed & 0xf_ffff != 0 && changed >> 48 != 0, "bit {bit}: {changed:#x}");
    }
}
