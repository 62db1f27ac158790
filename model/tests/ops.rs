//! The fused operations compute what their plain forms do: values and gradients.

#![expect(clippy::unwrap_used, reason = "a test fails on what cannot be had")]

use burn::tensor::{Tensor, TensorData};
use model::config::{Architecture, Llama3Scaling, ModelConfig};
use model::device::Device;
use model::ops::{self, Dropping, Heads, reference};
use model::rope::Rope;

/// Values between -1 and 1 that look random.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    (0..count as u64)
        .map(|i| {
            let mut x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (((x ^ (x >> 31)) >> 40) as f32) / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn tensor<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let values = noise(shape.iter().product(), seed);
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
}

fn floats<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_to_vec().unwrap()
}

#[track_caller]
fn check_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let scale = expected
        .iter()
        .fold(1.0_f32, |most, value| most.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(
            off <= tolerance * scale,
            "{what}[{index}]: {found}, expected {expected}"
        );
    }
}

/// Compares result and gradients of two forms of an operation on the same matrices.
#[track_caller]
fn check<const N: usize>(
    what: &str,
    shapes: [[usize; 2]; N],
    fused: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    plain: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    let run = |form: &dyn Fn([Tensor<2>; N]) -> Tensor<2>| {
        let inputs: [Tensor<2>; N] = std::array::from_fn(|i| tensor(shapes[i], i as u64 + 1));
        let result = form(inputs.clone());
        let along = tensor(result.dims(), 99).detach();
        let gradients = (result.clone() * along).sum().backward();
        let mut all = vec![floats(&result)];
        all.extend(inputs.iter().map(|x| floats(&x.grad(&gradients).unwrap())));
        all
    };
    for (index, (found, expected)) in run(&fused).iter().zip(&run(&plain)).enumerate() {
        check_near(
            &format!("{what}, output or gradient {index}"),
            found,
            expected,
            3e-6,
        );
    }
}

fn vector(matrix: Tensor<2>) -> Tensor<1> {
    matrix.flatten::<1>(0, 1)
}

#[test]
fn rms_norm() {
    for shape in [[1, 8], [5, 24], [300, 96], [700, 3], [3, 129]] {
        check(
            "rms_norm",
            [shape, [1, shape[1]]],
            |[x, w]| ops::rms_norm(x, vector(w), 1e-5),
            |[x, w]| reference::rms_norm(x, vector(w), 1e-5),
        );
    }
}

#[test]
fn linear() {
    for (rows, inputs, outputs) in [
        (1, 1, 1),
        (1, 8, 17),
        (7, 24, 16),
        (13, 300, 40),
        (50, 33, 9),
        (300, 96, 65),
        (520, 10, 100),
    ] {
        let shapes = [[rows, inputs], [outputs, inputs], [1, outputs]];
        check(
            "linear",
            [shapes[0], shapes[1]],
            |[x, w]| ops::linear(x, w, None),
            |[x, w]| reference::linear(x, w, None),
        );
        check(
            "linear with bias",
            shapes,
            |[x, w, b]| ops::linear(x, w, Some(vector(b))),
            |[x, w, b]| reference::linear(x, w, Some(vector(b))),
        );
        check(
            "linear with residual",
            [shapes[0], shapes[1], [rows, outputs]],
            |[x, w, r]| ops::linear_residual(x, w, r),
            |[x, w, r]| r + reference::linear(x, w, None),
        );
    }
}

#[test]
fn linear_takes_views() {
    check(
        "linear of transposed and sliced tensors",
        [[12, 40], [20, 9]],
        |[x, w]| ops::linear(x.transpose().narrow(0, 3, 30).narrow(1, 1, 9), w, None),
        |[x, w]| reference::linear(x.transpose().narrow(0, 3, 30).narrow(1, 1, 9), w, None),
    );
}

#[test]
fn swiglu() {
    for shape in [[1, 1], [3, 50], [600, 33]] {
        let big = |x: Tensor<2>| x * 20.0;
        check(
            "swiglu",
            [shape, shape],
            |[gate, up]| ops::swiglu(big(gate), up),
            |[gate, up]| reference::swiglu(big(gate), up),
        );
    }
}

#[test]
fn dropout() {
    for ([tokens, width], rate) in [([1, 1], 0.5), ([40, 77], 0.1), ([300, 64], 0.9)] {
        let lengths = [tokens / 3, tokens - tokens / 3];
        let dropping = Dropping::new(rate, &[5, u64::MAX - 5], &lengths).at(19);
        check(
            "dropout",
            [[tokens, width]],
            |[x]| ops::dropout(x, &dropping),
            |[x]| reference::dropout(x, &dropping),
        );
    }
}

#[test]
fn embedding_adds_up_repeated_ids() {
    let ids: Vec<u32> = (0..700).map(|i| (i * i) % 23).collect();
    check(
        "embedding",
        [[30, 12]],
        |[w]| ops::embedding(w, &ids),
        |[w]| reference::embedding(w, &ids),
    );
}

fn config(dim: usize, theta: f64, scaling: Option<Llama3Scaling>) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: 10,
        hidden_size: dim,
        intermediate_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        num_key_value_heads: 1,
        head_dim: dim,
        rms_norm_eps: 1e-5,
        rope_theta: theta,
        rope_scaling: scaling,
        max_position_embeddings: 40_000,
        tie_word_embeddings: true,
        attention_bias: false,
        qk_norm: false,
        bos_token_id: None,
        eos_token_id: Vec::new(),
        initializer_range: 0.02,
    }
}

#[track_caller]
fn check_attention(query: usize, key_value: usize, dim: usize, lengths: &[usize]) {
    let tokens = lengths.iter().sum();
    let heads = Heads {
        query,
        key_value,
        dim,
    };
    let rope = Rope::new(&config(dim, 10_000.0, None));
    // Larger values make the softmax sharp.
    let large = |x: Tensor<2>| x * 3.0;
    check(
        &format!("attention of {query}/{key_value} heads of {dim}, documents {lengths:?}"),
        [
            [tokens, query * dim],
            [tokens, key_value * dim],
            [tokens, key_value * dim],
        ],
        |[q, k, v]| ops::attention(large(q), large(k), v, heads, lengths, &rope),
        |[q, k, v]| reference::attention(large(q), large(k), v, heads, lengths, &rope),
    );
}

#[test]
fn attention() {
    check_attention(1, 1, 2, &[1]);
    check_attention(2, 2, 8, &[5]);
    check_attention(4, 4, 24, &[17, 1, 40, 3]);
    check_attention(4, 2, 16, &[33, 48, 49]);
    check_attention(6, 2, 10, &[100, 7]);
    check_attention(9, 3, 64, &[70]);
    check_attention(2, 1, 128, &[130]);
    check_attention(3, 1, 32, &[16, 0, 15]);
}

#[track_caller]
fn check_cross_entropy(tokens: usize, vocabulary: usize, width: usize, chunk: usize) {
    let targets: Vec<u32> = (0..tokens as u32)
        .map(|t| (t * 7 + 1) % vocabulary as u32)
        .collect();
    let weights: Vec<f32> = (0..tokens)
        .map(|t| if t % 3 == 1 { 0.0 } else { 0.1 + t as f32 })
        .collect();
    check(
        "cross_entropy",
        [[tokens, width], [vocabulary, width]],
        |[h, w]| {
            ops::cross_entropy(h, w, &targets, &weights, chunk)
                .mul_scalar(0.3)
                .unsqueeze()
        },
        |[h, w]| {
            reference::cross_entropy(h, w, &targets, &weights, chunk)
                .mul_scalar(0.3)
                .unsqueeze()
        },
    );
}

#[test]
fn cross_entropy() {
    check_cross_entropy(1, 2, 4, 8);
    check_cross_entropy(40, 30, 16, 7);
    check_cross_entropy(130, 411, 24, 64);
    check_cross_entropy(64, 50, 96, 1000);
}

#[test]
fn cross_entropy_of_nothing_is_zero() {
    let (hidden, weight) = (tensor([4, 8], 1), tensor([5, 8], 2));
    let broken = hidden.clone() * f32::NAN;
    for hidden in [hidden.clone(), broken] {
        let loss = ops::cross_entropy(hidden.clone(), weight.clone(), &[0, 1, 2, 3], &[0.0; 4], 3);
        assert_eq!(floats(&loss), [0.0]);
        let gradients = loss.backward();
        assert!(
            floats(&weight.grad(&gradients).unwrap())
                .iter()
                .all(|g| *g == 0.0)
        );
    }
    let loss = ops::cross_entropy(hidden.clone(), weight, &[0, 1, 2, 3], &[0.0; 4], 3);
    let gradients = loss.backward();
    assert!(
        floats(&hidden.grad(&gradients).unwrap())
            .iter()
            .all(|g| *g == 0.0)
    );
}

#[test]
fn a_gradient_has_the_same_bits_beside_a_frozen_tensor() {
    let (hidden, weight) = (tensor([9, 8], 1), tensor([5, 8], 2));
    let gradients = |hidden: &Tensor<2>, weight: &Tensor<2>| {
        let targets = [0, 1, 2, 3, 4, 0, 1, 2, 3];
        let weights = [1.0, 0.0, 2.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0];
        let loss = ops::cross_entropy(hidden.clone(), weight.clone(), &targets, &weights, 4);
        let found = loss.backward();
        [hidden.grad(&found), weight.grad(&found)].map(|gradient| gradient.map(|g| floats(&g)))
    };
    let [both_hidden, both_weight] = gradients(&hidden, &weight);
    let frozen = |tensor: &Tensor<2>| Tensor::from_inner(tensor.clone().inner());
    assert_eq!(gradients(&hidden, &frozen(&weight)), [both_hidden, None]);
    assert_eq!(gradients(&frozen(&hidden), &weight), [None, both_weight]);
}

#[test]
fn cross_entropy_survives_extreme_logits() {
    let (hidden, weight) = (tensor([4, 8], 1) * 1e4, tensor([5, 8], 2));
    let loss = ops::cross_entropy(hidden, weight.clone(), &[0, 1, 2, 3], &[1.0; 4], 3);
    let gradients = loss.backward();
    assert!(floats(&loss)[0].is_finite());
    assert!(
        floats(&weight.grad(&gradients).unwrap())
            .iter()
            .all(|g| g.is_finite())
    );
}

/// The rotary table against angles in f64.
#[track_caller]
fn check_rope(dim: usize, theta: f64, position: usize) {
    let table = Rope::new(&config(dim, theta, None)).table(position + 1);
    for i in 0..dim / 2 {
        let angle = position as f64 * theta.powf(-(2.0 * i as f64) / dim as f64);
        let at = position * (dim / 2) + i;
        for (found, exact) in [(table.cos[at], angle.cos()), (table.sin[at], angle.sin())] {
            let off = (f64::from(found) - exact).abs();
            assert!(
                off < 1e-6,
                "position {position}, pair {i}: {found}, not {exact}"
            );
        }
    }
}

#[test]
fn rotary_angles_are_exact_far_out() {
    for theta in [1e4, 1e6] {
        for position in [0, 255, 4095, 16_383, 32_767] {
            check_rope(24, theta, position);
            check_rope(128, theta, position);
        }
    }
}

#[test]
fn rotation_pairs_the_halves_of_a_head() {
    let rope = Rope::new(&config(4, 100.0, None));
    let device = Device::flex();
    let x = Tensor::<2>::from_data([[1.0, 2.0, 3.0, 4.0]], &device);
    let turned = floats(&reference::rotate(x, 4, 7, &rope));
    let (a, b) = (7.0_f32, 0.7_f32);
    let expected = [
        a.cos() - 3.0 * a.sin(),
        2.0 * b.cos() - 4.0 * b.sin(),
        3.0 * a.cos() + a.sin(),
        4.0 * b.cos() + 2.0 * b.sin(),
    ];
    check_near("rotate", &turned, &expected, 1e-6);
}

#[test]
fn llama3_scaling_slows_the_slow_frequencies() {
    // As transformers computes them for Llama 3.1 (head size 128, theta 5e5, factor 8).
    let scaling = Llama3Scaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let plain = Rope::new(&config(128, 5e5, None));
    let scaled = Rope::new(&config(128, 5e5, Some(scaling)));
    let mut kinds = [0; 3];
    for (plain, scaled) in plain.frequencies().iter().zip(scaled.frequencies()) {
        let wavelength = std::f64::consts::TAU / plain;
        if wavelength < 2048.0 {
            assert_eq!(scaled, plain);
            kinds[0] += 1;
        } else if wavelength > 8192.0 {
            assert!((scaled * 8.0 / plain - 1.0).abs() < 1e-12);
            kinds[1] += 1;
        } else {
            assert!(*scaled < *plain && *scaled > plain / 8.0);
            kinds[2] += 1;
        }
    }
    assert_eq!(kinds, [29, 29, 6]);
}
