//! Launches over rows of scores and of logits.

use burn::backend::TensorMetadata as _;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::super::{ScoreKernels, Seen, kernels, scores, trusted, with_last};
use super::{CUBE, cubes, dense, format, held, room, row_cube, rows, units_of_row, vector};

#[expect(unsafe_code, reason = "launches kernels without checks of bounds")]
impl ScoreKernels for CubeBackend {
    fn shares(scores: CubeTensor, seen: Seen) -> (CubeTensor, CubeTensor) {
        if !trusted(&scores.device) {
            return scores::shares::<Self>(scores, seen);
        }
        let scores = dense(scores);
        let (count, width) = rows(&scores);
        let (size, dtype) = (vector(scores.dtype, width), scores.dtype);
        let shares = room(&scores, scores.shape(), dtype);
        let log_sums = room(&scores, with_last(&scores.shape(), 1), DType::F32);
        // SAFETY: `shares` lies as `scores`, `log_sums` has a number for each row.
        unsafe {
            kernels::shares::launch_unchecked(
                &shares.client,
                cubes(count),
                row_cube(count, width / size),
                size,
                scores.into_buffer_arg(),
                shares.clone().into_buffer_arg(),
                log_sums.clone().into_buffer_arg(),
                width / size,
                seen.period,
                seen.first,
                seen.scale as f32,
                held(units_of_row(count, width / size), width / size),
                format(dtype),
            );
        }
        (shares, log_sums)
    }

    fn shares_backward(
        scores: CubeTensor,
        d_shares: CubeTensor,
        log_sums: CubeTensor,
        out: CubeTensor,
        dy: CubeTensor,
        seen: Seen,
    ) -> (CubeTensor, CubeTensor) {
        if !trusted(&scores.device) {
            return scores::shares_backward::<Self>([scores, d_shares, log_sums, out, dy], seen);
        }
        let [scores, d_shares, log_sums, out, dy] =
            [scores, d_shares, log_sums, out, dy].map(dense);
        let ((count, width), (_, dim)) = (rows(&scores), rows(&out));
        let (size, dtype) = (vector(scores.dtype, width), scores.dtype);
        let size_of_out = vector(dtype, dim);
        let shares = room(&scores, scores.shape(), dtype);
        let d_scores = room(&scores, scores.shape(), dtype);
        // SAFETY: `d_shares` and both results lie as `scores`; `log_sums`, `out` and `dy` have a number or a
        // row for each of their rows.
        unsafe {
            kernels::shares_backward::launch_unchecked(
                &shares.client,
                cubes(count),
                row_cube(count, width / size),
                size,
                size_of_out,
                scores.into_buffer_arg(),
                d_shares.into_buffer_arg(),
                log_sums.into_buffer_arg(),
                out.into_buffer_arg(),
                dy.into_buffer_arg(),
                shares.clone().into_buffer_arg(),
                d_scores.clone().into_buffer_arg(),
                width / size,
                dim / size_of_out,
                seen.period,
                seen.first,
                seen.scale as f32,
                format(dtype),
            );
        }
        (shares, d_scores)
    }

    fn losses(
        logits: CubeTensor,
        targets: CubeTensor,
        weights: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        if !trusted(&logits.device) {
            return scores::losses::<Self>(logits, targets, weights);
        }
        let [logits, targets, weights] = [logits, targets, weights].map(dense);
        assert_eq!(
            targets.dtype,
            DType::I32,
            "targets as the toolkit makes them"
        );
        let (count, width) = rows(&logits);
        let (size, dtype) = (vector(logits.dtype, width), logits.dtype);
        let losses = room(&logits, [count, 1], DType::F32);
        let slopes = room(&logits, logits.shape(), dtype);
        // SAFETY: `slopes` lies as `logits`, the others have a number for each of their rows.
        unsafe {
            kernels::losses::launch_unchecked(
                &losses.client,
                cubes(count),
                CUBE,
                size,
                logits.into_buffer_arg(),
                targets.into_buffer_arg(),
                weights.into_buffer_arg(),
                losses.clone().into_buffer_arg(),
                slopes.clone().into_buffer_arg(),
                width / size,
                format(dtype),
            );
        }
        (losses, slopes)
    }
}
