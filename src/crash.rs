//! Points at which a test has a process die, in the middle of what must not be left half done.
//!
//! In ordinary builds nothing of this is there. The compiler flag `--cfg crash_points` builds it in; the variable
//! `PLASMA_CRASH="RecordWritten 3 abort"` then ends the process when it comes by that point for the third time, by `abort` or by
//! `kill` (SIGKILL). `tests/crash_points/` does so at every point: `docs/testing.md`.
//!
//! A new point is a line in the list below and a call of [`at`] where it is. The test finds both, and tells when what it plays
//! never comes by.
#![forbid(unsafe_code)]

/// Who comes by a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client.
    Peer,
    /// A client that takes part in a ring of slots.
    Participant,
    /// The store.
    Store,
}

/// One list of all points, in the order of an object's life, from which follows what there is to know of them.
macro_rules! points {
    ($($side:ident { $($(#[$doc:meta])* $point:ident,)* })*) => {
        /// A point in the code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($($(#[$doc])* $point,)*)*
        }

        impl Point {
            /// All of them, with those who come by.
            pub const ALL: &[(Self, Side)] = &[$($((Self::$point, Side::$side),)*)*];
        }
    };
}

points! {
    Peer {
        /// It was given index and pins, and has not mapped them.
        IndexGiven,
        /// It has mapped them, and the store does not know.
        IndexMapped,
        /// It was given the files of a ring.
        RingGiven,
        /// It has mapped them, and the store does not know.
        RingMapped,
        /// Bytes of an object are staged, and there is no record of them.
        BytesStaged,
        /// A record is written, and the tail does not say so.
        RecordWritten,
        /// The tail says so, and the store sleeps.
        RecordSubmitted,
        /// A thread has said that it sleeps until its record is done.
        DozeBegun,
        /// An outcome was read, and its place is not free.
        OutcomeRead,
        /// A segment was given, for writing or reading, and is not mapped.
        SegmentGiven,
        /// It is mapped.
        SegmentMapped,
        /// Room that was granted is in use, and nobody has looked whether it stands.
        GrantBegun,
        /// What was put there is sealed, and the next room that was granted with that is not noted.
        PublishAnswered,
        /// An object was created, and nothing of it is written.
        ObjectCreated,
        /// All of it is written, and it is not sealed.
        ObjectFilled,
        /// It is sealed, and its creator has not noted it.
        SealAnswered,
        /// An object is pinned, and nobody has looked whether it is the right one.
        Pinned,
        /// A pin is taken back, and the store was not woken for it.
        Unpinned,
        /// A thread waits for an object, and the store knows.
        WantSubmitted,
        /// Its bell was rung, and it has not looked.
        BellHeard,
        /// It has the object, and the bell.
        BellKept,
        /// Watches were rung, and nobody was told of them.
        WatchHeard,
        /// The store has said which segments it wants back.
        RetiredTold,
        /// They are unmapped, and the store does not know.
        RetiredUnmapped,
        /// An object is shared, and its creator has not mapped by what the participants agree.
        ShareAnswered,
        /// Somebody takes part, and has mapped nothing.
        JoinAnswered,
        /// A lock says who has it, and its version does not say that somebody writes.
        LockTaken,
        /// It says so.
        LockWriting,
        /// It says that nobody writes any more, and the lock is not free.
        LockWritten,
        /// It is free, and nobody was woken.
        LockFreed,
        /// A shared object is unmapped by the one who freezes it, and the store was not asked.
        FreezeUnmapped,
        /// It is sealed, and the one who had that done has not noted it.
        FreezeAnswered,
    }
    Participant {
        /// The words of a ring of slots are made, in an object that nobody shares.
        SlotsPrepared,
        /// A ring is mapped, and nothing of it is used.
        SlotsMapped,
        /// A slot says who fills it, and nothing is in it.
        SlotAcquired,
        /// A message is in it, of which the header says nothing.
        MessageFilled,
        /// The header says how many bytes it has, and not what they are.
        HeaderBegun,
        /// It says everything, and the slot is not shown.
        HeaderWritten,
        /// It is written which readers the message is for, and the slot is not shown.
        MessageAddressed,
        /// A slot is shown, and has no position.
        SlotShown,
        /// It has noted a position, and the cell there is not filled.
        PositionNoted,
        /// The cell is filled, which is the publication, and the tail is where it was.
        CellFilled,
        /// The tail is moved on, and nobody was woken.
        TailMoved,
        /// The tail is moved on for another who had filled the cell.
        TailHelped,
        /// A slot that was shown found the end. It is free, and nobody was woken.
        SlotWithdrawn,
        /// A message has been taken, and the head is where it was.
        MessageTaken,
        /// The head is moved on, and who took the message has not seen it.
        HeadMoved,
        /// The head is moved on for another who had taken the message.
        HeadHelped,
        /// It is moved on over a message that nobody has still to read.
        HeadPassed,
        /// The slot of the oldest message is somebody's who fills it, and its cell is not passed.
        OldestDropped,
        /// A slot is given back, by who filled it or who read it, and nobody was woken.
        SlotFreed,
        /// The ring does not say any more that the dead had taken something, and nobody has looked for that.
        OrphansUntold,
        /// What a dead one had taken is another's, and the ring does not say that there may be more.
        OrphanTaken,
        /// A reader claims a place, and was not counted among those who came.
        PlaceClaimed,
        /// It was, and has not noted where it begins.
        PlaceCounted,
        /// It has, and messages are not for it.
        JoinNoted,
        /// Messages are for it, and that was not counted.
        PlaceTaken,
        /// A message says that a reader has begun with it, and the reader has not seen it.
        ReadBegun,
        /// A reader's bit is cleared, and there are others.
        BitCleared,
        /// The last one is cleared, and the slot is not free.
        LastBitCleared,
        /// The slot is free, and nobody was woken.
        ReadFreed,
        /// All bits of the oldest message are cleared by one who wants the slot, and has not got it.
        BitsDropped,
        /// A reader who leaves gets nothing new, and that was not counted.
        PlaceGivenUp,
        /// It was, and what was for it still is.
        LeaveBegun,
        /// One message is not for it any more.
        LeaveCleared,
        /// Its place is free, and that was not counted.
        PlaceEmptied,
        /// It was, and nobody was woken.
        LeaveCounted,
        /// A ring is closed, and the end is not in line.
        CloseSaid,
        /// The end is in line, and nobody was woken.
        EndPlaced,
        /// A ring is aborted, and nobody was woken.
        AbortSaid,
        /// What a dead one had is free, and nobody was woken.
        DeadSlotFreed,
        /// The ring says that the dead had taken something, and nobody was woken.
        OrphansTold,
        /// A dead one's place is free, and that was not counted.
        DeadPlaceEmptied,
        /// An alarm says that somebody sleeps, who does not yet.
        AlarmMarked,
        /// It has counted on, and who sleeps was not woken.
        AlarmCounted,
        /// Nobody slept, and it says that somebody does.
        AlarmIdle,
        /// Somebody was woken, and has not looked.
        AlarmHeard,
        /// A descriptor tells of a message, and another who sleeps for it was not woken.
        PollRung,
        /// All that somebody had came back, and the store does not know that it leaves.
        SlotsLeft,
    }
    Store {
        /// Pins for a peer are made, and it was not given them.
        PinsMade,
        /// A peer's pins are sealed and mapped, and do not count.
        PinsMapped,
        /// The files of a ring are made.
        RingMade,
        /// They are sealed and mapped, and nobody looks at them.
        RingOpened,
        /// A record is taken, and nothing was done for it.
        RecordTaken,
        /// It is served, and nobody was told.
        RecordServed,
        /// An outcome is written, and its number is not.
        OutcomeBegun,
        /// It is written, and who sleeps was not woken.
        OutcomeWritten,
        /// The store has said that it sleeps.
        SleepSaid,
        /// A file for leases is being made ready by the thread for that.
        PoolFileBegun,
        /// It is ready, and nobody knows.
        PoolFileReady,
        /// It was taken, and is no lease.
        PoolFileTaken,
        /// A file for a lease is made, and is no segment.
        LeaseMade,
        /// It is one, and the ledger does not know.
        LeaseEntered,
        /// An object has room, and no memory.
        RoomReserved,
        /// Its memory is there, and the ledger does not know.
        PagesAllocated,
        /// A segment goes to a peer, which was noted, and nothing was sent.
        SegmentLent,
        /// A control file is made, and nobody knows of it.
        ControlMade,
        /// An object has become everybody's, and nobody takes part in it.
        SharingBegun,
        /// Somebody is listed as a participant, and does not live.
        ParticipantEntered,
        /// Somebody is no participant any more, and lives.
        ParticipantLeft,
        /// A participant's life has changed, and those who sleep were not woken.
        LifeTurned,
        /// A control file goes to a participant, and nothing was sent.
        ControlLent,
        /// A shared object is sealed for the kernel, and has no control file; its index says that it is not sealed.
        SharingEnded,
        /// Bytes that were staged are being copied to their object.
        BytesCopied,
        /// Others can no longer map a segment for writing, and nothing in it is sealed.
        LeaseSealed,
        /// A file for one immutable object is a segment, and there is no object.
        OneMade,
        /// Nobody can write it any more, and its object is not sealed.
        OneSealed,
        /// The kernel has refused that, as somebody still can, and nobody was told.
        OneRefused,
        /// An object is sealed, and is not in the index.
        ObjectSealed,
        /// Its descriptor is filled in, and not valid.
        EntryBegun,
        /// It is valid, and in no slot.
        EntryPublished,
        /// It is in a slot.
        EntryListed,
        /// The other table is filled, and not in use.
        TableFilled,
        /// A waiter is there, and its bell does not ring.
        WantAdded,
        /// An object is held for a bell that was not rung.
        WantHeld,
        /// A bell has changed, and who sleeps by it was not woken.
        BellRung,
        /// A watch is listed as rung, and nobody has knocked.
        WatchListed,
        /// An object is condemned, and nobody has looked at the pins.
        EntryCondemned,
        /// It is out of its slot, and its descriptor is not free.
        EntryUnlisted,
        /// Room for a grant has memory, and does not stand.
        GrantMade,
        /// It stands, and its peer was not told.
        GrantStands,
        /// It has become an object's, which is not there.
        GrantUsed,
        /// It stands no more, and nobody has looked whether it is in use.
        GrantRevoked,
        /// An object is gone from the table of objects, and its room is not free.
        ObjectRemoved,
        /// An object that moves is copied, and lies where it lay.
        MoveCopied,
        /// It is nowhere in the index.
        MoveWithdrawn,
        /// A peer that left is in no list of connections, and has all that it had.
        PeerGone,
        /// Its pins and wants are gone, and its objects are not.
        PeerForgotten,
        /// Its segments are to be written by nobody, and the kernel does not know.
        LeaseEnded,
        /// The ledger knows that a segment is retired, and its file is open.
        SegmentRetired,
        /// The file is closed, and those who mapped it were not told.
        SegmentDropped,
    }
}

/// Comes by a point.
#[cfg(not(crash_points))]
#[inline(always)]
pub fn at(_: Point) {}

#[cfg(crash_points)]
pub use armed::at;

#[cfg(crash_points)]
mod armed {
    //! What the variable says, and how a process ends.

    use std::process::{abort, exit};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::getpid;

    use super::Point;

    /// What the process is to do.
    #[derive(Debug)]
    struct Order {
        point: Point,
        hits_left: AtomicU64,
        by: fn() -> !,
    }

    /// Comes by a point, and ends there if it is to.
    pub fn at(point: Point) {
        static ORDER: OnceLock<Option<Order>> = OnceLock::new();
        let Some(order) = ORDER.get_or_init(read).as_ref().filter(|order| order.point == point) else { return };
        if order.hits_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            (order.by)();
        }
    }

    fn read() -> Option<Order> {
        let said = std::env::var("PLASMA_CRASH").ok()?;
        let order = parse(&said);
        if order.is_none() {
            eprintln!("PLASMA_CRASH is a point, a number from 1 on, and abort or kill; it is {said:?}");
            exit(2);
        }
        order
    }

    fn parse(said: &str) -> Option<Order> {
        let [point, hit, by] = said.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let (point, _) = Point::ALL.iter().find(|(known, _)| format!("{known:?}") == point)?;
        let hits_left = AtomicU64::new(hit.parse().ok().filter(|hit| *hit > 0)?);
        let by = match by {
            "abort" => abort,
            "kill" => die,
            _ => return None,
        };
        Some(Order { point: *point, hits_left, by })
    }

    fn die() -> ! {
        loop {
            // Until it has come.
            let _ = kill(getpid(), Signal::SIGKILL);
        }
    }
}
