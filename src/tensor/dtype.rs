//! The element types that can be stored, in one table: what DLPack calls them and what Arrow calls them.
#![forbid(unsafe_code)]

use std::fmt;

use crate::error::{Error, Result};

/// An element type that Arrow tensors have: integers of 8 to 64 bits, floats of 16 to 64, one lane.
///
/// Values are rows of the table, so nothing behind [`DType::from_dlpack`] checks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DType {
    code: u8,
    bits: u8,
    arrow: ArrowType,
    name: &'static str,
}

/// The same types as Arrow's schema has them.
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

const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;

const TABLE: [DType; 11] = [
    DType { code: INT, bits: 8, arrow: ArrowType::Int { bits: 8, signed: true }, name: "int8" },
    DType { code: INT, bits: 16, arrow: ArrowType::Int { bits: 16, signed: true }, name: "int16" },
    DType { code: INT, bits: 32, arrow: ArrowType::Int { bits: 32, signed: true }, name: "int32" },
    DType { code: INT, bits: 64, arrow: ArrowType::Int { bits: 64, signed: true }, name: "int64" },
    DType { code: UINT, bits: 8, arrow: ArrowType::Int { bits: 8, signed: false }, name: "uint8" },
    DType { code: UINT, bits: 16, arrow: ArrowType::Int { bits: 16, signed: false }, name: "uint16" },
    DType { code: UINT, bits: 32, arrow: ArrowType::Int { bits: 32, signed: false }, name: "uint32" },
    DType { code: UINT, bits: 64, arrow: ArrowType::Int { bits: 64, signed: false }, name: "uint64" },
    DType { code: FLOAT, bits: 16, arrow: ArrowType::Float { precision: 0 }, name: "float16" },
    DType { code: FLOAT, bits: 32, arrow: ArrowType::Float { precision: 1 }, name: "float32" },
    DType { code: FLOAT, bits: 64, arrow: ArrowType::Float { precision: 2 }, name: "float64" },
];

impl DType {
    /// Every type there is.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter()
    }

    /// The type with these DLPack numbers.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the numbers and the type's usual name, when Arrow tensors have no such type.
    pub fn from_dlpack(code: u8, bits: u8, lanes: u16) -> Result<Self> {
        let row = Self::all().find(|dtype| (dtype.code, dtype.bits, dtype.lanes()) == (code, bits, lanes));
        row.ok_or_else(|| unsupported(code, bits, lanes))
    }

    /// The type that Arrow calls this; `None` for one that tensors do not have.
    pub fn from_arrow(arrow: ArrowType) -> Option<Self> {
        Self::all().find(|dtype| dtype.arrow == arrow)
    }

    /// What Arrow calls it.
    pub fn arrow(self) -> ArrowType {
        self.arrow
    }

    /// DLPack's type code: 0 signed, 1 unsigned, 2 float.
    pub fn code(self) -> u8 {
        self.code
    }

    /// Bits of an element.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// DLPack's lanes: always 1, Arrow tensors have no vector types.
    pub fn lanes(self) -> u16 {
        1
    }

    /// Bytes of an element: 1, 2, 4 or 8.
    pub fn item_size(self) -> usize {
        usize::from(self.bits / 8)
    }

    /// Its name, as numpy writes it.
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
        4 => format!("bfloat{bits}{vector}"),
        5 => format!("complex{bits}{vector}"),
        18 => format!("bcomplex{bits}{vector}"),
        _ => format!("{}{vector}", fixed_width_name(code)),
    };
    Error::Unsupported(format!(
        "dtype {name} (DLPack code {code}, bits {bits}, lanes {lanes}) cannot be stored in an Arrow tensor"
    ))
}

fn fixed_width_name(code: u8) -> &'static str {
    match code {
        3 => "opaque handle",
        6 => "bool",
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
        17 => "float4_e2m1fn",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_the_table_lead_back() {
        for dtype in DType::all() {
            assert_eq!(DType::from_dlpack(dtype.code(), dtype.bits(), dtype.lanes()).unwrap(), dtype);
            assert_eq!(DType::from_arrow(dtype.arrow()), Some(dtype));
            assert!(dtype.name().ends_with(&dtype.bits().to_string()), "{dtype}");
            assert_eq!(dtype.item_size() * 8, usize::from(dtype.bits()));
        }
        assert_eq!(DType::all().count(), 11);
    }

    #[test]
    fn others_are_refused_by_name_and_number() {
        let cases = [
            (4, 16, 1, "bfloat16", "code 4"),
            (6, 8, 1, "bool", "code 6"),
            (5, 64, 1, "complex64", "bits 64"),
            (2, 32, 4, "float32x4", "lanes 4"),
            (2, 128, 1, "float128", "bits 128"),
            (0, 4, 1, "int4", "bits 4"),
            (1, 8, 0, "uint8x0", "lanes 0"),
            (10, 8, 1, "float8_e4m3fn", "code 10"),
            (17, 4, 2, "float4_e2m1fnx2", "lanes 2"),
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
