//! Both sides of a ring in plain buffers, which Miri runs too: what is written comes out, and the store survives any words.

use super::collector::{Collector, Taken};
use super::record::{Outcome, Record, RecordWords};
use super::submitter::Submitter;
use super::{AT_AWAITED, AT_RECORDS, AT_SLEEPERS, AT_TAIL, BELLS, PEER_WORDS, RECORD_WORDS, SLOTS, STORE_WORDS};
use crate::error::Error;
use crate::object::{Location, ObjectId};
use crate::shm::seeded::Seeded;
use crate::shm::sync::{AtomicU64, Ordering};
use crate::shm::words::Words;

/// Words of any value.
struct Random(Seeded);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Seeded(seed))
    }

    fn next(&mut self) -> u64 {
        self.0.below(u64::MAX)
    }
}

/// A ring, and the words of its peer for whoever lies.
struct Ring {
    submitter: Submitter,
    collector: Collector,
    peers: Words<AtomicU64>,
}

fn ring() -> Ring {
    let (peers, stores) = (Words::private(PEER_WORDS), Words::private(STORE_WORDS));
    let (submitter, collector) = (Submitter::new(&peers, &stores).unwrap(), Collector::new(&peers, &stores).unwrap());
    Ring { submitter, collector, peers }
}

impl Ring {
    fn set_tail(&self, tail: u64) {
        self.peers.all()[AT_TAIL].store(tail, Ordering::SeqCst);
    }

    /// The error that the next take ends with.
    fn refusal(&mut self) -> String {
        match self.collector.take() {
            Err(Error::Protocol(text)) => text,
            other => panic!("{other:?}"),
        }
    }
}

fn any_record(random: &mut Random) -> Record {
    let id = ObjectId::new(std::array::from_fn(|_| random.next() as u8));
    let [a, b, c] = std::array::from_fn(|_| random.next());
    let flag = random.next() % 2 == 1;
    match random.next() % 9 {
        0 => Record::Put { id, data_size: a, metadata_size: b, staged: c, evict: flag },
        1 => Record::Create { id, data_size: a, metadata_size: b, evict: flag, ttl_ms: c },
        2 => Record::Seal { id, release: flag, next: a },
        3 => Record::Abort { id },
        4 => Record::Release { id },
        5 => Record::Delete { id },
        6 => Record::Want { id, bell: a },
        7 => Record::Publish { id, data_size: a, metadata_size: b, evict: flag, granted: c, next: random.next() },
        _ => Record::Unwant { bell: a },
    }
}

fn any_outcome(random: &mut Random) -> Outcome {
    let [offset, data_size, metadata_size] = std::array::from_fn(|_| random.next());
    let location = Location { segment: random.next() as i32, offset, data_size, metadata_size };
    Outcome { refusal: random.next() as i32, location }
}

#[test]
fn records_come_out_as_they_went_in() {
    let mut random = Random::new(1);
    for _ in 0..200 {
        let record = any_record(&mut random);
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }
}

#[test]
fn records_that_are_put_back_are_taken_again() {
    let Ring { submitter, mut collector, peers } = ring();
    let mut random = Random::new(3);
    let records: Vec<_> = (0..9).map(|_| any_record(&mut random)).collect();
    records.iter().zip(0..).for_each(|(record, number)| submitter.submit(number, record));
    let take = |collector: &mut Collector| collector.take().unwrap().map(|taken| (taken.number, taken.record));
    assert_eq!((collector.taken(), collector.submitted()), (0, 9));
    (0..5).for_each(|number| assert_eq!(take(&mut collector), Some((number, records[number as usize]))));
    collector.put_back(2);
    collector.served(0);
    assert_eq!((submitter.served(), collector.taken(), collector.submitted()), (2, 2, 9));
    (2..9).for_each(|number| assert_eq!(take(&mut collector), Some((number, records[number as usize]))));
    collector.put_back(9);
    assert_eq!(take(&mut collector), None);
    // What cannot be is no more than the most that can.
    peers.all()[AT_TAIL].store(u64::MAX, Ordering::SeqCst);
    assert_eq!(collector.submitted(), 9 + SLOTS as u64);
}

#[test]
fn outcomes_come_out_as_they_went_in() {
    let mut random = Random::new(2);
    for _ in 0..200 {
        let outcome = any_outcome(&mut random);
        assert_eq!(Outcome::decode(outcome.encode()), outcome);
    }
}

#[test]
fn every_record_arrives_once_in_its_order_and_its_outcome_is_its_own() {
    let (mut ring, mut random) = (ring(), Random::new(3));
    let (mut submitted, mut taken, mut outcomes) = (0, 0, Vec::new());
    let mut records = Vec::new();
    for _ in 0..4 * SLOTS {
        let room = SLOTS as u64 - (submitted - taken);
        for _ in 0..random.next() % (room + 1).min(40) {
            records.push(any_record(&mut random));
            ring.submitter.submit(submitted, &records[submitted as usize]);
            submitted += 1;
        }
        while random.next() % 8 > 0 && ring.collector.has_more() {
            let Taken { number, record, is_awaited } = ring.collector.take().unwrap().unwrap();
            assert_eq!((number, record, is_awaited), (taken, records[taken as usize], true));
            assert_eq!(ring.submitter.outcome(number), None, "an outcome before there is one");
            outcomes.push(any_outcome(&mut random));
            ring.collector.done(number, outcomes.last().unwrap());
            assert_eq!(ring.submitter.outcome(number).as_ref(), outcomes.last());
            taken += 1;
        }
    }
    assert!(taken > SLOTS as u64, "no slot was used twice");
}

#[test]
fn what_nobody_awaits_is_served_with_others_and_has_an_outcome_only_when_refused() {
    let mut ring = ring();
    (0..5).for_each(|number| ring.submitter.submit_unawaited(number, &Record::Unwant { bell: number }));
    ring.submitter.submit(5, &Record::Unwant { bell: 5 });
    for number in 0..6 {
        let taken = ring.collector.take().unwrap().unwrap();
        assert_eq!(taken, Taken { number, record: Record::Unwant { bell: number }, is_awaited: number == 5 });
    }
    let refused = Outcome { refusal: 7, ..Outcome::default() };
    ring.collector.done(3, &refused);
    assert_eq!(ring.submitter.served(), 0);
    ring.collector.served(2);
    assert_eq!(ring.submitter.served(), 4);
    let outcomes: Vec<_> = (0..6).map(|number| ring.submitter.outcome(number)).collect();
    assert_eq!(outcomes, [None, None, None, Some(refused), None, None]);
    ring.collector.served(0);
    assert_eq!(ring.submitter.served(), 6);
}

#[test]
fn whoever_waits_until_records_are_served_says_how_many() {
    let mut ring = ring();
    (0..3).for_each(|number| ring.submitter.submit_unawaited(number, &Record::Unwant { bell: 0 }));
    let doze = ring.submitter.until_served(3);
    assert!(doze.begin(doze.now()), "nothing has happened yet");
    assert_eq!(ring.peers.all()[AT_AWAITED].load(Ordering::SeqCst), 3);
    (0..3).for_each(|_| _ = ring.collector.take().unwrap());
    ring.collector.served(0);
    assert!(!ring.submitter.until_served(3).begin(0));
    ring.submitter.end_awaiting();
    assert_eq!(ring.peers.all()[AT_AWAITED].load(Ordering::SeqCst), 0);
}

#[test]
fn a_bell_changes_its_own_word_only() {
    let ring = ring();
    let words = || (0..BELLS).map(|bell| ring.submitter.until_rung(bell).now()).collect::<Vec<_>>();
    ring.collector.ring(BELLS - 1);
    ring.collector.ring(0);
    ring.collector.ring(0);
    let rung = words();
    assert_eq!((rung[0], rung[BELLS - 1], rung.iter().sum::<u64>()), (2, 1, 3));
    for bell in [BELLS, BELLS + 1, usize::MAX] {
        ring.collector.ring(bell);
    }
    assert_eq!(words(), rung);
}

#[test]
fn whoever_is_about_to_sleep_is_told_when_there_is_no_need_to() {
    let mut ring = ring();
    ring.submitter.submit(0, &Record::Unwant { bell: 0 });
    let old = ring.submitter.until_done(0).now();
    assert!(ring.submitter.until_done(0).begin(old), "nothing has happened yet");
    let number = ring.collector.take().unwrap().unwrap().number;
    ring.collector.done(number, &Outcome::default());
    assert!(!ring.submitter.until_done(0).begin(old));
    let old = ring.submitter.until_rung(5).now();
    assert!(ring.submitter.until_rung(5).begin(old));
    ring.collector.ring(5);
    assert!(!ring.submitter.until_rung(5).begin(old));
    ring.submitter.end_waiting(5);
    assert_eq!(ring.peers.all()[AT_SLEEPERS + 5].load(Ordering::SeqCst), 0);
}

#[test]
fn more_records_than_there_can_be_are_refused_by_their_number() {
    for tail in [SLOTS as u64 + 1, 1 << 32, u64::MAX] {
        let mut ring = ring();
        ring.set_tail(tail);
        assert!(ring.collector.has_more());
        assert!(ring.refusal().contains(&tail.to_string()));
    }
}

#[test]
fn a_tail_that_goes_back_is_refused_by_the_number_that_it_makes() {
    let mut ring = ring();
    (0..3).for_each(|n| ring.submitter.submit(n, &Record::Unwant { bell: n }));
    (0..3).for_each(|_| _ = ring.collector.take().unwrap().unwrap());
    ring.set_tail(1);
    assert!(ring.refusal().contains(&2_u64.wrapping_neg().to_string()));
}

#[test]
fn a_kind_that_is_none_is_refused_by_its_number_and_the_records() {
    for kind in [0, 10, 255, 1 << 10 | 1, 1 << 63 | 3, u64::MAX] {
        let mut ring = ring();
        ring.submitter.submit(0, &Record::Unwant { bell: 0 });
        ring.collector.take().unwrap().unwrap();
        ring.peers.all()[AT_RECORDS + RECORD_WORDS].store(kind, Ordering::Relaxed);
        ring.set_tail(2);
        let text = ring.refusal();
        assert!(text.contains("record 1 ") && text.contains(&format!("{kind:#x}")), "{text}");
    }
}

/// Words that mean something more often than any words do.
fn any_word(random: &mut Random, near: u64) -> u64 {
    match random.next() % 6 {
        0 => random.next(),
        1 => (random.next() % 10) | ((random.next() % 2) << 8),
        2 => u64::MAX - random.next() % 3,
        3 => near.wrapping_add(random.next() % (2 * SLOTS as u64)).wrapping_sub(SLOTS as u64),
        4 => near.wrapping_add(random.next() % 4),
        _ => 0,
    }
}

/// Takes until nothing more is there, or what is there cannot be. Returns how many were taken.
fn take_all(ring: &mut Ring) -> u64 {
    for taken in 0.. {
        match ring.collector.take() {
            Ok(Some(Taken { number, record, .. })) => {
                assert!(Record::decode(&record.encode()) == Some(record));
                ring.collector.done(number, &Outcome::default());
            }
            Ok(None) => return taken,
            Err(Error::Protocol(text)) => {
                assert!(text.chars().any(|letter| letter.is_ascii_digit()), "{text}");
                return taken;
            }
            Err(other) => panic!("{other}"),
        }
        assert!(taken <= SLOTS as u64, "more than there can be");
    }
    0
}

#[test]
fn any_words_of_a_peer_are_survived() {
    let mut random = Random::new(4);
    let mut most = 0;
    for _ in 0..if cfg!(miri) { 10 } else { 300 } {
        let (mut ring, mut head) = (ring(), 0);
        for _ in 0..20 {
            // Miri takes for ever to wake sleepers who are not there.
            let is_played = |at: usize| !cfg!(miri) || at >= AT_RECORDS && (at - AT_RECORDS) % RECORD_WORDS < 8;
            let words = ring.peers.all().iter().enumerate().skip(AT_SLEEPERS);
            words.filter(|(at, _)| is_played(*at)).for_each(|(_, word)| {
                let value = any_word(&mut random, head);
                word.store(value, Ordering::Relaxed);
            });
            ring.set_tail(any_word(&mut random, head));
            ring.collector.has_more();
            head += take_all(&mut ring);
            ring.collector.ring(random.next() as usize % (2 * BELLS));
        }
        most = most.max(head);
    }
    assert!(most > 2, "no liar came so far that anything was taken");
}

#[test]
fn what_any_words_mean_means_the_same_once_it_is_written_again() {
    let (mut random, mut known) = (Random::new(5), 0);
    for _ in 0..2000 {
        let words: RecordWords = std::array::from_fn(|_| any_word(&mut random, 3));
        if let Some(record) = Record::decode(&words) {
            known += 1;
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }
    assert!(known > 20, "{known} of 2000");
}

#[test]
fn words_that_are_too_few_are_refused_by_their_numbers() {
    let (peers, stores) = (Words::private(PEER_WORDS), Words::private(STORE_WORDS));
    let short = |count: usize| Words::private(count);
    let refused = [
        Collector::new(&short(PEER_WORDS - 1), &stores).map(drop),
        Collector::new(&peers, &short(STORE_WORDS - 1)).map(drop),
        Submitter::new(&short(PEER_WORDS - 1), &stores).map(drop),
        Submitter::new(&peers, &short(STORE_WORDS - 1)).map(drop),
    ];
    for (outcome, count) in refused.into_iter().zip([PEER_WORDS - 1, STORE_WORDS - 1].into_iter().cycle()) {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains(&count.to_string()), "{text}");
    }
}
