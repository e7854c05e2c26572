//! Objects that are tensors: the only file here that knows what an object's bytes mean.
//!
//! The object is an Arrow IPC tensor message; dtype and shape also stand in the metadata trailer. Headers are copied out of
//! shared memory before they are looked at, and looked at once.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::sync::Arc;

use crate::client::ring::SlotView;
use crate::client::sharing::SharedMemory;
use crate::client::{Buffer, Client, CreateOptions, GetOptions, WritableBuffer, check_range};
use crate::error::{Error, Result};
use crate::metadata::Trailer;
use crate::object::ObjectId;
use crate::tensor::arrow_ipc::{self, TensorHeader};
use crate::tensor::description;
use crate::tensor::layout::Layout;

/// How to store a tensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct TensorOptions<'a> {
    /// As for any object.
    pub create: CreateOptions<'a>,
    /// The user's metadata.
    pub metadata: &'a [u8],
    /// Names of the dimensions: none, or one for each.
    pub names: &'a [&'a str],
}

/// The memory that a tensor lies in. Those who have it share its hold.
#[derive(Debug)]
pub enum TensorMemory {
    /// A sealed object.
    Sealed(Buffer),
    /// An object that is being filled, or was when this was made.
    Writable(WritableBuffer),
    /// A tensor of a bundle.
    Part(Part),
    /// An object that several processes write.
    Shared(SharedMemory),
    /// A slot of a ring.
    Slot(SlotView),
}

/// A tensor in an object. Clones share the memory.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// What keeps it valid.
    pub memory: Arc<TensorMemory>,
    /// Element type, shape and strides.
    pub layout: Layout,
    /// The names of the dimensions, where they have any; else empty.
    pub names: Vec<String>,
    /// Where its data begin, from the start of the object.
    pub(super) data_offset: u64,
}

/// A tensor of a bundle, by itself.
#[derive(Debug)]
pub struct Part {
    whole: Arc<TensorMemory>,
    layout: Layout,
    /// From the start of the bundle.
    offset: u64,
}

impl Part {
    /// A tensor that lies there. That it does was checked when the bundle's header was decoded, with the size of its object.
    pub(super) fn new(whole: Arc<TensorMemory>, layout: Layout, offset: u64) -> Self {
        Self { whole, layout, offset }
    }

    fn shifted(&self, data: *mut u8) -> *mut u8 {
        if data.is_null() { data } else { data.wrapping_add(self.offset as usize) }
    }
}

impl TensorMemory {
    /// First byte of the data; null where this process does not have them.
    pub fn data(&self) -> *mut u8 {
        match self {
            Self::Sealed(buffer) => buffer.data().cast_mut(),
            Self::Writable(buffer) => buffer.data().cast_mut(),
            Self::Part(part) => part.shifted(part.whole.data()),
            Self::Shared(shared) => shared.memory.data_mut(),
            Self::Slot(view) => view.data(),
        }
    }

    /// The same for writing, if that may be.
    pub fn mutable_data(&self) -> Option<*mut u8> {
        match self {
            Self::Sealed(buffer) => buffer.private_data(),
            Self::Writable(buffer) => buffer.mutable_data(),
            Self::Part(part) => part.whole.mutable_data().map(|data| part.shifted(data)),
            Self::Shared(shared) => Some(shared.memory.data_mut()),
            Self::Slot(view) => view.mutable_data(),
        }
    }

    /// Bytes of data.
    pub fn size(&self) -> u64 {
        match self {
            Self::Sealed(buffer) => buffer.size(),
            Self::Writable(buffer) => buffer.size(),
            Self::Part(part) => part.layout.nbytes(),
            Self::Shared(shared) => shared.memory.data_size(),
            Self::Slot(view) => view.size(),
        }
    }

    /// The object's name.
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Sealed(buffer) => buffer.id(),
            Self::Writable(buffer) => buffer.id(),
            Self::Part(part) => part.whole.id(),
            Self::Shared(shared) => shared.member.id(),
            Self::Slot(view) => view.id(),
        }
    }

    /// First byte of the user's metadata, which a tensor of a bundle shares with the others.
    pub fn metadata(&self) -> *const u8 {
        match self {
            Self::Sealed(buffer) => buffer.metadata(),
            Self::Writable(buffer) => buffer.metadata(),
            Self::Part(part) => part.whole.metadata(),
            Self::Shared(shared) => shared.memory.metadata(),
            Self::Slot(_) => std::ptr::null(),
        }
    }

    /// Bytes of the user's metadata, without our trailer.
    pub fn metadata_size(&self) -> u64 {
        match self {
            Self::Sealed(buffer) => buffer.metadata_size(),
            Self::Writable(buffer) => buffer.metadata_size().unwrap_or(0),
            Self::Part(part) => part.whole.metadata_size(),
            // Fails only if the mapping is too short, which `Place` rules out.
            Self::Shared(shared) => shared.memory.user_metadata_size().unwrap_or(0),
            Self::Slot(_) => 0,
        }
    }

    /// Whether the kernel keeps everybody from changing the object.
    pub fn is_immutable(&self) -> bool {
        match self {
            Self::Sealed(buffer) => buffer.is_immutable(),
            Self::Writable(_) => false,
            Self::Shared(_) | Self::Slot(_) => false,
            Self::Part(part) => part.whole.is_immutable(),
        }
    }

    /// Copies data out.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the range is not in the data; [`Error::Forked`].
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::Sealed(buffer) => buffer.read(offset, bytes),
            Self::Writable(buffer) => buffer.read(offset, bytes),
            Self::Part(part) => {
                check_range(offset, bytes.len() as u64, self.size())?;
                part.whole.read(part.offset + offset, bytes)
            }
            Self::Shared(shared) => shared.memory.read(offset, bytes),
            Self::Slot(view) => view.refuse(),
        }
    }

    fn trailer(&self) -> Result<Option<Trailer>> {
        match self {
            Self::Sealed(buffer) => buffer.trailer(),
            Self::Writable(buffer) => buffer.trailer(),
            Self::Part(_) => Ok(None),
            Self::Shared(shared) => Ok(shared.memory.split_metadata()?.1),
            Self::Slot(_) => Ok(None),
        }
    }

    /// Copies data in, where it can be written: while it is being filled, or private to this process.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the range is not in the data; [`Error::ObjectAlreadySealed`], [`Error::Forked`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Sealed(buffer) => buffer.write(offset, bytes),
            Self::Writable(buffer) => buffer.write(offset, bytes),
            Self::Part(part) => {
                check_range(offset, bytes.len() as u64, self.size())?;
                part.whole.write(part.offset + offset, bytes)
            }
            Self::Shared(shared) => shared.memory.write(shared.member.connection(), offset, bytes),
            Self::Slot(view) => view.refuse(),
        }
    }

    /// The tensor that lies here.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming what is wrong with the bytes; [`Error::Unsupported`] for an element type that is not known here.
    pub fn tensor(self: Arc<Self>) -> Result<Tensor> {
        if let Self::Part(part) = &*self {
            let layout = part.layout.clone();
            return Ok(Tensor { memory: self, layout, names: Vec::new(), data_offset: 0 });
        }
        let size = self.size();
        let short =
            |needed: usize| Error::Corrupt(format!("a tensor's header needs {needed} bytes, the object has {size}"));
        let mut prefix = [0; arrow_ipc::PREFIX_SIZE];
        if size < prefix.len() as u64 {
            return Err(short(prefix.len()));
        }
        self.read(0, &mut prefix)?;
        let header_size = arrow_ipc::peek(&prefix)?;
        if size < header_size as u64 {
            return Err(short(header_size));
        }
        let mut header = vec![0; header_size];
        self.read(0, &mut header)?;
        let TensorHeader { mut layout, mut names, data_offset, .. } = decoded(header, size)?;
        if layout.may_carry()
            && let Some(trailer) = self.trailer()?
        {
            layout = description::described(layout, &trailer)?;
            // Of pairs, the carrier has one dimension more; where elements share bytes, its names are not those of ours.
            names.truncate(if layout.dtype().is_packed() { 0 } else { layout.shape().len() });
        }
        Ok(Tensor { memory: self, layout, names, data_offset })
    }
}

/// A header, the size of the object that it stands in, and what it says.
type Decoded = (Vec<u8>, u64, TensorHeader);

thread_local! {
    /// The header that this thread decoded last. To decode one takes ten times as long as the rest of a get, and programs read
    /// many tensors of one type and shape, whose headers are the same.
    static LAST: RefCell<Option<Decoded>> = const { RefCell::new(None) };
}

/// What a header says, in an object of this size.
fn decoded(header: Vec<u8>, size: u64) -> Result<TensorHeader> {
    let known = |(last, its_size, says): &Decoded| (*last == header && *its_size == size).then(|| says.clone());
    // At the end of a thread there may be no memory of it any more.
    if let Ok(Some(says)) = LAST.try_with(|last| last.try_borrow().ok()?.as_ref().and_then(known)) {
        return Ok(says);
    }
    let says = arrow_ipc::decode(&header, size)?;
    let kept = says.clone();
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some((header, size, kept))));
    Ok(says)
}

impl Tensor {
    /// The first element. Readable for as long as the memory is kept.
    pub fn data(&self) -> *mut u8 {
        self.memory.data().wrapping_add(self.data_offset as usize)
    }

    /// Some of its rows, `count` from `first` on. The others are not touched.
    ///
    /// # Errors
    /// As [`Layout::rows`].
    pub fn rows(self, first: u64, count: u64) -> Result<Self> {
        let (layout, begin) = self.layout.rows(first, count)?;
        Ok(self.moved(layout, begin))
    }

    /// Another view of its elements, the first `offset` elements behind its own.
    ///
    /// # Errors
    /// As [`Layout::view`].
    pub fn view(self, shape: Vec<i64>, strides: Vec<i64>, offset: i64) -> Result<Self> {
        let (layout, begin) = self.layout.view(shape, strides, offset)?;
        Ok(self.moved(layout, begin))
    }

    fn moved(self, layout: Layout, begin: i64) -> Self {
        // Inside the object: the view was judged against what this one spans.
        Self { layout, data_offset: self.data_offset.wrapping_add_signed(begin), ..self }
    }

    /// Whether its elements lie as processors want them. Those of a file that others wrote may not.
    pub fn is_aligned(&self) -> bool {
        self.data().addr().is_multiple_of(self.layout.dtype().carrier().item_size())
    }

    /// Whether writing to it is an error, or would reach nobody but a fault.
    pub fn is_read_only(&self) -> bool {
        self.memory.mutable_data().is_none()
    }
}

impl Client {
    /// Creates an object for a tensor that lies as [`Layout::packed`] of `layout` does, and writes its header.
    ///
    /// What is left to do is to fill it and to seal the object.
    ///
    /// # Errors
    /// As for [`Client::create`].
    pub fn tensor_create(&self, id: ObjectId, layout: &Layout, options: TensorOptions<'_>) -> Result<Tensor> {
        let new = NewTensor::of(id, layout, &options)?;
        let buffer = self.create_described(id, new.size, &new.metadata, options.create)?;
        new.begin(buffer)
    }

    /// Stores a tensor as a sealed object. `fill` is given where its elements go, as [`Layout::packed`] of `layout` has them,
    /// and writes all of them. A small one is put whole then, as [`Client::put`] does. When this fails there is no object.
    ///
    /// # Errors
    /// As for [`Client::create`]; what `fill` says.
    pub fn tensor_put(
        &self,
        id: ObjectId,
        layout: &Layout,
        options: TensorOptions<'_>,
        fill: impl FnOnce(*mut u8) -> Result<()>,
    ) -> Result<()> {
        let new = NewTensor::of(id, layout, &options)?;
        if Self::is_put_whole(new.size.saturating_add(new.metadata.len() as u64), options.create) {
            let mut message = new.header;
            let data_offset = message.len();
            message.resize(new.size as usize, 0);
            fill(message.as_mut_ptr().wrapping_add(data_offset))?;
            return self.put_described(id, &message, &new.metadata, options.create);
        }
        let (buffer, draft) = self.draft(id, new.size, &new.metadata, options.create)?;
        let stored = new.begin(buffer)?;
        let filled = fill(stored.data());
        drop(stored);
        filled.and_then(|()| draft.seal())
    }

    /// Gets a tensor, waiting for it as [`Client::get`] does.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it is not there in time, [`Error::Corrupt`] when the object is no tensor.
    pub fn tensor_read(&self, id: ObjectId, timeout_ms: i64, options: GetOptions) -> Result<Tensor> {
        let buffer = self.get_one(id, timeout_ms, options)?.ok_or(Error::Timeout(timeout_ms))?;
        Arc::new(TensorMemory::Sealed(buffer)).tensor()
    }
}

/// A tensor that is to be stored.
pub(super) struct NewTensor {
    pub layout: Layout,
    pub names: Vec<String>,
    pub header: Vec<u8>,
    /// Bytes of data in the object.
    pub size: u64,
    /// As they are stored.
    pub metadata: Vec<u8>,
}

impl NewTensor {
    pub fn of(id: ObjectId, layout: &Layout, options: &TensorOptions<'_>) -> Result<Self> {
        let layout = layout.packed();
        let header = arrow_ipc::encode_header(&layout, options.names)?;
        let names = options.names.iter().map(|&name| name.to_owned()).collect();
        let size = (header.len() as u64).saturating_add(layout.nbytes());
        let metadata = options.create.stored(id, options.metadata, description::describe(&layout)?)?;
        Ok(Self { layout, names, header, size, metadata })
    }

    /// Writes the header.
    fn begin(self, buffer: WritableBuffer) -> Result<Tensor> {
        buffer.write(0, &self.header)?;
        let memory = Arc::new(TensorMemory::Writable(buffer));
        Ok(Tensor { memory, layout: self.layout, names: self.names, data_offset: self.header.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::DType;

    #[test]
    fn a_header_that_was_decoded_before_is_judged_with_the_object_it_is_in() {
        let headers = [vec![2, 3], vec![3, 2], vec![2, 3]].map(|shape| {
            let layout = Layout::row_major(DType::from_dlpack(2, 32, 1).unwrap(), shape).unwrap();
            (arrow_ipc::encode_header(&layout, &[]).unwrap(), arrow_ipc::message_size(&layout).unwrap(), layout)
        });
        for (header, size, layout) in headers.iter().chain(&headers) {
            for _ in 0..2 {
                assert_eq!(decoded(header.clone(), *size).unwrap().layout, *layout);
            }
            // The same header in an object that is too short for the tensor.
            assert!(matches!(decoded(header.clone(), size - 1), Err(Error::Corrupt(_))));
        }
    }
}
