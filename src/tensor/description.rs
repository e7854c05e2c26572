//! What a metadata trailer says of a tensor: its element type, as DLPack numbers it, and its shape.
//!
//! Of types that Arrow has, the message says the same, and counts. For the others the message only has a carrier
//! ([`Layout::carrier`]), and the trailer says what it carries.
#![forbid(unsafe_code)]

use super::dtype::{DType, Form};
use super::layout::{Layout, MAX_DIMENSIONS};
use crate::error::{Error, Result};
use crate::metadata::{KEY_DTYPE, KEY_SHAPE, Trailer};

/// The trailer of a tensor that lies like this.
///
/// # Errors
/// None: what it says is far below the limit of a trailer.
pub fn describe(layout: &Layout) -> Result<Trailer> {
    let dtype = layout.dtype();
    let [low, high] = dtype.lanes().to_le_bytes();
    let shape: Vec<u8> = layout.shape().iter().flat_map(|size| size.to_le_bytes()).collect();
    let mut trailer = Trailer::default();
    trailer.push(KEY_DTYPE, &[dtype.code(), dtype.bits(), low, high])?;
    trailer.push(KEY_SHAPE, &shape)?;
    Ok(trailer)
}

/// The tensor that a message and a trailer describe together. `found` is what the message says.
///
/// # Errors
/// [`Error::Unsupported`] for an element type that is not known here, [`Error::Corrupt`] when message and trailer do not fit
/// together, both with the numbers.
pub fn described(found: Layout, trailer: &Trailer) -> Result<Layout> {
    let Some(dtype) = trailer.get(KEY_DTYPE) else { return Ok(found) };
    let dtype = element_type(dtype)?;
    if dtype.form() == Form::Native {
        return Ok(found);
    }
    let shape = trailer.get(KEY_SHAPE);
    let shape = shape.ok_or_else(|| Error::Corrupt(format!("{dtype} tensor without a shape in the metadata")))?;
    found.carried(dtype, sizes(shape)?)
}

/// The row-major tensor that a trailer describes by itself, where it describes one.
///
/// # Errors
/// As for [`described`].
pub fn stated(trailer: &Trailer) -> Result<Option<Layout>> {
    let (Some(dtype), Some(shape)) = (trailer.get(KEY_DTYPE), trailer.get(KEY_SHAPE)) else { return Ok(None) };
    Layout::row_major(element_type(dtype)?, sizes(shape)?).map(Some)
}

fn element_type(dtype: &[u8]) -> Result<DType> {
    let [code, bits, low, high] = *dtype else {
        return Err(Error::Corrupt(format!("element type of {} bytes in the metadata, 4 are needed", dtype.len())));
    };
    DType::from_dlpack(code, bits, u16::from_le_bytes([low, high]))
}

fn sizes(shape: &[u8]) -> Result<Vec<i64>> {
    let (sizes, rest) = shape.as_chunks::<8>();
    if !rest.is_empty() || sizes.len() > MAX_DIMENSIONS {
        return Err(Error::Corrupt(format!("shape of {} bytes in the metadata", shape.len())));
    }
    Ok(sizes.iter().map(|size| i64::from_le_bytes(*size)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dtype: DType, shape: &[i64]) -> Layout {
        Layout::row_major(dtype, shape.to_vec()).unwrap()
    }

    fn dtype(name: &str) -> DType {
        DType::all().find(|dtype| dtype.name() == name).unwrap()
    }

    #[test]
    fn every_tensor_is_described_by_its_carrier_and_its_trailer() {
        for dtype in DType::all() {
            for shape in [&[][..], &[0], &[5], &[2, 3], &[3, 0, 2], &[2; 8]] {
                let layout = layout(dtype, shape);
                let found = layout.carrier().unwrap();
                assert_eq!(found.nbytes(), layout.nbytes(), "{dtype} {shape:?}");
                assert_eq!(described(found, &describe(&layout).unwrap()).unwrap(), layout, "{dtype} {shape:?}");
            }
            if !dtype.is_packed() {
                let turned = Layout::new(dtype, vec![2, 3], vec![1, 2]).unwrap();
                let again = described(turned.carrier().unwrap(), &describe(&turned).unwrap());
                assert_eq!(again.unwrap(), turned);
            }
        }
    }

    #[test]
    fn without_a_trailer_of_ours_the_message_says_all() {
        let bytes = layout(dtype("uint8"), &[4]);
        assert_eq!(described(bytes.clone(), &Trailer::default()).unwrap(), bytes);
        let other = describe(&layout(dtype("int64"), &[9])).unwrap();
        assert_eq!(described(bytes.clone(), &other).unwrap(), bytes);
    }

    #[test]
    fn a_trailer_that_does_not_fit_is_refused_with_its_numbers() {
        let cases = [
            ("bool", vec![5], "shape [5]"),
            ("bool", vec![2, 2], "shape [2, 2]"),
            ("bool", vec![-4], "shape [-4]"),
            ("bfloat16", vec![4], "bfloat16"),
            ("complex64", vec![2], "complex64"),
            ("float4_e2m1fn", vec![9], "shape [9]"),
            ("float4_e2m1fn", vec![6], "shape [6]"),
            ("float6_e2m3fn", vec![i64::MAX, i64::MAX], "9223372036854775807"),
        ];
        for (name, shape, number) in cases {
            let mut trailer = Trailer::default();
            trailer.push(KEY_DTYPE, &[dtype(name).code(), dtype(name).bits(), 1, 0]).unwrap();
            let sizes: Vec<u8> = shape.iter().flat_map(|size: &i64| size.to_le_bytes()).collect();
            trailer.push(KEY_SHAPE, &sizes).unwrap();
            let error = described(layout(dtype("uint8"), &[4]), &trailer).unwrap_err();
            assert!(matches!(error, Error::Corrupt(_)) && error.to_string().contains(number), "{error}");
        }
        for (name, carrier) in [("complex64", vec![2, 2, 3]), ("complex64", vec![2, 3]), ("complex64", vec![])] {
            let trailer = describe(&layout(dtype(name), &[2, 2])).unwrap();
            assert!(described(layout(dtype("float32"), &carrier), &trailer).is_err(), "{carrier:?}");
        }
    }

    #[test]
    fn a_trailer_that_says_nonsense_is_refused() {
        let bytes = layout(dtype("uint8"), &[4]);
        for (entries, number) in [
            (vec![(KEY_DTYPE, vec![6, 8, 1])], "3 bytes"),
            (vec![(KEY_DTYPE, vec![99, 8, 1, 0])], "code 99"),
            (vec![(KEY_DTYPE, vec![6, 8, 1, 0])], "without a shape"),
            (vec![(KEY_DTYPE, vec![6, 8, 1, 0]), (KEY_SHAPE, vec![0; 7])], "7 bytes"),
            (vec![(KEY_DTYPE, vec![6, 8, 1, 0]), (KEY_SHAPE, vec![0; 8 * 33])], "264 bytes"),
        ] {
            let mut trailer = Trailer::default();
            entries.iter().for_each(|(key, value)| trailer.push(*key, value).unwrap());
            let error = described(bytes.clone(), &trailer).unwrap_err().to_string();
            assert!(error.contains(number), "{error}");
        }
    }
}
