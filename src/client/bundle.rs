//! Objects that are bundles: many tensors, one get.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::client::draft::Draft;
use crate::client::tensor::{Part, TensorMemory};
use crate::client::{Client, CreateOptions, GetOptions, WritableBuffer};
use crate::error::{Error, Result};
use crate::metadata::Trailer;
use crate::object::ObjectId;
use crate::tensor::bundle::{self, Bundle, Plan};

/// A bundle in an object. Its tensors share the memory.
#[derive(Debug)]
pub struct StoredBundle {
    memory: Arc<TensorMemory>,
    /// What its header says.
    pub says: Bundle,
}

impl StoredBundle {
    /// The tensor of this number, if there is one.
    pub fn tensor(&self, index: usize) -> Option<Arc<TensorMemory>> {
        let entry = self.says.entries.get(index)?;
        Some(Arc::new(TensorMemory::Part(Part::new(self.memory.clone(), entry.layout.clone(), entry.offset))))
    }
}

impl TensorMemory {
    /// The bundle that lies here.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming what is wrong with the bytes; [`Error::Unsupported`] for an element type that is not
    /// known here.
    pub fn bundle(self: Arc<Self>) -> Result<StoredBundle> {
        let (size, mut prefix) = (self.size(), [0; bundle::PREFIX_SIZE]);
        if size < prefix.len() as u64 {
            return Err(Error::Corrupt(format!("a bundle has {} bytes at least, the object has {size}", prefix.len())));
        }
        self.read(0, &mut prefix)?;
        let mut head = vec![0; bundle::head_size(prefix, size)?];
        self.read(0, &mut head)?;
        let says = bundle::decode(&head, size)?;
        Ok(StoredBundle { memory: self, says })
    }
}

impl Client {
    /// Creates an object for a bundle that is sealed as soon as it is filled, and writes all but the tensors.
    ///
    /// # Errors
    /// As for [`Client::tensor_draft`].
    pub fn bundle_draft(
        &self,
        id: ObjectId,
        plan: &Plan,
        options: CreateOptions<'_>,
    ) -> Result<(WritableBuffer, Draft<'_>)> {
        let (buffer, draft) = self.draft(id, plan.size, &options.stored(id, &[], Trailer::default())?, options)?;
        match begin(&buffer, plan) {
            Ok(()) => Ok((buffer, draft)),
            Err(error) => {
                // Before the draft, which gives the object up.
                drop(buffer);
                Err(error)
            }
        }
    }

    /// Creates an object for a bundle, and writes all but the tensors. What is left to do is to fill them and to seal the object.
    ///
    /// # Errors
    /// As for [`Client::create`].
    pub fn bundle_create(&self, id: ObjectId, plan: &Plan, options: CreateOptions<'_>) -> Result<WritableBuffer> {
        let metadata = options.stored(id, &[], Trailer::default())?;
        let buffer = self.create_described(id, plan.size, &metadata, options)?;
        begin(&buffer, plan)?;
        Ok(buffer)
    }

    /// Gets a bundle, waiting for it as [`Client::get`] does.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it is not there in time, [`Error::Corrupt`] when the object is no bundle.
    pub fn bundle_read(&self, id: ObjectId, timeout_ms: i64, options: GetOptions) -> Result<StoredBundle> {
        let buffer = self.get_one(id, timeout_ms, options)?.ok_or(Error::Timeout(timeout_ms))?;
        Arc::new(TensorMemory::Sealed(buffer)).bundle()
    }
}

fn begin(buffer: &WritableBuffer, plan: &Plan) -> Result<()> {
    buffer.write(0, &plan.head)?;
    // Each is shorter than the distance of tensors.
    plan.gaps.iter().try_for_each(|gap| buffer.write(gap.start, &vec![0; (gap.end - gap.start) as usize]))
}
