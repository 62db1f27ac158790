//! Products of matrices: by cuBLAS where it is in use, by Burn otherwise.
//!
//! Burn's own products are made for every card and, where their kernel is not chosen by trial, reach an
//! eighth of what an H200 can do (docs/BENCHMARKS.md, "Cards"). NVIDIA's library lies beside the driver
//! and NVRTC on machines that train, so it multiplies where it is found; the tensors, their memory and
//! the order of work stay Burn's.

#[cfg(any(test, feature = "cuda"))]
mod call;
#[cfg(feature = "cuda")]
pub(crate) mod cublas;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata as _, backend_extension};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::tensor::Shape;
use burn::tensor::{Device, FloatDType, Tensor};

/// A product as an operation that a backend may compute in its own way.
#[backend_extension(
    Flex,
    Cube: cfg(any(feature = "cuda", feature = "wgpu")),
    Fusion: cfg(any(feature = "cuda", feature = "wgpu")),
    Autodiff
)]
pub(crate) trait ProductOps: Backend {
    /// `a b`, or `a bᵀ` if `transposed`; batches as [`Tensor::matmul`] has them.
    #[fusion(dtype = a, shape = shape_of(a, b, transposed))]
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>, transposed: bool) -> FloatTensor<Self>;

    /// `c + a bᵀ` of matrices, in `c`'s own memory where nothing else holds it. `c` may be f32 where the
    /// factors are bf16.
    #[fusion(dtype = c, shape = c)]
    fn product_onto(
        c: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The shape of a product.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn shape_of(a: &Shape, b: &Shape, transposed: &bool) -> Shape {
    let rank = a.num_dims();
    let mut shape = a.clone();
    for dim in 0..rank - 2 {
        shape[dim] = a[dim].max(b[dim]);
    }
    shape[rank - 1] = b[rank - if *transposed { 2 } else { 1 }];
    shape
}

/// The tensor with its last two dimensions swapped.
fn turned<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_transpose(x)
}

/// The product by Burn.
fn by_burn<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>, transposed: bool) -> FloatTensor<B> {
    match transposed {
        true => B::float_matmul(a, turned::<B>(b)),
        false => B::float_matmul(a, b),
    }
}

/// `c` plus the product by Burn.
fn onto_by_burn<B: Backend>(
    c: FloatTensor<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    transposed: bool,
) -> FloatTensor<B> {
    let format = FloatDType::from(c.dtype());
    B::float_add(c, B::float_cast(by_burn::<B>(a, b, transposed), format))
}

impl ProductOps for Flex {
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>, transposed: bool) -> FloatTensor<Self> {
        by_burn::<Self>(a, b, transposed)
    }

    fn product_onto(
        c: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        onto_by_burn::<Self>(c, a, b, true)
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl ProductOps for burn_cubecl::CubeBackend {
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>, transposed: bool) -> FloatTensor<Self> {
        #[cfg(feature = "cuda")]
        if cublas::is_used_on(&a.device) {
            let b = match transposed {
                true => turned::<Self>(b),
                false => b,
            };
            return cublas::product(a, b);
        }
        by_burn::<Self>(a, b, transposed)
    }

    fn product_onto(
        c: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[cfg(feature = "cuda")]
        if cublas::is_used_on(&a.device) {
            return cublas::product_onto(c, a, turned::<Self>(b));
        }
        onto_by_burn::<Self>(c, a, b, true)
    }
}

#[derive(Debug)]
struct Product;

impl<B: ProductOps> Backward<B, 2> for Product {
    /// Both factors, and whether the second is transposed.
    type State = (FloatTensor<B>, FloatTensor<B>, bool);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let factors = ops.parents.map(|node| node.map(|node| node.id));
        gradients_of_factors::<B>(ops.state, factors, dy, grads);
    }
}

fn gradients_of_factors<B: ProductOps>(
    (a, b, transposed): (FloatTensor<B>, FloatTensor<B>, bool),
    [a_node, b_node]: [Option<NodeId>; 2],
    dy: FloatTensor<B>,
    grads: &mut Gradients,
) {
    if let Some(node) = a_node {
        grads.register::<B>(node, B::product(dy.clone(), b, !transposed));
    }
    if let Some(node) = b_node {
        // In the order in which the factor lies, so that its gradient lies the same way.
        let gradient = match transposed {
            true => B::product(turned::<B>(dy), a, false),
            false => B::product(turned::<B>(a), dy, false),
        };
        grads.register::<B>(node, gradient);
    }
}

/// The gradients of [`ProductOps::product_onto`].
#[derive(Debug)]
pub(super) struct ProductOnto;

impl<B: ProductOps> Backward<B, 3> for ProductOnto {
    /// Both factors.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (a, b) = ops.state;
        let [c_node, a_node, b_node] = ops.parents.map(|node| node.map(|node| node.id));
        gradients_of_factors::<B>((a, b, true), [a_node, b_node], dy.clone(), grads);
        if let Some(node) = c_node {
            grads.register::<B>(node, dy);
        }
    }
}

impl<B: ProductOps, C: CheckpointStrategy> ProductOps for Autodiff<B, C> {
    /// Gradients are those of matrices without batches, or with the same batches.
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>, transposed: bool) -> FloatTensor<Self> {
        let ((a, a_node), (b, b_node)) = (a.into_parts(), b.into_parts());
        let y = B::product(a.clone(), b.clone(), transposed);
        match Product
            .prepare::<C>([a_node, b_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((a, b, transposed), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn product_onto(
        c: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((c, c_node), (a, a_node), (b, b_node)) =
            (c.into_parts(), a.into_parts(), b.into_parts());
        let y = B::product_onto(c, a.clone(), b.clone());
        match ProductOnto
            .prepare::<C>([c_node, a_node, b_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((a, b), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// Whether products go through [`ProductOps`] on some device of this process.
pub(super) fn by_library() -> bool {
    #[cfg(feature = "cuda")]
    return cublas::is_used();
    #[cfg(not(feature = "cuda"))]
    false
}

/// `a b`.
pub(crate) fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    match by_library() {
        true => dispatched(a, b, false),
        false => a.matmul(b),
    }
}

/// `a bᵀ`, the product of a linear map with weights `b`.
pub(crate) fn product_transposed<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    match by_library() {
        true => dispatched(a, b, true),
        false => a.matmul(b.transpose()),
    }
}

/// `c + a bᵀ` of matrices.
pub(crate) fn product_onto(c: Tensor<2>, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    if !by_library() {
        return c + a.matmul(b.transpose());
    }
    let (c, a, b) = (c.into_dispatch(), a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(Dispatch::product_onto(c, a, b))
}

fn dispatched<const D: usize>(a: Tensor<D>, b: Tensor<D>, transposed: bool) -> Tensor<D> {
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(Dispatch::product(a, b, transposed))
}

/// `a b` of a backend's tensors, as [`product`].
pub(super) fn of_backend<B: ProductOps>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    match by_library() {
        true => B::product(a, b, false),
        false => B::float_matmul(a, b),
    }
}

/// Why cuBLAS does not multiply on a card, by the card's number.
#[cfg(feature = "cuda")]
static WHY_NOT: super::card::Reasons = super::card::Reasons::none();

/// Lets cuBLAS multiply on a card if it can; [`why_not`] tells why it cannot.
#[cfg(feature = "cuda")]
pub(crate) fn start(index: usize) {
    let started = crate::device::quietly(|| cublas::start(index));
    WHY_NOT.note(index, started.and_then(|started| started));
}

/// Why cuBLAS does not multiply on a device where it was asked to.
pub(crate) fn why_not(device: &Device) -> Option<String> {
    #[cfg(feature = "cuda")]
    if let Some(burn_cubecl::CubeDevice::Cuda(device)) = cube(device) {
        return WHY_NOT.of(device.index);
    }
    let _ = device;
    None
}

/// What multiplies matrices on a device: `cuBLAS` and its release, or `Burn`.
pub(crate) fn library_on(device: &Device) -> String {
    #[cfg(feature = "cuda")]
    if cube(device).is_some_and(cublas::is_used_on) {
        return cublas::release();
    }
    let _ = device;
    "Burn".to_owned()
}

/// The device in CubeCL's terms.
#[cfg(feature = "cuda")]
fn cube(device: &Device) -> Option<&burn_cubecl::CubeDevice> {
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(device) => Some(device),
        _ => None,
    }
}

/// Memory that products of a recording used: it stays where it is until this is dropped.
#[derive(Default)]
pub(crate) struct Held {
    /// Only dropped; the lock lets threads share what holds it.
    _memory: Option<std::sync::Mutex<Box<dyn std::any::Any + Send>>>,
}

/// From now on, keeps the memory of products on a device where it is, until [`held`] is asked for it:
/// what is recorded sends the addresses again.
pub(crate) fn hold(device: &Device) {
    #[cfg(feature = "cuda")]
    if let Some(device) = cube(device) {
        cublas::hold(device);
    }
    let _ = device;
}

/// What was kept since [`hold`].
pub(crate) fn held(device: &Device) -> Held {
    let _ = device;
    Held {
        #[cfg(feature = "cuda")]
        _memory: cube(device)
            .and_then(cublas::held)
            .map(std::sync::Mutex::new),
        #[cfg(not(feature = "cuda"))]
        _memory: None,
    }
}
