//! Bundles: named tensors in one object, which is byte for byte a safetensors file. The layout is in `docs/formats.md`.
//!
//! The format has no holes, and what lies where is known from sizes alone; so a writer of ours makes a hole a tensor of
//! bytes, whose
//! name readers of ours know. Reading: copy the header out of shared memory, [`decode`] the copy.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use safetensors::tensor::{Dtype, TensorInfo};
use serde_json::Value;

use super::dtype::DType;
use super::layout::Layout;
use crate::error::{Error, Result};

/// What tells how long the header is.
pub const PREFIX_SIZE: usize = 8;
/// The longest header, as other readers have it.
pub const MAX_HEADER_SIZE: u64 = 100_000_000;
/// Where tensors begin that we write.
const ALIGNMENT: u64 = 64;
const PAD: &str = "__pad.";
const METADATA: &str = "__metadata__";

/// What safetensors calls our element types.
const DTYPES: [(Dtype, &str); 22] = [
    (Dtype::BOOL, "bool"),
    (Dtype::F4, "float4_e2m1fn"),
    (Dtype::F6_E2M3, "float6_e2m3fn"),
    (Dtype::F6_E3M2, "float6_e3m2fn"),
    (Dtype::U8, "uint8"),
    (Dtype::I8, "int8"),
    (Dtype::F8_E5M2, "float8_e5m2"),
    (Dtype::F8_E4M3, "float8_e4m3fn"),
    (Dtype::F8_E8M0, "float8_e8m0fnu"),
    (Dtype::F8_E4M3FNUZ, "float8_e4m3fnuz"),
    (Dtype::F8_E5M2FNUZ, "float8_e5m2fnuz"),
    (Dtype::I16, "int16"),
    (Dtype::U16, "uint16"),
    (Dtype::F16, "float16"),
    (Dtype::BF16, "bfloat16"),
    (Dtype::I32, "int32"),
    (Dtype::U32, "uint32"),
    (Dtype::F32, "float32"),
    (Dtype::C64, "complex64"),
    (Dtype::F64, "float64"),
    (Dtype::I64, "int64"),
    (Dtype::U64, "uint64"),
];

/// A tensor of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Row-major, always.
    pub layout: Layout,
    /// Where it begins, from the start of the object.
    pub offset: u64,
}

/// What a bundle's header says.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// The tensors in the order in which they lie, without those that only fill gaps.
    pub entries: Vec<Entry>,
    /// What the writer had to say beside them.
    pub metadata: BTreeMap<String, String>,
    by_name: HashMap<String, usize>,
}

impl Bundle {
    /// The number of the tensor of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// How a new bundle will lie.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The header, with what tells its length.
    pub head: Vec<u8>,
    /// Where each tensor begins, from the start of the object.
    pub offsets: Vec<u64>,
    /// What is to be filled with zeros.
    pub gaps: Vec<Range<u64>>,
    /// Bytes of the object.
    pub size: u64,
}

impl Plan {
    /// How tensors lie that are to be stored row-major, in this order, each at a multiple of 64 bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of a tensor that safetensors cannot express; [`Error::InvalidArgument`] for
    /// a name that comes
    /// twice or is not for users, and for more than an object can have.
    pub fn new(tensors: &[(&str, Layout)], metadata: &BTreeMap<String, String>) -> Result<Self> {
        let mut header = Header::default();
        if !metadata.is_empty() {
            header.fields.push(field(METADATA, serde_json::to_string(metadata))?);
        }
        let (mut begins, mut gaps) = (Vec::with_capacity(tensors.len()), Vec::new());
        for (name, layout) in tensors {
            header.check(name)?;
            gaps.extend(header.pad()?);
            begins.push(header.add(name, dtype_of(name, layout)?, layout.shape(), layout.nbytes())?);
        }
        let head = header.encode()?;
        let start = head.len() as u64;
        let size = start.checked_add(header.end).filter(|size| i64::try_from(*size).is_ok());
        let size = size.ok_or_else(|| too_large(header.end))?;
        gaps.iter_mut().for_each(|gap| *gap = gap.start + start..gap.end + start);
        begins.iter_mut().for_each(|begin| *begin += start);
        Ok(Self { head, offsets: begins, gaps, size })
    }
}

/// A header that is being written.
#[derive(Debug, Default)]
struct Header<'a> {
    /// In JSON.
    fields: Vec<String>,
    names: BTreeSet<&'a str>,
    pads: usize,
    /// Where the tensors end, from the end of the header.
    end: u64,
}

impl<'a> Header<'a> {
    fn check(&mut self, name: &'a str) -> Result<()> {
        if name == METADATA || name.starts_with(PAD) {
            return Err(invalid(format!("name {name:?} is not for tensors: the format, or what fills gaps, has it")));
        }
        match self.names.insert(name) {
            true => Ok(()),
            false => Err(invalid(format!("name {name:?} comes twice"))),
        }
    }

    /// Fills the gap up to where the next tensor begins, if there is one.
    fn pad(&mut self) -> Result<Option<Range<u64>>> {
        let (begin, size) = (self.end, self.end.wrapping_neg() % ALIGNMENT);
        if size == 0 {
            return Ok(None);
        }
        let name = format!("{PAD}{}", self.pads);
        self.pads += 1;
        self.add(&name, Dtype::U8, &[size as i64], size)?;
        Ok(Some(begin..self.end))
    }

    fn add(&mut self, name: &str, dtype: Dtype, shape: &[i64], nbytes: u64) -> Result<u64> {
        let begin = self.end;
        let end = begin.checked_add(nbytes).filter(|end| i64::try_from(*end).is_ok());
        self.end = end.ok_or_else(|| too_large(nbytes))?;
        // None is negative, and the sums fit in 63 bits.
        let shape = shape.iter().map(|size| *size as usize).collect();
        let info = TensorInfo { dtype, shape, data_offsets: (begin as usize, self.end as usize) };
        self.fields.push(field(name, serde_json::to_string(&info))?);
        Ok(begin)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut head = vec![0; PREFIX_SIZE];
        head.extend_from_slice(format!("{{{}}}", self.fields.join(",")).as_bytes());
        head.resize(head.len().next_multiple_of(ALIGNMENT as usize), b' ');
        let size = (head.len() - PREFIX_SIZE) as u64;
        if size > MAX_HEADER_SIZE {
            return Err(invalid(format!("a bundle's header of {size} bytes; readers take {MAX_HEADER_SIZE} at most")));
        }
        head.splice(..PREFIX_SIZE, size.to_le_bytes());
        Ok(head)
    }
}

/// A field of a JSON object, whose value is JSON already.
fn field(name: &str, value: serde_json::Result<String>) -> Result<String> {
    let both = value.and_then(|value| Ok(format!("{}:{value}", serde_json::to_string(name)?)));
    both.map_err(|error| invalid(format!("{name:?} cannot be written as JSON: {error}")))
}

fn dtype_of(name: &str, layout: &Layout) -> Result<Dtype> {
    let (dtype, bits) = (layout.dtype(), layout.dtype().item_bits());
    let found = DTYPES.iter().find(|(_, known)| *known == dtype.name());
    let (found, _) = found.ok_or_else(|| {
        Error::Unsupported(format!("tensor {name:?}: safetensors has no {dtype}, so it cannot be in a bundle"))
    })?;
    if layout.elements().wrapping_mul(bits.into()) % 8 != 0 {
        let count = layout.elements();
        return Err(Error::Unsupported(format!(
            "tensor {name:?}: {count} elements of {dtype} end within a byte, which safetensors does not have"
        )));
    }
    Ok(*found)
}

/// How long the header is, with what tells it, in an object of this size.
///
/// # Errors
/// [`Error::Corrupt`] for one that is longer than the object, or than any may be.
pub fn head_size(prefix: [u8; PREFIX_SIZE], object_size: u64) -> Result<usize> {
    let size = u64::from_le_bytes(prefix);
    let room = object_size.saturating_sub(PREFIX_SIZE as u64);
    if size > room || size > MAX_HEADER_SIZE {
        return Err(corrupt(format!(
            "a bundle's header of {size} bytes, in an object of {object_size}; {MAX_HEADER_SIZE} are the most"
        )));
    }
    Ok(PREFIX_SIZE + size as usize)
}

/// What a header says, with what tells its length, in an object of this size.
///
/// # Errors
/// [`Error::Corrupt`] naming the tensor and the number that is wrong, [`Error::Unsupported`] for an element type that
/// is not known.
pub fn decode(head: &[u8], object_size: u64) -> Result<Bundle> {
    let json = head.get(PREFIX_SIZE..).unwrap_or_default();
    let mut fields: BTreeMap<String, Value> = serde_json::from_slice(json).map_err(|error| {
        corrupt(format!("a bundle's header of {} bytes is not what it should be: {error}", json.len()))
    })?;
    let metadata = serde_json::from_value::<Option<_>>(fields.remove(METADATA).unwrap_or_default())
        .map_err(|error| corrupt(format!("a bundle's {METADATA}: {error}")))?;
    let mut infos = fields.into_iter().map(info_of).collect::<Result<Vec<_>>>()?;
    infos.sort_by(|(left, a), (right, b)| (a.data_offsets, left).cmp(&(b.data_offsets, right)));
    let mut bundle = Bundle { metadata: metadata.unwrap_or_default(), ..Bundle::default() };
    let (start, mut end) = (head.len() as u64, 0);
    for (name, info) in infos {
        let layout = layout_of(&name, &info, &mut end)?;
        if !is_pad(&name, info.dtype) {
            bundle.by_name.insert(name.clone(), bundle.entries.len());
            bundle.entries.push(Entry { name, layout, offset: start.saturating_add(info.data_offsets.0 as u64) });
        }
    }
    let room = object_size.saturating_sub(start);
    match end == room {
        true => Ok(bundle),
        false => Err(corrupt(format!("a bundle's tensors have {end} bytes, and the object has {room} for them"))),
    }
}

fn info_of((name, value): (String, Value)) -> Result<(String, TensorInfo)> {
    match serde_json::from_value(value) {
        Ok(info) => Ok((name, info)),
        Err(error) => Err(corrupt(format!("tensor {name:?} of a bundle: {error}"))),
    }
}

/// How a tensor lies, which begins where the ones before it end.
fn layout_of(name: &str, info: &TensorInfo, end: &mut u64) -> Result<Layout> {
    let (first, last) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
    if first != *end || last < first {
        return Err(corrupt(format!(
            "tensor {name:?} lies at {first} to {last} in a bundle, and should begin at {end}"
        )));
    }
    let dtype = DTYPES.iter().find(|(known, _)| *known == info.dtype);
    let dtype = dtype.and_then(|(_, name)| DType::all().find(|dtype| dtype.name() == *name));
    let dtype = dtype.ok_or_else(|| Error::Unsupported(format!("tensor {name:?} is of type {}", info.dtype)))?;
    // What is too large for a size is for their product, too.
    let shape = info.shape.iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect();
    let layout =
        Layout::row_major(dtype, shape).map_err(|error| corrupt(format!("tensor {name:?} of a bundle: {error}")))?;
    let bits = u128::from(layout.elements()) * u128::from(dtype.item_bits());
    if bits != u128::from(last - first) * 8 {
        let shape = &info.shape;
        return Err(corrupt(format!(
            "tensor {name:?} of a bundle has {bits} bits, as {dtype} of shape {shape:?}, and {} bytes",
            last - first
        )));
    }
    *end = last;
    Ok(layout)
}

/// Whether this is what our writer fills a gap with.
fn is_pad(name: &str, dtype: Dtype) -> bool {
    let number = name.strip_prefix(PAD).unwrap_or_default();
    dtype == Dtype::U8 && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
}

fn too_large(size: u64) -> Error {
    invalid(format!("a bundle with {size} bytes in a tensor, or in all of them, is larger than an object can be"))
}

fn invalid(text: String) -> Error {
    Error::InvalidArgument(text)
}

fn corrupt(text: String) -> Error {
    Error::Corrupt(text)
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    fn layout(name: &str, shape: &[i64]) -> Layout {
        let dtype = DType::all().find(|dtype| dtype.name() == name).unwrap();
        Layout::row_major(dtype, shape.to_vec()).unwrap()
    }

    fn planned(tensors: &[(&str, Layout)]) -> Result<Plan> {
        Plan::new(tensors, &BTreeMap::from([("a".to_owned(), "é\"\n".to_owned()), ("b".to_owned(), String::new())]))
    }

    /// The whole object of a header that anybody may have written.
    fn object(json: &str, data: usize) -> Vec<u8> {
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat()
    }

    fn read(object: &[u8]) -> Result<Bundle> {
        let size = head_size(*object.first_chunk().unwrap(), object.len() as u64)?;
        decode(&object[..size], object.len() as u64)
    }

    #[test]
    fn what_is_planned_is_what_is_read_here_and_by_the_crate() {
        let tensors: Vec<_> = DTYPES.iter().map(|(_, name)| (*name, layout(name, &[3, 8]))).collect();
        let plan = planned(&tensors).unwrap();
        let mut object = plan.head.clone();
        object.resize(plan.size as usize, 0);
        let bundle = read(&object).unwrap();
        assert_eq!(bundle.entries.len(), tensors.len());
        for (entry, ((name, layout), offset)) in bundle.entries.iter().zip(tensors.iter().zip(&plan.offsets)) {
            assert_eq!((entry.name.as_str(), &entry.layout, entry.offset), (*name, layout, *offset));
            assert_eq!(entry.offset % ALIGNMENT, 0);
            assert_eq!(bundle.entries[bundle.find(name).unwrap()], *entry);
        }
        assert_eq!(bundle.metadata.len(), 2);
        assert_eq!(bundle.metadata["a"], "é\"\n");
        let theirs = SafeTensors::deserialize(&object).unwrap();
        assert_eq!(theirs.len(), tensors.len() + plan.gaps.len());
        for ((dtype, name), offset) in DTYPES.iter().zip(&plan.offsets) {
            let tensor = theirs.tensor(name).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (*dtype, &[3_usize, 8][..]));
            assert_eq!(tensor.data().as_ptr().addr() - object.as_ptr().addr(), *offset as usize);
        }
    }

    #[test]
    fn an_empty_bundle_and_empty_tensors_are_some() {
        let plan = Plan::new(&[], &BTreeMap::new()).unwrap();
        assert_eq!((plan.size, &plan.head[8..10]), (64, &b"{}"[..]));
        assert!(read(&plan.head).unwrap().entries.is_empty());
        let plan = planned(&[("none", layout("int64", &[0, 7])), ("one", layout("float64", &[]))]).unwrap();
        assert_eq!((plan.size - plan.head.len() as u64, plan.gaps.len()), (8, 0));
    }

    #[test]
    fn what_safetensors_cannot_express_is_refused_by_name() {
        let refused = |tensors: &[(&str, Layout)]| planned(tensors).unwrap_err().to_string();
        let error = refused(&[("w", layout("complex128", &[2]))]);
        assert!(error.contains("\"w\"") && error.contains("complex128"), "{error}");
        assert!(refused(&[("half", layout("float4_e2m1fn", &[3]))]).contains("3 elements"));
        assert!(refused(&[("__pad.0", layout("uint8", &[1]))]).contains("__pad.0"));
        assert!(refused(&[("__metadata__", layout("uint8", &[1]))]).contains("__metadata__"));
        let twice = ("x", layout("uint8", &[1]));
        assert!(refused(&[twice.clone(), twice]).contains("twice"));
        let large = ("x", layout("uint8", &[i64::MAX]));
        assert!(refused(std::slice::from_ref(&large)).contains("larger"));
        assert!(refused(&[large, ("y", layout("uint8", &[1]))]).contains("larger"));
    }

    #[test]
    fn damaged_headers_are_refused_with_what_is_wrong() {
        let tensor = |dtype: &str, shape: &str, offsets: &str| {
            object(&format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), 8)
        };
        assert!(read(&tensor("F32", "[2]", "[0,8]")).is_ok());
        for (object, wrong) in [
            (tensor("F32", "[2]", "[4,8]"), "4 to 8"),
            (tensor("F32", "[2]", "[8,0]"), "8 to 0"),
            (tensor("F32", "[3]", "[0,8]"), "96 bits"),
            (tensor("F32", "[1]", "[0,4]"), "have 4 bytes"),
            (tensor("F32", "[2]", "[0,-8]"), "-8"),
            (tensor("F33", "[2]", "[0,8]"), "F33"),
            (tensor("F64", "[18446744073709551615,2]", "[0,8]"), "2^63"),
            (tensor("F4", "[15]", "[0,8]"), "60 bits"),
            (tensor("U8", &format!("{:?}", [1; 33]), "[0,8]"), "33"),
            (object("[]", 0), "2 bytes"),
            (object(r#"{"__metadata__":{"a":5}}"#, 0), "__metadata__"),
            (object("{}", 3), "3"),
            (u64::MAX.to_le_bytes().to_vec(), "18446744073709551615"),
        ] {
            let error = read(&object).unwrap_err().to_string();
            assert!(error.contains(wrong), "{wrong}: {error}");
        }
    }

    #[test]
    fn only_what_fills_gaps_is_hidden() {
        let entry = |name: &str, dtype: &str, end: usize| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":[1],"data_offsets":[{},{end}]}}"#, end - 1)
        };
        let fields =
            [entry("__pad.12", "U8", 1), entry("__pad.", "U8", 2), entry("__pad.1", "I8", 3), entry("x", "U8", 4)];
        let bundle = read(&object(&format!("{{{}}}", fields.join(",")), 4)).unwrap();
        assert_eq!(
            bundle.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
            ["__pad.", "__pad.1", "x"]
        );
    }
}
