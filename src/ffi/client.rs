//! `plasma_client`: a boxed [`Client`].

use std::ffi::{c_char, c_int};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::client::tensor::TensorMemory;
use crate::client::{Client, ConnectOptions, CreateOptions, GetOptions};
use crate::error::{Error, Result};
use crate::ffi::buffer::{give, give_writable, plasma_buffer, sealed_memory};
use crate::ffi::guard::{self, Options, Out, TextOut};
use crate::ffi::object_id::{self, plasma_object_id};
use crate::ffi::object_list::plasma_object_list;
use crate::ffi::status::{plasma_status, status_of_outcome};
use crate::object::ObjectId;
use crate::transport::wait::set_wake_descriptor;

/// A connection to a store. Any number of threads may use one at the same time; a call that waits in one thread keeps no
/// other thread waiting. It must outlive the calls on it, but not the buffers and tensors it gave.
///
/// A child made by `fork` must not use it: calls return `PLASMA_FORKED`; freeing it there is harmless.
#[derive(Debug)]
pub struct plasma_client(Client);

/// A signal handler that ran in a thread which sleeps in a get, in a create that waits for room, in a wait for an event or in
/// `plasma_connect`, ends that call with `PLASMA_INTERRUPTED`. A thread that is awake at that moment goes on waiting: to be sure, have the handler call
/// `plasma_interrupt`, or see `plasma_set_wake_fd`.
pub const PLASMA_CONNECT_RETURN_ON_SIGNAL: u32 = 1;
/// Do not evict other objects to make room: fail with `PLASMA_STORE_FULL` instead.
pub const PLASMA_CREATE_NO_EVICT: u32 = 1;
/// Have the kernel refuse every write to the object once it is sealed, by whomever: also its creator's, who otherwise could go on
/// writing what it has mapped. The object has a memory file of its own (`F_SEAL_WRITE`), which costs some system calls, a
/// descriptor of the store's and new memory each time: it is meant for large objects.
///
/// Its buffer, and every tensor made of it, must be released before the seal: else that is `PLASMA_BUSY`, and the object stays as it
/// is. So it is while another process has the memory mapped for writing or a device uses it. A forked child does not have the
/// memory of such an object before its seal: pointers into it are not valid there.
///
/// `PLASMA_UNSUPPORTED` in a store with a directory (`-d`) or huge pages (`-h`), and for batches.
pub const PLASMA_CREATE_IMMUTABLE: u32 = 2;
/// Map the object copy-on-write: it can be written, and what is written stays in this process.
pub const PLASMA_GET_PRIVATE: u32 = 1;
/// Do not ask the store, and so wait for nothing, whatever the time: an object is got if it is seen in shared memory. What is not
/// may be there all the same: beyond the store's index, in an external store, or just being moved.
pub const PLASMA_GET_NO_ASK: u32 = 2;

/// How to connect. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_connect_options {
    /// `sizeof(plasma_connect_options)`.
    pub struct_size: usize,
    /// How long to try again while no store is there, in milliseconds. 0: one attempt; -1: for ever.
    pub timeout_ms: i64,
    /// `PLASMA_CONNECT_*`, or-ed.
    pub flags: u32,
    /// Microseconds that a thread which waits stays awake before it sleeps, so that nobody has to wake it. It takes a processor
    /// meanwhile, and is worth it beside a store that does the same (`--spin-us`). 0: none.
    pub spin_us: u32,
    /// How many threads copy into an object from 16 MiB on: in `plasma_put`, `plasma_buffer_write` and `tensor_write`. 0 and 1: only
    /// the one that calls. The others (`plasma-copy`, all signals blocked) end with each copy; at most 256.
    pub copy_threads: usize,
}

/// How to create. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_create_options {
    /// `sizeof(plasma_create_options)`.
    pub struct_size: usize,
    /// `PLASMA_CREATE_*`, or-ed.
    pub flags: u32,
    /// Milliseconds that the object lives after its seal: then it is deleted as by `plasma_delete`. 0: no limit.
    pub ttl_ms: i64,
    /// How long to wait for room when there is none, in milliseconds. 0: not at all; -1: for ever.
    pub wait_ms: i64,
    /// The name whose id (`plasma_object_id_from_name`, without a name space) the object has. It is kept with the object, and
    /// `plasma_object_name` tells it. NULL: none.
    pub name: *const c_char,
}

/// How to get. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_get_options {
    /// `sizeof(plasma_get_options)`.
    pub struct_size: usize,
    /// `PLASMA_GET_*`, or-ed.
    pub flags: u32,
}

// SAFETY: `repr(C)`, begins with its size, integers only.
unsafe impl Options for plasma_connect_options {}
// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, which is only followed on the caller's promise.
unsafe impl Options for plasma_create_options {}
// SAFETY: `repr(C)`, begins with its size, integers only.
unsafe impl Options for plasma_get_options {}

/// The client behind a handle.
///
/// # Safety
/// `client` is NULL or a live handle.
pub(super) unsafe fn client_of<'a>(client: *const plasma_client) -> Result<&'a Client> {
    // SAFETY: as the caller promised.
    unsafe { guard::borrow(client, "client") }.map(|client| &client.0)
}

/// What the fields that options of a create have in common mean.
///
/// # Safety
/// `name` is NULL or a text that nobody changes during `'a`.
pub(super) unsafe fn create_options<'a>(
    flags: u32,
    ttl_ms: i64,
    wait_ms: i64,
    name: *const c_char,
) -> Result<CreateOptions<'a>> {
    let known = PLASMA_CREATE_NO_EVICT | PLASMA_CREATE_IMMUTABLE;
    let flags = guard::known_flags(flags, known, "create options")?;
    let [no_evict, immutable] = [PLASMA_CREATE_NO_EVICT, PLASMA_CREATE_IMMUTABLE].map(|flag| flags & flag != 0);
    // SAFETY: as the caller promised.
    let name = unsafe { guard::text(name, "name") }?;
    Ok(CreateOptions { no_evict, ttl_ms, wait_ms, immutable, name })
}

/// What the options of a create mean.
///
/// # Safety
/// `options` is NULL or as long as it says, with a name that nobody changes during `'a`.
pub(super) unsafe fn given_options<'a>(options: *const plasma_create_options) -> Result<CreateOptions<'a>> {
    // SAFETY: as the caller promised.
    let options = unsafe { guard::options(options, "options")? };
    options.map_or(Ok(CreateOptions::default()), |options: plasma_create_options| {
        // SAFETY: as the caller promised.
        unsafe { create_options(options.flags, options.ttl_ms, options.wait_ms, options.name) }
    })
}

/// What flags of a get mean.
pub(super) fn get_options(flags: u32) -> Result<GetOptions> {
    let flags = guard::known_flags(flags, PLASMA_GET_PRIVATE | PLASMA_GET_NO_ASK, "get options")?;
    Ok(GetOptions { private: flags & PLASMA_GET_PRIVATE != 0, no_ask: flags & PLASMA_GET_NO_ASK != 0 })
}

fn connect_options(options: Option<plasma_connect_options>) -> Result<ConnectOptions> {
    let Some(options) = options else { return Ok(ConnectOptions::default()) };
    let flags = guard::known_flags(options.flags, PLASMA_CONNECT_RETURN_ON_SIGNAL, "connect options")?;
    let patience = match options.timeout_ms {
        -1 => None,
        milliseconds => Some(Duration::from_millis(u64::try_from(milliseconds).map_err(|_| {
            Error::InvalidArgument(format!("connect options: timeout_ms is -1, 0 or positive, not {milliseconds}"))
        })?)),
    };
    let return_on_signal = flags & PLASMA_CONNECT_RETURN_ON_SIGNAL != 0;
    let spin = Duration::from_micros(options.spin_us.into());
    Ok(ConnectOptions { patience, return_on_signal, copy_threads: options.copy_threads, spin })
}

/// Connects to the store at `socket_path`.
///
/// NULL stands for the default: `$PLASMA_STORE_SOCKET`, else `$XDG_RUNTIME_DIR/plasma-store.sock`, else
/// `/tmp/plasma-store-<uid>/plasma.sock`. `options` may be NULL. On success `*out` is to be freed with `plasma_client_free`.
///
/// A thread of the library (`plasma-unmap`, all signals blocked) sleeps until the client is freed, and unmaps what the store does not
/// need any more.
///
/// Errors: `PLASMA_CONNECT_FAILED` when no store answers, `PLASMA_UNSUPPORTED_PEER` for an old Plasma daemon,
/// `PLASMA_INVALID_ARGUMENT` for a path over 107 bytes or too many threads, `PLASMA_INTERRUPTED` with `PLASMA_CONNECT_RETURN_ON_SIGNAL`.
///
/// # Safety
/// `socket_path` is NULL or a NUL-terminated text, `options` NULL or as long as it says; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_connect(
    socket_path: *const c_char,
    options: *const plasma_connect_options,
    out: *mut *mut plasma_client,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (path, options, out) = unsafe {
            (guard::text(socket_path, "socket_path")?, guard::options(options, "options")?, Out::new(out, "out")?)
        };
        let client = Client::connect(path.map(Path::new), connect_options(options)?)?;
        out.set(guard::give(plasma_client(client)));
        Ok(())
    })
}

/// Frees a client. NULL is fine.
///
/// Objects that it created and did not seal are aborted, those with an unreleased buffer when that is released. Buffers and
/// tensors stay valid. No other thread may be in a call on this client.
///
/// # Safety
/// `client` is NULL or a live handle, which ends here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_client_free(client: *mut plasma_client) {
    // SAFETY: as the caller promised.
    guard::value((), || drop(unsafe { guard::take(client) }));
}

/// Makes every get, every create and every wait for an event that waits on this client, in any thread, return
/// `PLASMA_INTERRUPTED`. NULL is fine.
///
/// May be called from a signal handler. Calls that begin later are not affected.
///
/// # Safety
/// `client` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_interrupt(client: *mut plasma_client) {
    // SAFETY: as the caller promised. Nothing here allocates or locks, as a signal handler demands.
    if let Some(client) = unsafe { client.as_ref() } {
        client.0.interrupt();
    }
}

/// Has whatever waits in the calling thread, on any client and in `plasma_connect`, return `PLASMA_INTERRUPTED` as long as `fd` can
/// be read. -1 ends that.
///
/// This is how a signal ends a wait and is never lost: its handler writes into a pipe, and this is the pipe's other end. Nothing
/// here reads or closes it. Other threads are not concerned, nor calls that the store answers at once.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` when `fd` is not open.
///
/// # Safety
/// `fd` stays open until this thread sets another one or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_set_wake_fd(fd: c_int) -> plasma_status {
    guard::status(|| {
        let descriptor = (fd != -1).then_some(fd);
        // SAFETY: takes a number only; one that is not open is an error.
        if descriptor.is_some_and(|descriptor| unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1) {
            return Err(Error::InvalidArgument(format!("fd {fd} is not an open descriptor")));
        }
        // SAFETY: as the caller promised.
        unsafe { set_wake_descriptor(descriptor) };
        Ok(())
    })
}

/// Tells how many bytes of data and metadata the store holds at most.
///
/// # Safety
/// `client` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_client_capacity(client: *mut plasma_client, out: *mut u64) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, out) = unsafe { (client_of(client)?, Out::new(out, "out")?) };
        if !client.is_usable() {
            return Err(Error::Forked);
        }
        out.set(client.capacity());
        Ok(())
    })
}

/// Creates an object with room for `data_size` bytes, to be filled and then sealed.
///
/// Fill it in place (`plasma_buffer_mutable_data`), or with `plasma_buffer_write`, which copies faster than `memcpy` does.
///
/// `metadata` may be NULL when `metadata_size` is 0, `options` may be NULL. On success `*out` is to be released with
/// `plasma_buffer_release`, before or after the seal; its memory holds old bytes until it is written. Nobody else sees the
/// object before it is sealed.
///
/// With `wait_ms` the call waits until there is room. Creates that wait are served in the order in which they came, so a small
/// one may wait behind a large one. When the time is over, the create is tried once more as one that does not wait.
///
/// Errors: `PLASMA_OBJECT_EXISTS`; `PLASMA_STORE_FULL`, whose message has the figures and who holds most, also without waiting
/// where there can never be room; `PLASMA_INTERRUPTED` while it waits, and then there is no object.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` points at an id, `metadata` at `metadata_size` bytes; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_create(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    data_size: u64,
    metadata: *const u8,
    metadata_size: u64,
    options: *const plasma_create_options,
    out: *mut *mut plasma_buffer,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, metadata, options, out) = unsafe {
            (
                client_of(client)?,
                object_id::read(object_id)?,
                guard::bytes(metadata, metadata_size, "metadata")?,
                given_options(options)?,
                Out::new(out, "out")?,
            )
        };
        let buffer = client.create(id, data_size, metadata, options)?;
        out.set(give_writable(Arc::new(TensorMemory::Writable(buffer)))?);
        Ok(())
    })
}

/// Stores a copy of bytes as a sealed object. When this fails there is no object.
///
/// `data` may be NULL when `data_size` is 0, and `metadata` likewise; `options` may be NULL.
///
/// Errors: as for `plasma_create`.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id, `data` and `metadata` point at as many bytes as their sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_put(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    data: *const u8,
    data_size: u64,
    metadata: *const u8,
    metadata_size: u64,
    options: *const plasma_create_options,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, data, metadata, options) = unsafe {
            (
                client_of(client)?,
                object_id::read(object_id)?,
                guard::bytes(data, data_size, "data")?,
                guard::bytes(metadata, metadata_size, "metadata")?,
                given_options(options)?,
            )
        };
        client.put(id, data, metadata, options)
    })
}

/// Seals an object that this client created: it is immutable from now on, and everyone can get it.
///
/// `plasma_buffer_mutable_data` of its buffer is NULL afterwards; a pointer kept from before must not be written through.
///
/// Errors: `PLASMA_OBJECT_NOT_FOUND` when there is none that this client may seal, `PLASMA_OBJECT_ALREADY_SEALED`. With
/// `PLASMA_CREATE_IMMUTABLE` also `PLASMA_BUSY`, while its buffer is not released or somebody else could still write it; it may be
/// tried again then, or the object aborted.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_seal(client: *mut plasma_client, object_id: *const plasma_object_id) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id) = unsafe { (client_of(client)?, object_id::read(object_id)?) };
        client.seal(id)
    })
}

/// Gives up an object that this client created and has not sealed. Its buffer must be released first.
///
/// Errors: `PLASMA_BUSY` while its buffer is not released, `PLASMA_OBJECT_NOT_FOUND`, `PLASMA_OBJECT_ALREADY_SEALED`.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_abort(client: *mut plasma_client, object_id: *const plasma_object_id) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id) = unsafe { (client_of(client)?, object_id::read(object_id)?) };
        client.abort(id)
    })
}

/// Gets `count` objects, waiting at most `timeout_ms` until all are sealed: -1 waits without limit, 0 does not wait.
///
/// Fills `count` entries of `out` in the order of the ids, which may repeat; each is to be released with
/// `plasma_buffer_release`. `options` may be NULL.
///
/// Errors: `PLASMA_TIMEOUT` when some are missing; then, too, every entry is filled: those present are held, the others are
/// NULL. `PLASMA_INTERRUPTED`. With any error but `PLASMA_TIMEOUT` nothing is held and `out` is left alone.
///
/// # Safety
/// `client` is NULL or a live handle; `object_ids` and `out` point at `count` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_get(
    client: *mut plasma_client,
    object_ids: *const plasma_object_id,
    count: usize,
    timeout_ms: i64,
    options: *const plasma_get_options,
    out: *mut *mut plasma_buffer,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, ids, options) = unsafe {
            (client_of(client)?, guard::array(object_ids, count, "object_ids")?, guard::options(options, "options")?)
        };
        if out.is_null() && count > 0 {
            return Err(Error::InvalidArgument("out is NULL".into()));
        }
        let options = get_options(options.map_or(0, |options: plasma_get_options| options.flags))?;
        let handle = |memory: Option<Arc<TensorMemory>>| memory.map_or(std::ptr::null_mut(), give);
        if let [id] = ids {
            let got = client.get_one((*id).into(), timeout_ms, options)?;
            let is_here = got.is_some();
            // SAFETY: not NULL, and the caller promised one entry.
            unsafe { out.write(handle(got.map(sealed_memory))) };
            return if is_here { Ok(()) } else { Err(Error::Timeout(timeout_ms)) };
        }
        let got = client.get_each(&object_ids_of(ids), timeout_ms, options, sealed_memory)?;
        let complete = got.iter().all(Option::is_some);
        for (index, memory) in got.into_iter().enumerate() {
            // SAFETY: not NULL, and the caller promised `count` entries, as many as there are buffers.
            unsafe { out.add(index).write(handle(memory)) };
        }
        if complete { Ok(()) } else { Err(Error::Timeout(timeout_ms)) }
    })
}

/// Tells whether a sealed object of this id is in the store.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_contains(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    out: *mut bool,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) = unsafe { (client_of(client)?, object_id::read(object_id)?, Out::new(out, "out")?) };
        out.set(client.contains(id)?);
        Ok(())
    })
}

/// Deletes `count` objects. One that is in use, or not sealed yet, goes when its last holder releases it.
///
/// `results` may be NULL; else it gets `count` entries: `PLASMA_OK` (gone), `PLASMA_OBJECT_NOT_FOUND`, or
/// `PLASMA_OBJECT_IN_USE` or `PLASMA_OBJECT_NOT_SEALED` (goes later). All of these count as success of the call.
///
/// # Safety
/// `client` is NULL or a live handle; `object_ids`, and `results` if not NULL, point at `count` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_delete(
    client: *mut plasma_client,
    object_ids: *const plasma_object_id,
    count: usize,
    results: *mut plasma_status,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, ids) = unsafe { (client_of(client)?, ids_of(object_ids, count)?) };
        let outcomes = client.delete(&ids)?;
        for (index, outcome) in outcomes.iter().enumerate().filter(|_| !results.is_null()) {
            // SAFETY: not NULL, and the caller promised `count` entries, as many as there are outcomes.
            unsafe { results.add(index).write(status_of_outcome(outcome)) };
        }
        Ok(())
    })
}

/// Lists all objects of the store, also those not sealed yet, in no order.
///
/// On success `*out` is to be freed with `plasma_object_list_free`.
///
/// # Safety
/// `client` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_list(client: *mut plasma_client, out: *mut *mut plasma_object_list) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, out) = unsafe { (client_of(client)?, Out::new(out, "out")?) };
        out.set(guard::give(plasma_object_list::new(client.list()?)));
        Ok(())
    })
}

/// Writes the name that an object was created with to `out`, cut to `size` bytes with a NUL at the end; "" for none.
///
/// `*length` gets the length of the whole name without its NUL. `out` may be NULL when `size` is 0. Nothing is waited or asked for:
/// the name is read in shared memory. An object has no other name than one whose id it has.
///
/// Errors: `PLASMA_OBJECT_NOT_FOUND` for what is not sealed, or cannot be seen without asking (as with `PLASMA_GET_NO_ASK`).
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `size` bytes at `out`, and `length`, may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_name(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    out: *mut c_char,
    size: usize,
    length: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) =
            unsafe { (client_of(client)?, object_id::read(object_id)?, TextOut::new(out, size, length)?) };
        out.set(&client.name_of(id)?.unwrap_or_default());
        Ok(())
    })
}

/// An array of ids.
///
/// # Safety
/// `ids` points at `count` ids.
pub(super) unsafe fn ids_of(ids: *const plasma_object_id, count: usize) -> Result<Vec<ObjectId>> {
    // SAFETY: as the caller promised.
    Ok(object_ids_of(unsafe { guard::array(ids, count, "object_ids") }?))
}

fn object_ids_of(ids: &[plasma_object_id]) -> Vec<ObjectId> {
    ids.iter().map(|id| (*id).into()).collect()
}
