//! What is done row by row, in one kernel each: on cards through CubeCL, on the CPU in its own terms.
//!
//! Burn makes these of general reductions and elementwise steps, which took most of the time that
//! products left (docs/BENCHMARKS.md, "Cards"): a row is read once or twice here, sums are f32, and what
//! lies between is not written. Gradients are in closed form.
//!
//! Legend: N rows, d width, D head size, m inner width, L places of a row of scores, V vocabulary.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kernels;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod launch;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod norms;
mod scores;
pub(crate) mod shortlists;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod updates;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod writing;

#[cfg(feature = "cuda")]
pub(super) use self::launch::{own, row_product};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use self::norms::RowKernels;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) use self::norms::{add_norm, bias, gate, gate_both, largest, norm, squares, turn};
pub(crate) use self::scores::{ScoreKernels, Seen, shares_of};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) use self::updates::adamw;
#[cfg(feature = "cuda")]
pub(crate) use self::writing::Found;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use self::writing::WritingKernels;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) use self::writing::{Layout, attend, write_heads};

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::tensor::Shape;
use burn::tensor::{Device, Int, Tensor};

/// Numbers whose squares are added up together.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) const STRETCH: usize = 1 << 16;

/// The shape of the sums of a tensor's stretches.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn stretches(shape: &Shape) -> Shape {
    Shape::new([shape.num_elements().div_ceil(STRETCH)])
}

/// Where tokens are, in a device's memory.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(any(feature = "cuda", feature = "wgpu")),
    expect(dead_code, reason = "kernels read it")
)]
pub(crate) struct Places {
    /// The slot of each; negative for a row that stands for no text: it is written nowhere, and attends to
    /// nothing.
    pub(crate) slots: Tensor<1, Int>,
    /// The position of each in its text.
    pub(crate) positions: Tensor<1, Int>,
}

/// A shape with another last dimension.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) fn with_last(shape: &Shape, last: usize) -> Shape {
    let mut shape = shape.clone();
    let rank = shape.num_dims();
    shape[rank - 1] = last;
    shape
}

/// Where tensors lie in a device's memory, once all work before is done.
///
/// # Errors
/// If the device fails, or is none whose addresses can be told.
pub(crate) fn addresses<'a>(
    tensors: impl Iterator<Item = &'a mut Tensor<2>>,
    device: &Device,
) -> Result<Vec<u64>, String> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return writing::addresses(tensors, device);
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    {
        let _ = (tensors, device);
        Err("no device of this build tells addresses".to_owned())
    }
}

/// Whether the kernels run on a device.
pub(crate) fn run_on(device: &Device) -> bool {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let burn::backend::DispatchDevice::Cube(device) = device.clone().inner().as_dispatch() {
        return trusted(device);
    }
    let _ = device;
    false
}

/// Whether the kernels are used on a device of CubeCL: on CUDA cards, where they have been run. Nothing in them
/// is of CUDA alone, but on Vulkan they have been compiled and not run.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn trusted(device: &burn_cubecl::CubeDevice) -> bool {
    matches!(device, burn_cubecl::CubeDevice::Cuda(_))
}
