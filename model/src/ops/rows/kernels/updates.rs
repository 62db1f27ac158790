//! Steps of an optimizer.

use cubecl::prelude::*;

/// A step of AdamW, a unit for each vector: weights and both means are changed where they lie, and the
/// weights are written once more in the format of the model.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn adamw<F: Float, N: Size>(
    weights: &mut [Vector<f32, N>],
    gradient: &[Vector<f32, N>],
    first: &mut [Vector<f32, N>],
    second: &mut [Vector<f32, N>],
    rounded: &mut [Vector<F, N>],
    keep: f32,
    gradient_scale: f32,
    mix1: f32,
    beta2: f32,
    mix2: f32,
    rate: f32,
    root_correction: f32,
    eps: f32,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < count {
        let slope = gradient[at] * Vector::<f32, N>::new(gradient_scale);
        let mean = first[at] + Vector::<f32, N>::new(mix1) * (slope - first[at]);
        let square =
            Vector::<f32, N>::new(beta2) * second[at] + Vector::<f32, N>::new(mix2) * slope * slope;
        let root =
            square.sqrt() / Vector::<f32, N>::new(root_correction) + Vector::<f32, N>::new(eps);
        let weight =
            weights[at] * Vector::<f32, N>::new(keep) - Vector::<f32, N>::new(rate) * mean / root;
        first[at] = mean;
        second[at] = square;
        weights[at] = weight;
        rounded[at] = Vector::<F, N>::cast_from(weight);
    }
}
