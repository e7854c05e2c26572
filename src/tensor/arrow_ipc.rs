//! The Arrow IPC message that a dense tensor is stored as, byte for byte what pyarrow's `ipc.read_tensor` takes.
//!
//! Reading is three steps, each callable alone. [`peek`] looks at the first 8 bytes and says how long the header is;
//! [`verify`] checks that the header is a well-formed FlatBuffers message; [`VerifiedHeader::decode`] checks that what
//! it says is possible in an object of that size. The bytes given must be a *private copy* of the header: those of an
//! object can change under the reader. The tensor's data are never looked at. Layout of the bytes: `docs/formats.md`.
#![forbid(unsafe_code)]

use std::iter;

use flatbuffers::{
    FlatBufferBuilder, ForwardsUOffset, InvalidFlatbuffer, UnionWIPOffset, Vector, VerifierOptions, WIPOffset,
};

use super::arrow_generated as wire;
use super::dtype::{ArrowType, DType};
use super::layout::{Layout, MAX_DIMENSIONS};
use crate::error::{Error, Result};

/// How many bytes [`peek`] needs. No message is shorter.
pub const PREFIX_SIZE: usize = 8;

/// Headers longer than this are refused before anyone allocates. Ours have at most a few KiB.
pub const MAX_HEADER_SIZE: usize = 1 << 20;

/// The most bytes that the names of all dimensions may have.
pub const MAX_NAMES_SIZE: usize = 1 << 16;

/// The data begin on a multiple of this, from the start of the message.
const ALIGNMENT: usize = 64;

const CONTINUATION: [u8; 4] = [0xff; 4];

/// What a valid header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// Element type, shape and strides, as Arrow has them; no stride is negative.
    pub layout: Layout,
    /// The names of the dimensions, where they have any; else empty. What is not UTF-8 is replaced.
    pub names: Vec<String>,
    /// First byte of the data, from the start of the message; a multiple of the element size.
    pub data_offset: u64,
    /// Bytes of data: at least what the layout spans, and all of them inside the message.
    pub data_len: u64,
}

/// A header whose FlatBuffers tables are well-formed. What they say is not checked yet.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedHeader<'a> {
    message: wire::Message<'a>,
    size: u64,
}

/// Bytes that the message takes which stores a tensor lying like this: header and data.
///
/// # Errors
/// As [`encode_header`].
pub fn message_size(layout: &Layout) -> Result<u64> {
    Ok(encode_header(layout, &[])?.len() as u64 + layout.nbytes())
}

/// The header of the message that stores a tensor lying like this, in its [`Layout::packed`] form. A tensor whose type Arrow
/// does not have is stored as [`Layout::carrier`] says; what it is stands in the metadata ([`super::description`]).
///
/// Its length is a multiple of 64; the data, [`Layout::nbytes`] long, follow directly. There are no names, or one for each
/// dimension.
///
/// # Errors
/// [`Error::InvalidArgument`] for another count of names, [`Error::Unsupported`] for names of packed elements, names of more
/// than [`MAX_NAMES_SIZE`] bytes, and one dimension too many for complex numbers.
pub fn encode_header(layout: &Layout, names: &[&str]) -> Result<Vec<u8>> {
    check_names(layout, names)?;
    let message = encode_message(&layout.packed().carrier()?, names);
    let size = (PREFIX_SIZE + message.len()).next_multiple_of(ALIGNMENT);
    let mut header = Vec::with_capacity(size);
    header.extend_from_slice(&CONTINUATION);
    // At most 32 dimensions of some 50 bytes each, and their names: far below 2^31.
    header.extend_from_slice(&((size - PREFIX_SIZE) as i32).to_le_bytes());
    header.extend_from_slice(&message);
    header.resize(size, 0);
    Ok(header)
}

fn check_names(layout: &Layout, names: &[&str]) -> Result<()> {
    let size: usize = names.iter().map(|name| name.len()).sum();
    let ndim = layout.shape().len();
    if !names.is_empty() && names.len() != ndim {
        return Err(Error::InvalidArgument(format!("{} names for a tensor of {ndim} dimensions", names.len())));
    }
    if size > 0 && layout.dtype().is_packed() {
        return Err(Error::Unsupported(format!("dimensions of {} elements cannot have names", layout.dtype())));
    }
    if size > MAX_NAMES_SIZE {
        return Err(Error::Unsupported(format!(
            "names of dimensions have {size} bytes, the limit is {MAX_NAMES_SIZE}"
        )));
    }
    Ok(())
}

/// The length of the header, prefix included, told by the first bytes of the message.
///
/// Takes the framing of Arrow before 0.15 too, which has no marker in front of the length.
///
/// # Errors
/// [`Error::Corrupt`] with the length when no message can begin like this.
pub fn peek(first: &[u8; PREFIX_SIZE]) -> Result<usize> {
    prefix(first).map(|(prefix, metadata)| prefix + metadata)
}

/// Checks the header's FlatBuffers tables.
///
/// # Errors
/// [`Error::Corrupt`] when they are malformed, or when `header` is not as long as its own prefix says.
pub fn verify(header: &[u8]) -> Result<VerifiedHeader<'_>> {
    let too_short = || corrupt(format!("header of {} bytes is too short", header.len()));
    let first = header.first_chunk().ok_or_else(too_short)?;
    let (prefix, metadata) = prefix(first)?;
    if header.len() != prefix + metadata {
        return Err(corrupt(format!("header of {} bytes says that it has {}", header.len(), prefix + metadata)));
    }
    // Room for the tables of a tensor with too many dimensions, so that those can be counted in the error.
    let limits = VerifierOptions { max_depth: 8, max_tables: 1024, ..VerifierOptions::default() };
    let message = wire::root_as_message_with_opts(&limits, header.get(prefix..).unwrap_or_default());
    // Only the first line: behind it the verifier traces through its tables.
    let reason = |error: InvalidFlatbuffer| error.to_string().lines().next().unwrap_or_default().to_owned();
    let message = message.map_err(|error| corrupt(format!("malformed header: {}", reason(error))))?;
    Ok(VerifiedHeader { message, size: header.len() as u64 })
}

/// [`verify`] and [`VerifiedHeader::decode`] in one.
///
/// # Errors
/// [`Error::Corrupt`] with the number that was wrong.
pub fn decode(header: &[u8], message_size: u64) -> Result<TensorHeader> {
    verify(header)?.decode(message_size)
}

impl VerifiedHeader<'_> {
    /// Reads the header of a message of `message_size` bytes, its own included; more may follow the data.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the number that was wrong: another version or kind of message, an element type that
    /// tensors do not have, an impossible layout, data that reach beyond the message or lie unaligned in it.
    pub fn decode(&self, message_size: u64) -> Result<TensorHeader> {
        let tensor = self.tensor()?;
        let layout = decode_layout(tensor)?;
        let (data_offset, data_len) = self.data_range(tensor.data(), message_size)?;
        let (span, item_size) = (layout.span().end.unsigned_abs(), layout.dtype().item_size() as u64);
        if span > data_len {
            return Err(corrupt(format!("tensor reaches over {span} bytes but has only {data_len} bytes of data")));
        }
        if data_offset % item_size != 0 {
            return Err(corrupt(format!("data at offset {data_offset} are not aligned to {item_size} byte elements")));
        }
        Ok(TensorHeader { layout, names: decode_names(tensor), data_offset, data_len })
    }

    fn tensor(&self) -> Result<wire::Tensor<'_>> {
        let version = self.message.version();
        if version != wire::MetadataVersion::V5 && version != wire::MetadataVersion::V4 {
            return Err(corrupt(format!("metadata version {} is neither 3 (V4) nor 4 (V5)", version.0)));
        }
        let kind = self.message.header_type().0;
        self.message.header_as_tensor().ok_or_else(|| corrupt(format!("message of type {kind} is not a tensor (4)")))
    }

    /// Offset and length of the data in the message.
    fn data_range(&self, data: &wire::Buffer, message_size: u64) -> Result<(u64, u64)> {
        let size_of = |what: &str, value: i64| {
            u64::try_from(value).map_err(|_| corrupt(format!("{what} of {value} bytes is negative")))
        };
        let body = size_of("body length", self.message.body_length())?;
        if self.size.checked_add(body).is_none_or(|end| end > message_size) {
            let header = self.size;
            return Err(corrupt(format!(
                "header of {header} and body of {body} bytes do not fit in a message of {message_size}"
            )));
        }
        let (offset, length) = (size_of("data offset", data.offset())?, size_of("data length", data.length())?);
        if offset.checked_add(length).is_none_or(|end| end > body) {
            return Err(corrupt(format!("{length} bytes of data at {offset} overrun a body of {body}")));
        }
        Ok((self.size + offset, length))
    }
}

/// Length of the prefix (marker and length, or length alone) and of what follows it.
fn prefix(first: &[u8; PREFIX_SIZE]) -> Result<(usize, usize)> {
    let [a, b, c, d, e, f, g, h] = *first;
    let (prefix, length) = if [a, b, c, d] == CONTINUATION {
        (8, i32::from_le_bytes([e, f, g, h]))
    } else {
        (4, i32::from_le_bytes([a, b, c, d]))
    };
    match usize::try_from(length) {
        Ok(metadata) if metadata > 0 && prefix + metadata <= MAX_HEADER_SIZE => Ok((prefix, metadata)),
        _ => Err(corrupt(format!("no tensor message: header length {length} is not in 1..={MAX_HEADER_SIZE}"))),
    }
}

fn decode_layout(tensor: wire::Tensor<'_>) -> Result<Layout> {
    let dtype = decode_dtype(tensor)?;
    // Before collecting: the verifier allows more tables than a tensor may have dimensions.
    if tensor.shape().len() > MAX_DIMENSIONS {
        return Err(corrupt(format!("tensor has {} dimensions, the limit is {MAX_DIMENSIONS}", tensor.shape().len())));
    }
    let shape = tensor.shape().iter().map(|dimension| dimension.size()).collect();
    let layout = match tensor.strides().filter(|strides| !strides.is_empty()) {
        None => Layout::row_major(dtype, shape),
        Some(strides) => Layout::new(dtype, shape, decode_strides(strides, dtype.item_size() as i64)?),
    };
    layout.map_err(|error| corrupt(error.to_string()))
}

fn decode_dtype(tensor: wire::Tensor<'_>) -> Result<DType> {
    let (arrow, text) = if let Some(int) = tensor.type__as_int() {
        let (bits, signed) = (int.bit_width(), int.is_signed());
        let arrow = u8::try_from(bits).ok().map(|bits| ArrowType::Int { bits, signed });
        (arrow, format!("integers of {bits} bits"))
    } else if let Some(float) = tensor.type__as_floating_point() {
        let precision = float.precision().0;
        let arrow = u8::try_from(precision).ok().map(|precision| ArrowType::Float { precision });
        (arrow, format!("floats of precision {precision}"))
    } else {
        (None, format!("Arrow type {}", tensor.type_type().0))
    };
    arrow.and_then(DType::from_arrow).ok_or_else(|| corrupt(format!("tensors do not have elements of {text}")))
}

/// Arrow's strides, which are bytes, as elements.
fn decode_strides(strides: Vector<'_, wire::ByteStride>, item_size: i64) -> Result<Vec<i64>> {
    if strides.len() > MAX_DIMENSIONS {
        return Err(corrupt(format!("tensor has {} strides, the limit is {MAX_DIMENSIONS}", strides.len())));
    }
    let elements = |bytes: i64| match bytes {
        ..0 => Err(corrupt(format!("stride of {bytes} bytes is negative"))),
        _ if bytes % item_size != 0 => {
            Err(corrupt(format!("stride of {bytes} bytes is not a multiple of the element size {item_size}")))
        }
        _ => Ok(bytes / item_size),
    };
    strides.iter().map(|stride| elements(stride.bytes())).collect()
}

/// The FlatBuffers message, written in the order in which Arrow's C++ writer does, so that the bytes are the same.
fn encode_message(packed: &Layout, names: &[&str]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::with_capacity(1024);
    let (type_type, type_) = encode_dtype(&mut builder, packed.dtype());
    let shape = encode_shape(&mut builder, packed.shape(), names);
    let item_size = packed.dtype().item_size() as i64;
    let strides: Vec<_> = packed.strides().iter().map(|stride| wire::ByteStride::new(stride * item_size)).collect();
    let strides = builder.create_vector(&strides);
    // Fits: `Layout` keeps it below 2^63.
    let body_length = packed.nbytes() as i64;
    let data = wire::Buffer::new(0, body_length);
    let tensor = wire::TensorArgs {
        type_type,
        type_: Some(type_),
        shape: Some(shape),
        strides: Some(strides),
        data: Some(&data),
    };
    let tensor = wire::Tensor::create(&mut builder, &tensor);
    let message = wire::MessageArgs {
        version: wire::MetadataVersion::V5,
        header_type: wire::MessageHeader::Tensor,
        header: Some(tensor.as_union_value()),
        body_length,
    };
    let message = wire::Message::create(&mut builder, &message);
    builder.finish_minimal(message);
    builder.finished_data().to_vec()
}

fn encode_dtype(builder: &mut FlatBufferBuilder<'_>, dtype: DType) -> (wire::Type, WIPOffset<UnionWIPOffset>) {
    match dtype.arrow() {
        ArrowType::Int { bits, signed } => {
            let int = wire::Int::create(builder, &wire::IntArgs { bit_width: bits.into(), is_signed: signed });
            (wire::Type::Int, int.as_union_value())
        }
        ArrowType::Float { precision } => {
            let args = wire::FloatingPointArgs { precision: wire::Precision(precision.into()) };
            (wire::Type::FloatingPoint, wire::FloatingPoint::create(builder, &args).as_union_value())
        }
    }
}

type ShapeVector<'a> = WIPOffset<Vector<'a, ForwardsUOffset<wire::TensorDim<'a>>>>;

fn encode_shape<'a>(builder: &mut FlatBufferBuilder<'a>, shape: &[i64], names: &[&str]) -> ShapeVector<'a> {
    let mut dimensions = Vec::with_capacity(shape.len());
    let names = names.iter().copied().chain(iter::repeat(""));
    for (&size, name) in shape.iter().zip(names) {
        // Written as the string that it is, with a NUL behind it; only the reader takes it for bytes.
        let name = WIPOffset::new(builder.create_string(name).value());
        dimensions.push(wire::TensorDim::create(builder, &wire::TensorDimArgs { size, name: Some(name) }));
    }
    builder.create_vector(&dimensions)
}

/// The names, if any dimension has one.
fn decode_names(tensor: wire::Tensor<'_>) -> Vec<String> {
    let text = |dimension: wire::TensorDim<'_>| {
        dimension.name().map(|name| String::from_utf8_lossy(name.bytes()).into_owned()).unwrap_or_default()
    };
    let has_name = |dimension: wire::TensorDim<'_>| dimension.name().is_some_and(|name| !name.is_empty());
    if !tensor.shape().iter().any(has_name) {
        return Vec::new();
    }
    tensor.shape().iter().map(text).collect()
}

fn corrupt(text: String) -> Error {
    Error::Corrupt(text)
}
