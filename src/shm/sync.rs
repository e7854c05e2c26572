//! The atomics of shared pages, and the steps that keep them in order.
//!
//! The compiler flag `--cfg loom` replaces the atomics by loom's, which try every order in which threads may run. Each
//! [`Step`] can then be left out by a test, to see that the models notice. `--cfg plasma_mutant` leaves out
//! the barrier of a get in real processes (`pins/peer.rs`). In all other builds every step is taken, and asking costs
//! nothing.
#![forbid(unsafe_code)]

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// What must not be left out. `docs/native-path.md` says why, in the order in which they stand here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A pin is set before the state that it protects is looked at.
    PinFirst,
    /// What a peer reads after it pinned is read after the pin is there for all to see.
    PinBarrier,
    /// The id is compared under the pin.
    CompareId,
    /// What a peer read of an object it has read before its pin goes.
    ReleaseOrder,
    /// Pins are looked at after all can see that the object is condemned.
    CondemnBarrier,
    /// All pins are looked at.
    Scan,
    /// Who sees an object's state as sealed sees its fields and its bytes.
    PublishOrder,
    /// The state is looked at after the pin is gone for all to see.
    KickBarrier,
    /// Doomed objects are looked at after all can see that the store sleeps.
    SleepBarrier,
    /// Doomed objects are looked at once more before the store sleeps.
    SleepCheck,
    /// Nothing is called missing when the table was replaced during the search.
    MissCheck,
    /// Who sees the new table's number sees its entries.
    FlipOrder,
    /// A table is cleared after all who see that can see that it is not in use.
    ClearOrder,
    /// A search goes on behind an entry that was removed.
    PassTombstones,
    /// Who sees that there is a record sees what it says.
    SubmitOrder,
    /// A peer looks whether the store sleeps after all can see its record.
    SubmitBarrier,
    /// The store looks for records once more before it sleeps.
    RecordCheck,
    /// Who sees that a record is done sees its outcome.
    DoneOrder,
    /// Who changes a word looks for sleepers after all can see the change.
    DoneBarrier,
    /// Who is about to sleep until a word changes says so first.
    DozeFirst,
    /// It looks at the word once more after all can see that.
    DozeBarrier,
    /// Who is about to use a grant says so before it looks whether that stands.
    UseFirst,
    /// It looks after all can see that.
    UseBarrier,
    /// What was written in a grant was written before its use ends.
    UseOrder,
    /// The store looks whether a grant is in use after all can see that it does not stand any more.
    RevokeBarrier,
    /// Who changed something that others may wait for looks for sleepers after all can see the change.
    AlarmBarrier,
    /// Who finds sleepers counts on, so that nobody goes to sleep on what was looked at before the change.
    AlarmCount,
    /// Who is about to sleep says so first.
    AlarmMark,
    /// It looks once more after all can see that.
    AlarmBegun,
    /// It does look once more.
    AlarmLook,
    /// Who takes the lock sees what its last owner wrote.
    LockOrder,
    /// What an owner of the lock wrote was written before the lock is free.
    UnlockOrder,
    /// A lock is taken from an owner who is gone.
    LockOfDead,
    /// One takes it.
    TakeOverOnce,
    /// Who sees the odd version sees who has the lock.
    OwnerOrder,
    /// The version is odd before anything is written under the lock.
    VersionFirst,
    /// Who sees something of that sees the odd version.
    VersionBarrier,
    /// Who sees the even version again sees all that was written.
    VersionOrder,
    /// A reader looks at the version before it copies.
    CopyOrder,
    /// It looks at it again after it has copied.
    CopyBarrier,
    /// It does look at it again.
    CopyCheck,
    /// What somebody read in a slot it has read before the slot is free.
    SlotOrder,
    /// Who sees that a message is in line sees what it is.
    CellOrder,
    /// A message in line is the one that its slot has now.
    CompareGeneration,
    /// Who finds that the oldest message was taken moves the head on.
    HelpHead,
    /// A closed ring ends where its line does.
    EndInLine,
    /// What the dead had taken is taken anew, so that it is nobody else's.
    TakeAnew,
    /// What the dead had shown stays if it is in line.
    LookInLine,
    /// Nobody who lives loses anything.
    AskLife,
    /// Who reads one message with others has read before the slot is free.
    ReadersOrder,
    /// A reader leaves, or a message is published, before either looks for what the other did.
    LeaveBarrier,
}

/// Whether `step` is taken.
#[cfg(not(loom))]
#[inline(always)]
pub(super) const fn taken(_step: Step) -> bool {
    true
}

#[cfg(loom)]
pub(super) use super::models::taken;

/// `order`, or none where a test leaves `step` out.
#[inline(always)]
pub(super) fn order_of(step: Step, order: Ordering) -> Ordering {
    if taken(step) { order } else { Ordering::Relaxed }
}

/// Stands behind each read-modify-write that a later load must not overtake.
///
/// Such a `SeqCst` operation together with `SeqCst` loads is enough by itself. loom knows `SeqCst` of fences only, so
/// that is what it gets; on x86-64 a fence as well would triple the time of a get.
#[inline(always)]
pub(super) fn total_order(step: Step) {
    if cfg!(loom) && taken(step) {
        fence(Ordering::SeqCst);
    }
}
