//! `plasma_subscription`: a boxed [`Subscription`].

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use crate::client::subscription::{Event, SubscribeOptions, Subscription, decode_events};
use crate::error::{Error, Result};
use crate::ffi::client::{client_of, plasma_client};
use crate::ffi::guard::{self, Filled, Options, Out};
use crate::ffi::object_id::plasma_object_id;
use crate::ffi::status::plasma_status;

/// A stream of events. May be used from many threads at once; each event is given to one of them. It keeps the client's connection
/// open, also after `plasma_client_free`; only the client can interrupt it.
///
/// A child made by `fork` must not use it: calls return `PLASMA_FORKED`, and freeing it there ends nothing. A client has at most 64
/// subscriptions, of which 64 threads may wait at a time.
#[derive(Debug)]
pub struct plasma_subscription(Subscription);

/// Do not begin with the objects that are sealed already.
pub const PLASMA_SUBSCRIBE_SKIP_EXISTING: u32 = 1;
/// The object was sealed, or was there when the subscription began.
pub const PLASMA_EVENT_SEALED: u32 = 1;
/// The object was deleted or evicted.
pub const PLASMA_EVENT_DELETED: u32 = 2;

/// How to subscribe. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_subscribe_options {
    /// `sizeof(plasma_subscribe_options)`.
    pub struct_size: usize,
    /// `PLASMA_SUBSCRIBE_*`, or-ed.
    pub flags: u32,
}

/// What happened to an object. Set `struct_size` before it is filled.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_event {
    /// `sizeof(plasma_event)`.
    pub struct_size: usize,
    /// `PLASMA_EVENT_*`. There may be others one day: leave alone what you do not know.
    pub kind: u32,
    /// Id of the object.
    pub id: plasma_object_id,
    /// Bytes of data of a sealed object, else 0.
    pub data_size: u64,
    /// Bytes of metadata of a sealed object, with what this library appends for tensors, else 0.
    pub metadata_size: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers only.
unsafe impl Options for plasma_subscribe_options {}
// SAFETY: as above.
unsafe impl Options for plasma_event {}

/// Begins a stream of events: first one for each object that is sealed now, in no order, then one whenever an object is sealed or
/// goes, in the order in which that happens.
///
/// `options` may be NULL. On success `*out` is to be freed with `plasma_subscription_free`. Of a subscriber that does not read, the
/// store keeps events up to 64 MiB, some 500000 of them, and drops the subscription then.
///
/// Errors: `PLASMA_BUSY` when this client has 64 subscriptions, or the store no descriptor left.
///
/// # Safety
/// `client` is NULL or a live handle, `options` NULL or as long as it says; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_subscribe(
    client: *mut plasma_client,
    options: *const plasma_subscribe_options,
    out: *mut *mut plasma_subscription,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, options, out) =
            unsafe { (client_of(client)?, guard::options(options, "options")?, Out::new(out, "out")?) };
        let flags = options.map_or(0, |options: plasma_subscribe_options| options.flags);
        let flags = guard::known_flags(flags, PLASMA_SUBSCRIBE_SKIP_EXISTING, "subscribe options")?;
        let options = SubscribeOptions { skip_existing: flags & PLASMA_SUBSCRIBE_SKIP_EXISTING != 0 };
        out.set(guard::give(plasma_subscription(client.subscribe(options)?)));
        Ok(())
    })
}

/// Takes the next event, waiting for it at most `timeout_ms`: -1 waits without limit, 0 does not wait.
///
/// Errors: `PLASMA_TIMEOUT`; `PLASMA_INTERRUPTED`; `PLASMA_DISCONNECTED`, now and ever after, when the store has ended, or has
/// dropped a subscriber that did not read: the message says which, and a new subscription begins with what is there.
/// `PLASMA_BUSY` when 64 threads wait for events of this client already.
///
/// # Safety
/// `subscription` is NULL or a live handle; `out` is NULL or as long as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_subscription_next(
    subscription: *mut plasma_subscription,
    timeout_ms: i64,
    out: *mut plasma_event,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (subscription, out) = unsafe { (guard::borrow(subscription, "subscription")?, Filled::new(out, "out")?) };
        out.set(event_of(&subscription.0.next(timeout_ms)?));
        Ok(())
    })
}

/// A descriptor to poll: it can be read when `plasma_subscription_next` has something at once, an event or the end.
///
/// It is a blocking Unix stream socket, and belongs to the subscription: do not close it, duplicate it if you need it for longer. Who
/// reads from it takes events away: frames of an int64_t length, little-endian, and that many bytes for `plasma_decode_events`. A
/// `shutdown` of it, or of a duplicate, ends the subscription. -1 for NULL, and in a child made by `fork`.
///
/// # Safety
/// `subscription` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_subscription_fd(subscription: *const plasma_subscription) -> c_int {
    guard::value(-1, || {
        // SAFETY: as the caller promised.
        let descriptor = unsafe { subscription.as_ref() }.and_then(|subscription| subscription.0.descriptor());
        descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd())
    })
}

/// Ends a subscription and frees it. NULL is fine. The store forgets it. No other thread may be in a call on it.
///
/// # Safety
/// `subscription` is NULL or a live handle, which ends here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_subscription_free(subscription: *mut plasma_subscription) {
    // SAFETY: as the caller promised.
    guard::value((), || drop(unsafe { guard::take(subscription) }));
}

/// Decodes one frame that was read from a subscription's descriptor, its length taken off: `size` bytes at `frame`.
///
/// Fills at most `capacity` entries of `out`, each of which must have its `struct_size` set, all to the same; `*count` gets the number
/// of events in the frame. The frames of a subscription have one event each, and none in the last one of a subscription that the
/// store drops.
///
/// Errors: `PLASMA_PROTOCOL_ERROR` for bytes that are no such frame.
///
/// # Safety
/// `frame` points at `size` bytes, `out` at `capacity` entries as long as they say; `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_decode_events(
    frame: *const u8,
    size: u64,
    out: *mut plasma_event,
    capacity: usize,
    count: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (frame, count) = unsafe { (guard::bytes(frame, size, "frame")?, Out::new(count, "count")?) };
        let events = decode_events(frame)?;
        // SAFETY: as the caller promised.
        let entries = unsafe { entries(out, capacity.min(events.len())) }?;
        entries.into_iter().zip(&events).for_each(|(entry, event)| entry.set(event_of(event)));
        count.set(events.len());
        Ok(())
    })
}

/// The entries of an array of events, by the size that the first one says.
///
/// # Safety
/// `out` points at `count` entries as long as they say.
unsafe fn entries(out: *mut plasma_event, count: usize) -> Result<Vec<Filled<plasma_event>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: as the caller promised.
    let stride = unsafe { Filled::new(out, "out") }?.size();
    let entry = |index: usize| {
        // SAFETY: the caller promised `count` entries, and this is one of them.
        let entry = unsafe { Filled::new(out.byte_add(index * stride), &format!("out[{index}]")) }?;
        match entry.size() {
            size if size == stride => Ok(entry),
            size => {
                Err(Error::InvalidArgument(format!("out[{index}]: struct_size is {size}, that of out[0] {stride}")))
            }
        }
    };
    (0..count).map(entry).collect()
}

fn event_of(event: &Event) -> plasma_event {
    let struct_size = size_of::<plasma_event>();
    match *event {
        Event::Sealed { id, data_size, metadata_size, .. } => {
            plasma_event { struct_size, kind: PLASMA_EVENT_SEALED, id: id.into(), data_size, metadata_size }
        }
        Event::Deleted { id } => {
            plasma_event { struct_size, kind: PLASMA_EVENT_DELETED, id: id.into(), data_size: 0, metadata_size: 0 }
        }
    }
}
