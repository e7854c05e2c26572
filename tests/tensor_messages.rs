//! Tensor messages against pyarrow's own bytes, and against bytes that nobody should have written.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail by panicking")]

mod fixtures;

use fixtures::{Case, cases};
use plasma_store::error::Error;
use plasma_store::metadata;
use plasma_store::tensor::arrow_ipc::{self, MAX_HEADER_SIZE, PREFIX_SIZE, TensorHeader};
use plasma_store::tensor::description;
use plasma_store::tensor::dtype::{DType, Form};
use plasma_store::tensor::layout::Layout;

/// What a reader does: peek, copy that much, decode the copy.
fn read(message: &[u8]) -> Result<TensorHeader, Error> {
    let Some(first) = message.first_chunk::<PREFIX_SIZE>() else {
        return Err(Error::Corrupt("no prefix".to_owned()));
    };
    let header_size = arrow_ipc::peek(first)?;
    let Some(header) = message.get(..header_size) else {
        return Err(Error::Corrupt("header cut short".to_owned()));
    };
    arrow_ipc::decode(header, message.len() as u64)
}

fn numbers(list: &str) -> Vec<i64> {
    list.split(", ").filter(|number| !number.is_empty()).map(|number| number.parse().unwrap()).collect()
}

fn dtype(name: &str) -> DType {
    DType::all().find(|dtype| dtype.name() == name).unwrap()
}

/// The layout that a case says it has.
fn layout(case: &Case) -> Layout {
    let dtype = dtype(case.text("dtype"));
    let strides = numbers(case.text("byte_strides")).iter().map(|stride| stride / dtype.item_size() as i64).collect();
    Layout::new(dtype, numbers(case.text("shape")), strides).unwrap()
}

/// Elements by index, last index fastest: no cleverness, so that it can judge.
fn row_major(message: &[u8], header: &TensorHeader) -> Vec<u8> {
    let (layout, item_size) = (&header.layout, header.layout.dtype().item_size());
    let mut bytes = Vec::new();
    for element in 0..layout.elements() as i64 {
        let (mut rest, mut offset) = (element, 0);
        for (size, stride) in layout.shape().iter().zip(layout.strides()).rev() {
            offset += rest % size * stride;
            rest /= size;
        }
        let at = header.data_offset as usize + offset as usize * item_size;
        bytes.extend_from_slice(&message[at..at + item_size]);
    }
    bytes
}

#[test]
fn pyarrows_messages_are_read() {
    for case in cases("arrow_tensors.json") {
        let (name, message) = (case.text("case"), case.bytes("message"));
        let header = read(&message).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(header.layout, layout(&case), "{name}");
        assert_eq!(header.data_len, header.layout.nbytes(), "{name}");
        assert_eq!(header.data_offset + header.data_len, message.len() as u64, "{name}");
        assert_eq!(header.data_offset % 64, 0, "{name}");
        assert_eq!(row_major(&message, &header), case.bytes("row_major_bytes"), "{name}");
    }
}

/// Not only read alike: the header that we write is pyarrow's, byte for byte.
#[test]
fn headers_are_written_as_pyarrow_does() {
    let pyarrow: Vec<_> =
        cases("arrow_tensors.json").into_iter().filter(|case| case.text("origin") == "pyarrow").collect();
    assert!(pyarrow.len() >= 20);
    for case in pyarrow {
        let (name, message, layout) = (case.text("case"), case.bytes("message"), layout(&case));
        let header = arrow_ipc::encode_header(&layout, &[]).unwrap();
        if layout.shape().is_empty() {
            // Newer C++ builders leave an empty vector unaligned. Ours aligns it, like the one of Arrow 11:
            // 192 bytes of header for this one.
            assert_eq!((name, header.len()), ("0-d", 192));
            continue;
        }
        assert_eq!(header, message[..header.len()], "{name}");
        assert_eq!(arrow_ipc::message_size(&layout).unwrap(), message.len() as u64, "{name}");
    }
}

#[test]
fn every_dtype_shape_and_order_comes_back() {
    let shapes: [&[i64]; 9] = [&[], &[0], &[7], &[2, 3], &[3, 0, 2], &[1, 5, 1], &[2, 3, 4], &[1], &[2; 20]];
    for dtype in DType::all() {
        for shape in shapes {
            let row_major = Layout::row_major(dtype, shape.to_vec()).unwrap();
            let (mut turned_shape, mut turned_strides) = (shape.to_vec(), row_major.strides().to_vec());
            turned_shape.reverse();
            turned_strides.reverse();
            let column_major = Layout::new(dtype, turned_shape, turned_strides);
            assert!(column_major.is_ok() || dtype.is_packed());
            for layout in [Ok(row_major), column_major].into_iter().flatten() {
                let size = arrow_ipc::message_size(&layout).unwrap();
                let header = arrow_ipc::decode(&arrow_ipc::encode_header(&layout, &[]).unwrap(), size).unwrap();
                assert_eq!(header.layout, layout.packed().carrier().unwrap());
                assert!(header.layout.may_carry() || dtype.form() == Form::Native);
                let trailer = description::describe(&layout).unwrap();
                assert_eq!(description::described(header.layout, &trailer).unwrap(), layout.packed());
                assert_eq!((header.data_len, header.data_offset % 64), (layout.nbytes(), 0));
                assert_eq!(header.data_offset + header.data_len, size);
            }
        }
    }
}

#[test]
fn names_of_dimensions_are_written_as_pyarrow_does_and_come_back() {
    let named: Vec<_> =
        cases("arrow_tensors.json").into_iter().filter(|case| case.text("origin") == "pyarrow, names").collect();
    assert!(!named.is_empty());
    for case in named {
        let message = case.bytes("message");
        let header = read(&message).unwrap();
        assert_eq!(header.names, ["x", "y"]);
        let written = arrow_ipc::encode_header(&header.layout, &["x", "y"]).unwrap();
        assert_eq!(written[..], message[..written.len()]);
    }
}

#[test]
fn types_that_arrow_does_not_have_are_read_and_written_as_the_vectors_say() {
    let carried = cases("carried_tensors.json");
    assert!(carried.len() > 20);
    for case in carried {
        let (name, message, metadata) = (case.text("case"), case.bytes("message"), case.bytes("metadata"));
        let numbers_of: Vec<u16> = case.text("dlpack").split(' ').map(|number| number.parse().unwrap()).collect();
        let dtype = DType::from_dlpack(numbers_of[0] as u8, numbers_of[1] as u8, numbers_of[2]).unwrap();
        let header = read(&message).unwrap();
        let trailer = metadata::split(&metadata).1.unwrap();
        let layout = description::described(header.layout.clone(), &trailer).unwrap();
        assert_eq!((layout.dtype(), layout.shape()), (dtype, &numbers(case.text("shape"))[..]), "{name}");
        assert_eq!(message[header.data_offset as usize..], case.bytes("elements"), "{name}");
        assert_eq!(layout.nbytes(), header.data_len, "{name}");

        let written = arrow_ipc::encode_header(&layout, &[]).unwrap();
        assert_eq!(written, message[..header.data_offset as usize], "{name}");
        assert_eq!(description::describe(&layout).unwrap().append_to(b""), metadata, "{name}");
    }
}

#[test]
fn names_that_cannot_be_are_refused_with_their_number() {
    let layout = |name| Layout::row_major(dtype(name), vec![2, 2]).unwrap();
    let long = "n".repeat(1 << 16);
    let cases = [
        ("uint8", vec!["x"], "1 names for a tensor of 2 dimensions"),
        ("uint8", vec!["x", &long], "65537 bytes"),
        ("float4_e2m1fn", vec!["x", ""], "float4_e2m1fn"),
    ];
    for (dtype, names, number) in cases {
        let error = arrow_ipc::encode_header(&layout(dtype), &names).unwrap_err().to_string();
        assert!(error.contains(number), "{error}");
    }
    // Of a complex tensor the carrier has one dimension more, which has no name.
    let header = arrow_ipc::encode_header(&layout("complex64"), &["x", "größe"]).unwrap();
    assert_eq!(arrow_ipc::decode(&header, header.len() as u64 + 32).unwrap().names, ["x", "größe", ""]);
}

#[test]
fn complex_numbers_leave_a_dimension_for_their_parts() {
    assert!(arrow_ipc::encode_header(&Layout::row_major(dtype("complex64"), vec![1; 31]).unwrap(), &[]).is_ok());
    let error = arrow_ipc::encode_header(&Layout::row_major(dtype("complex64"), vec![1; 32]).unwrap(), &[]);
    assert!(error.unwrap_err().to_string().contains("31 dimensions, not 32"));
}

/// xorshift64*: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

/// Damages a message as a hostile or dying writer might: flipped bits, other bytes, large numbers, a cut.
fn mutate(message: &mut Vec<u8>, random: &mut Random) {
    let reach = message.len();
    for _ in 0..=random.below(3) {
        let at = random.below(reach);
        match random.below(4) {
            0 | 1 => message[at] ^= 1 << random.below(8),
            2 => message[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            _ => message[at..(at + 8).min(reach)].fill([0, 0x7f, 0xff][random.below(3)]),
        }
    }
    if random.below(8) == 0 {
        message.truncate(random.below(message.len()));
    }
}

#[test]
fn no_mutation_panics_or_reaches_outside_the_message() {
    let originals: Vec<_> = cases("arrow_tensors.json").iter().map(|case| case.bytes("message")).collect();
    let mut random = Random(0x706c_6173_6d61);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..100_000 {
        let mut message = originals[round % originals.len()].clone();
        mutate(&mut message, &mut random);
        match read(&message) {
            Ok(header) => {
                let end = header.data_offset + header.data_len;
                let span = header.layout.span();
                assert!(end <= message.len() as u64, "round {round}: {header:?}");
                assert!(span.start == 0 && span.end as u64 <= header.data_len, "round {round}: {header:?}");
                accepted += 1;
            }
            Err(Error::Corrupt(text)) => {
                assert!(!text.is_empty() && !text.contains('\n'), "round {round}: {text}");
                refused += 1;
            }
            Err(other) => panic!("round {round}: {other}"),
        }
    }
    // Mutations of the data and of padding are harmless, most others are not; both kinds must have been met.
    assert!(accepted > 1000 && refused > 10_000, "{accepted} accepted, {refused} refused");
}

/// One change to a valid message (2 x 3 float32 at the offsets of the annotated dump in docs/formats.md).
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let named = cases("arrow_tensors.json").into_iter().find(|case| case.text("case") == "named dimensions").unwrap();
    let mut message = named.bytes("message");
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

#[test]
fn refusals_name_the_number() {
    let cases: [(&str, Vec<u8>, &str); 16] = [
        ("end of stream", with(0, &[0; 4]), "length 0 "),
        ("negative length", with(0, &(-5_i32).to_le_bytes()), "-5"),
        ("negative length behind the marker", with(4, &(-7_i32).to_le_bytes()), "-7"),
        ("huge length", with(4, &(MAX_HEADER_SIZE as i32).to_le_bytes()), "1048576"),
        ("version V3", with(0x22, &[2]), "version 2"),
        ("sparse tensor", with(0x21, &[5]), "type 5"),
        ("type Bool", with(0x4b, &[6]), "Arrow type 6"),
        ("precision", with(0xde, &[3]), "precision 3"),
        ("negative body", with(0x28, &(-24_i64).to_le_bytes()), "-24"),
        ("body beyond the message", with(0x28, &25_i64.to_le_bytes()), "25"),
        ("data beyond the body", with(0x58, &1_i64.to_le_bytes()), "overrun a body of 24"),
        ("fewer data than the layout spans", with(0x60, &20_i64.to_le_bytes()), "only 20 bytes"),
        ("negative stride", with(0x70, &(-12_i64).to_le_bytes()), "-12"),
        ("stride between elements", with(0x70, &13_i64.to_le_bytes()), "13"),
        ("stride beyond the body", with(0x70, &16_i64.to_le_bytes()), "28 bytes"),
        ("negative size", with(0xc0, &(-2_i64).to_le_bytes()), "-2"),
    ];
    for (name, message, number) in cases {
        let error = read(&message).map(|header| panic!("{name}: {header:?}")).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{name}: {error:?}");
        assert!(error.to_string().contains(number), "{name}: {error}");
    }
}

#[test]
fn unaligned_data_are_refused() {
    // The old framing of a header that was padded for the new one: the data begin 4 bytes too early for int64.
    let layout = Layout::row_major(dtype("int64"), vec![2]).unwrap();
    let mut header = arrow_ipc::encode_header(&layout, &[]).unwrap().split_off(4);
    let size = header.len() as u64 + layout.nbytes();
    let error = arrow_ipc::decode(&header, size).unwrap_err().to_string();
    assert!(error.contains(&header.len().to_string()), "{error}");
    // With 4 bytes more padding, as its writers did, it is read.
    let length = header.len() as i32;
    header[..4].copy_from_slice(&length.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    assert_eq!(arrow_ipc::decode(&header, size + 4).unwrap().layout, layout);
}

#[test]
fn strides_may_be_absent_but_not_of_another_count() {
    // The vtable's entry for the strides: 0 means that there are none.
    let header = read(&with(0x40, &[0, 0])).unwrap();
    assert_eq!(header.layout.strides(), [3, 1]);
    let error = read(&with(0x6c, &1_u32.to_le_bytes())).unwrap_err().to_string();
    assert!(error.contains("2 dimensions has 1 strides"), "{error}");
}

#[test]
fn more_than_32_dimensions_are_counted() {
    let layout = Layout::row_major(dtype("uint8"), vec![1; 32]).unwrap();
    let mut header = arrow_ipc::encode_header(&layout, &[]).unwrap();
    let number = |header: &[u8], at: usize| u32::from_le_bytes(*header[at..].first_chunk().unwrap());
    // The shape: a count, then offsets that are relative to themselves. The strides' count is followed by strides of 1.
    let is_shape = |at: &usize| number(&header, *at) == 32 && number(&header, at + 4) > 4 * 32;
    let shape = (8..header.len() - 8).step_by(4).find(is_shape).unwrap();
    let table = shape + 4 + number(&header, shape + 4) as usize;
    header[shape..shape + 4].copy_from_slice(&33_u32.to_le_bytes());
    for at in (shape + 4..).step_by(4).take(33) {
        header[at..at + 4].copy_from_slice(&((table - at) as u32).to_le_bytes());
    }
    let error = arrow_ipc::decode(&header, header.len() as u64 + 1).unwrap_err().to_string();
    assert!(error.contains("33 dimensions"), "{error}");
}

#[test]
fn a_copy_of_the_wrong_length_is_noticed() {
    let header = arrow_ipc::encode_header(&Layout::row_major(dtype("uint8"), vec![4]).unwrap(), &[]).unwrap();
    for cut in [0, 3, 7, 8, 64, header.len() - 1] {
        let error = arrow_ipc::verify(&header[..cut]).unwrap_err().to_string();
        assert!(error.contains(&format!("{cut} bytes")), "{error}");
    }
    assert!(arrow_ipc::verify(&header).is_ok());
    assert!(arrow_ipc::decode(&header, header.len() as u64 + 3).unwrap_err().to_string().contains("body of 4"));
    assert!(arrow_ipc::decode(&header, header.len() as u64 + 100).is_ok());
}
