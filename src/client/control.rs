//! What steers the store rather than moves objects: eviction, pins, quotas, figures.
#![forbid(unsafe_code)]

use crate::client::connection::Patience;
use crate::client::{Client, GetOptions, refused, unexpected};
use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::protocol::{Reply, Request, Stats};

impl Client {
    /// Evicts objects that nobody holds, least recently used first, until `bytes` are freed or none are left. Returns the bytes
    /// freed.
    ///
    /// # Errors
    /// What the connection says.
    pub fn evict(&self, bytes: u64) -> Result<u64> {
        match self.connection.call(&Request::Evict { bytes }, Patience::Unlimited)? {
            Reply::Evict { bytes } => Ok(bytes),
            other => Err(unexpected(&other)),
        }
    }

    /// Pins sealed objects, or unpins them: all of them, or none. A pinned object is not evicted, whether its client lives or not,
    /// until somebody unpins or deletes it or its time is over.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] and [`Error::ObjectNotSealed`] with the first id that it is true of.
    pub fn pin(&self, ids: &[ObjectId], pinned: bool) -> Result<()> {
        match self.connection.call(&Request::Pin { ids: ids.to_vec(), pinned }, Patience::Unlimited)? {
            Reply::Pin { outcomes } if outcomes.len() == ids.len() => {
                let mut outcomes = ids.iter().zip(outcomes);
                outcomes.try_for_each(|(id, outcome)| outcome.map_err(|refusal| refused(*id, refusal)))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Marks objects as just used, as far as they may be evicted.
    ///
    /// # Errors
    /// What the connection says.
    pub fn refresh(&self, ids: &[ObjectId]) -> Result<()> {
        match self.connection.call(&Request::RefreshLru { ids: ids.to_vec() }, Patience::Unlimited)? {
            Reply::RefreshLru => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The digest that an old client would compute of a sealed object.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`], or what the connection says.
    pub fn hash(&self, id: ObjectId) -> Result<[u8; 8]> {
        let found = self.get(&[id], 0, GetOptions::default())?.pop().flatten();
        found.ok_or(Error::ObjectNotFound(id))?.digest()
    }

    /// Names this client in the store's figures, and reserves `quota` bytes for what it creates from now on: see
    /// `docs/architecture.md`, Quotas. It can be done once.
    ///
    /// # Errors
    /// [`Error::StoreFull`] when the quota is refused; the name stands all the same.
    pub fn set_options(&self, name: &str, quota: i64) -> Result<()> {
        let request = Request::SetOptions { client_name: name.to_owned(), quota };
        match self.connection.call(&request, Patience::Unlimited)? {
            Reply::SetOptions { outcome: Ok(()) } => Ok(()),
            Reply::SetOptions { outcome: Err(_) } => Err(Error::StoreFull(format!(
                "a quota of {quota} bytes: it can be set once, and three tenths of {} stay for all",
                self.capacity()
            ))),
            other => Err(unexpected(&other)),
        }
    }

    /// The store's figures.
    ///
    /// # Errors
    /// What the connection says.
    pub fn stats(&self) -> Result<Stats> {
        match self.connection.call(&Request::Stats, Patience::Unlimited)? {
            Reply::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    /// The store's figures as text, one `key: value` a line, in old Plasma's words.
    ///
    /// # Errors
    /// What the connection says.
    pub fn debug_string(&self) -> Result<String> {
        match self.connection.call(&Request::GetDebugString, Patience::Unlimited)? {
            Reply::DebugString(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }
}
