//! What lies in an object: tensor messages and the trailer behind the metadata.

use plasma_store::metadata::{self, TAIL_SIZE, Trailer};
use plasma_store::tensor::arrow_ipc::{self, PREFIX_SIZE, TensorHeader};
use plasma_store::tensor::bundle::{self, Bundle, Plan};
use plasma_store::tensor::description;
use plasma_store::tensor::layout::Layout;
use safetensors::SafeTensors;

/// A tensor message, and behind it the trailer of its metadata, if there is one. What is accepted lies inside the message, and
/// comes back when it is written again.
pub fn tensor(data: &[u8]) -> bool {
    let (message, trailer) = metadata::split(data);
    let data = &data[..message];
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
    let Ok(layout) = description::described(tensor.layout.clone(), &trailer.unwrap_or_default()) else { return false };
    let described = layout.span();
    assert!(span.start <= described.start && described.end <= span.end, "{layout:?} reaches over {described:?}");
    assert!(layout == tensor.layout || tensor.layout.may_carry(), "{layout:?} in {tensor:?}");
    let _ = layout.copy_plan();
    views_lie_inside(&layout);
    comes_back_packed(&TensorHeader { layout, ..tensor });
    true
}

/// Its last row, and all of it turned around, lie where it does.
fn views_lie_inside(layout: &Layout) {
    let span = layout.span();
    let Some(&rows) = layout.shape().first() else { return };
    if let Ok((row, begin)) = layout.rows(rows.unsigned_abs().saturating_sub(1), rows.min(1).unsigned_abs()) {
        assert!(row.span().is_empty() || span.start <= begin + row.span().start && begin + row.span().end <= span.end);
    }
    let turned = |sizes: &[i64]| sizes.iter().rev().copied().collect::<Vec<_>>();
    if let Ok((turned, begin)) = layout.view(turned(layout.shape()), turned(layout.strides()), 0) {
        assert_eq!((turned.span(), begin), (span, 0));
    }
}

fn comes_back_packed(tensor: &TensorHeader) {
    let names: Vec<&str> = tensor.names.iter().map(String::as_str).collect();
    let names =
        if names.len() == tensor.layout.shape().len() && !tensor.layout.dtype().is_packed() { names } else { vec![] };
    let Ok(header) = arrow_ipc::encode_header(&tensor.layout, &names) else {
        assert!(names.concat().len() > arrow_ipc::MAX_NAMES_SIZE, "{tensor:?}");
        return;
    };
    let size = header.len() as u64;
    assert_eq!(arrow_ipc::peek(header.first_chunk().unwrap()).unwrap() as u64, size);
    let packed = tensor.layout.packed();
    let nbytes = packed.nbytes();
    let again = arrow_ipc::decode(&header, size + nbytes).expect("we wrote it");
    assert!(names.iter().zip(&again.names).all(|(name, again)| name == again), "{names:?} became {:?}", again.names);
    assert_eq!((again.data_offset, again.data_len), (size, nbytes));
    let trailer = description::describe(&packed).expect("it is short");
    assert_eq!(description::described(again.layout, &trailer).expect("we wrote it"), packed);
    assert_eq!(packed.packed(), packed, "what is packed stays as it is");
}

/// A safetensors file. What is accepted lies inside it without holes, is accepted by the format's own library, and comes back when
/// it is written again.
pub fn bundle(data: &[u8]) -> bool {
    let size = data.len() as u64;
    let Some(Ok(head)) = data.first_chunk().map(|prefix| bundle::head_size(*prefix, size)) else { return false };
    let read = bundle::decode(&data[..head], size);
    let theirs = SafeTensors::deserialize(data);
    let Ok(bundle) = read else { return false };
    let theirs = theirs.expect("what is read here is read elsewhere");
    let mut end = head as u64;
    for (index, entry) in bundle.entries.iter().enumerate() {
        assert!(entry.offset >= end && entry.layout.is_row_major(), "{entry:?} begins before {end}");
        end = entry.offset + entry.layout.nbytes();
        assert_eq!(bundle.find(&entry.name), Some(index));
        assert_eq!(theirs.tensor(&entry.name).expect("a tensor").data().len() as u64, entry.layout.nbytes());
    }
    assert!(end <= size, "{bundle:?} ends at {end} of {size}");
    written_again(&bundle);
    true
}

fn written_again(given: &Bundle) {
    let tensors: Vec<_> = given.entries.iter().map(|entry| (entry.name.as_str(), entry.layout.clone())).collect();
    let Ok(plan) = Plan::new(&tensors, &given.metadata) else {
        assert!(tensors.iter().any(|(name, _)| name.starts_with("__pad.")), "{given:?}");
        return;
    };
    let again = bundle::decode(&plan.head, plan.size).expect("we wrote it");
    assert_eq!((again.entries.len(), &again.metadata), (given.entries.len(), &given.metadata));
    for ((name, layout), offset) in tensors.iter().zip(&plan.offsets) {
        let entry = &again.entries[again.find(name).expect("we wrote it")];
        assert_eq!((&entry.layout, entry.offset, offset % 64), (layout, *offset, 0));
    }
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
