//! A product of matrices in the terms of BLAS, from shapes and strides.
//!
//! BLAS is column by column, tensors are row by row: what a tensor calls `a b`, BLAS is told as
//! `bᵀ aᵀ`, which lies in memory as the same numbers. So the call names `b` first, and asks for a
//! matrix transposed if it lies column by column.

/// Where a tensor's elements lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// Batches, rows, columns.
    pub(crate) shape: &'a [usize],
    /// Elements from one to the next, by dimension.
    pub(crate) strides: &'a [usize],
}

/// One factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Factor {
    /// Whether it lies column by column.
    pub(crate) by_columns: bool,
    /// Elements from one row (or column) to the next.
    pub(crate) leading: usize,
    /// Elements from one matrix of the batch to the next; 0 if all use the same.
    pub(crate) batch: usize,
}

/// A product `c = a b` of `[batches, m, k]` and `[batches, k, n]`; `c` lies row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) batches: usize,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) a: Factor,
    pub(crate) b: Factor,
}

impl Call {
    /// None where BLAS has no word for the strides or the sizes: a factor must then be copied.
    pub(crate) fn new(a: View<'_>, b: View<'_>) -> Option<Self> {
        let rank = a.shape.len();
        let (batch_a, [m, k]) = split(a.shape)?;
        let (batch_b, [inner, n]) = split(b.shape)?;
        if b.shape.len() != rank || inner != k {
            return None;
        }
        let batch: Vec<usize> = batch_a
            .iter()
            .zip(batch_b)
            .map(|(a, b)| *a.max(b))
            .collect();
        let call = Self {
            batches: batch.iter().product(),
            m,
            k,
            n,
            a: Factor::new(a, &batch)?,
            b: Factor::new(b, &batch)?,
        };
        let sizes = [m, k, n, call.batches, call.a.leading, call.b.leading];
        let fits = |size: &usize| i32::try_from(*size).is_ok_and(|size| size > 0);
        sizes.iter().all(fits).then_some(call)
    }
}

/// Batches, and rows and columns.
fn split(shape: &[usize]) -> Option<(&[usize], [usize; 2])> {
    shape
        .split_last_chunk::<2>()
        .map(|(batch, matrix)| (batch, *matrix))
}

impl Factor {
    fn new(view: View<'_>, batch: &[usize]) -> Option<Self> {
        let (own, [rows, cols]) = split(view.shape)?;
        let (between, [row, col]) = split(view.strides)?;
        // A stride along a single element says nothing.
        let lies = |outer: usize, stride: usize, inner: usize, step: usize| {
            let leading = match outer {
                1 => stride.max(inner),
                _ => stride,
            };
            ((step == 1 || inner == 1) && leading >= inner).then_some(leading)
        };
        let (by_columns, leading) = match lies(rows, row, cols, col) {
            Some(leading) => (false, leading),
            None => (true, lies(cols, col, rows, row)?),
        };
        Some(Self {
            by_columns,
            leading,
            batch: step(own, between, batch)?,
        })
    }
}

/// Elements from one matrix to the next, if the same for all.
fn step(own: &[usize], strides: &[usize], batch: &[usize]) -> Option<usize> {
    if own.iter().product::<usize>() == 1 {
        return Some(0);
    }
    let mut found = None;
    let mut count = 1;
    for ((own, stride), batch) in own.iter().zip(strides).zip(batch).rev() {
        match (own, batch) {
            (1, 1) => continue,
            (own, batch) if own != batch => return None,
            _ => {}
        }
        let first = *found.get_or_insert(*stride);
        if *stride != first * count {
            return None;
        }
        count *= batch;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What BLAS does with a call, by its definition: column by column, `b` first.
    fn blas(call: &Call, a: &[f64], b: &[f64]) -> Vec<f64> {
        // Element (row, col) of op(x), where x lies column by column.
        let at = |x: &[f64], factor: &Factor, batch: usize, row: usize, col: usize| {
            let (row, col) = match factor.by_columns {
                true => (col, row),
                false => (row, col),
            };
            x[batch * factor.batch + col * factor.leading + row]
        };
        let mut c = vec![f64::NAN; call.batches * call.m * call.n];
        for batch in 0..call.batches {
            for col in 0..call.m {
                for row in 0..call.n {
                    c[(batch * call.m + col) * call.n + row] = (0..call.k)
                        .map(|i| at(b, &call.b, batch, row, i) * at(a, &call.a, batch, i, col))
                        .sum();
                }
            }
        }
        c
    }

    /// A tensor that may be a part of a larger one, or transposed.
    #[derive(Clone, Debug)]
    struct Lies {
        shape: Vec<usize>,
        strides: Vec<usize>,
        length: usize,
    }

    fn lies(shape: Vec<usize>, pad: usize, transposed: bool, swapped: bool) -> Lies {
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).collect();
        if transposed {
            order.swap(rank - 1, rank - 2);
        }
        if swapped && rank > 2 {
            order.swap(rank - 2, rank - 3);
        }
        let mut strides = vec![0; rank];
        let mut next = 1;
        for (place, dim) in order.iter().rev().enumerate() {
            strides[*dim] = next;
            next *= shape[*dim] + if place == 0 { pad } else { 0 };
        }
        Lies {
            shape,
            strides,
            length: next,
        }
    }

    impl Lies {
        fn view(&self) -> View<'_> {
            View {
                shape: &self.shape,
                strides: &self.strides,
            }
        }

        fn at(&self, x: &[f64], index: &[usize]) -> f64 {
            let own = index.iter().zip(&self.shape).zip(&self.strides);
            x[own
                .map(|((i, size), stride)| (i % size) * stride)
                .sum::<usize>()]
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// A call, if there is one, gives the product of the tensors.
        #[test]
        fn a_call_says_the_product(
            batch in proptest::collection::vec(1usize..4, 0..3),
            (m, k, n) in (1usize..5, 1usize..5, 1usize..5),
            pads in (0usize..3, 0usize..3),
            flags in any::<[bool; 4]>(),
            shared in 0usize..3,
        ) {
            let with = |rows, cols, alone| {
                let mut shape: Vec<usize> = match alone {
                    true => vec![1; batch.len()],
                    false => batch.clone(),
                };
                shape.extend([rows, cols]);
                shape
            };
            let a = lies(with(m, k, shared == 1), pads.0, flags[0], flags[1]);
            let b = lies(with(k, n, shared == 2), pads.1, flags[2], flags[3]);
            let values = |length: usize, by: usize| -> Vec<f64> {
                (0..length).map(|i| ((i * by) % 17) as f64 - 8.0).collect()
            };
            let (x, y) = (values(a.length, 5), values(b.length, 7));
            let plain = pads == (0, 0) && flags == [false; 4];
            let Some(call) = Call::new(a.view(), b.view()) else {
                prop_assert!(!plain, "whole tensors need no copy");
                return Ok(());
            };
            let found = blas(&call, &x, &y);
            let batches: usize = (0..batch.len()).map(|d| a.shape[d].max(b.shape[d])).product();
            prop_assert_eq!(found.len(), batches * m * n);
            for (flat, found) in found.iter().enumerate() {
                let (mut rest, row, col) = (flat / (m * n), flat / n % m, flat % n);
                let mut index = vec![0; batch.len()];
                for (dim, place) in index.iter_mut().enumerate().rev() {
                    let size = a.shape[dim].max(b.shape[dim]);
                    *place = rest % size;
                    rest /= size;
                }
                let of = |tensor: &Lies, x: &[f64], last: [usize; 2]| {
                    let index: Vec<usize> = index.iter().copied().chain(last).collect();
                    tensor.at(x, &index)
                };
                let expected: f64 =
                    (0..k).map(|i| of(&a, &x, [row, i]) * of(&b, &y, [i, col])).sum();
                prop_assert_eq!(*found, expected);
            }
        }
    }

    #[test]
    fn keys_of_a_cache_need_no_copy() {
        // [slots, heads, places read, D] of a cache with 256 places, transposed for scores.
        let (keys, by) = ([4, 2, 64, 256], [2 * 256 * 64, 256 * 64, 1, 64]);
        let (queries, of) = ([4, 2, 6, 64], [768, 384, 64, 1]);
        let call = Call::new(
            View {
                shape: &queries,
                strides: &of,
            },
            View {
                shape: &keys,
                strides: &by,
            },
        );
        let b = Factor {
            by_columns: true,
            leading: 64,
            batch: 256 * 64,
        };
        assert_eq!(call.map(|call| (call.batches, call.b)), Some((8, b)));
    }
}
