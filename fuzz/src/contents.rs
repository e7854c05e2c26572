//! What lies in an object: tensor messages and the trailer behind the metadata.

use plasma_store::metadata::{self, TAIL_SIZE, Trailer};
use plasma_store::tensor::arrow_ipc::{self, PREFIX_SIZE, TensorHeader};

/// A tensor message. What is accepted lies inside it, and comes back when it is written again.
pub fn tensor(data: &[u8]) -> bool {
    let Some(Ok(size)) = data.first_chunk::<PREFIX_SIZE>().map(arrow_ipc::peek) else { return false };
    let Some(header) = data.get(..size) else { return false };
    let Ok(verified) = arrow_ipc::verify(header) else { return false };
    let Ok(tensor) = verified.decode(data.len() as u64) else { return false };
    let end = tensor.data_offset.checked_add(tensor.data_len).expect("an end");
    assert!(size as u64 <= tensor.data_offset && end <= data.len() as u64, "the data lie at {tensor:?}");
    let span = tensor.layout.span();
    assert!(0 <= span.start && span.end.unsigned_abs() <= tensor.data_len, "{tensor:?} reaches over {span:?}");
    assert_eq!(tensor.data_offset % tensor.layout.dtype().item_size() as u64, 0, "{tensor:?} is not aligned");
    if end > size as u64 {
        assert!(verified.decode(end - 1).is_err(), "a message without the last byte of {tensor:?} was accepted");
    }
    let _ = tensor.layout.copy_plan();
    comes_back_packed(&tensor);
    true
}

fn comes_back_packed(tensor: &TensorHeader) {
    let header = arrow_ipc::encode_header(&tensor.layout);
    let size = header.len() as u64;
    assert_eq!(arrow_ipc::peek(header.first_chunk().unwrap()).unwrap() as u64, size);
    let message_size = arrow_ipc::message_size(&tensor.layout);
    let again = arrow_ipc::decode(&header, message_size).expect("we wrote it");
    let packed = tensor.layout.packed();
    let nbytes = packed.nbytes();
    assert_eq!(size + nbytes, message_size);
    assert_eq!(again, TensorHeader { layout: packed.clone(), data_offset: size, data_len: nbytes });
    assert_eq!(packed.packed(), packed, "what is packed stays as it is");
}

/// Metadata as they are stored. Whatever they are, a user gets back what a user gave.
pub fn metadata(data: &[u8]) -> bool {
    let own = Trailer::default().append_to(data);
    assert_eq!(metadata::split(&own).0, data.len(), "a user's bytes were taken for ours");
    let (user, Some(trailer)) = metadata::split(data) else {
        assert_eq!(metadata::split(data), (data.len(), None));
        return false;
    };
    let (user, ours) = data.split_at(user);
    assert_eq!(trailer.encode(), ours);
    assert_eq!(metadata::split(&trailer.append_to(user)).0, user.len());
    if trailer.entries().count() > 0 {
        assert_eq!(trailer.append_to(user), data);
    }
    let tail = data.last_chunk::<TAIL_SIZE>().unwrap();
    assert_eq!(metadata::trailer_size(tail, data.len() as u64), Some(ours.len()));
    assert_eq!(metadata::split(ours), (0, Some(trailer.clone())), "a reader copies no more than this");
    let mut built = Trailer::default();
    for (key, value) in trailer.entries() {
        built.push(key, value).expect("it was in a trailer");
        assert!(trailer.get(key).is_some());
    }
    assert_eq!(built, trailer);
    true
}
