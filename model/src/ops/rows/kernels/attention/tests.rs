//! What the units of [`super::attend_tiles`] and [`super::join_parts`] do, loop by loop in plain Rust, with NVIDIA's
//! order of what lies in which unit, against the definition. Numbers are f32 here: only indices and
//! the bookkeeping of softmax are compared.

use super::{HEADS, LANES, LOWEST, PLANES, TILE};

/// Two numbers of a register.
type Pair = [f32; 2];

/// The product of the registers of a plane, as the instruction defines it.
fn product(a: &[[Pair; 4]], b: &[[Pair; 2]], c: &mut [[f32; 4]]) {
    let (mut of_a, mut of_b) = ([[0.0; 16]; 16], [[0.0; 8]; 16]);
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for e in 0..2 {
            for r in 0..4 {
                of_a[g + r % 2 * 8][2 * t + e + r / 2 * 8] = a[lane][r][e];
            }
            for r in 0..2 {
                of_b[2 * t + e + r * 8][g] = b[lane][r][e];
            }
        }
    }
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for i in 0..4 {
            let (row, column) = (g + i / 2 * 8, 2 * t + i % 2);
            c[lane][i] += (0..16).map(|k| of_a[row][k] * of_b[k][column]).sum::<f32>();
        }
    }
}

/// Largest score, sum and mixed values of each query of a plane.
type Seen = (Vec<f32>, Vec<f32>, Vec<f32>);

/// A plane over tiles of a text: `queries: [group, dim]`, `keys, values: [length, dim]`.
fn plane(
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    dim: usize,
    tiles: impl Iterator<Item = usize>,
) -> Seen {
    let length = keys.len() / dim;
    let group = queries.len() / dim;
    let of = |lane: usize| (lane / 4, lane % 4);
    // A vector has 8 numbers, a word 2.
    let word = |from: &[f32], row: usize, vector: usize, word: usize| -> Pair {
        let at = row * dim + vector * 8 + word * 2;
        [from[at], from[at + 1]]
    };
    let mut mixed = vec![vec![[0.0_f32; 4]; LANES]; dim / 16];
    let (mut tops, mut sums) = (vec![LOWEST; LANES], vec![0.0_f32; LANES]);
    for tile in tiles {
        let (start, last) = (tile * TILE, length - 1);
        let mut scores = [vec![[0.0_f32; 4]; LANES], vec![[0.0_f32; 4]; LANES]];
        for j in 0..dim / 32 {
            for h in 0..2 {
                for (i, scores) in scores.iter_mut().enumerate() {
                    let (mut a, mut b) = (vec![[[0.0; 2]; 4]; LANES], vec![[[0.0; 2]; 2]; LANES]);
                    for lane in 0..LANES {
                        let (g, t) = of(lane);
                        let place = (start + g + 8 * i).min(last);
                        for r in 0..2 {
                            if g < group {
                                a[lane][2 * r] = word(queries, g, j * 4 + t, 2 * h + r);
                            }
                            b[lane][r] = word(keys, place, j * 4 + t, 2 * h + r);
                        }
                    }
                    product(&a, &b, scores);
                }
            }
        }
        let seen = |score: f32, place: usize| if place < length { score } else { LOWEST };
        let own: Vec<[f32; 4]> = (0..LANES)
            .map(|lane| {
                let place = start + 2 * of(lane).1;
                [
                    seen(scores[0][lane][0], place),
                    seen(scores[0][lane][1], place + 1),
                    seen(scores[1][lane][0], place + 8),
                    seen(scores[1][lane][1], place + 9),
                ]
            })
            .collect();
        let most: Vec<f32> = (0..LANES)
            .map(|lane| {
                let four = &own[lane / 4 * 4..][..4];
                four.iter().flatten().copied().fold(tops[lane], f32::max)
            })
            .collect();
        let factor: Vec<f32> = (0..LANES)
            .map(|lane| (tops[lane] - most[lane]).exp2())
            .collect();
        let mut shares = vec![[[0.0; 2]; 2]; LANES];
        for lane in 0..LANES {
            let p = own[lane].map(|score| (score - most[lane]).exp2());
            sums[lane] = sums[lane] * factor[lane] + p.iter().sum::<f32>();
            shares[lane] = [[p[0], p[1]], [p[2], p[3]]];
        }
        tops = most;
        for j in 0..dim / 64 {
            for w in 0..4 {
                let mut a = vec![[[0.0; 2]; 4]; LANES];
                let sum = &mut mixed[j * 4 + w];
                for lane in 0..LANES {
                    let (g, t) = of(lane);
                    let v: Vec<Pair> = (0..4)
                        .map(|i| {
                            let place = (start + 2 * t + i % 2 + i / 2 * 8).min(last);
                            word(values, place, j * 8 + g, w)
                        })
                        .collect();
                    for (r, of) in [(0, 0), (1, 0), (2, 2), (3, 2)] {
                        a[lane][r] = [v[of][r % 2], v[of + 1][r % 2]];
                    }
                    let factors = [factor[8 * t], factor[8 * t + 4]];
                    for i in 0..4 {
                        sum[lane][i] *= factors[i % 2];
                    }
                }
                product(&a, &shares, sum);
            }
        }
    }
    let mut all = vec![0.0; HEADS * dim];
    for lane in 0..LANES {
        let (g, t) = of(lane);
        for j in 0..dim / 64 {
            for w in 0..4 {
                let to = 2 * t * dim + (j * 8 + g) * 8 + 2 * w;
                let value = mixed[j * 4 + w][lane];
                all[to] = value[0];
                all[to + dim] = value[1];
                all[to + 1] = value[2];
                all[to + dim + 1] = value[3];
            }
        }
    }
    let of_query = |query: usize| &sums[4 * query..][..4];
    (
        (0..HEADS).map(|query| tops[4 * query]).collect(),
        (0..HEADS)
            .map(|query| of_query(query).iter().sum())
            .collect(),
        all,
    )
}

/// Joins what several have seen of one query.
fn joined(parts: &[(f32, f32, Vec<f32>)]) -> (f32, f32, Vec<f32>) {
    let most = parts.iter().fold(LOWEST, |most, part| most.max(part.0));
    let mut total = vec![0.0; parts[0].2.len()];
    let mut sum = 0.0;
    for (top, of_part, mixed) in parts {
        let weight = (top - most).exp2();
        sum += weight * of_part;
        for (total, value) in total.iter_mut().zip(mixed) {
            *total += weight * value;
        }
    }
    (most, sum, total)
}

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

#[test]
fn units_together_give_attention() {
    for (dim, group, splits, length) in [
        (64, 1, 4, 1),
        (64, 7, 4, 15),
        (128, 8, 4, 16),
        (128, 7, 4, 17),
        (128, 7, 64, 300),
        (64, 6, 4, 333),
        (256, 3, 8, 1000),
    ] {
        let queries = noise(group * dim, 1);
        let (keys, values) = (noise(length * dim, 2), noise(length * dim, 3));
        let tiles = length.div_ceil(TILE);
        let many = tiles.div_ceil(splits).max(PLANES);
        let used = tiles.div_ceil(many);
        assert!(used <= splits);
        let mut parts: Vec<Vec<(f32, f32, Vec<f32>)>> = vec![Vec::new(); group];
        for cube in 0..splits {
            let (first, end) = (cube * many, (cube * many + many).min(tiles));
            assert_eq!(first < end, cube < used, "what is joined was written");
            if first >= end {
                continue;
            }
            let planes: Vec<Seen> = (0..PLANES)
                .map(|at| {
                    let own = (first + at..end).step_by(PLANES);
                    plane(&queries, &keys, &values, dim, own)
                })
                .collect();
            for (query, parts) in parts.iter_mut().enumerate() {
                let own = planes.iter().map(|(tops, sums, mixed)| {
                    let mixed = mixed[query * dim..][..dim].to_vec();
                    (tops[query], sums[query], mixed)
                });
                parts.push(joined(&own.collect::<Vec<_>>()));
            }
        }
        for (query, parts) in parts.iter().enumerate() {
            let (_, sum, total) = joined(parts);
            let of_row = |from: &[f32], row: usize| from[row * dim..][..dim].to_vec();
            let q = of_row(&queries, query);
            let scores: Vec<f32> = (0..length)
                .map(|row| q.iter().zip(of_row(&keys, row)).map(|(a, b)| a * b).sum())
                .collect();
            let most = scores.iter().copied().fold(LOWEST, f32::max);
            let shares: Vec<f32> = scores.iter().map(|score| (score - most).exp2()).collect();
            let all: f32 = shares.iter().sum();
            for column in 0..dim {
                let expected: f32 = (0..length)
                    .map(|row| shares[row] / all * values[row * dim + column])
                    .sum();
                let found = total[column] / sum;
                assert!(
                    (found - expected).abs() < 2e-5,
                    "{dim} {group} {splits} {length}: {found} for {expected}"
                );
            }
        }
    }
}
