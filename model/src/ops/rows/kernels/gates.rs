//! The gated activation.

use cubecl::prelude::*;

/// `1 / (1 + e^-x)`.
#[cube]
fn logistic<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    one / (one + (Vector::<f32, N>::new(0.0f32) - x).exp())
}

/// `silu(gate) * up`, a unit for each vector.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn gate<F: Float, N: Size>(
    gate: &[Vector<F, N>],
    up: &[Vector<F, N>],
    y: &mut [Vector<F, N>],
    count: usize,
    #[define(F)] _format: ElemType,
) {
    if ABSOLUTE_POS < count {
        let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
        let factor = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
        y[ABSOLUTE_POS] = Vector::<F, N>::cast_from(x * logistic::<N>(x) * factor);
    }
}

#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn gate_backward<F: Float, N: Size>(
    gate: &[Vector<F, N>],
    up: &[Vector<F, N>],
    dy: &[Vector<F, N>],
    d_gate: &mut [Vector<F, N>],
    d_up: &mut [Vector<F, N>],
    count: usize,
    #[define(F)] _format: ElemType,
) {
    if ABSOLUTE_POS < count {
        let one = Vector::<f32, N>::new(1.0f32);
        let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
        let factor = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
        let slope = Vector::<f32, N>::cast_from(dy[ABSOLUTE_POS]);
        let open = logistic::<N>(x);
        let rise = open * (one + x * (one - open));
        d_gate[ABSOLUTE_POS] = Vector::<F, N>::cast_from(slope * factor * rise);
        d_up[ABSOLUTE_POS] = Vector::<F, N>::cast_from(slope * x * open);
    }
}

/// `silu` of each row's first half times its second, a unit for each vector of a half.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn gate_both<F: Float, N: Size>(
    both: &[Vector<F, N>],
    y: &mut [Vector<F, N>],
    width: usize,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit < count {
        let at = unit / width * 2 * width + unit % width;
        let x = Vector::<f32, N>::cast_from(both[at]);
        let factor = Vector::<f32, N>::cast_from(both[at + width]);
        y[unit] = Vector::<F, N>::cast_from(x * logistic::<N>(x) * factor);
    }
}
