//! Sums and peaks of a cube, and how rows are divided among its units.

use cubecl::prelude::*;

/// Units of a cube.
pub(in crate::ops::rows) const UNITS: u32 = 256;

/// Most planes of a cube: planes have 8 lanes at least.
pub(super) const PLANES: usize = 32;

/// One number of each plane of the cube.
#[cube]
pub(super) fn of_planes(of_plane: f32) -> Shared<[f32]> {
    let mut all = Shared::<[f32]>::new_slice(PLANES);
    if UNIT_POS_PLANE == 0 {
        all[(UNIT_POS / PLANE_DIM) as usize] = of_plane;
    }
    sync_cube();
    all
}

/// The sum over all units of a cube, told to each.
#[cube]
pub(super) fn sum_of_cube(value: f32) -> f32 {
    let all = of_planes(plane_sum(value));
    let mut sum = 0.0f32;
    for plane in 0..CUBE_DIM / PLANE_DIM {
        sum += all[plane as usize];
    }
    sum
}

/// The largest of all units of a cube, told to each.
#[cube]
pub(super) fn max_of_cube(value: f32) -> f32 {
    let all = of_planes(plane_max(value));
    let mut most = all[0];
    for plane in 1..CUBE_DIM / PLANE_DIM {
        most = max(most, all[plane as usize]);
    }
    most
}

/// The largest of a vector.
#[cube]
pub(super) fn max_of_vector<N: Size>(x: Vector<f32, N>) -> f32 {
    let mut most = x.extract(0usize);
    #[unroll]
    for i in 1..N::value().comptime() {
        most = max(most, x.extract(i));
    }
    most
}
