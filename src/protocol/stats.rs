//! A store's figures as they travel: a table of numbers, all of one kind.
#![forbid(unsafe_code)]

use super::body::{Body, Writer};
use super::generated::plasma as fbs;
use crate::error::Result;

/// One list of the figures, from which follow the struct and its two ways over the wire.
macro_rules! figures {
    ($($(#[$doc:meta])* $figure:ident,)*) => {
        /// What a store counts. Those without "so far" are of the moment of the answer.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $figure: u64,)*
        }

        pub(super) fn decode(body: Body<'_>) -> Result<Stats> {
            let table = body.root::<fbs::NativeStatsReply<'_>>()?;
            Ok(Stats { $($figure: table.$figure(),)* })
        }

        pub(super) fn encode(stats: &Stats) -> Vec<u8> {
            let args = fbs::NativeStatsReplyArgs { $($figure: stats.$figure,)* };
            Writer::small().finish(|b| fbs::NativeStatsReply::create(b, &args))
        }
    };
}

figures! {
    /// Bytes of data and metadata that the store holds at most.
    capacity,
    /// Bytes of data and metadata of the objects in its memory.
    used_bytes,
    /// Of these, bytes of objects that a client holds, those being created included: they cannot be evicted.
    held_bytes,
    /// Bytes of memory, or of the file, that are allocated, with what was freed and is kept for the next objects.
    allocated_bytes,
    /// Bytes of the longest run of free addresses, which are more than the capacity.
    largest_free_extent,
    /// Objects, sealed or not, those in the external store included.
    objects,
    /// Sealed objects.
    sealed_objects,
    /// Objects that a client holds.
    held_objects,
    /// Connections, the asker's included.
    clients,
    /// Subscriptions of all clients.
    subscriptions,
    /// Gets that wait for objects.
    waiting_gets,
    /// Objects created so far, also those that were aborted later.
    creates,
    /// Get requests so far. What a client finds in the index, or sees not to be there, it does not ask for.
    gets,
    /// Of the objects that these named, each once a request: those that were there at once.
    hits,
    /// Those that were not, whether they came later or not.
    misses,
    /// Objects evicted so far, also to the external store.
    evictions,
    /// Their bytes.
    evicted_bytes,
    /// Bytes of pinned objects.
    pinned_bytes,
    /// Creates that wait for room.
    waiting_creates,
    /// Segments that one client writes, or wrote, or the store.
    segments,
    /// Bytes of segments that the store has let go of and a client has not.
    retired_bytes,
    /// Of the bytes used, those of copies for clients of the old protocol.
    copied_bytes,
    /// Bytes of memory that are made ready for objects to come, or are being made so; they are among the allocated ones.
    pool_bytes,
}
