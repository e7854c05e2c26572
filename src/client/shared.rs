//! Tensors that several processes write: a shared object with a tensor in it, its lock, its version, and its seal.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::client::Client;
use crate::client::sharing::{Member, Membership};
use crate::client::tensor::{NewTensor, Tensor, TensorMemory, TensorOptions};
use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::shm::copy::Copier;
use crate::shm::shared::lock::{Copied, Lock, Owner, Taken};
use crate::shm::shared::ring::geometry::is_ring;
use crate::tensor::layout::Layout;

/// A tensor that all who have it open write and read in the same memory.
#[derive(Debug)]
pub struct SharedTensor {
    member: Arc<Member>,
    /// What its header said when it was opened: others may write over that.
    layout: Layout,
    names: Vec<String>,
    data_offset: u64,
}

thread_local! {
    /// In what this thread has locks.
    static HELD: RefCell<Held> = const { RefCell::new(Held(Vec::new())) };
}

/// A thread that ends with a lock is to its process what a process that dies is to the others: the next one has it, and is told.
struct Held(Vec<Weak<Membership>>);

impl Drop for Held {
    fn drop(&mut self) {
        for membership in self.0.drain(..).filter_map(|held| held.upgrade()) {
            if let Some((control, tag)) = membership.participant() {
                Lock::of(control).abandon(Owner::here(tag));
            }
        }
    }
}

/// At the end of a thread it may be over already; then nobody will give its locks back.
fn note_held(member: &Member) {
    let _ = HELD.try_with(|held| held.borrow_mut().0.push(member.membership()));
}

fn forget_held(member: &Member) {
    let given_back = member.membership();
    let _ = HELD.try_with(|held| held.borrow_mut().0.retain(|one| !one.ptr_eq(&given_back)));
}

impl Client {
    /// Creates a shared tensor that lies as [`Layout::packed`] of `layout` does. `fill` is given where its elements go, all of them zero,
    /// before anybody else can open it. `keep`: it lives until it is deleted, also when nobody has it open.
    ///
    /// # Errors
    /// As for [`Client::create`]; [`Error::Unsupported`] in a store whose objects have no segments of their own; what `fill` says.
    pub fn tensor_share(
        &self,
        id: ObjectId,
        layout: &Layout,
        options: TensorOptions<'_>,
        keep: bool,
        fill: impl FnOnce(*mut u8) -> Result<()>,
    ) -> Result<SharedTensor> {
        let new = NewTensor::of(id, layout, &options)?;
        let member = self.share(id, new.size, &new.metadata, options.create, keep, |buffer| {
            buffer.write(0, &new.header)?;
            let data = buffer.mutable_data().ok_or(Error::Forked)?;
            fill(data.wrapping_add(new.header.len()))
        })?;
        let member = Arc::new(member);
        // Mapped from here on, so that it can be used whatever becomes of the store.
        member.memory()?;
        let (data_offset, layout, names) = (new.header.len() as u64, new.layout, new.names);
        Ok(SharedTensor { member, layout, names, data_offset })
    }

    /// Opens a shared tensor, waiting at most `timeout_ms` until there is one: -1 waits without limit.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] when there is none and nothing is waited for, else [`Error::Timeout`]; [`Error::ObjectAlreadySealed`],
    /// [`Error::Interrupted`], [`Error::Corrupt`] when it is no tensor.
    pub fn tensor_open_shared(&self, id: ObjectId, timeout_ms: i64) -> Result<SharedTensor> {
        let member = Arc::new(self.join(id, timeout_ms)?);
        let memory = member.memory()?;
        if is_ring(&memory.memory.words()?) {
            return Err(Error::Corrupt(format!("shared object {id} is a ring, and no tensor")));
        }
        let Tensor { layout, names, data_offset, .. } = Arc::new(TensorMemory::Shared(memory)).tensor()?;
        Ok(SharedTensor { member, layout, names, data_offset })
    }
}

impl SharedTensor {
    /// The object's name.
    pub fn id(&self) -> ObjectId {
        self.member.id()
    }

    /// The tensor in its memory, for writing. It cannot be frozen while somebody has that.
    ///
    /// # Errors
    /// [`Error::ObjectAlreadySealed`], [`Error::Forked`]; what mapping it says.
    pub fn tensor(&self) -> Result<Tensor> {
        let memory = Arc::new(TensorMemory::Shared(self.member.memory()?));
        let (layout, names) = (self.layout.clone(), self.names.clone());
        Ok(Tensor { memory, layout, names, data_offset: self.data_offset })
    }

    /// How many tensors and buffers of this connection lie in its memory and keep it from being frozen.
    pub fn views(&self) -> usize {
        self.member.users()
    }

    fn words(&self) -> (Lock<'_>, Owner) {
        (Lock::of(self.member.control()), Owner::here(self.member.tag()))
    }

    /// Takes the lock, waiting at most `timeout_ms` for it: -1 waits without limit, 0 not at all.
    ///
    /// # Errors
    /// [`Error::OwnerDied`]: the lock is taken, and who had it before died with it. [`Error::Timeout`], [`Error::Interrupted`],
    /// [`Error::Busy`] when this thread has it already, [`Error::ObjectAlreadySealed`], [`Error::Disconnected`], [`Error::Forked`].
    pub fn lock(&self, timeout_ms: i64) -> Result<()> {
        let limit = self.member.limit(timeout_ms)?;
        let (lock, me) = self.words();
        let look = || {
            self.member.check()?;
            lock.try_take(me)
        };
        let taken = self.member.wait(lock.freed(), limit, look)?;
        note_held(&self.member);
        match taken {
            Taken::InOrder => Ok(()),
            Taken::OwnerDied => Err(Error::OwnerDied(self.id())),
        }
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when this thread does not have it, [`Error::Forked`].
    pub fn unlock(&self) -> Result<()> {
        if !self.member.connection().is_usable() {
            return Err(Error::Forked);
        }
        let (lock, me) = self.words();
        lock.release(me)?;
        forget_held(&self.member);
        Ok(())
    }

    /// How often the lock was taken and given back: odd while somebody has it. A number that is even and the same afterwards says that
    /// nobody had the lock in between.
    pub fn version(&self) -> u64 {
        Lock::of(self.member.control()).version()
    }

    /// Copies all elements as they were at one moment, when nobody had the lock, or as they are if this thread has it. `copy` is
    /// given where they begin; it may be called several times, and what it then has counts. Returns the version.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Interrupted`]; [`Error::Corrupt`] when who wrote last died meanwhile, and nobody has taken the
    /// lock since; what `copy` says.
    pub fn snapshot(&self, timeout_ms: i64, mut copy: impl FnMut(*const u8) -> Result<()>) -> Result<u64> {
        let limit = self.member.limit(timeout_ms)?;
        let tensor = self.tensor()?;
        let (lock, me) = self.words();
        let mut torn = 0_u32;
        let look = || match lock.try_copy(me, torn, || copy(tensor.data().cast_const()))? {
            Copied::Whole(version) => Ok(Some(version)),
            Copied::OwnerDied => Err(self.left_behind()),
            Copied::Torn => {
                torn = torn.saturating_add(1);
                Ok(None)
            }
        };
        self.member.wait(lock.written(), limit, look)
    }

    fn left_behind(&self) -> Error {
        let text = "its last writer died with the lock, so it may be half written; lock it, put it in order, unlock it";
        Error::Corrupt(format!("shared tensor {}: {text}", self.id()))
    }

    /// What copies for its client.
    pub fn copier(&self) -> Copier {
        self.member.connection().copier()
    }

    /// Bytes of all elements.
    pub fn nbytes(&self) -> u64 {
        self.layout.nbytes()
    }

    /// Seals it: from now on it is an ordinary object, which nobody can write. Our own memory of it is unmapped before, so no
    /// array may lie there. Waits at most `timeout_ms` for others to close it: -1 without limit, 0 not at all.
    ///
    /// # Errors
    /// [`Error::Busy`] naming who can still write it, or that it is this process or thread; [`Error::Corrupt`] as for
    /// [`SharedTensor::snapshot`]; [`Error::ObjectAlreadySealed`], [`Error::Interrupted`], [`Error::Forked`].
    pub fn freeze(&self, timeout_ms: i64) -> Result<()> {
        self.member.check()?;
        let (lock, me) = self.words();
        if lock.is_left_behind() {
            return Err(self.left_behind());
        }
        if lock.is_held_beside(me) {
            let text = format!("shared tensor {} is not frozen: another thread here has its lock", self.id());
            return Err(Error::Busy(text));
        }
        self.member.freeze(timeout_ms)
    }
}
