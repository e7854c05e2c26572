//! The store's segments as this process has them mapped. Their descriptors are closed once they are.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::shm::mapping::Mapping;

/// All segments that one connection has mapped.
#[derive(Debug, Default)]
pub struct Mappings {
    /// Looked up by every get, and few: the keys of a small tree lie side by side.
    readers: RwLock<BTreeMap<i32, Arc<Mapping>>>,
    writers: RwLock<BTreeMap<i32, Arc<Mapping>>>,
}

/// How a segment is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read-only.
    Read,
    /// To be written.
    Write,
}

impl Mappings {
    /// The whole segment, if it is mapped so.
    #[inline]
    pub fn get(&self, key: i32, access: Access) -> Option<Arc<Mapping>> {
        // A panic in between leaves nothing half done.
        self.of(access).read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Keeps a mapping that was just made, unless another thread has made one as well.
    pub fn keep(&self, key: i32, access: Access, mapping: Mapping) {
        let mut mappings = self.of(access).write().unwrap_or_else(PoisonError::into_inner);
        mappings.entry(key).or_insert_with(|| Arc::new(mapping));
    }

    /// Lets go of a segment; buffers that lie there keep it mapped.
    pub fn forget(&self, key: i32) {
        for mappings in [&self.readers, &self.writers] {
            mappings.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
    }

    fn of(&self, access: Access) -> &RwLock<BTreeMap<i32, Arc<Mapping>>> {
        match access {
            Access::Read => &self.readers,
            Access::Write => &self.writers,
        }
    }
}
