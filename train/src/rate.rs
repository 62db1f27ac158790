//! How fast a device multiplies: what a forecast of hours rests on.

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use model::ops;

/// Operations a second of products as large as those of a layer, the best of some within a second.
pub fn matmul_rate(device: &Device) -> f64 {
    const ROWS: usize = 512;
    const WIDTH: usize = 1024;
    let x = Tensor::<2>::ones([ROWS, WIDTH], device);
    let weight = Tensor::<2>::ones([WIDTH, WIDTH], device);
    let operations = (2 * ROWS * WIDTH * WIDTH) as f64;
    let began = Instant::now();
    let mut best = 0_f64;
    while best == 0.0 || began.elapsed().as_secs_f64() < 0.5 {
        let started = Instant::now();
        let sum = ops::linear(x.clone(), weight.clone(), None).sum();
        // Waits until it is computed.
        std::hint::black_box(sum.into_scalar::<f32>());
        best = best.max(operations / started.elapsed().as_secs_f64());
    }
    best
}
