//! Why a store says no: the numbers that replies carry, and which of them old clients survive.
#![forbid(unsafe_code)]

use super::body::Body;
use super::frame::Dialect;
use crate::error::Result;

/// A reason with a number on the wire; 0 there means that nothing was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Refusal {
    /// The id is taken.
    ObjectExists = 1,
    /// There is no such object, or none that this client may act on.
    ObjectNotFound = 2,
    /// There is no room.
    OutOfMemory = 3,
    /// The object is not sealed yet.
    ObjectNotSealed = 4,
    /// Somebody holds the object.
    ObjectInUse = 5,
    /// The object is sealed already. Ours: old peers have no such number.
    ObjectAlreadySealed = 6,
    /// Somebody can still write the object, which must not be once it is sealed. Ours.
    StillWritable = 7,
    /// This store cannot do that at all. Ours.
    Unsupported = 8,
}

impl Refusal {
    /// The number for native peers, and for everyone in the reply to Delete.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The number for old clients outside the reply to Delete, where anything over 3 aborts them.
    pub const fn code_for_old_client(self) -> i32 {
        match self {
            Self::ObjectExists | Self::ObjectNotFound | Self::OutOfMemory => self.code(),
            Self::ObjectNotSealed
            | Self::ObjectInUse
            | Self::ObjectAlreadySealed
            | Self::StillWritable
            | Self::Unsupported => Self::ObjectNotFound.code(),
        }
    }

    /// The reason with this number.
    pub const fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::ObjectExists,
            2 => Self::ObjectNotFound,
            3 => Self::OutOfMemory,
            4 => Self::ObjectNotSealed,
            5 => Self::ObjectInUse,
            6 => Self::ObjectAlreadySealed,
            7 => Self::StillWritable,
            8 => Self::Unsupported,
            _ => return None,
        })
    }
}

/// A refusal with what people want to know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason.
    pub refusal: Refusal,
    /// The numbers behind it; empty from old stores. Bytes that are not UTF-8 were replaced.
    pub detail: String,
}

/// The number for `outcome` outside the reply to Delete.
pub(super) fn code(dialect: Dialect, outcome: Result<(), Refusal>) -> i32 {
    match (outcome, dialect) {
        (Ok(()), _) => 0,
        (Err(refusal), Dialect::Plasma) => refusal.code_for_old_client(),
        (Err(refusal), Dialect::Native) => refusal.code(),
    }
}

/// The outcome that number `code` in `body` stands for.
pub(super) fn outcome(body: Body<'_>, code: i32) -> Result<Result<(), Refusal>> {
    match (code, Refusal::from_code(code)) {
        (0, _) => Ok(Ok(())),
        (_, Some(refusal)) => Ok(Err(refusal)),
        (_, None) => Err(body.refuse(format_args!("error code {code}, where 0 to 8 are known"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_old_plasma_and_survivable() {
        for code in 1..=8 {
            let refusal = Refusal::from_code(code).unwrap();
            assert_eq!(refusal.code(), code);
            assert_eq!(refusal.code_for_old_client(), if code <= 3 { code } else { 2 });
        }
        assert!([i32::MIN, -1, 0, 9].into_iter().all(|code| Refusal::from_code(code).is_none()));
    }
}
