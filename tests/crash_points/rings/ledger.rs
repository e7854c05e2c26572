//! What all say of the messages of one ring, and whether that comes out even.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use plasma_store::client::ring::Delivery;
use plasma_store::crash::Point;

use super::Mode;
use super::message::BEHIND_PRODUCER;
use super::part::{Journal, Part};

/// Somebody who died.
#[derive(Debug)]
pub struct Dead {
    pub point: Point,
    pub part: Part,
    pub producer: u64,
    pub said: Journal,
}

/// Points at which a publication that had begun is none, and those at which it is one.
const UNPUBLISHED: [Point; 8] = [
    Point::SlotAcquired,
    Point::MessageFilled,
    Point::HeaderBegun,
    Point::HeaderWritten,
    Point::MessageAddressed,
    Point::SlotShown,
    Point::PositionNoted,
    Point::TailHelped,
];
const PUBLISHED: [Point; 2] = [Point::CellFilled, Point::TailMoved];

impl Dead {
    /// How many messages it may have published.
    fn published(&self) -> RangeInclusive<u64> {
        let Journal { begun, published, .. } = self.said;
        match self.part {
            Part::Fill if begun == published + 1 && UNPUBLISHED.contains(&self.point) => published..=published,
            Part::Fill if begun == published + 1 && PUBLISHED.contains(&self.point) => begun..=begun,
            _ => published..=begun,
        }
    }

    /// How many messages it has died with in hand of which it could not say so.
    fn unsaid(&self) -> RangeInclusive<u64> {
        match self.point {
            Point::MessageTaken | Point::HeadMoved if self.part.takes() => 1..=1,
            // Another thread of it may have been anywhere.
            Point::PollRung => 0..=1,
            _ => 0..=0,
        }
    }
}

/// The messages of one ring.
#[derive(Debug)]
pub struct Ledger {
    pub mode: Mode,
    /// How many those who live have published, by their number as producers.
    pub sent: BTreeMap<u64, u64>,
    /// What each of those got who live.
    pub got: Vec<Vec<u64>>,
    pub dead: Vec<Dead>,
}

fn producer(number: u64) -> u64 {
    number >> BEHIND_PRODUCER
}

impl Ledger {
    /// Fails when something is lost, doubled, out of order or made up. Returns how many messages came to those who live, how many the dead
    /// took with them, and how many were dropped.
    pub fn check(&self) -> [u64; 3] {
        let Mode { delivery, drops_oldest } = self.mode;
        self.check_order();
        let lost = match delivery {
            Delivery::Broadcast => self.check_all_read_all(),
            _ => self.check_each_came_once(),
        };
        assert!(drops_oldest || self.may_be_lost().contains(&lost), "{lost} messages are lost: {:?}", self.dead);
        let came = self.got.iter().map(|got| got.len() as u64).sum();
        if drops_oldest { [came, 0, lost] } else { [came, lost, 0] }
    }

    /// What is lost: where nothing is handed out again, what the dead could not say that they had.
    fn may_be_lost(&self) -> RangeInclusive<u64> {
        let sum = |bound: fn(&RangeInclusive<u64>) -> u64| self.dead.iter().map(|dead| bound(&dead.unsaid())).sum();
        let is_for_one = self.mode.delivery == Delivery::AtMostOnce;
        if is_for_one { sum(|range| *range.start())..=sum(|range| *range.end()) } else { 0..=0 }
    }

    fn sent(&self) -> BTreeMap<u64, RangeInclusive<u64>> {
        let dead = self.dead.iter().map(|dead| (dead.producer, dead.published()));
        self.sent.iter().map(|(producer, sent)| (*producer, *sent..=*sent)).chain(dead).collect()
    }

    /// Messages of one producer come in its order, but for those that somebody had taken who died.
    fn check_order(&self) {
        let hands: usize = self.dead.iter().map(|dead| dead.said.in_hand().count() + 1).sum();
        let may_be_late = if self.mode.delivery == Delivery::AtLeastOnce { hands } else { 0 };
        let mut late = 0;
        for got in self.got.iter().chain(self.dead.iter().map(|dead| &dead.said.taken)) {
            let mut last = BTreeMap::new();
            for number in got {
                match last.get(&producer(*number)) {
                    Some(before) if before >= number => late += 1,
                    _ => drop(last.insert(producer(*number), *number)),
                }
            }
        }
        assert!(late <= may_be_late, "{late} messages are out of order: {self:?}");
    }

    /// Where one gets each message: it is got once. Returns how many are lost.
    fn check_each_came_once(&self) -> u64 {
        let mut seen = BTreeSet::new();
        let said = self.dead.iter().flat_map(|dead| &dead.said.released);
        for number in self.got.iter().flatten().chain(said) {
            assert!(seen.insert(*number), "message {number:#x} came twice: {:?}", self.dead);
        }
        if self.mode.delivery == Delivery::AtMostOnce {
            for number in self.dead.iter().flat_map(|dead| dead.said.in_hand()) {
                assert!(seen.insert(number), "message {number:#x} came to another too: {:?}", self.dead);
            }
        }
        self.lost_of(&seen)
    }

    /// How many are lost if these came, of which nobody has published one too many.
    fn lost_of(&self, seen: &BTreeSet<u64>) -> u64 {
        let sent = self.sent();
        let known = |number: &u64| sent.contains_key(&producer(*number));
        assert!(seen.iter().all(known), "nobody has sent that");
        let lost = |(producer, sent): (&u64, &RangeInclusive<u64>)| {
            let (first, behind) = (producer << BEHIND_PRODUCER, (producer + 1) << BEHIND_PRODUCER);
            let came: Vec<u64> = seen.range(first..behind).map(|number| number - first).collect();
            let whole = came.last().map_or(0, |last| last + 1).max(*sent.start());
            assert!(whole <= *sent.end(), "{producer} has sent {sent:?}, and {whole} came: {:?}", self.dead);
            whole - came.len() as u64
        };
        sent.iter().map(lost).sum()
    }

    /// Where all read: all of them have the same, and that is everything. Returns how many are lost.
    fn check_all_read_all(&self) -> u64 {
        let is_whole = self.mode.drops_oldest || self.got.iter().all(|got| *got == self.got[0]);
        assert!(is_whole, "readers have not seen the same: {:?}", self.dead);
        let lost = |got: &Vec<u64>| self.lost_of(&got.iter().copied().collect());
        self.got.iter().map(lost).max().unwrap_or_default()
    }
}
