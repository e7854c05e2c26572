//! The element types that can be stored, in one table: what DLPack calls them and how an Arrow tensor holds them.
#![forbid(unsafe_code)]

use std::fmt;

use crate::error::{Error, Result};

/// An element type of DLPack 1.x: integers, floats down to 4 bits, complex numbers, booleans.
///
/// Values are rows of the table, so nothing behind [`DType::from_dlpack`] checks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DType {
    code: u8,
    bits: u8,
    lanes: u16,
    name: &'static str,
    arrow: ArrowType,
    form: Form,
}

/// An element type of Arrow tensors, as Arrow's schema has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrowType {
    /// Table `Int`.
    Int {
        /// Width of an element.
        bits: u8,
        /// Two's complement, or unsigned.
        signed: bool,
    },
    /// Table `FloatingPoint`: 0 half, 1 single, 2 double.
    Float {
        /// The precision's number.
        precision: u8,
    },
}

/// How elements are held by an Arrow tensor, which has integers and floats of 8 to 64 bits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The Arrow tensor has this element type, and says everything.
    Native,
    /// Each element is one of the Arrow tensor's, which has another type of the same size.
    Same,
    /// Each element is two of the Arrow tensor's, along one more dimension: real and imaginary part.
    Pair,
    /// Elements are smaller than a byte. The Arrow tensor has one dimension of bytes that are full of them, the
    /// first in the low bits.
    Packed,
}

const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;
const COMPLEX: u8 = 5;
const BOOL: u8 = 6;
const FLOAT4: u8 = 17;
const BCOMPLEX: u8 = 18;

const BYTE: ArrowType = int(8, false);
const TWO_BYTES: ArrowType = int(16, false);

const fn int(bits: u8, signed: bool) -> ArrowType {
    ArrowType::Int { bits, signed }
}

const fn float(precision: u8) -> ArrowType {
    ArrowType::Float { precision }
}

const fn row(name: &'static str, (code, bits, lanes): (u8, u8, u16), arrow: ArrowType, form: Form) -> DType {
    DType { code, bits, lanes, name, arrow, form }
}

const TABLE: [DType; 35] = [
    row("int8", (INT, 8, 1), int(8, true), Form::Native),
    row("int16", (INT, 16, 1), int(16, true), Form::Native),
    row("int32", (INT, 32, 1), int(32, true), Form::Native),
    row("int64", (INT, 64, 1), int(64, true), Form::Native),
    row("uint8", (UINT, 8, 1), int(8, false), Form::Native),
    row("uint16", (UINT, 16, 1), int(16, false), Form::Native),
    row("uint32", (UINT, 32, 1), int(32, false), Form::Native),
    row("uint64", (UINT, 64, 1), int(64, false), Form::Native),
    row("float16", (FLOAT, 16, 1), float(0), Form::Native),
    row("float32", (FLOAT, 32, 1), float(1), Form::Native),
    row("float64", (FLOAT, 64, 1), float(2), Form::Native),
    row("bfloat16", (BFLOAT, 16, 1), TWO_BYTES, Form::Same),
    row("bool", (BOOL, 8, 1), BYTE, Form::Same),
    row("float8_e3m4", (7, 8, 1), BYTE, Form::Same),
    row("float8_e4m3", (8, 8, 1), BYTE, Form::Same),
    row("float8_e4m3b11fnuz", (9, 8, 1), BYTE, Form::Same),
    row("float8_e4m3fn", (10, 8, 1), BYTE, Form::Same),
    row("float8_e4m3fnuz", (11, 8, 1), BYTE, Form::Same),
    row("float8_e5m2", (12, 8, 1), BYTE, Form::Same),
    row("float8_e5m2fnuz", (13, 8, 1), BYTE, Form::Same),
    row("float8_e8m0fnu", (14, 8, 1), BYTE, Form::Same),
    row("float4_e2m1fn_x2", (FLOAT4, 4, 2), BYTE, Form::Same),
    row("complex32", (COMPLEX, 32, 1), float(0), Form::Pair),
    row("complex64", (COMPLEX, 64, 1), float(1), Form::Pair),
    row("complex128", (COMPLEX, 128, 1), float(2), Form::Pair),
    row("bcomplex32", (BCOMPLEX, 32, 1), TWO_BYTES, Form::Pair),
    row("float6_e2m3fn", (15, 6, 1), BYTE, Form::Packed),
    row("float6_e3m2fn", (16, 6, 1), BYTE, Form::Packed),
    row("float4_e2m1fn", (FLOAT4, 4, 1), BYTE, Form::Packed),
    row("int1", (INT, 1, 1), BYTE, Form::Packed),
    row("int2", (INT, 2, 1), BYTE, Form::Packed),
    row("int4", (INT, 4, 1), BYTE, Form::Packed),
    row("uint1", (UINT, 1, 1), BYTE, Form::Packed),
    row("uint2", (UINT, 2, 1), BYTE, Form::Packed),
    row("uint4", (UINT, 4, 1), BYTE, Form::Packed),
];

impl DType {
    /// Every type there is.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter()
    }

    /// The type with these DLPack numbers.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the numbers and the type's usual name, for vectors and what DLPack does not have.
    pub fn from_dlpack(code: u8, bits: u8, lanes: u16) -> Result<Self> {
        let row = Self::all().find(|dtype| (dtype.code, dtype.bits, dtype.lanes) == (code, bits, lanes));
        row.ok_or_else(|| unsupported(code, bits, lanes))
    }

    /// The type that Arrow calls this; `None` for one that tensors do not have.
    pub fn from_arrow(arrow: ArrowType) -> Option<Self> {
        Self::all().find(|dtype| dtype.form == Form::Native && dtype.arrow == arrow)
    }

    /// The element type of the Arrow tensor that holds it.
    pub fn arrow(self) -> ArrowType {
        self.arrow
    }

    /// How that tensor holds it.
    pub fn form(self) -> Form {
        self.form
    }

    /// The type that the Arrow tensor says it has, as one of ours; itself if it is [`Form::Native`].
    pub fn carrier(self) -> Self {
        Self::from_arrow(self.arrow).unwrap_or(self)
    }

    /// Whether an Arrow tensor of this type may hold elements of another one.
    pub fn carries(self) -> bool {
        match self.arrow {
            _ if self.form != Form::Native => false,
            ArrowType::Int { bits, signed } => bits <= 16 && !signed,
            ArrowType::Float { .. } => true,
        }
    }

    /// DLPack's type code: 0 signed, 1 unsigned, 2 float, and so on.
    pub fn code(self) -> u8 {
        self.code
    }

    /// Bits of a lane.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// DLPack's lanes: 1, but for the type of two 4-bit floats in a byte.
    pub fn lanes(self) -> u16 {
        self.lanes
    }

    /// Bits of an element.
    pub fn item_bits(self) -> u32 {
        u32::from(self.bits) * u32::from(self.lanes)
    }

    /// Bytes of an element: 1, 2, 4, 8 or 16. 1 also for one that shares its byte with others.
    pub fn item_size(self) -> usize {
        self.item_bits().div_ceil(8) as usize
    }

    /// Whether elements share bytes with their neighbours. Such tensors are row-major without gaps.
    pub fn is_packed(self) -> bool {
        self.form == Form::Packed
    }

    /// Its name, as numpy and ml_dtypes write it; torch, for the type of two lanes.
    pub fn name(self) -> &'static str {
        self.name
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The refusal, with the type's usual name: `bfloat16`, `float32x4`, `unknown`.
fn unsupported(code: u8, bits: u8, lanes: u16) -> Error {
    let vector = if lanes == 1 { String::new() } else { format!("x{lanes}") };
    let name = match code {
        INT => format!("int{bits}{vector}"),
        UINT => format!("uint{bits}{vector}"),
        FLOAT => format!("float{bits}{vector}"),
        BFLOAT => format!("bfloat{bits}{vector}"),
        COMPLEX => format!("complex{bits}{vector}"),
        BCOMPLEX => format!("bcomplex{bits}{vector}"),
        _ => format!("{}{vector}", fixed_width_name(code)),
    };
    Error::Unsupported(format!("dtype {name} (DLPack code {code}, bits {bits}, lanes {lanes}) cannot be stored"))
}

fn fixed_width_name(code: u8) -> &'static str {
    match code {
        3 => "opaque handle",
        BOOL => "bool",
        7 => "float8_e3m4",
        8 => "float8_e4m3",
        9 => "float8_e4m3b11fnuz",
        10 => "float8_e4m3fn",
        11 => "float8_e4m3fnuz",
        12 => "float8_e5m2",
        13 => "float8_e5m2fnuz",
        14 => "float8_e8m0fnu",
        15 => "float6_e2m3fn",
        16 => "float6_e3m2fn",
        FLOAT4 => "float4_e2m1fn",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_the_table_lead_back() {
        let mut native = 0;
        for dtype in DType::all() {
            assert_eq!(DType::from_dlpack(dtype.code(), dtype.bits(), dtype.lanes()).unwrap(), dtype);
            assert_eq!(DType::all().filter(|other| other.name() == dtype.name()).count(), 1, "{dtype}");
            assert_eq!(dtype.item_size() * 8, dtype.item_bits().next_multiple_of(8) as usize, "{dtype}");
            assert_eq!(dtype.is_packed(), dtype.item_bits() < 8, "{dtype}");
            if dtype.form() == Form::Native {
                native += 1;
                assert_eq!((DType::from_arrow(dtype.arrow()), dtype.carrier()), (Some(dtype), dtype));
            }
        }
        assert_eq!((DType::all().count(), native), (35, 11));
    }

    #[test]
    fn carriers_have_the_size_that_the_form_says() {
        for dtype in DType::all() {
            let (carrier, size) = (dtype.carrier(), dtype.item_size());
            assert_eq!(carrier.form(), Form::Native, "{dtype}");
            let expected = match dtype.form() {
                Form::Native | Form::Same => size,
                Form::Pair => size / 2,
                Form::Packed => 1,
            };
            assert_eq!(carrier.item_size(), expected, "{dtype} in {carrier}");
        }
        for dtype in DType::all() {
            let carries = DType::all().any(|other| other.form() != Form::Native && other.carrier() == dtype);
            assert_eq!(dtype.carries(), carries, "{dtype}");
        }
        let carriers: Vec<_> = DType::all().filter(|dtype| dtype.form() == Form::Native && dtype.carries()).collect();
        let names: Vec<_> = carriers.iter().map(|dtype| dtype.name()).collect();
        assert_eq!(names, ["uint8", "uint16", "float16", "float32", "float64"]);
    }

    #[test]
    fn others_are_refused_by_name_and_number() {
        let cases = [
            (4, 32, 1, "bfloat32", "code 4"),
            (6, 1, 1, "bool", "bits 1"),
            (6, 8, 2, "boolx2", "lanes 2"),
            (5, 16, 1, "complex16", "bits 16"),
            (2, 32, 4, "float32x4", "lanes 4"),
            (2, 128, 1, "float128", "bits 128"),
            (0, 3, 1, "int3", "bits 3"),
            (1, 8, 0, "uint8x0", "lanes 0"),
            (3, 64, 1, "opaque handle", "code 3"),
            (17, 4, 4, "float4_e2m1fnx4", "lanes 4"),
            (99, 8, 1, "unknown", "code 99"),
        ];
        for (code, bits, lanes, name, number) in cases {
            let error = DType::from_dlpack(code, bits, lanes).unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)));
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(number), "{text}");
        }
        assert_eq!(DType::from_arrow(ArrowType::Int { bits: 24, signed: true }), None);
        assert_eq!(DType::from_arrow(ArrowType::Float { precision: 3 }), None);
    }
}
