//! Launches of dropout.

use burn::backend::TensorMetadata as _;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::super::kernels;
use super::{CUBE, dense, format, room, rows, units, vector};
use crate::ops::dropout::{DropKernels, Dropping};

#[expect(unsafe_code, reason = "launches kernels without checks of bounds")]
impl DropKernels for CubeBackend {
    fn drop_values(x: CubeTensor, dropping: Dropping) -> CubeTensor {
        let x = dense(x);
        let (count, width) = rows(&x);
        assert_eq!(count, dropping.tokens(), "a row for each token");
        let y = room(&x, x.shape(), x.dtype);
        let size = vector(x.dtype, width);
        if count * width == 0 {
            return y;
        }
        let words = dropping.words();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let of_rows = CubeTensor::new_contiguous(
            x.client.clone(),
            x.device.clone(),
            [words.len()].into(),
            x.client.create_from_slice(&bytes),
            DType::U32,
        );
        let (vectors, dtype) = (count * width / size, x.dtype);
        // SAFETY: `y` lies as `x`, and there are three words for each row.
        unsafe {
            kernels::drop_values::launch_unchecked(
                &y.client,
                units(vectors),
                CUBE,
                size,
                x.into_buffer_arg(),
                of_rows.into_buffer_arg(),
                y.clone().into_buffer_arg(),
                width / size,
                dropping.place(),
                dropping.dropped(),
                dropping.scale(),
                vectors,
                format(dtype),
            );
        }
        y
    }
}
