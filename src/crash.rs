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
