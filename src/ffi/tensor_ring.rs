//! `tensor_ring`: a boxed [`TensorRing`]. Slots of memory that go round between processes.

use std::ffi::{c_char, c_void};
use std::ptr;

use crate::client::ring::{AS_CREATED, Delivery, RingOptions, Settings, Slot, TensorRing};
use crate::error::{Error, Result};
use crate::ffi::client::{client_of, create_options, plasma_client};
use crate::ffi::guard::{self, Filled, Options, Out};
use crate::ffi::object_id::{self, plasma_object_id};
use crate::ffi::status::plasma_status;
use crate::ffi::tensor::{described, description_of, managed, managed_versioned, tensor_description};
use crate::tensor::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLTensor};
use crate::tensor::layout::{Layout, MAX_DIMENSIONS};

/// A ring that this process takes part in: slots of memory in which messages go from those who fill them to those who read
/// them, first in, first out. Many may do either. It may be used in several threads at once. When a process ends, however it
/// does, the slots that it had come back.
#[derive(Debug)]
pub struct tensor_ring {
    ring: TensorRing,
}

/// Every reader sees every message. A process begins to read with its first take, and sees what is published from then on.
pub const TENSOR_RING_BROADCAST: u32 = 1;
/// Who finds no free slot takes the oldest message away that nobody reads.
pub const TENSOR_RING_DROP_OLDEST: u32 = 2;
/// What a process had taken when it ended is taken by another. Without this it is dropped.
pub const TENSOR_RING_HAND_OUT_AGAIN: u32 = 4;
/// The ring lives until it is deleted (`plasma_delete`), also when nobody takes part. Without this it ends with the last.
pub const TENSOR_RING_KEEP: u32 = 8;
/// For debugging: slots that this process does not have cannot be touched; who does is killed (SIGSEGV). Not with
/// `TENSOR_RING_BROADCAST`.
pub const TENSOR_RING_GUARD: u32 = 16;
/// As a timeout of an acquire: what `acquire_ms` of the ring says.
pub const TENSOR_RING_AS_CREATED: i64 = -2;
const _: () = assert!(TENSOR_RING_AS_CREATED == AS_CREATED);

/// How a ring is to be. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_ring_options {
    /// `sizeof(tensor_ring_options)`.
    pub struct_size: usize,
    /// How many slots there are, 1 to 65535.
    pub slots: u32,
    /// `TENSOR_RING_*`, or-ed.
    pub flags: u32,
    /// The most bytes of a message. 0: as many as `like` has.
    pub slot_bytes: u64,
    /// Element type and shape of all messages; its data are not looked at. NULL: each message has its own.
    pub like: *const DLTensor,
    /// How long an acquire waits with `TENSOR_RING_AS_CREATED`, in milliseconds: -1 without limit, 0 not at all.
    pub acquire_ms: i64,
    /// As in `plasma_create_options`.
    pub name: *const c_char,
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, which is only followed on the caller's
// promise.
unsafe impl Options for tensor_ring_options {}

/// How a ring was made. Set `struct_size` to the size of the struct before it is filled in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_ring_info {
    /// `sizeof(tensor_ring_info)`.
    pub struct_size: usize,
    /// How many slots there are.
    pub slots: u32,
    /// `TENSOR_RING_*`, or-ed, but never `TENSOR_RING_KEEP`, which is the store's business.
    pub flags: u32,
    /// The most bytes of a message.
    pub slot_bytes: u64,
    /// How long an acquire waits with `TENSOR_RING_AS_CREATED`, in milliseconds: -1 without limit, 0 not at all.
    pub acquire_ms: i64,
}

// SAFETY: `repr(C)`, begins with its size; integers without padding.
unsafe impl Options for tensor_ring_info {}

/// A slot that the caller has, to fill or to read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_ring_slot {
    /// By which the calls know it. When the slot was given back it names nothing any more.
    pub token: u64,
    /// Its memory, 64-byte aligned. Undefined once the slot was given back.
    pub data: *mut c_void,
    /// Bytes there, or of the message.
    pub size: u64,
}

/// # Safety
/// `ring` is NULL or a live handle.
unsafe fn ring_of<'a>(ring: *const tensor_ring) -> Result<&'a TensorRing> {
    // SAFETY: as the caller promised.
    Ok(&unsafe { guard::borrow(ring, "ring") }?.ring)
}

/// # Safety
/// `slot` is NULL or a slot.
unsafe fn token_of(slot: *const tensor_ring_slot) -> Result<u64> {
    // SAFETY: as the caller promised.
    Ok(unsafe { guard::borrow(slot, "slot") }?.token)
}

/// Element type and shape, whatever the strides and wherever the data are; `None` for NULL.
///
/// # Safety
/// `tensor` is NULL or has as many sizes as dimensions.
unsafe fn shape_of(tensor: *const DLTensor) -> Result<Option<Layout>> {
    // SAFETY: as the caller promised.
    let Some(tensor) = (unsafe { tensor.as_ref() }) else { return Ok(None) };
    let ndim = usize::try_from(tensor.ndim).ok().filter(|ndim| *ndim <= MAX_DIMENSIONS);
    let ndim =
        ndim.ok_or_else(|| Error::InvalidArgument(format!("ndim {} is not in 0..={MAX_DIMENSIONS}", tensor.ndim)))?;
    // SAFETY: as the caller promised.
    let shape = unsafe { guard::array(tensor.shape, ndim, "shape") }?;
    Layout::row_major(dlpack::dtype(tensor.dtype)?, shape.to_vec()).map(Some)
}

fn c_slot(Slot { token, data, size }: Slot) -> tensor_ring_slot {
    tensor_ring_slot { token, data: data.cast(), size }
}

fn delivery_of(flags: u32) -> Result<Delivery> {
    match flags & (TENSOR_RING_BROADCAST | TENSOR_RING_HAND_OUT_AGAIN) {
        0 => Ok(Delivery::AtMostOnce),
        TENSOR_RING_HAND_OUT_AGAIN => Ok(Delivery::AtLeastOnce),
        TENSOR_RING_BROADCAST => Ok(Delivery::Broadcast),
        _ => Err(Error::InvalidArgument("a message that all read is not handed out again".into())),
    }
}

fn flags_of(settings: &Settings) -> u32 {
    let delivery = match settings.delivery {
        Delivery::AtMostOnce => 0,
        Delivery::AtLeastOnce => TENSOR_RING_HAND_OUT_AGAIN,
        Delivery::Broadcast => TENSOR_RING_BROADCAST,
    };
    let chosen = |is_chosen, flag| if is_chosen { flag } else { 0 };
    delivery | chosen(settings.drops_oldest, TENSOR_RING_DROP_OLDEST) | chosen(settings.is_paged, TENSOR_RING_GUARD)
}

/// Makes a ring and takes part in it. Its memory counts for the store's limit, and is never evicted.
///
/// `*out` is to be given back with `tensor_ring_leave`.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` naming the number that cannot be; `PLASMA_UNSUPPORTED`; as for `plasma_create`.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `options` is NULL or as long as it says, with a tensor that has
/// as many sizes as dimensions; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_create(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    options: *const tensor_ring_options,
    out: *mut *mut tensor_ring,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, options, out) = unsafe {
            let options = guard::options(options, "options")?;
            (client_of(client)?, object_id::read(object_id)?, options, Out::new(out, "out")?)
        };
        let options: tensor_ring_options =
            options.ok_or_else(|| Error::InvalidArgument("options is NULL, and a ring needs slots".into()))?;
        let known = TENSOR_RING_BROADCAST
            | TENSOR_RING_DROP_OLDEST
            | TENSOR_RING_HAND_OUT_AGAIN
            | TENSOR_RING_KEEP
            | TENSOR_RING_GUARD;
        let flags = guard::known_flags(options.flags, known, "ring options")?;
        let has = |flag| flags & flag != 0;
        // SAFETY: as the caller promised.
        let (layout, create) = unsafe { (shape_of(options.like)?, create_options(0, 0, 0, options.name)?) };
        let ring = client.ring_create(
            id,
            &RingOptions {
                slots: options.slots.into(),
                slot_bytes: options.slot_bytes,
                layout,
                delivery: delivery_of(flags)?,
                drops_oldest: has(TENSOR_RING_DROP_OLDEST),
                is_guarded: has(TENSOR_RING_GUARD),
                keep: has(TENSOR_RING_KEEP),
                acquire_ms: options.acquire_ms,
                create,
            },
        )?;
        out.set(guard::give(tensor_ring { ring }));
        Ok(())
    })
}

/// Takes part in a ring that is there, or will be within `timeout_ms`: -1 waits without limit, 0 does not wait.
///
/// `*out` is to be given back with `tensor_ring_leave`.
///
/// Errors: `PLASMA_OBJECT_NOT_FOUND`, `PLASMA_TIMEOUT`, `PLASMA_INTERRUPTED`; `PLASMA_CORRUPT` when the object is no ring.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_open(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    timeout_ms: i64,
    out: *mut *mut tensor_ring,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) = unsafe { (client_of(client)?, object_id::read(object_id)?, Out::new(out, "out")?) };
        out.set(guard::give(tensor_ring { ring: client.ring_open(id, timeout_ms)? }));
        Ok(())
    })
}

/// Tells how a ring was made, also to who opened it.
///
/// # Safety
/// `ring` is NULL or a live handle; `out` is NULL or as long as its `struct_size` says, and may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_get_info(ring: *const tensor_ring, out: *mut tensor_ring_info) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, out) = unsafe { (ring_of(ring)?, Filled::new(out, "out")?) };
        let settings = ring.settings();
        out.set(tensor_ring_info {
            struct_size: size_of::<tensor_ring_info>(),
            slots: settings.slots as u32,
            flags: flags_of(settings),
            slot_bytes: settings.slot_bytes,
            acquire_ms: ring.acquire_ms(),
        });
        Ok(())
    })
}

/// Tells element type and shape of all messages; `data` is NULL.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` where each message has its own.
///
/// # Safety
/// `ring` is NULL or a live handle; `out` is NULL or as long as its `struct_size` says, and may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_describe(ring: *const tensor_ring, out: *mut tensor_description) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, out) = unsafe { (ring_of(ring)?, Filled::new(out, "out")?) };
        out.set(described(ring.fixed_layout()?, ptr::null_mut(), 0));
        Ok(())
    })
}

/// Finds a free slot to fill, waiting at most `timeout_ms` for one: -1 without limit, 0 not at all,
/// `TENSOR_RING_AS_CREATED`. Then `tensor_ring_publish` or `tensor_ring_abandon`.
///
/// Errors: `PLASMA_TIMEOUT`; `PLASMA_CLOSED`, `PLASMA_ABORTED`; `PLASMA_BUSY` when this thread got all slots itself, which
/// nobody gave back, and would wait for ever; `PLASMA_INTERRUPTED`, `PLASMA_DISCONNECTED`.
///
/// # Safety
/// `ring` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_acquire(
    ring: *mut tensor_ring,
    timeout_ms: i64,
    out: *mut tensor_ring_slot,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, out) = unsafe { (ring_of(ring)?, Out::new(out, "out")?) };
        out.set(c_slot(ring.acquire(timeout_ms)?));
        Ok(())
    })
}

/// Publishes what was written in a slot. `message` says of which element type and shape it is, row-major; its data are not
/// looked at, and NULL stands for those of the ring.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` when that does not fit, or the caller does not have the slot; `PLASMA_BUSY` while there are
/// DLPack tensors of it. Then the caller still has it. `PLASMA_CLOSED`, `PLASMA_ABORTED`: the slot is free, and not published.
///
/// # Safety
/// `ring` is NULL or a live handle, `slot` NULL or a slot; `message` is NULL or has as many sizes as dimensions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_publish(
    ring: *mut tensor_ring,
    slot: *const tensor_ring_slot,
    message: *const DLTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, token, layout) = unsafe { (ring_of(ring)?, token_of(slot)?, shape_of(message)?) };
        ring.publish(token, layout.as_ref())
    })
}

/// Gives up a slot that was acquired.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` when the caller does not have it; `PLASMA_BUSY` while there are DLPack tensors of it.
///
/// # Safety
/// `ring` is NULL or a live handle, `slot` NULL or a slot.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_abandon(ring: *mut tensor_ring, slot: *const tensor_ring_slot) -> plasma_status {
    // SAFETY: as the caller promised.
    guard::status(|| unsafe { ring_of(ring)?.abandon(token_of(slot)?) })
}

/// Takes the next message, waiting at most `timeout_ms` for it: -1 without limit, 0 not at all. It is read where it lies, and
/// then given back with `tensor_ring_release`.
///
/// Errors: as for `tensor_ring_acquire`; `PLASMA_CLOSED` when the ring is closed and all was taken.
///
/// # Safety
/// `ring` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_take(
    ring: *mut tensor_ring,
    timeout_ms: i64,
    out: *mut tensor_ring_slot,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, out) = unsafe { (ring_of(ring)?, Out::new(out, "out")?) };
        out.set(c_slot(ring.take(timeout_ms)?));
        Ok(())
    })
}

/// Tells element type, shape and place of the message in a slot, or of what is to be written there.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` when the caller does not have the slot; `PLASMA_CORRUPT` when what the message says of itself
/// cannot be.
///
/// # Safety
/// `ring` is NULL or a live handle, `slot` NULL or a slot; `out` is NULL or as long as its `struct_size` says, and may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_message(
    ring: *const tensor_ring,
    slot: *const tensor_ring_slot,
    out: *mut tensor_description,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, token, out) = unsafe { (ring_of(ring)?, token_of(slot)?, Filled::new(out, "out")?) };
        out.set(description_of(&ring.tensor(token)?));
        Ok(())
    })
}

/// Gives a DLPack tensor of a slot: the message to read, or what is to be filled. Until its deleter is called the slot can
/// neither be published nor given back.
///
/// Errors: as for `tensor_ring_message`.
///
/// # Safety
/// `ring` is NULL or a live handle, `slot` NULL or a slot; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_export(
    ring: *mut tensor_ring,
    slot: *const tensor_ring_slot,
    out: *mut *mut DLManagedTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, token, out) = unsafe { (ring_of(ring)?, token_of(slot)?, Out::new(out, "out")?) };
        out.set(managed(ring.tensor(token)?)?);
        Ok(())
    })
}

/// The same with the struct of DLPack 1.x, whose flags say that a message is read-only.
///
/// # Safety
/// As for `tensor_ring_export`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_export_versioned(
    ring: *mut tensor_ring,
    slot: *const tensor_ring_slot,
    out: *mut *mut DLManagedTensorVersioned,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, token, out) = unsafe { (ring_of(ring)?, token_of(slot)?, Out::new(out, "out")?) };
        out.set(managed_versioned(ring.tensor(token)?)?);
        Ok(())
    })
}

/// Gives back a slot that was taken.
///
/// Errors: as for `tensor_ring_abandon`.
///
/// # Safety
/// `ring` is NULL or a live handle, `slot` NULL or a slot.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_release(ring: *mut tensor_ring, slot: *const tensor_ring_slot) -> plasma_status {
    // SAFETY: as the caller promised.
    guard::status(|| unsafe { ring_of(ring)?.release(token_of(slot)?) })
}

/// Publishes a copy of a tensor: finds a slot as `tensor_ring_acquire` does, and copies, row-major.
///
/// Errors: as for `tensor_ring_acquire` and `tensor_ring_publish`; `PLASMA_UNSUPPORTED` for a device or dtype.
///
/// # Safety
/// `ring` is NULL or a live handle; `tensor` is NULL or a valid tensor that nobody writes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_put(
    ring: *mut tensor_ring,
    tensor: *const DLTensor,
    timeout_ms: i64,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, view) = unsafe { (ring_of(ring)?, dlpack::view(tensor)?) };
        let layout = view.row_major()?;
        ring.put(&layout, timeout_ms, |place| {
            // SAFETY: the view is valid as the caller promised; there is room for just these bytes, and nobody else has the slot.
            unsafe { dlpack::copy_row_major(&view, place, layout.nbytes(), ring.copier()) }
        })
    })
}

/// Publishes copies of `count` messages of the ring's element type and shape, which lie one behind the other at `data`.
/// `timeout_ms` is for each wait. `*done` is how many were published, also on failure.
///
/// Errors: as for `tensor_ring_acquire`; `PLASMA_INVALID_ARGUMENT` where each message has its own type and shape.
///
/// # Safety
/// `ring` is NULL or a live handle; `data` has the bytes of so many messages; `done` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_put_many(
    ring: *mut tensor_ring,
    data: *const c_void,
    count: usize,
    timeout_ms: i64,
    done: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, out) = unsafe { (ring_of(ring)?, Out::new(done, "done")?) };
        let bytes = message_bytes(ring)?;
        let total = total(bytes, count)?;
        // SAFETY: as the caller promised.
        let data = unsafe { guard::bytes(data.cast(), total as u64, "data") }?;
        let (published, outcome) = ring.put_many(count, timeout_ms, |index, place| {
            let message = data.get(index * bytes..(index + 1) * bytes).unwrap_or_default();
            // SAFETY: there is room for just these bytes, and nobody else has the slot.
            unsafe { place.copy_from_nonoverlapping(message.as_ptr(), message.len()) };
            Ok(())
        })?;
        out.set(published);
        outcome
    })
}

/// Takes copies of at most `count` messages of the ring's element type and shape, one behind the other: waits for the first
/// as `tensor_ring_take` does, and takes with it what is there. `*done` is how many.
///
/// Errors: as for `tensor_ring_take`; `PLASMA_INVALID_ARGUMENT` where each message has its own type and shape.
///
/// # Safety
/// `ring` is NULL or a live handle; `out` has room for so many messages and may be written, as may `done`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_take_many(
    ring: *mut tensor_ring,
    out: *mut c_void,
    count: usize,
    timeout_ms: i64,
    done: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, taken) = unsafe { (ring_of(ring)?, Out::new(done, "done")?) };
        let bytes = message_bytes(ring)?;
        if total(bytes, count)? > 0 && out.is_null() {
            return Err(Error::InvalidArgument("out is NULL".into()));
        }
        let room = out.cast::<u8>();
        taken.set(ring.take_many(count, timeout_ms, |index, place| {
            // SAFETY: the message has so many bytes, and `out` has room for it as the caller promised.
            unsafe { room.add(index * bytes).copy_from_nonoverlapping(place, bytes) };
            Ok(())
        })?);
        Ok(())
    })
}

fn message_bytes(ring: &TensorRing) -> Result<usize> {
    Ok(ring.fixed_layout()?.nbytes() as usize)
}

fn total(bytes: usize, count: usize) -> Result<usize> {
    let total = bytes.checked_mul(count).filter(|total| isize::try_from(*total).is_ok());
    total.ok_or_else(|| Error::InvalidArgument(format!("{count} messages of {bytes} bytes")))
}

/// Closes the ring: nothing is published from now on. Who takes gets what was published before, and then `PLASMA_CLOSED`; who
/// waits for a slot gets that at once.
///
/// # Safety
/// `ring` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_close(ring: *mut tensor_ring) -> plasma_status {
    // SAFETY: as the caller promised.
    guard::status(|| unsafe { ring_of(ring)?.close() })
}

/// Ends the ring for everybody: all calls that wait, and all that come, get `PLASMA_ABORTED`. What was not taken is lost.
///
/// # Safety
/// `ring` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_abort(ring: *mut tensor_ring) -> plasma_status {
    // SAFETY: as the caller promised.
    guard::status(|| unsafe { ring_of(ring)?.abort() })
}

/// Counts the slots that are free, and the messages that nobody has taken. Others may change both at any time.
///
/// # Safety
/// `ring` is NULL or a live handle; `free` and `published` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_counts(
    ring: *const tensor_ring,
    free: *mut usize,
    published: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, free, published) =
            unsafe { (ring_of(ring)?, Out::new(free, "free")?, Out::new(published, "published")?) };
        let counts = ring.counts()?;
        free.set(counts.0 as usize);
        published.set(counts.1 as usize);
        Ok(())
    })
}

/// Gives a descriptor that can be read when a take is worth a try, for `poll` and event loops. A take that finds nothing makes it
/// quiet again, so take with a timeout of 0 until that says `PLASMA_TIMEOUT`. It is the ring's, and not to be read or closed.
///
/// Errors: `PLASMA_IO_ERROR` when there is no descriptor or no thread.
///
/// # Safety
/// `ring` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_fd(ring: *mut tensor_ring, out: *mut i32) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, out) = unsafe { (ring_of(ring)?, Out::new(out, "out")?) };
        out.set(ring.descriptor()?);
        Ok(())
    })
}

/// Gives the ring's name.
///
/// # Safety
/// `ring` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_id(ring: *const tensor_ring, out: *mut plasma_object_id) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (ring, out) = unsafe { (ring_of(ring)?, Out::new(out, "out")?) };
        out.set(ring.id().into());
        Ok(())
    })
}

/// Leaves a ring, which goes on for the others. Slots that this handle had are free; those with DLPack tensors are when these are
/// deleted. NULL is fine.
///
/// # Safety
/// `ring` is NULL or a live handle, which ends here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_ring_leave(ring: *mut tensor_ring) {
    // SAFETY: as the caller promised.
    guard::value((), || drop(unsafe { guard::take(ring) }));
}
