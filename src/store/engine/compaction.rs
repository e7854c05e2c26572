//! Compaction: what is left in a leased segment moves, so that the memory of what was deleted there can be had again.
//!
//! Free room of such a segment can only be used by its producer. Where memory is short although the objects would fit, the store
//! moves the objects of the segment that gains most into segments of its own, one after the other, and lets go of the segment. It
//! does the same where many producers have left little behind. Objects that somebody holds or reads cannot move; a segment with
//! one of them is left alone.

use foldhash::{HashMap, HashSet};

use crate::object::ObjectId;
use crate::store::engine::Engine;
use crate::store::engine::copies::NOBODY;
use crate::store::engine::creation::{Growing, Purpose};
use crate::store::leases::Producer;
use crate::store::objects::{Object, Residence, SecondPlace};
use crate::store::space::{Pages, SLICE};

/// A segment is worth moving when this share of its memory is gained.
const WORTH: u64 = 16;

/// So many segments may be left behind by producers: each takes a descriptor of the store's and a mapping of every reader's. When
/// there are more, half of them are emptied.
const MOST_LEFT_BEHIND: usize = 512;

/// A segment, with what lies there.
type Victim = (i32, Vec<ObjectId>);

/// A segment that is being emptied.
#[derive(Debug)]
pub(super) struct Compaction {
    segment: i32,
    /// What is still to be moved.
    ids: Vec<ObjectId>,
    /// What is moving.
    moving: Option<ObjectId>,
    /// Bytes of all that lay there.
    bytes: u64,
    /// Bytes of memory behind a segment of the store's own.
    own: Option<u64>,
    /// Bytes of memory that were taken for what has moved.
    taken: u64,
    /// Segments that are to be emptied next.
    next: Vec<Victim>,
}

impl<P: Pages> Engine<P> {
    /// Whether a compaction is under way, or begins now as there is something to gain.
    pub(super) fn compact(&mut self) -> bool {
        if self.compaction.is_some() || self.compaction_has_failed {
            return !self.compaction_has_failed;
        }
        self.space.leases_mut().take_back();
        let mut lying = self.what_can_move();
        let gains = self.space.leases().gains();
        let gains =
            gains.filter(|(segment, gain, backed)| lying.contains_key(segment) && *gain > 0 && *gain >= backed / WORTH);
        let best = gains.max_by_key(|(_, gain, _)| *gain);
        let victim = best.and_then(|(segment, ..)| lying.remove_entry(&segment));
        self.empty(victim.into_iter().collect());
        self.compaction.is_some()
    }

    /// Empties segments that producers left behind, when there are many.
    pub(super) fn clear_up(&mut self) {
        if self.compaction.is_some() || self.space.leases().left_behind() <= MOST_LEFT_BEHIND {
            return;
        }
        let mut lying = self.what_can_move();
        let mut left: Vec<_> =
            self.space.leases().of_nobody().filter(|(segment, _)| lying.contains_key(segment)).collect();
        left.sort_by_key(|(_, bytes)| *bytes);
        left.truncate(MOST_LEFT_BEHIND / 2);
        self.empty(left.iter().filter_map(|(segment, _)| lying.remove_entry(segment)).collect());
    }

    /// What lies in each segment where everything can move.
    fn what_can_move(&self) -> HashMap<i32, Vec<ObjectId>> {
        let mut lying: HashMap<i32, Vec<ObjectId>> = HashMap::default();
        let mut fixed = HashSet::default();
        for (id, object) in self.objects.iter() {
            let Some(segment) = object.place.map(|place| place.segment) else { continue };
            match self.can_move(object) {
                true => lying.entry(segment).or_default().push(*id),
                false => _ = fixed.insert(segment),
            }
        }
        lying.retain(|segment, _| !fixed.contains(segment));
        lying
    }

    /// Begins to empty the last of these segments; the others follow.
    fn empty(&mut self, mut victims: Vec<Victim>) {
        let Some((segment, ids)) = victims.pop() else { return };
        let bytes = ids.iter().filter_map(|id| self.objects.get(id)).map(Object::size).sum();
        let own = self.space.leases().own_bytes(segment);
        self.space.leases_mut().close(segment);
        self.space.allow(bytes);
        self.compaction = Some(Compaction { segment, ids, moving: None, bytes, own, taken: 0, next: victims });
    }

    fn can_move(&self, object: &Object) -> bool {
        let is_settled = object.is_sealed() && object.residence == Residence::Here && object.copy.is_none();
        is_settled
            && !object.immutable
            && object.holders == 0
            && !object.doomed
            && object.is_leased()
            && self.readers(object) == 0
    }

    /// Moves the next objects.
    pub(super) fn compact_on(&mut self) {
        let mut moved = 0;
        while moved < SLICE {
            let Some(compaction) = self.compaction.as_mut().filter(|compaction| compaction.moving.is_none()) else {
                return;
            };
            let Some(id) = compaction.ids.pop() else { return self.end_compaction() };
            compaction.moving = Some(id);
            moved += self.objects.get(&id).map_or(0, Object::size);
            self.begin_compacting(id);
        }
    }

    /// Moves all that is to be moved, for somebody who cannot come back.
    pub(super) fn finish_compaction(&mut self) {
        while self.compaction.is_some() {
            self.compact_on();
            if let Some(index) = self.growing.iter().position(|growing| self.is_compacted(growing.id)) {
                self.growing.remove(index).into_iter().for_each(|growing| self.grow(growing));
            }
        }
    }

    fn begin_compacting(&mut self, id: ObjectId) {
        // What was deleted meanwhile has left already.
        let Some(object) = self.objects.get(&id) else { return self.has_moved(id, true) };
        let place = match self.can_move(object) {
            true => self.space.reserve_move(object.size(), Some(Producer::Store)),
            false => None,
        };
        let (Some(place), Some(object)) = (place, self.objects.get_mut(&id)) else { return self.has_moved(id, false) };
        object.copy = Some(Box::new(SecondPlace { place: Some(place), moves: true, is_ready: false, holders: 0 }));
        self.hold_to_copy(id);
        let taken = self.space.missing_bytes(place);
        self.compaction.iter_mut().for_each(|compaction| compaction.taken += taken);
        self.grow(Growing::new(NOBODY, id, true, Purpose::Copy));
    }

    /// An object was moved, or could not be: then the others stay too.
    pub(super) fn has_moved(&mut self, id: ObjectId, succeeded: bool) {
        let Some(compaction) = self.compaction.as_mut().filter(|compaction| compaction.moving == Some(id)) else {
            return;
        };
        compaction.moving = None;
        if !succeeded {
            self.end_compaction();
            // Until something changes it would fail again.
            self.compaction_has_failed = true;
        }
    }

    /// An object stays where it is, as it is to be deleted; the others move on.
    pub(super) fn stop_moving(&mut self, id: ObjectId) {
        if self.is_compacted(id) {
            self.growing.retain(|growing| !(growing.id == id && growing.purpose == Purpose::Copy));
            self.drop_copy(id);
            self.has_moved(id, true);
            self.holder_left(id, true);
        }
    }

    fn end_compaction(&mut self) {
        if let Some(Compaction { segment, bytes, own, taken, next, .. }) = self.compaction.take() {
            self.space.leases_mut().open(segment);
            self.space.disallow(bytes);
            // A whole page is needed also for one byte. Moved from one of the store's segments to the next, it would move for ever.
            self.compaction_has_failed = own.is_some_and(|own| taken >= own);
            self.empty(next);
        }
    }

    /// Whether an object moves because its segment is being emptied.
    pub(super) fn is_compacted(&self, id: ObjectId) -> bool {
        self.compaction.as_ref().is_some_and(|compaction| compaction.moving == Some(id))
    }
}
