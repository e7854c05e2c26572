//! How native peers share an object before it is sealed: the request, its answer, and both as bytes.
#![forbid(unsafe_code)]

use super::body::{Body, Writer};
use super::generated::plasma as fbs;
use super::refusal::{Refused, code, outcome};
use super::{Dialect, Reply, Request};
use crate::error::Result;
use crate::object::{Location, ObjectId};

/// What is to be done with an unsealed object that several peers write, or are to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareAction {
    /// Its creator shares it, and takes part.
    Begin {
        /// Whether it lives until it is deleted, also when nobody takes part.
        keep: bool,
    },
    /// This peer takes part.
    Join,
    /// It does not any more.
    Leave,
    /// It leaves, and the object is sealed, so that nobody can write it.
    Freeze,
    /// Nothing; who takes part is what is asked for.
    Ask,
}

/// What is told of a shared object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Where it lies.
    pub location: Location,
    /// Which of its participants the peer is, if it is one.
    pub participant: u32,
    /// Who takes part, as people are told of them.
    pub participants: Vec<String>,
    /// Whether the descriptor of its control file follows, as it does for those who take part from now on.
    pub has_control: bool,
}

impl ShareAction {
    fn number(self) -> i32 {
        match self {
            Self::Begin { keep } => i32::from(keep),
            Self::Join => 2,
            Self::Leave => 3,
            Self::Freeze => 4,
            Self::Ask => 5,
        }
    }
}

pub(super) fn decode(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::NativeShareRequest<'_>>()?;
    let action = match table.action() {
        number @ 0..=1 => ShareAction::Begin { keep: number == 1 },
        2 => ShareAction::Join,
        3 => ShareAction::Leave,
        4 => ShareAction::Freeze,
        5 => ShareAction::Ask,
        other => return Err(body.refuse(format_args!("action {other}, where 0 to 5 are known"))),
    };
    Ok(Request::Share { id: body.id(table.object_id())?, action })
}

pub(super) fn encode(id: &ObjectId, action: ShareAction) -> Vec<u8> {
    let mut writer = Writer::small();
    let object_id = Some(writer.string(id.as_bytes()));
    let args = fbs::NativeShareRequestArgs { object_id, action: action.number() };
    writer.finish(|b| fbs::NativeShareRequest::create(b, &args))
}

pub(super) fn decode_reply(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::NativeShareReply<'_>>()?;
    if let Err(refusal) = outcome(body, table.error())? {
        let detail = body.text("detail", table.detail())?;
        return Ok(Reply::Share { outcome: Err(Refused { refusal, detail }) });
    }
    let location = Location {
        segment: table.segment(),
        offset: table.data_offset(),
        data_size: table.data_size(),
        metadata_size: table.metadata_size(),
    };
    let participants = body.present("participants", table.participants())?.iter();
    let participants = participants.map(|name| body.text("participant", Some(name))).collect::<Result<_>>()?;
    let (participant, has_control) = (table.participant(), table.has_control());
    Ok(Reply::Share { outcome: Ok(Shared { location, participant, participants, has_control }) })
}

pub(super) fn encode_reply(result: &Result<Shared, Refused>) -> Vec<u8> {
    let mut writer = Writer::small();
    let args = match result {
        Ok(Shared { location, participant, participants, has_control }) => fbs::NativeShareReplyArgs {
            error: 0,
            detail: None,
            participant: *participant,
            segment: location.segment,
            data_offset: location.offset,
            data_size: location.data_size,
            metadata_size: location.metadata_size,
            participants: Some(writer.strings(participants.iter().map(String::as_bytes))),
            has_control: *has_control,
        },
        Err(Refused { refusal, detail }) => fbs::NativeShareReplyArgs {
            error: code(Dialect::Native, Err(*refusal)),
            detail: Some(writer.string(detail.as_bytes())),
            ..Default::default()
        },
    };
    writer.finish(|b| fbs::NativeShareReply::create(b, &args))
}
