//! The kernels, in CubeCL's language: a cube of units for each row, sums in f32.
//!
//! Matrices lie row by row, seen as vectors of N elements; `width` counts such vectors. Nothing is
//! checked here: the functions that launch them have made the sizes agree.

use cubecl::prelude::*;

/// Units of a cube.
pub(super) const UNITS: u32 = 256;

/// Most planes of a cube: planes have 8 lanes at least.
const PLANES: usize = 32;

/// One number of each plane of the cube.
#[cube]
fn of_planes(of_plane: f32) -> Shared<[f32]> {
    let mut all = Shared::<[f32]>::new_slice(PLANES);
    if UNIT_POS_PLANE == 0 {
        all[(UNIT_POS / PLANE_DIM) as usize] = of_plane;
    }
    sync_cube();
    all
}

/// The sum over all units of a cube, told to each.
#[cube]
fn sum_of_cube(value: f32) -> f32 {
    let all = of_planes(plane_sum(value));
    let mut sum = 0.0f32;
    for plane in 0..CUBE_DIM / PLANE_DIM {
        sum += all[plane as usize];
    }
    sum
}

/// The largest of all units of a cube, told to each.
#[cube]
fn max_of_cube(value: f32) -> f32 {
    let all = of_planes(plane_max(value));
    let mut most = all[0];
    for plane in 1..CUBE_DIM / PLANE_DIM {
        most = max(most, all[plane as usize]);
    }
    most
}

/// `1 / sqrt(mean(x²) + eps)` of a row that begins at `start`.
#[cube]
fn scale_of_row<F: Float, N: Size>(
    x: &[Vector<F, N>],
    start: usize,
    width: usize,
    eps: f32,
) -> f32 {
    let mut squares = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        squares += (value * value).vector_sum();
        at += CUBE_DIM as usize;
    }
    let count = f32::cast_from(width * N::value());
    1.0 / (sum_of_cube(squares) / count + eps).sqrt()
}

#[cube(launch_unchecked)]
pub(super) fn norm<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    y: &mut [Vector<F, N>],
    width: usize,
    eps: f32,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let scale = Vector::<f32, N>::new(scale_of_row::<F, N>(x, start, width, eps));
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        // Rounded before the weight, as transformers does.
        y[start + at] = Vector::<F, N>::cast_from(value * scale) * weight[at];
        at += CUBE_DIM as usize;
    }
}

/// The gradient by the input; the scale of each row goes to `scales`.
#[cube(launch_unchecked)]
pub(super) fn norm_backward<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    dy: &[Vector<F, N>],
    dx: &mut [Vector<F, N>],
    scales: &mut [f32],
    width: usize,
    eps: f32,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let scale = scale_of_row::<F, N>(x, start, width, eps);
    let mut common = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        let slope = Vector::<f32, N>::cast_from(dy[start + at])
            * Vector::<f32, N>::cast_from(weight[at]);
        common += (value * slope).vector_sum();
        at += CUBE_DIM as usize;
    }
    let count = f32::cast_from(width * N::value());
    let common = sum_of_cube(common) * scale * scale / count;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        let slope = Vector::<f32, N>::cast_from(dy[start + at])
            * Vector::<f32, N>::cast_from(weight[at]);
        let change = slope - value * Vector::<f32, N>::new(common);
        dx[start + at] = Vector::<F, N>::cast_from(change * Vector::<f32, N>::new(scale));
        at += CUBE_DIM as usize;
    }
    if UNIT_POS == 0 {
        scales[CUBE_POS] = scale;
    }
}

/// Sums over `rows` rows each of what they say about the weight: a unit for each column of a part.
#[cube(launch_unchecked)]
pub(super) fn norm_weight_parts<F: Float, N: Size>(
    x: &[Vector<F, N>],
    dy: &[Vector<F, N>],
    scales: &[f32],
    parts: &mut [Vector<f32, N>],
    width: usize,
    rows: usize,
    all_rows: usize,
    #[define(F)] _format: ElemType,
) {
    let column = ABSOLUTE_POS_X as usize;
    let part = CUBE_POS_Y as usize;
    if column < width {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let first = part * rows;
        let end = min(first + rows, all_rows);
        for row in first..end {
            let at = row * width + column;
            let value = Vector::<f32, N>::cast_from(x[at]) * Vector::<f32, N>::new(scales[row]);
            // Rounded as the forward pass has rounded it.
            let value = Vector::<f32, N>::cast_from(Vector::<F, N>::cast_from(value));
            sum += value * Vector::<f32, N>::cast_from(dy[at]);
        }
        parts[part * width + column] = sum;
    }
}

/// The sum of `rows` rows: a unit for each column.
#[cube(launch_unchecked)]
pub(super) fn sum_of_rows<F: Float, N: Size>(
    parts: &[Vector<f32, N>],
    sums: &mut [Vector<F, N>],
    width: usize,
    rows: usize,
    #[define(F)] _format: ElemType,
) {
    let column = ABSOLUTE_POS_X as usize;
    if column < width {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        for row in 0..rows {
            sum += parts[row * width + column];
        }
        sums[column] = Vector::<F, N>::cast_from(sum);
    }
}

/// The rotary embedding: a unit for a vector of each first half and the same of the second. `half` is
/// half a head in vectors, `heads` heads make a row, a row of the tables is a head.
#[cube(launch_unchecked)]
pub(super) fn turn<F: Float, N: Size>(
    x: &[Vector<F, N>],
    cos: &[Vector<f32, N>],
    sin: &[Vector<f32, N>],
    y: &mut [Vector<F, N>],
    half: usize,
    heads: usize,
    count: usize,
    #[comptime] back: bool,
    #[define(F)] _format: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit < count {
        let (head, at) = (unit / half, unit % half);
        let table = head / heads * 2 * half + at;
        let place = head * 2 * half + at;
        let first = Vector::<f32, N>::cast_from(x[place]);
        let second = Vector::<f32, N>::cast_from(x[place + half]);
        // The table of sines has the sign of each half.
        let (mut to_first, mut to_second) = (sin[table], sin[table + half]);
        if comptime!(back) {
            to_first = sin[table + half];
            to_second = sin[table];
        }
        y[place] = Vector::<F, N>::cast_from(first * cos[table] + second * to_first);
        y[place + half] = Vector::<F, N>::cast_from(second * cos[table + half] + first * to_second);
    }
}

/// `1 / (1 + e^-x)`.
#[cube]
fn logistic<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    one / (one + (Vector::<f32, N>::new(0.0f32) - x).exp())
}

/// `silu(gate) * up`, a unit for each vector.
#[cube(launch_unchecked)]
pub(super) fn gate<F: Float, N: Size>(
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
pub(super) fn gate_backward<F: Float, N: Size>(
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

/// Scores of a row that count, as numbers of f32 times `scale`; the others are far below all.
#[cube]
fn seen<F: Float, N: Size>(
    scores: Vector<F, N>,
    scale: f32,
    first: usize,
    visible: usize,
) -> Vector<f32, N> {
    let all = Vector::<f32, N>::cast_from(scores) * Vector::<f32, N>::new(scale);
    let mut kept = Vector::<f32, N>::new(f32::new(-1e30));
    #[unroll]
    for i in 0..N::value().comptime() {
        if first + i < visible {
            kept.insert(i, all.extract(i));
        }
    }
    kept
}

/// The largest of a vector.
#[cube]
fn max_of_vector<N: Size>(x: Vector<f32, N>) -> f32 {
    let mut most = x.extract(0usize);
    #[unroll]
    for i in 1..N::value().comptime() {
        most = max(most, x.extract(i));
    }
    most
}

/// The largest score of a row and the sum of the exponentials of all, less the largest.
#[cube]
fn peak_and_sum<F: Float, N: Size>(
    scores: &[Vector<F, N>],
    start: usize,
    width: usize,
    visible: usize,
    scale: f32,
) -> (f32, f32) {
    let mut most = f32::new(-1e30);
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
        most = max(most, max_of_vector::<N>(value));
        at += CUBE_DIM as usize;
    }
    let most = max_of_cube(most);
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
        sum += (value - Vector::<f32, N>::new(most)).exp().vector_sum();
        at += CUBE_DIM as usize;
    }
    (most, sum_of_cube(sum))
}

/// Writes the softmax of `scale` times the first `visible` scores of a row, 0 behind them; the log of its
/// sum. A row of up to `held` vectors for each unit is read once and kept; `held` 0: it is read anew.
#[cube]
fn softmax_of_row<F: Float, N: Size>(
    scores: &[Vector<F, N>],
    shares: &mut [Vector<F, N>],
    width: usize,
    visible: usize,
    scale: f32,
    #[comptime] held: usize,
) -> f32 {
    let start = CUBE_POS * width;
    if comptime!(held > 0) {
        let mut kept = Array::<Vector<f32, N>>::new(held);
        let mut most = f32::new(-1e30);
        #[unroll]
        for i in 0..held {
            let at = UNIT_POS as usize + i * CUBE_DIM as usize;
            let mut value = Vector::<f32, N>::new(f32::new(-1e30));
            if at < width {
                value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
            }
            most = max(most, max_of_vector::<N>(value));
            kept[i] = value;
        }
        let most = max_of_cube(most);
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..held {
            let value = (kept[i] - Vector::<f32, N>::new(most)).exp();
            sum += value.vector_sum();
            kept[i] = value;
        }
        let sum = sum_of_cube(sum);
        #[unroll]
        for i in 0..held {
            let at = UNIT_POS as usize + i * CUBE_DIM as usize;
            if at < width {
                let share = kept[i] / Vector::<f32, N>::new(sum);
                shares[start + at] = Vector::<F, N>::cast_from(share);
            }
        }
        most + sum.ln()
    } else {
        let (most, sum) = peak_and_sum::<F, N>(scores, start, width, visible, scale);
        let mut at = UNIT_POS as usize;
        while at < width {
            let value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
            let share = (value - Vector::<f32, N>::new(most)).exp() / Vector::<f32, N>::new(sum);
            shares[start + at] = Vector::<F, N>::cast_from(share);
            at += CUBE_DIM as usize;
        }
        most + sum.ln()
    }
}

/// The softmax of `scale` times the first places of each row, and the log of its sum. How many places
/// count: `first` and one more for each row up to `period` rows, from where it begins anew.
#[cube(launch_unchecked)]
pub(super) fn shares<F: Float, N: Size>(
    scores: &[Vector<F, N>],
    shares: &mut [Vector<F, N>],
    log_sums: &mut [f32],
    width: usize,
    period: usize,
    first: usize,
    scale: f32,
    #[comptime] held: usize,
    #[define(F)] _format: ElemType,
) {
    let visible = CUBE_POS % period + first + 1;
    let log_sum = softmax_of_row::<F, N>(scores, shares, width, visible, scale, held);
    if UNIT_POS == 0 {
        log_sums[CUBE_POS] = log_sum;
    }
}

/// The same where `lengths` says how many places count, one for each `period` rows.
#[cube(launch_unchecked)]
pub(super) fn shares_of_lengths<F: Float, N: Size>(
    scores: &[Vector<F, N>],
    lengths: &[i32],
    shares: &mut [Vector<F, N>],
    width: usize,
    period: usize,
    scale: f32,
    #[comptime] held: usize,
    #[define(F)] _format: ElemType,
) {
    let visible = usize::cast_from(lengths[CUBE_POS / period]);
    softmax_of_row::<F, N>(scores, shares, width, visible, scale, held);
}

/// Shares anew from their log-sums, and the gradients by scores from those by shares: what a row's
/// result and its gradient have in common is taken from both, rows of `dim` vectors.
#[cube(launch_unchecked)]
pub(super) fn shares_backward<F: Float, N: Size, D: Size>(
    scores: &[Vector<F, N>],
    d_shares: &[Vector<F, N>],
    log_sums: &[f32],
    out: &[Vector<F, D>],
    dy: &[Vector<F, D>],
    shares: &mut [Vector<F, N>],
    d_scores: &mut [Vector<F, N>],
    width: usize,
    dim: usize,
    period: usize,
    first: usize,
    scale: f32,
    #[define(F)] _format: ElemType,
) {
    let row = CUBE_POS;
    let mut common = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < dim {
        let result = Vector::<f32, D>::cast_from(out[row * dim + at]);
        let slope = Vector::<f32, D>::cast_from(dy[row * dim + at]);
        common += (result * slope).vector_sum();
        at += CUBE_DIM as usize;
    }
    let common = Vector::<f32, N>::new(sum_of_cube(common));
    let (start, log_sum) = (row * width, Vector::<f32, N>::new(log_sums[row]));
    let visible = row % period + first + 1;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
        let share = (value - log_sum).exp();
        let slope = Vector::<f32, N>::cast_from(d_shares[start + at]);
        shares[start + at] = Vector::<F, N>::cast_from(share);
        d_scores[start + at] = Vector::<F, N>::cast_from(
            share * (slope - common) * Vector::<f32, N>::new(scale),
        );
        at += CUBE_DIM as usize;
    }
}

/// The loss of each row of logits, times its weight, and the gradient by the logits.
#[cube(launch_unchecked)]
pub(super) fn losses<F: Float, N: Size>(
    logits: &[Vector<F, N>],
    targets: &[i32],
    weights: &[f32],
    losses: &mut [f32],
    slopes: &mut [Vector<F, N>],
    width: usize,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let all = width * N::value();
    let (most, sum) = peak_and_sum::<F, N>(logits, start, width, all, 1.0f32);
    let (target, weight) = (usize::cast_from(targets[CUBE_POS]), weights[CUBE_POS]);
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(logits[start + at]);
        let share = (value - Vector::<f32, N>::new(most)).exp() / Vector::<f32, N>::new(sum);
        let mut slope = share * Vector::<f32, N>::new(weight);
        #[unroll]
        for i in 0..N::value().comptime() {
            if at * N::value() + i == target {
                losses[CUBE_POS] = (sum.ln() + most - value.extract(i)) * weight;
                slope.insert(i, (share.extract(i) - 1.0) * weight);
            }
        }
        slopes[start + at] = Vector::<F, N>::cast_from(slope);
        at += CUBE_DIM as usize;
    }
}

/// The sum of two rows, and its norm.
#[cube(launch_unchecked)]
pub(super) fn add_norm<F: Float, N: Size>(
    x: &[Vector<F, N>],
    y: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    sums: &mut [Vector<F, N>],
    normed: &mut [Vector<F, N>],
    width: usize,
    eps: f32,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let mut squares = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let sum = x[start + at] + y[start + at];
        sums[start + at] = sum;
        let value = Vector::<f32, N>::cast_from(sum);
        squares += (value * value).vector_sum();
        at += CUBE_DIM as usize;
    }
    let count = f32::cast_from(width * N::value());
    let scale = Vector::<f32, N>::new(1.0 / (sum_of_cube(squares) / count + eps).sqrt());
    let mut at = UNIT_POS as usize;
    while at < width {
        // What this unit has written itself.
        let value = Vector::<f32, N>::cast_from(sums[start + at]);
        normed[start + at] = Vector::<F, N>::cast_from(value * scale) * weight[at];
        at += CUBE_DIM as usize;
    }
}

/// Queries, keys and values of one product: their bias added, the first two turned. A unit for a vector of
/// each first half of a head and the same of the second; `half` is half a head in vectors.
#[cube(launch_unchecked)]
pub(super) fn part_heads<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<F, N>],
    cos: &[Vector<f32, N>],
    sin: &[Vector<f32, N>],
    q: &mut [Vector<F, N>],
    k: &mut [Vector<F, N>],
    v: &mut [Vector<F, N>],
    half: usize,
    queries: usize,
    keys: usize,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit < count {
        let heads = queries + 2 * keys;
        let (head, at) = (unit / half, unit % half);
        let (row, head) = (head / heads, head % heads);
        let of_bias = head * 2 * half + at;
        let place = row * heads * 2 * half + of_bias;
        // Rounded, as the sum is where it is not turned.
        let first = x[place] + bias[of_bias];
        let second = x[place + half] + bias[of_bias + half];
        if head < queries + keys {
            let table = row * 2 * half + at;
            let (a, b) = (
                Vector::<f32, N>::cast_from(first),
                Vector::<f32, N>::cast_from(second),
            );
            let turned = Vector::<F, N>::cast_from(a * cos[table] + b * sin[table]);
            let other = Vector::<F, N>::cast_from(b * cos[table + half] + a * sin[table + half]);
            if head < queries {
                let to = (row * queries + head) * 2 * half + at;
                q[to] = turned;
                q[to + half] = other;
            } else {
                let to = (row * keys + head - queries) * 2 * half + at;
                k[to] = turned;
                k[to + half] = other;
            }
        } else {
            let to = (row * keys + head - queries - keys) * 2 * half + at;
            v[to] = first;
            v[to + half] = second;
        }
    }
}

/// `silu` of each row's first half times its second, a unit for each vector of a half.
#[cube(launch_unchecked)]
pub(super) fn gate_both<F: Float, N: Size>(
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

/// Sums over `rows` rows each: a unit for each column of a part.
#[cube(launch_unchecked)]
pub(super) fn parts_of_rows<F: Float, N: Size>(
    x: &[Vector<F, N>],
    parts: &mut [Vector<f32, N>],
    width: usize,
    rows: usize,
    all_rows: usize,
    #[define(F)] _format: ElemType,
) {
    let column = ABSOLUTE_POS_X as usize;
    let part = CUBE_POS_Y as usize;
    if column < width {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let first = part * rows;
        let end = min(first + rows, all_rows);
        for row in first..end {
            sum += Vector::<f32, N>::cast_from(x[row * width + column]);
        }
        parts[part * width + column] = sum;
    }
}

/// The sum of the squares of `width` vectors, a cube for each such stretch; the last may be shorter.
#[cube(launch_unchecked)]
pub(super) fn squares<F: Float, N: Size>(
    x: &[Vector<F, N>],
    sums: &mut [f32],
    width: usize,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let end = min(start + width, count);
    let mut sum = 0.0f32;
    let mut at = start + UNIT_POS as usize;
    while at < end {
        let value = Vector::<f32, N>::cast_from(x[at]);
        sum += (value * value).vector_sum();
        at += CUBE_DIM as usize;
    }
    let sum = sum_of_cube(sum);
    if UNIT_POS == 0 {
        sums[CUBE_POS] = sum;
    }
}

/// Where the largest number of each row is; of equal ones the first.
#[cube(launch_unchecked)]
pub(super) fn largest<F: Float, N: Size>(
    x: &[Vector<F, N>],
    places: &mut [i32],
    width: usize,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let mut best = f32::new(-3e38);
    let mut place = 0u32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        #[unroll]
        for i in 0..N::value().comptime() {
            if value.extract(i) > best {
                best = value.extract(i);
                place = (at * N::value() + i) as u32;
            }
        }
        at += CUBE_DIM as usize;
    }
    if best != max_of_cube(best) {
        place = u32::max_value();
    }
    let mut all = Shared::<[u32]>::new_slice(PLANES);
    let first = plane_min(place);
    if UNIT_POS_PLANE == 0 {
        all[(UNIT_POS / PLANE_DIM) as usize] = first;
    }
    sync_cube();
    if UNIT_POS == 0 {
        let mut found = all[0];
        for plane in 1..CUBE_DIM / PLANE_DIM {
            found = min(found, all[plane as usize]);
        }
        places[CUBE_POS] = found as i32;
    }
}

/// The products of a row with each row of `weight`, a plane for each: read once, four vectors under way.
#[cube(launch_unchecked)]
pub(super) fn row_product<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    y: &mut [F],
    width: usize,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let row = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + (UNIT_POS / PLANE_DIM) as usize;
    if row < count {
        let (start, step) = (row * width, PLANE_DIM as usize);
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let mut at = UNIT_POS_PLANE as usize;
        while at + 3 * step < width {
            let mut four = Array::<Vector<F, N>>::new(4usize);
            #[unroll]
            for i in 0..4 {
                four[i] = weight[start + at + i * step];
            }
            #[unroll]
            for i in 0..4 {
                sum += Vector::<f32, N>::cast_from(four[i])
                    * Vector::<f32, N>::cast_from(x[at + i * step]);
            }
            at += 4 * step;
        }
        while at < width {
            sum += Vector::<f32, N>::cast_from(weight[start + at])
                * Vector::<f32, N>::cast_from(x[at]);
            at += step;
        }
        let total = plane_sum(sum.vector_sum());
        if UNIT_POS_PLANE == 0 {
            y[row] = F::cast_from(total);
        }
    }
}
