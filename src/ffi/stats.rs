//! What the store counts.

use crate::client::Stats;
use crate::ffi::client::{client_of, plasma_client};
use crate::ffi::guard::{self, Filled, Options};
use crate::ffi::status::plasma_status;

/// What a store counts; figures without "so far" are of the moment. Set `struct_size` before it is filled.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_store_stats {
    /// `sizeof(plasma_store_stats)`.
    pub struct_size: usize,
    /// Bytes of data and metadata that the store holds at most.
    pub capacity: u64,
    /// Bytes of data and metadata of the objects in its memory.
    pub used_bytes: u64,
    /// Of these, bytes of objects that a client holds, those being created included: they cannot be evicted.
    pub held_bytes: u64,
    /// Bytes of memory, or of the file, that are allocated, with what was freed and is kept for the next objects.
    pub allocated_bytes: u64,
    /// Bytes of the longest run of free addresses, which are more than the capacity.
    pub largest_free_extent: u64,
    /// Objects, sealed or not, those in the external store included.
    pub objects: u64,
    /// Sealed objects.
    pub sealed_objects: u64,
    /// Objects that a client holds.
    pub held_objects: u64,
    /// Connections, the asker's included.
    pub clients: u64,
    /// Subscriptions of all clients.
    pub subscriptions: u64,
    /// Gets that wait for objects.
    pub waiting_gets: u64,
    /// Objects created so far, also those that were aborted later.
    pub creates: u64,
    /// Get requests so far. What a client finds in the index, or sees not to be there, it does not ask for.
    pub gets: u64,
    /// Of the objects that these named, each once a request: those that were there at once.
    pub hits: u64,
    /// Those that were not, whether they came later or not.
    pub misses: u64,
    /// Objects evicted so far, also to the external store.
    pub evictions: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Bytes of pinned objects.
    pub pinned_bytes: u64,
    /// Creates that wait for room.
    pub waiting_creates: u64,
    /// Segments that one client writes, or wrote, or the store.
    pub segments: u64,
    /// Bytes of segments that the store has let go of and a client has not.
    pub retired_bytes: u64,
    /// Of the bytes used, those of copies for clients of the old protocol.
    pub copied_bytes: u64,
    /// Bytes of memory that are made ready for objects to come, or are being made so; they are among the allocated ones.
    pub pool_bytes: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers only.
unsafe impl Options for plasma_store_stats {}

/// Fills `*out`, whose `struct_size` must be set, with the store's figures. What an older store does not count is 0.
///
/// # Safety
/// `client` is NULL or a live handle; `out` is NULL or as long as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_stats(client: *mut plasma_client, out: *mut plasma_store_stats) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, out) = unsafe { (client_of(client)?, Filled::new(out, "out")?) };
        out.set(stats_of(&client.stats()?));
        Ok(())
    })
}

fn stats_of(stats: &Stats) -> plasma_store_stats {
    plasma_store_stats {
        struct_size: size_of::<plasma_store_stats>(),
        capacity: stats.capacity,
        used_bytes: stats.used_bytes,
        held_bytes: stats.held_bytes,
        allocated_bytes: stats.allocated_bytes,
        largest_free_extent: stats.largest_free_extent,
        objects: stats.objects,
        sealed_objects: stats.sealed_objects,
        held_objects: stats.held_objects,
        clients: stats.clients,
        subscriptions: stats.subscriptions,
        waiting_gets: stats.waiting_gets,
        creates: stats.creates,
        gets: stats.gets,
        hits: stats.hits,
        misses: stats.misses,
        evictions: stats.evictions,
        evicted_bytes: stats.evicted_bytes,
        pinned_bytes: stats.pinned_bytes,
        waiting_creates: stats.waiting_creates,
        segments: stats.segments,
        retired_bytes: stats.retired_bytes,
        copied_bytes: stats.copied_bytes,
        pool_bytes: stats.pool_bytes,
    }
}
