//! The stream of frames, cut into pieces by whoever sends it.

use plasma_store::protocol::{Dialect, MAX_BODY, frame};
use plasma_store::transport::stream::Inbox;

/// What came out of an inbox, and whether it refused the rest.
type Received = (Vec<(i64, u64, Vec<u8>)>, bool);

/// The first byte says which dialect (bit 0) and how many bytes arrive at once (the others); the stream follows.
pub fn frame(data: &[u8]) -> bool {
    let Some((&how, stream)) = data.split_first() else { return false };
    let dialect = if how & 1 == 1 { Dialect::Native } else { Dialect::Plasma };
    let (frames, refused) = receive(dialect, stream, stream.len().max(1));
    let chunk = 1 + usize::from(how >> 1);
    assert_eq!(receive(dialect, stream, chunk), (frames.clone(), refused), "in pieces of {chunk} bytes");
    assert_eq!(receive_exactly(dialect, stream), (frames.clone(), refused), "no more at once than is missing");
    let encoded: Vec<u8> =
        frames.iter().flat_map(|(kind, number, body)| frame::encode(dialect, *kind, *number, body)).collect();
    assert!(stream.starts_with(&encoded), "the frames are not those of the stream");
    if refused {
        let fresh = receive(dialect, &stream[encoded.len()..], stream.len());
        assert_eq!(fresh, (vec![], true), "what was refused behind other frames is refused without them");
    }
    !frames.is_empty()
}

fn receive(dialect: Dialect, stream: &[u8], chunk: usize) -> Received {
    let mut inbox = Inbox::new(dialect);
    let mut frames = Vec::new();
    for piece in stream.chunks(chunk) {
        inbox.push(piece);
        if take_frames(dialect, &mut inbox, &mut frames) {
            return (frames, true);
        }
    }
    (frames, false)
}

/// Gives the inbox what it says is missing, so that it never has a byte behind a frame.
fn receive_exactly(dialect: Dialect, stream: &[u8]) -> Received {
    let (mut inbox, mut frames, mut rest) = (Inbox::new(dialect), Vec::new(), stream);
    while let Some((piece, behind)) = rest.split_at_checked(inbox.missing()) {
        assert!(!piece.is_empty(), "nothing is missing, and no frame is there");
        inbox.push(piece);
        rest = behind;
        let before = frames.len();
        if take_frames(dialect, &mut inbox, &mut frames) {
            return (frames, true);
        }
        assert!(frames.len() - before <= 1, "more than one frame was missing");
    }
    (frames, false)
}

/// Whether the inbox refused what comes next.
fn take_frames(dialect: Dialect, inbox: &mut Inbox, frames: &mut Vec<(i64, u64, Vec<u8>)>) -> bool {
    loop {
        match inbox.next_frame() {
            Ok(Some(frame)) => {
                assert!(frame.body.len() as u64 <= MAX_BODY);
                assert!(dialect == Dialect::Native || frame.number == 0, "a number that was not sent");
                frames.push((frame.message_type, frame.number, frame.body));
            }
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}
