//! What a step of writing does beside products: new keys and values go to their places, and each text's
//! query attends to what lies there.
//!
//! Legend: N tokens, R texts, S slots, K key-value heads, H query heads, C places of a slot, D head size.
#![expect(
    clippy::too_many_arguments,
    reason = "an operation names its tensors one by one"
)]

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::Places;

/// How a layer's keys and values lie: `[S * K * C, D]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// K.
    pub(crate) heads: usize,
    /// C.
    pub(crate) places: usize,
    /// D.
    pub(crate) dim: usize,
}

/// Kernels of CUDA cards over keys and values as they lie in the cache.
#[backend_extension(Cube, Fusion)]
pub(crate) trait WritingKernels: Backend {
    /// Queries, keys and values of one product with their bias, the first two turned as by
    /// [`super::turn`]; keys and values are written to their places, in place where nothing else holds
    /// the memory.
    ///
    /// # Shapes
    /// `x: [N, (H + 2 K) * D]`, `bias` a row of it, `cos, sin: [N, D]` in f32, `keys, values:
    /// [S * K * C, D]`, `slots, positions: [N]`, results `[N, H * D]` and the two that were written.
    #[fusion(meta = |x, bias, cos, sin, keys, values, slots, positions, layout| {
        let _ = (bias, cos, sin, slots, positions);
        let width = x.shape[1] - 2 * layout.heads * layout.dim;
        let shape = super::with_last(&x.shape, width);
        let queries = burn::backend::fusion::custom::TensorSpec::new(shape, x.dtype);
        (queries, keys.clone(), values.clone())
    })]
    fn write_heads(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        slots: IntTensor<Self>,
        positions: IntTensor<Self>,
        layout: Layout,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// One query of each text against its places up to the query's own.
    ///
    /// # Shapes
    /// `q: [R, H * D]`, `keys, values: [S * K * C, D]`, `slots, positions: [R]`, result as `q`.
    #[fusion(dtype = q, shape = q)]
    fn attend_texts(
        q: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        slots: IntTensor<Self>,
        positions: IntTensor<Self>,
        layout: Layout,
    ) -> FloatTensor<Self>;

    /// The tensor itself; `found` is told where it lies.
    #[fusion(dtype = x, shape = x)]
    fn locate(x: FloatTensor<Self>, found: Found) -> FloatTensor<Self>;
}

/// Addresses in the order in which they were asked for, as soon as the device has come to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found(Arc<Mutex<Vec<u64>>>);

impl Found {
    /// Takes down an address.
    #[cfg(feature = "cuda")]
    pub(crate) fn push(&self, address: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(address);
    }
}

/// See [`super::addresses`].
pub(super) fn addresses<'a>(
    tensors: impl Iterator<Item = &'a mut Tensor<2>>,
    device: &burn::tensor::Device,
) -> Result<Vec<u64>, String> {
    let found = Found::default();
    let mut asked = 0;
    for tensor in tensors {
        // Through the tensor itself: a copy would count as another that holds its memory.
        tensor
            .inplace(|x| Tensor::from_dispatch(Dispatch::locate(x.into_dispatch(), found.clone())));
        asked += 1;
    }
    device.sync().map_err(|error| error.to_string())?;
    let addresses = std::mem::take(&mut *found.0.lock().unwrap_or_else(PoisonError::into_inner));
    match addresses.len() == asked {
        true => Ok(addresses),
        false => Err("the device did not tell where its tensors lie".to_owned()),
    }
}

/// See [`WritingKernels::write_heads`]: the queries. The cache's tensors are exchanged for those that were
/// written.
pub(crate) fn write_heads(
    x: Tensor<2>,
    bias: Tensor<1>,
    [cos, sin]: [Tensor<2>; 2],
    [keys, values]: [&mut Tensor<2>; 2],
    at: &Places,
    layout: Layout,
) -> Tensor<2> {
    let mut queries = None;
    keys.inplace(|keys| {
        let mut written = None;
        values.inplace(|values| {
            let (x, bias) = (x.into_dispatch(), bias.into_dispatch());
            let (cos, sin) = (cos.into_dispatch(), sin.into_dispatch());
            let (keys, values) = (keys.into_dispatch(), values.into_dispatch());
            let slots = at.slots.clone().into_dispatch();
            let positions = at.positions.clone().into_dispatch();
            let (q, keys, values) =
                Dispatch::write_heads(x, bias, cos, sin, keys, values, slots, positions, layout);
            queries = Some(Tensor::from_dispatch(q));
            written = Some(Tensor::from_dispatch(keys));
            Tensor::from_dispatch(values)
        });
        written.expect("the closure has run")
    });
    queries.expect("the closure has run")
}

/// See [`WritingKernels::attend_texts`].
pub(crate) fn attend(
    q: Tensor<2>,
    [keys, values]: [Tensor<2>; 2],
    at: &Places,
    layout: Layout,
) -> Tensor<2> {
    let (q, keys, values) = (
        q.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
    );
    let slots = at.slots.clone().into_dispatch();
    let positions = at.positions.clone().into_dispatch();
    Tensor::from_dispatch(Dispatch::attend_texts(
        q, keys, values, slots, positions, layout,
    ))
}
