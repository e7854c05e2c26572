//! Tensors that lie in slots. While there is one, the slot cannot be given back.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::client::ring::held::Purpose;
use crate::client::ring::{Inner, TensorRing};
use crate::client::tensor::{Tensor, TensorMemory};
use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::shm::shared::ring::Handle;
use crate::tensor::dtype::DType;
use crate::tensor::layout::Layout;

/// The memory of a slot, for as long as somebody looks at it.
#[derive(Debug)]
pub struct SlotView {
    inner: Arc<Inner>,
    slot: u32,
    size: u64,
    writable: bool,
}

impl SlotView {
    /// Its first byte; null in a forked child.
    pub fn data(&self) -> *mut u8 {
        if self.inner.is_usable() { self.inner.address(self.slot) } else { std::ptr::null_mut() }
    }

    /// The same, if it is to be filled.
    pub fn mutable_data(&self) -> Option<*mut u8> {
        Some(self.data()).filter(|data| self.writable && !data.is_null())
    }

    /// Bytes that the tensor has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// It has an address and nothing else.
    ///
    /// # Errors
    /// [`Error::Unsupported`] always.
    pub fn refuse(&self) -> Result<()> {
        Err(Error::Unsupported(format!("slots of ring {} are read and written by their address", self.id())))
    }

    /// The ring's name.
    pub fn id(&self) -> ObjectId {
        self.inner.id()
    }
}

impl Drop for SlotView {
    fn drop(&mut self) {
        if self.inner.is_usable() {
            self.inner.held.remove_view(self.slot);
            // Either this sees that the handle is gone, or who dropped it sees that the view is.
            if self.inner.has_left.fetch_or(false, Ordering::SeqCst) {
                self.inner.give_all_back();
            }
        }
    }
}

impl TensorRing {
    /// The message in a slot that the caller has, or what it is to be. The slot cannot be given back or published while it lives.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the caller does not have the slot; [`Error::Corrupt`] when what the message says of itself cannot be.
    pub fn tensor(&self, token: u64) -> Result<Tensor> {
        let inner = &self.inner;
        inner.check_usable()?;
        let (handle, purpose) = inner.held.get_any(token)?;
        let layout = inner.layout_in(handle, purpose)?;
        inner.held.add_view(token, purpose)?;
        let (slot, size, writable) = (handle.slot(), layout.nbytes(), purpose == Purpose::Write);
        let memory = Arc::new(TensorMemory::Slot(SlotView { inner: inner.clone(), slot, size, writable }));
        Ok(Tensor { memory, layout, names: Vec::new(), data_offset: 0 })
    }
}

impl Inner {
    /// Element type and shape of what lies in a slot, or is to.
    fn layout_in(&self, handle: Handle, purpose: Purpose) -> Result<Layout> {
        match (&self.layout, purpose) {
            (Some(layout), _) => Ok(layout.clone()),
            (None, Purpose::Read) => self.stated(handle),
            (None, Purpose::Write) => {
                let bytes = self.ring.geometry().settings().slot_bytes.cast_signed();
                Layout::row_major(DType::from_dlpack(1, 8, 1)?, vec![bytes])
            }
        }
    }

    /// What a message says of itself.
    fn stated(&self, handle: Handle) -> Result<Layout> {
        let said = self.ring.header(&handle)?;
        let mut shape = vec![0; said.ndim];
        self.ring.shape(&handle, &mut shape)?;
        let (code, bits, lanes) = said.dtype;
        let layout = DType::from_dlpack(code, bits, lanes).and_then(|dtype| Layout::row_major(dtype, shape));
        let layout = layout.map_err(|error| Error::Corrupt(format!("slot {}: {error}", handle.slot())))?;
        if layout.nbytes() != said.bytes {
            let (needed, bytes) = (layout.nbytes(), said.bytes);
            return Err(Error::Corrupt(format!("slot {}: a tensor of {needed} bytes in {bytes}", handle.slot())));
        }
        Ok(layout)
    }
}
