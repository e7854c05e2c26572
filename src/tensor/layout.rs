//! Shape and strides, checked once when made, so that all arithmetic behind that is plain.
//!
//! Strides count elements here (as in DLPack); Arrow's bytes are converted at the message. A layout may be any view
//! that numpy can make: transposed, with gaps, reversed (negative strides), broadcast (stride 0). What is *stored* is
//! always [`Layout::packed`]: dense, column-major where the tensor lies so already, else row-major.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::dtype::{ArrowType, DType, Form};
use crate::error::{Error, Result};

/// The most dimensions a tensor may have; numpy up to 1.26 has the same limit.
pub const MAX_DIMENSIONS: usize = 32;

/// Where the elements of a tensor lie, relative to the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    dtype: DType,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl Layout {
    /// A layout with one stride per dimension, in elements.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the number: more than [`MAX_DIMENSIONS`], a stride count that differs from
    /// the dimensions, a negative size, or sizes and strides whose bytes do not fit in 63 bits. [`Error::Unsupported`] for
    /// packed elements that are not row-major.
    pub fn new(dtype: DType, shape: Vec<i64>, strides: Vec<i64>) -> Result<Self> {
        check_shape(dtype, &shape)?;
        if strides.len() != shape.len() {
            return Err(invalid(format!("tensor of {} dimensions has {} strides", shape.len(), strides.len())));
        }
        let layout = Self { dtype, shape, strides };
        let Self { shape, strides, .. } = &layout;
        if dtype.is_packed() && !layout.is_row_major() {
            return Err(Error::Unsupported(format!(
                "{dtype} elements share bytes, so they lie row-major; shape {shape:?} with strides {strides:?} does not"
            )));
        }
        layout.checked_span().ok_or_else(|| {
            invalid(format!("{dtype} tensor of shape {shape:?} and strides {strides:?} spans more than 2^63 bytes"))
        })?;
        Ok(layout)
    }

    /// The dense layout in which the last index runs fastest. Without elements every stride is 1.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn row_major(dtype: DType, shape: Vec<i64>) -> Result<Self> {
        check_shape(dtype, &shape)?;
        let strides = dense_strides(&shape);
        Ok(Self { dtype, shape, strides })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each dimension, none negative.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// The stride of each dimension, in elements.
    pub fn strides(&self) -> &[i64] {
        &self.strides
    }

    /// How many elements there are. A tensor without dimensions has one.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product::<i64>().unsigned_abs()
    }

    /// Bytes of all elements when they lie densely: what is stored.
    pub fn nbytes(&self) -> u64 {
        bytes_of(self.dtype, self.elements().into()).unwrap_or_default().unsigned_abs()
    }

    /// The bytes that the elements lie in, relative to the first byte of the first element.
    ///
    /// Starts below 0 with negative strides; empty without elements. Both ends fit in an address.
    pub fn span(&self) -> Range<i64> {
        self.checked_span().unwrap_or_default()
    }

    /// Whether the elements are dense with the last index running fastest. As in numpy, strides of dimensions of size
    /// 1 do not matter, and a tensor without elements is dense in every order.
    pub fn is_row_major(&self) -> bool {
        self.elements() == 0 || is_dense(self.shape.iter().zip(&self.strides).rev())
    }

    /// Whether the elements are dense with the first index running fastest; see [`Layout::is_row_major`].
    pub fn is_column_major(&self) -> bool {
        self.elements() == 0 || is_dense(self.shape.iter().zip(&self.strides))
    }

    /// The layout that a tensor lying like this is stored in: column-major if it lies so and not row-major as well,
    /// else row-major. The strides are the canonical ones also for dimensions of size 1.
    pub fn packed(&self) -> Self {
        let mut shape = self.shape.clone();
        let strides = if self.packs_column_major() {
            shape.reverse();
            let mut strides = dense_strides(&shape);
            strides.reverse();
            strides
        } else {
            dense_strides(&shape)
        };
        Self { dtype: self.dtype, shape: self.shape.clone(), strides }
    }

    /// How to visit the elements in the order in which [`Layout::packed`] stores them.
    pub fn copy_plan(&self) -> CopyPlan {
        self.plan(self.packs_column_major())
    }

    /// How to visit the elements with the last index running fastest, wherever they lie.
    pub fn row_plan(&self) -> CopyPlan {
        self.plan(false)
    }

    fn plan(&self, column_major: bool) -> CopyPlan {
        let item_size = self.dtype.item_size() as i64;
        let pairs = self.shape.iter().copied().zip(self.strides.iter().map(|stride| stride.wrapping_mul(item_size)));
        match self.elements() {
            0 => CopyPlan { run: 0, row: 0, step: 0, outer: Vec::new() },
            _ if self.dtype.is_packed() => CopyPlan::new(&[], self.nbytes() as i64),
            _ if column_major => CopyPlan::new(&pairs.rev().collect::<Vec<_>>(), item_size),
            _ => CopyPlan::new(&pairs.collect::<Vec<_>>(), item_size),
        }
    }

    /// How the Arrow tensor lies that holds this one, which is dense: itself, if Arrow has its type.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when that would have one dimension too many.
    pub fn carrier(&self) -> Result<Self> {
        let (dtype, mut shape) = (self.dtype.carrier(), self.shape.clone());
        match self.dtype.form() {
            Form::Native | Form::Same => Ok(Self { dtype, shape, strides: self.strides.clone() }),
            Form::Packed => Self::row_major(dtype, vec![self.nbytes() as i64]),
            Form::Pair if shape.len() == MAX_DIMENSIONS => Err(Error::Unsupported(format!(
                "{} tensors have at most {} dimensions, not {MAX_DIMENSIONS}",
                self.dtype,
                MAX_DIMENSIONS - 1
            ))),
            Form::Pair if self.elements() == 0 => {
                shape.push(2);
                Self::row_major(dtype, shape)
            }
            Form::Pair => {
                shape.push(2);
                let strides = self.strides.iter().map(|stride| stride * 2).chain([1]).collect();
                Ok(Self { dtype, shape, strides })
            }
        }
    }

    /// Whether an Arrow tensor like this may hold elements of another type.
    pub fn may_carry(&self) -> bool {
        let is_float = matches!(self.dtype.arrow(), ArrowType::Float { .. });
        self.dtype.carries() && (!is_float || self.shape.last() == Some(&2))
    }

    /// The tensor of this type and shape that an Arrow tensor lying like `self` holds; the other direction of
    /// [`Layout::carrier`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] when that Arrow tensor cannot hold it, with both types and shapes.
    pub fn carried(&self, dtype: DType, shape: Vec<i64>) -> Result<Self> {
        let new = |strides| Self::new(dtype, shape.clone(), strides).ok();
        let layout = match dtype.form() {
            _ if dtype.carrier() != self.dtype => None,
            Form::Native | Form::Same if shape == self.shape => new(self.strides.clone()),
            Form::Native | Form::Same => None,
            Form::Pair => self.strides_of_pairs(&shape).and_then(new),
            Form::Packed if self.shape.len() != 1 || !self.is_row_major() => None,
            Form::Packed => {
                Self::row_major(dtype, shape.clone()).ok().filter(|layout| layout.nbytes() == self.nbytes())
            }
        };
        layout.ok_or_else(|| {
            let (own, sizes) = (self.dtype, &self.shape);
            Error::Corrupt(format!("{own} tensor of shape {sizes:?} cannot hold a {dtype} one of shape {shape:?}"))
        })
    }

    /// The strides of a tensor of this shape whose elements are pairs of this one's.
    fn strides_of_pairs(&self, shape: &[i64]) -> Option<Vec<i64>> {
        if self.shape.strip_prefix(shape)? != [2] {
            return None;
        }
        let (last, strides) = self.strides.split_last()?;
        match self.elements() {
            0 => Some(dense_strides(shape)),
            _ => (*last == 1 && strides.iter().all(|stride| stride % 2 == 0))
                .then(|| strides.iter().map(|stride| stride / 2).collect()),
        }
    }

    /// Some of the indices of the first dimension: `count` from `first` on. Also how many bytes these begin behind the first
    /// element.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the tensor has no dimension, or not so many rows.
    pub fn rows(&self, first: u64, count: u64) -> Result<(Self, i64)> {
        let Some((&size, rest)) = self.shape.split_first() else {
            return Err(invalid("a tensor without dimensions has no rows".to_owned()));
        };
        let fits = first.checked_add(count).is_some_and(|end| end <= size.unsigned_abs());
        if !fits {
            return Err(invalid(format!("{count} rows from row {first} on are not in a tensor of {size} rows")));
        }
        // Both are at most `size`.
        let shape = [&[count as i64], rest].concat();
        let begin = if count == 0 { 0 } else { first as i64 };
        self.view(shape, self.strides.clone(), begin.wrapping_mul(self.strides.first().copied().unwrap_or_default()))
    }

    /// Another view of the same elements, whose first one is `offset` elements behind this one's. Also how many bytes that is.
    ///
    /// # Errors
    /// As [`Layout::new`], and [`Error::InvalidArgument`] when it would reach beyond the bytes that this one spans.
    pub fn view(&self, shape: Vec<i64>, strides: Vec<i64>, offset: i64) -> Result<(Self, i64)> {
        let view = Self::new(self.dtype, shape, strides)?;
        if view.elements() == 0 {
            return Ok((view, 0));
        }
        let bits = i128::from(offset) * i128::from(self.dtype.item_bits());
        if bits % 8 != 0 {
            return Err(Error::Unsupported(format!(
                "element {offset} of a {} tensor begins within a byte",
                self.dtype
            )));
        }
        let (begin, outer, inner) = (bits / 8, self.span(), view.span());
        let (low, high) = (begin + i128::from(inner.start), begin + i128::from(inner.end));
        if low < outer.start.into() || high > outer.end.into() {
            return Err(invalid(format!(
                "bytes {low}..{high} of a view are outside its tensor's, which are {outer:?}"
            )));
        }
        // Inside the span, whose ends are of this size.
        Ok((view, begin as i64))
    }

    fn packs_column_major(&self) -> bool {
        self.is_column_major() && !self.is_row_major()
    }

    fn checked_span(&self) -> Option<Range<i64>> {
        if self.elements() == 0 {
            return Some(0..0);
        }
        let (mut low, mut high) = (0_i64, 1_i64);
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            let reach = stride.checked_mul(size - 1)?;
            let end = if reach < 0 { &mut low } else { &mut high };
            *end = end.checked_add(reach)?;
        }
        let (low, high) = (bytes_of(self.dtype, low.into())?, bytes_of(self.dtype, high.into())?);
        high.checked_sub(low)?;
        Some(low..high)
    }
}

/// The order of a compaction: rows of equally spaced runs of bytes that lie together in the source.
///
/// A dense tensor is one row of one run. All offsets stay inside [`Layout::span`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// Bytes to copy at once.
    pub run: usize,
    /// Runs in each row; 0 when there is nothing to copy.
    pub row: i64,
    /// From one run of a row to the next, in bytes of the source.
    pub step: i64,
    outer: Vec<(i64, i64)>,
}

impl CopyPlan {
    /// A plan over (size, byte stride) pairs, slowest first, none of size 0.
    fn new(dimensions: &[(i64, i64)], item_size: i64) -> Self {
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(dimensions.len());
        for &(size, stride) in dimensions.iter().filter(|&&(size, _)| size != 1) {
            match merged.last_mut() {
                // The outer dimension goes on where this one ends: together they are one longer dimension.
                Some(outer) if stride.checked_mul(size) == Some(outer.1) => *outer = (outer.0 * size, stride),
                _ => merged.push((size, stride)),
            }
        }
        let run = match merged.pop_if(|&mut (_, stride)| stride == item_size) {
            Some((size, _)) => size * item_size,
            None => item_size,
        };
        let (row, step) = merged.pop().unwrap_or((1, 0));
        Self { run: run as usize, row, step, outer: merged }
    }

    /// Runs in all rows.
    pub fn runs(&self) -> u64 {
        self.outer.iter().map(|&(size, _)| size).product::<i64>().unsigned_abs() * self.row.unsigned_abs()
    }

    /// Some of these runs in the order of the copy, by the rows that they are in: where the first one begins in the source, in
    /// bytes from the first element, and how many follow each other in steps.
    pub fn rows(&self, runs: Range<u64>) -> Rows<'_> {
        let runs = runs.start..runs.end.min(self.runs());
        let left = runs.end.saturating_sub(runs.start) as i64;
        let (mut number, skipped) = match left {
            0 => (0, 0),
            _ => (runs.start as i64 / self.row, runs.start as i64 % self.row),
        };
        let (mut index, mut offset) = (vec![0; self.outer.len()], 0);
        for (index, &(size, stride)) in index.iter_mut().zip(&self.outer).rev() {
            (number, *index) = (number / size, number % size);
            // The sum is the offset of an element at every time, so it is inside the span.
            offset += *index * stride;
        }
        Rows { plan: self, index, offset, skipped, left }
    }
}

/// The iterator that [`CopyPlan::rows`] gives.
#[derive(Debug)]
pub struct Rows<'a> {
    plan: &'a CopyPlan,
    index: Vec<i64>,
    /// Of the first run of the next row.
    offset: i64,
    /// Runs of the next row that come before those that are asked for.
    skipped: i64,
    /// Runs that are still to come.
    left: i64,
}

impl Iterator for Rows<'_> {
    type Item = (i64, i64);

    fn next(&mut self) -> Option<(i64, i64)> {
        if self.left == 0 {
            return None;
        }
        let count = self.left.min(self.plan.row - self.skipped);
        let first = self.offset + self.skipped * self.plan.step;
        (self.skipped, self.left) = (0, self.left - count);
        if self.left > 0 {
            self.advance();
        }
        Some((first, count))
    }
}

impl Rows<'_> {
    /// To the next row. Never leaves the span, also not for a moment: it could overflow there.
    fn advance(&mut self) {
        for (index, &(size, stride)) in self.index.iter_mut().zip(&self.plan.outer).rev() {
            if *index + 1 < size {
                *index += 1;
                self.offset += stride;
                return;
            }
            self.offset -= *index * stride;
            *index = 0;
        }
    }
}

/// What holds for every layout of this shape, whatever its strides.
fn check_shape(dtype: DType, shape: &[i64]) -> Result<()> {
    if shape.len() > MAX_DIMENSIONS {
        return Err(invalid(format!("tensor has {} dimensions, the limit is {MAX_DIMENSIONS}", shape.len())));
    }
    if let Some((axis, size)) = shape.iter().enumerate().find(|&(_, &size)| size < 0) {
        return Err(invalid(format!("size {size} of dimension {axis} is negative")));
    }
    // As in numpy, the sizes beside a 0 must make sense too: that is what readers compute strides from.
    let elements = shape.iter().try_fold(1_i64, |elements, &size| elements.checked_mul(size.max(1)));
    match elements.and_then(|elements| bytes_of(dtype, elements.into())) {
        Some(_) => Ok(()),
        None => Err(invalid(format!("{dtype} tensor of shape {shape:?} takes more than 2^63 bytes"))),
    }
}

/// Bytes that so many elements take when they lie densely, where that fits; negative for what lies in front.
fn bytes_of(dtype: DType, elements: i128) -> Option<i64> {
    let bits = elements * i128::from(dtype.item_bits());
    i64::try_from(if bits < 0 { bits / 8 } else { (bits + 7) / 8 }).ok()
}

/// Row-major strides in elements. Without elements all are 1, which is what Arrow's writers store.
fn dense_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    if shape.contains(&0) {
        return strides;
    }
    let mut next = 1;
    for (stride, size) in strides.iter_mut().zip(shape).rev() {
        *stride = next;
        next *= size;
    }
    strides
}

/// Whether these dimensions, fastest first, lie without gaps. None may have size 0.
fn is_dense<'a>(mut dimensions: impl Iterator<Item = (&'a i64, &'a i64)>) -> bool {
    let mut expected = 1;
    dimensions.all(|(&size, &stride)| {
        let fits = size == 1 || stride == expected;
        expected *= size;
        fits
    })
}

fn invalid(text: String) -> Error {
    Error::InvalidArgument(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int16() -> DType {
        DType::from_dlpack(0, 16, 1).unwrap()
    }

    fn layout(shape: &[i64], strides: &[i64]) -> Layout {
        Layout::new(int16(), shape.to_vec(), strides.to_vec()).unwrap()
    }

    #[test]
    fn orders_are_recognised_as_numpy_does() {
        // shape, strides, row-major, column-major, strides when packed
        type Case = (&'static [i64], &'static [i64], bool, bool, &'static [i64]);
        let cases: [Case; 12] = [
            (&[2, 3], &[3, 1], true, false, &[3, 1]),
            (&[2, 3], &[1, 2], false, true, &[1, 2]),
            (&[2, 3], &[6, 2], false, false, &[3, 1]),
            (&[2, 3], &[-3, -1], false, false, &[3, 1]),
            (&[2, 3], &[0, 0], false, false, &[3, 1]),
            (&[5], &[1], true, true, &[1]),
            (&[], &[], true, true, &[]),
            (&[1, 3], &[999, 1], true, true, &[3, 1]),
            (&[3, 1], &[1, -7], true, true, &[1, 1]),
            (&[2, 0, 4], &[i64::MIN, 5, i64::MAX], true, true, &[1, 1, 1]),
            (&[2, 3, 4], &[1, 2, 6], false, true, &[1, 2, 6]),
            (&[2, 3, 4], &[4, 8, 1], false, false, &[12, 4, 1]),
        ];
        for (shape, strides, row_major, column_major, packed) in cases {
            let layout = layout(shape, strides);
            assert_eq!(layout.is_row_major(), row_major, "{layout:?}");
            assert_eq!(layout.is_column_major(), column_major, "{layout:?}");
            assert_eq!(layout.packed().strides(), packed, "{layout:?}");
            assert_eq!(layout.packed().packed(), layout.packed());
        }
    }

    #[test]
    fn sizes_and_spans() {
        assert_eq!((layout(&[], &[]).nbytes(), layout(&[], &[]).span()), (2, 0..2));
        assert_eq!((layout(&[0, 9], &[9, 1]).nbytes(), layout(&[0, 9], &[9, 1]).span()), (0, 0..0));
        assert_eq!(layout(&[2, 3], &[3, 1]).span(), 0..12);
        assert_eq!(layout(&[2, 3], &[-3, 1]).span(), -6..6);
        assert_eq!((layout(&[1000, 3], &[0, 1]).nbytes(), layout(&[1000, 3], &[0, 1]).span()), (6000, 0..6));
    }

    fn int4() -> DType {
        DType::from_dlpack(0, 4, 1).unwrap()
    }

    #[test]
    fn elements_that_share_bytes_are_counted_in_bits() {
        let packed = Layout::row_major(int4(), vec![3, 3]).unwrap();
        assert_eq!((packed.nbytes(), packed.span(), packed.strides()), (5, 0..5, &[3, 1][..]));
        let bits = Layout::row_major(DType::from_dlpack(1, 1, 1).unwrap(), vec![17]).unwrap();
        assert_eq!((bits.nbytes(), bits.carrier().unwrap().shape()), (3, &[3][..]));
        assert!(matches!(Layout::new(int4(), vec![2, 3], vec![1, 2]), Err(Error::Unsupported(_))));
        assert!(Layout::new(int4(), vec![1, 3], vec![9, 1]).is_ok());
        assert!(Layout::row_major(int4(), vec![i64::MAX]).is_ok());
        assert!(Layout::row_major(int4(), vec![i64::MAX, 2]).is_err());
    }

    #[test]
    fn rows_and_views_lie_inside_their_tensor() {
        let whole = layout(&[4, 3], &[3, 1]);
        let (rows, begin) = whole.rows(1, 2).unwrap();
        assert_eq!((rows.shape(), rows.strides(), begin), (&[2, 3][..], &[3, 1][..], 6));
        assert_eq!(whole.rows(4, 0).unwrap().0.shape(), [0, 3]);
        assert_eq!(whole.rows(0, 4).unwrap(), (whole.clone(), 0));
        for (first, count) in [(3, 2), (5, 0), (0, 5), (u64::MAX, 1), (1, u64::MAX)] {
            let error = whole.rows(first, count).unwrap_err().to_string();
            assert!(error.contains(&count.to_string()) && error.contains("4 rows"), "{error}");
        }
        assert!(layout(&[], &[]).rows(0, 1).is_err());

        let (turned, begin) = whole.view(vec![3, 4], vec![1, -3], 9).unwrap();
        assert_eq!((turned.span(), begin), (-18..6, 18));
        assert_eq!(whole.view(vec![0], vec![i64::MAX], i64::MIN).unwrap().1, 0);
        for (shape, strides, offset) in [
            (vec![4, 3], vec![3, 1], 1),
            (vec![4, 3], vec![3, 1], -1),
            (vec![2], vec![12], 0),
            (vec![2], vec![-1], 0),
            (vec![1], vec![1], i64::MAX),
            (vec![1], vec![1], i64::MIN),
        ] {
            let error = whole.view(shape, strides, offset).unwrap_err().to_string();
            assert!(error.contains("0..24"), "{error}");
        }
    }

    #[test]
    fn rows_of_elements_that_share_bytes_begin_with_a_byte() {
        let odd = Layout::row_major(int4(), vec![4, 3]).unwrap();
        assert_eq!(odd.rows(2, 1).unwrap().1, 3);
        assert!(odd.rows(1, 1).unwrap_err().to_string().contains("element 3"));
        let even = Layout::row_major(int4(), vec![4, 2]).unwrap();
        assert_eq!((even.rows(3, 1).unwrap().1, even.rows(3, 1).unwrap().0.nbytes()), (3, 1));
    }

    #[test]
    fn nonsense_is_refused_with_its_number() {
        let big = i64::MAX / 2;
        let cases = [
            (vec![2; 33], vec![1; 33], "33"),
            (vec![2, -5], vec![1, 1], "-5"),
            (vec![2, 3], vec![1], "1 strides"),
            (vec![1 << 40, 1 << 40], vec![0, 0], "1099511627776"),
            (vec![0, 1 << 40, 1 << 40], vec![1, 1, 1], "1099511627776"),
            (vec![3], vec![big], "4611686018427387903"),
            (vec![2], vec![i64::MIN], "-9223372036854775808"),
            (vec![2, 2], vec![big / 2 + 2, -big / 2 - 2], "2305843009213693953"),
        ];
        for (shape, strides, number) in cases {
            let error = Layout::new(int16(), shape, strides).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)));
            assert!(error.to_string().contains(number), "{error}");
        }
        assert!(Layout::row_major(int16(), vec![i64::MAX]).is_err());
        assert!(Layout::row_major(int16(), vec![0; 33]).is_err());
    }

    /// Where all rows begin.
    fn begins(plan: &CopyPlan) -> Vec<i64> {
        plan.rows(0..plan.runs()).map(|(first, _)| first).collect()
    }

    #[test]
    fn plans_join_what_lies_together() {
        let plan = |shape: &[i64], strides: &[i64]| layout(shape, strides).copy_plan();
        let dense = plan(&[2, 3, 4], &[12, 4, 1]);
        assert_eq!((dense.run, dense.row, begins(&dense)), (48, 1, vec![0]));
        assert_eq!(plan(&[2, 3, 4], &[1, 2, 6]), dense);
        // Rows of 12 elements cut out of a wider matrix.
        let cut = plan(&[2, 3, 4], &[100, 4, 1]);
        assert_eq!((cut.run, cut.row, cut.step), (24, 2, 200));
        // Every second element: runs of one element.
        let gaps = plan(&[3, 4], &[8, 2]);
        assert_eq!((gaps.run, gaps.row, gaps.step, begins(&gaps).len()), (2, 12, 4, 1));
        let turned = plan(&[2, 3, 4], &[-1, 2, 6]);
        assert_eq!(begins(&turned), [0, 4, 8, -2, 2, 6]);
        assert!(begins(&plan(&[2, 0], &[5, 5])).is_empty());
        // One number for all of two dimensions.
        let spread = plan(&[2, 3, 4], &[0, 0, 1]);
        assert_eq!((spread.run, spread.row, spread.step, begins(&spread)), (8, 6, 0, vec![0]));
        assert_eq!(plan(&[], &[]).run, 2);
    }

    #[test]
    fn any_of_the_runs_are_those_of_the_whole() {
        for (shape, strides) in [
            (vec![2, 3, 4], vec![100, -20, 2]),
            (vec![3, 1, 2, 5], vec![-1, 7, 60, 0]),
            (vec![2, 6], vec![9, 1]),
            (vec![], vec![]),
            (vec![4, 0], vec![1, 1]),
        ] {
            let plan = layout(&shape, &strides).copy_plan();
            let offsets = |runs: Range<u64>| {
                let rows = plan.rows(runs);
                rows.flat_map(|(first, count)| (0..count).map(move |index| first + index * plan.step))
                    .collect::<Vec<_>>()
            };
            let all = offsets(0..plan.runs());
            assert_eq!(all.len() as u64, plan.runs(), "{plan:?}");
            for begin in 0..=all.len() {
                for end in begin..=all.len() {
                    assert_eq!(offsets(begin as u64..end as u64), all[begin..end], "{begin}..{end} of {plan:?}");
                }
            }
            assert_eq!(offsets(0..u64::MAX), all, "what is asked for beyond the last is not there");
        }
    }
}
