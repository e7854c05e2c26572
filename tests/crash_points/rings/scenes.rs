//! Where somebody dies in a ring: for each point who comes by there, beside whom, and what was before.

use plasma_store::client::ring::Delivery;
use plasma_store::crash::Point::{self, *};

use super::part::Part;

/// Who gets a message, and whether the oldest goes when nothing is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub delivery: Delivery,
    pub drops_oldest: bool,
}

pub const PLAIN: Mode = Mode { delivery: Delivery::AtMostOnce, drops_oldest: false };
const AGAIN: Mode = Mode { delivery: Delivery::AtLeastOnce, drops_oldest: false };
const DROPS: Mode = Mode { delivery: Delivery::AtMostOnce, drops_oldest: true };
const ALL: Mode = Mode { delivery: Delivery::Broadcast, drops_oldest: false };
const ALL_DROPS: Mode = Mode { delivery: Delivery::Broadcast, drops_oldest: true };

/// Who does something while somebody lives who is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    Both,
    Producers,
    Consumers,
    Nobody,
}

/// One scene. It is played again and again, in one mode after the other.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub point: Point,
    pub part: Part,
    pub modes: &'static [Mode],
    pub beside: Beside,
    /// Who is to die pauses; who lives does.
    pub is_slow: bool,
    pub are_slow: bool,
    /// Who died before, and what it had come by at most so often.
    pub before: Option<(Point, Part, u64)>,
    /// Messages that are there at first.
    pub filled: u64,
    /// It dies when it comes by so often at most.
    pub hits: u64,
}

const TAKEN: &[Mode] = &[PLAIN, AGAIN];
const READ: &[Mode] = &[ALL];
const ANY: &[Mode] = &[PLAIN, AGAIN, ALL];

/// Somebody dies beside those who go on.
const fn amid(modes: &'static [Mode], point: Point, part: Part) -> Scene {
    let (beside, hits) = (Beside::Both, 40);
    Scene { point, part, modes, beside, is_slow: false, are_slow: false, before: None, filled: 0, hits }
}

/// Others sleep, as nobody but the slow one who dies does anything for them.
const fn beside(modes: &'static [Mode], point: Point, part: Part, beside: Beside) -> Scene {
    Scene { beside, is_slow: true, hits: 10, ..amid(modes, point, part) }
}

/// It sleeps, as the others are slow.
const fn waiting(modes: &'static [Mode], point: Point, part: Part) -> Scene {
    Scene { are_slow: true, hits: 10, ..amid(modes, point, part) }
}

/// It comes, and leaves, or ends something; soon.
const fn soon(modes: &'static [Mode], point: Point, part: Part, hits: u64) -> Scene {
    Scene { hits, ..amid(modes, point, part) }
}

/// It finds what another has left, as nobody else does anything.
const fn behind(modes: &'static [Mode], point: Point, part: Part, before: (Point, Part, u64), filled: u64) -> Scene {
    let before = Some(before);
    Scene { before, filled, beside: Beside::Nobody, hits: 1, ..amid(modes, point, part) }
}

/// All scenes.
pub fn scenes() -> impl Iterator<Item = Scene> {
    ONE_GETS_IT
        .iter()
        .chain(ALL_GET_IT)
        .chain(THE_OLDEST_GOES)
        .chain(THE_END)
        .chain(BEHIND_ANOTHER)
        .chain(ASLEEP)
        .copied()
}

const ONE_GETS_IT: &[Scene] = &[
    soon(ANY, SlotsPrepared, Part::Make, 3),
    soon(ANY, SlotsMapped, Part::Visit, 5),
    amid(TAKEN, SlotAcquired, Part::Fill),
    amid(TAKEN, MessageFilled, Part::Fill),
    amid(TAKEN, HeaderBegun, Part::Fill),
    amid(TAKEN, HeaderWritten, Part::Fill),
    amid(TAKEN, SlotShown, Part::Fill),
    amid(TAKEN, PositionNoted, Part::Fill),
    amid(TAKEN, CellFilled, Part::Fill),
    amid(TAKEN, TailMoved, Part::Fill),
    amid(TAKEN, SlotFreed, Part::Fill),
    amid(TAKEN, SlotFreed, Part::Take),
    amid(TAKEN, MessageTaken, Part::Take),
    amid(TAKEN, HeadMoved, Part::Take),
    soon(ANY, SlotsLeft, Part::Visit, 5),
];

const ALL_GET_IT: &[Scene] = &[
    amid(READ, SlotAcquired, Part::Fill),
    amid(READ, MessageAddressed, Part::Fill),
    amid(READ, SlotShown, Part::Fill),
    amid(READ, PositionNoted, Part::Fill),
    amid(READ, CellFilled, Part::Fill),
    amid(READ, TailMoved, Part::Fill),
    amid(READ, HeadPassed, Part::Fill),
    amid(READ, ReadBegun, Part::Take),
    amid(READ, BitCleared, Part::Take),
    Scene { is_slow: true, ..amid(READ, LastBitCleared, Part::Take) },
    Scene { is_slow: true, ..amid(READ, ReadFreed, Part::Take) },
    soon(READ, PlaceClaimed, Part::Visit, 5),
    soon(READ, PlaceCounted, Part::Visit, 5),
    soon(READ, JoinNoted, Part::Visit, 5),
    soon(READ, PlaceTaken, Part::Visit, 5),
    soon(READ, PlaceGivenUp, Part::Visit, 5),
    soon(READ, LeaveBegun, Part::Visit, 5),
    soon(READ, LeaveCleared, Part::Visit, 5),
    soon(READ, PlaceEmptied, Part::Visit, 5),
    soon(READ, LeaveCounted, Part::Visit, 5),
];

const THE_OLDEST_GOES: &[Scene] = &[
    Scene { are_slow: true, ..amid(&[DROPS, ALL_DROPS], OldestDropped, Part::Fill) },
    Scene { are_slow: true, ..amid(&[ALL_DROPS], BitsDropped, Part::Fill) },
    Scene { are_slow: true, ..amid(&[ALL_DROPS], HeadPassed, Part::Fill) },
    amid(&[DROPS, ALL_DROPS], CellFilled, Part::Fill),
    amid(&[DROPS], MessageTaken, Part::Take),
    amid(&[ALL_DROPS], ReadBegun, Part::Take),
];

const THE_END: &[Scene] = &[
    soon(ANY, CloseSaid, Part::Close, 1),
    // Who takes from a ring that is closed may be faster.
    Scene { beside: Beside::Nobody, ..soon(ANY, EndPlaced, Part::Close, 1) },
    soon(ANY, SlotWithdrawn, Part::Close, 2),
    soon(ANY, AbortSaid, Part::Abort, 1),
];

const BEHIND_ANOTHER: &[Scene] = &[
    behind(ANY, EndPlaced, Part::Take, (CloseSaid, Part::Close, 1), 0),
    behind(TAKEN, TailHelped, Part::Fill, (CellFilled, Part::Fill, 3), 0),
    behind(TAKEN, HeadHelped, Part::Take, (MessageTaken, Part::Take, 3), 4),
    behind(&[AGAIN], OrphansTold, Part::Take, (MessageTaken, Part::Take, 2), 4),
    behind(&[AGAIN], OrphansUntold, Part::Take, (HeadMoved, Part::Take, 2), 4),
    behind(&[AGAIN], OrphanTaken, Part::Take, (MessageTaken, Part::Take, 2), 4),
    behind(TAKEN, DeadSlotFreed, Part::Fill, (SlotAcquired, Part::Fill, 2), 1),
    behind(TAKEN, DeadSlotFreed, Part::Fill, (SlotShown, Part::Fill, 2), 1),
    behind(&[PLAIN], DeadSlotFreed, Part::Take, (MessageTaken, Part::Take, 2), 4),
    behind(READ, DeadSlotFreed, Part::Fill, (MessageAddressed, Part::Fill, 2), 1),
    behind(READ, DeadSlotFreed, Part::Fill, (SlotShown, Part::Fill, 2), 1),
    behind(READ, LastBitCleared, Part::Fill, (SlotShown, Part::Fill, 2), 1),
    behind(READ, DeadPlaceEmptied, Part::Fill, (PlaceTaken, Part::Take, 1), 0),
];

const ASLEEP: &[Scene] = &[
    waiting(ANY, AlarmMarked, Part::Take),
    waiting(ANY, AlarmHeard, Part::Take),
    Scene { beside: Beside::Consumers, ..waiting(ANY, AlarmMarked, Part::Fill) },
    Scene { beside: Beside::Consumers, ..waiting(ANY, AlarmHeard, Part::Fill) },
    beside(ANY, AlarmCounted, Part::Fill, Beside::Consumers),
    beside(TAKEN, AlarmCounted, Part::Take, Beside::Producers),
    // Quick, so that it publishes once more before those who were woken sleep again.
    Scene { beside: Beside::Consumers, hits: 10, ..amid(ANY, AlarmIdle, Part::Fill) },
    // Not where it is handed out again: one thread rings, and another may have noted a release and not made it.
    waiting(&[PLAIN, ALL], PollRung, Part::Poll),
];
