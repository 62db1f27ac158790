//! Launches that look through rows of logits.

use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::kernels;
use super::super::shortlists::{PARTS, REACHES, ShortlistKernels, WORDS};
use super::{CUBE, dense, room, rows, vector};

#[expect(unsafe_code, reason = "launches kernels without checks of bounds")]
impl ShortlistKernels for CubeBackend {
    fn shortlists(logits: CubeTensor, scales: CubeTensor) -> CubeTensor {
        let (logits, scales) = (dense(logits), dense(scales));
        let (count, width) = rows(&logits);
        assert_eq!(
            (logits.dtype, scales.dtype, rows(&scales)),
            (DType::F32, DType::F32, (1, count)),
            "logits are f32, with a scale for each row"
        );
        let words = room(&logits, [count, WORDS], DType::I32);
        if count == 0 {
            return words;
        }
        let peaks = room(&logits, [count, PARTS], DType::F32);
        let counts = room(&logits, [count, REACHES.len()], DType::I32);
        let size = vector(DType::F32, width);
        let width = width / size;
        let stretch = width.div_ceil(PARTS);
        let grid = CubeCount::Static(PARTS as u32, count as u32, 1);
        // SAFETY: a row is `width` vectors, of which each of `PARTS` cubes sees to `stretch`; the others have
        // room for what is written of each row.
        unsafe {
            kernels::peaks::launch_unchecked(
                &words.client,
                grid.clone(),
                CUBE,
                size,
                logits.clone().into_buffer_arg(),
                peaks.clone().into_buffer_arg(),
                counts.clone().into_buffer_arg(),
                words.clone().into_buffer_arg(),
                width,
                stretch,
            );
            kernels::near_peak::launch_unchecked(
                &words.client,
                grid,
                CUBE,
                size,
                logits.into_buffer_arg(),
                scales.into_buffer_arg(),
                peaks.into_buffer_arg(),
                counts.into_buffer_arg(),
                words.clone().into_buffer_arg(),
                width,
                stretch,
            );
        }
        words
    }
}
