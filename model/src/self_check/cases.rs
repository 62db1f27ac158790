//! The operations that are compared, and with which numbers.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{Check, Extent};
use crate::config::{Architecture, ModelConfig};
use crate::device::quietly;
use crate::ops::portable::{self, AttentionKernel, of_document};
use crate::ops::{self, Dropping, chunked, reference};
use crate::rope::Rope;

/// How the names of checks of Burn's own attention begin.
pub(super) const FUSED: &str = "fused attention";

/// How the names of checks of cuDNN's attention begin.
pub(super) const CUDNN: &str = "cuDNN attention";

/// Whether there is something else to use where this is wrong.
pub(super) fn can_be_spared(check: &Check) -> bool {
    [FUSED, CUDNN]
        .iter()
        .any(|name| check.name.starts_with(name))
}

/// Most that f32 may be off: sums in another order, not other products.
const F32: f64 = 5e-5;
/// Most that bf16 may be off: a few of its roundings.
const BF16: f64 = 2e-2;

/// An operation, with all its cases.
pub(super) struct Case {
    name: String,
    limit: f64,
    runs: Vec<Run>,
    device: Device,
    dtype: DType,
}

/// One case: what it is called, its inputs, and what is done with them on either device.
struct Run {
    what: String,
    inputs: Vec<Input>,
    found: Forward,
    expected: Forward,
}

/// Numbers of a tensor.
#[derive(Clone)]
struct Input {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// From inputs, as matrices, to a result.
pub(super) type Forward = Arc<dyn Fn(&[Tensor<2>]) -> Tensor<2>>;

impl Input {
    /// Values between -1 and 1 that look random.
    fn noise(shape: &[usize], seed: u64) -> Self {
        let count: usize = shape.iter().product();
        let values = (0..count as u64)
            .map(|i| {
                let mut x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
                x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let value = (((x ^ (x >> 31)) >> 40) as f32) / (1 << 23) as f32 - 1.0;
                // What bf16 can hold, so that both devices begin with the same numbers.
                half::bf16::from_f32(value).to_f32()
            })
            .collect();
        Self {
            shape: shape.to_vec(),
            values,
        }
    }

    /// As a matrix of its rows on a device that keeps gradients.
    fn on(&self, device: &Device, dtype: DType) -> Tensor<2> {
        let last = self.shape[self.shape.len() - 1];
        let rows = self.values.len() / last;
        let data = TensorData::new(self.values.clone(), [rows, last]);
        let device = device.clone().autodiff();
        Tensor::from_data(data, (&device, dtype)).require_grad()
    }
}

impl Case {
    pub(super) fn new(name: &str, device: &Device, dtype: DType) -> Self {
        let (format, limit) = match dtype {
            DType::BF16 => ("bf16", BF16),
            _ => ("f32", F32),
        };
        Self {
            name: format!("{name} {format}"),
            limit,
            runs: Vec::new(),
            device: device.clone(),
            dtype,
        }
    }

    /// The same operation on both devices.
    fn same(
        self,
        what: &str,
        inputs: &[&[usize]],
        f: impl Fn(&[Tensor<2>]) -> Tensor<2> + 'static,
    ) -> Self {
        let f: Forward = Arc::new(f);
        self.pair(what, inputs, Arc::clone(&f), f)
    }

    pub(super) fn pair(
        mut self,
        what: &str,
        inputs: &[&[usize]],
        found: Forward,
        expected: Forward,
    ) -> Self {
        let inputs = inputs.iter().zip(1..);
        self.runs.push(Run {
            what: what.to_owned(),
            inputs: inputs
                .map(|(shape, seed)| Input::noise(shape, seed))
                .collect(),
            found,
            expected,
        });
        self
    }

    /// Compares result and gradients of every case.
    pub(super) fn run(&self) -> Check {
        let mut check = Check {
            name: self.name.clone(),
            cases: self.runs.len(),
            worst: 0.0,
            limit: self.limit,
            at: "none differs".to_owned(),
        };
        for run in &self.runs {
            let expected = evaluate(run, &run.expected, &Device::flex(), DType::F32);
            let found = quietly(|| evaluate(run, &run.found, &self.device, self.dtype));
            let found = match found.and_then(|found| found) {
                Ok(found) => found,
                Err(reason) => {
                    check.worst = f64::INFINITY;
                    check.at = format!("{}: {reason}", run.what);
                    continue;
                }
            };
            let expected = expected.expect("the CPU computes");
            // A gradient that is 0 but for rounding is measured by the others.
            let most = expected
                .iter()
                .flatten()
                .fold(0.0_f32, |most, x| most.max(x.abs()));
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let off = difference(found, expected, most / 4.0);
                if off > check.worst {
                    check.worst = off;
                    check.at = match index {
                        0 => format!("{}, result", run.what),
                        index => format!("{}, gradient of input {index}", run.what),
                    };
                }
            }
        }
        check
    }
}

/// The result and the gradients by all inputs, for an incoming gradient that is not uniform.
fn evaluate(
    run: &Run,
    forward: &Forward,
    device: &Device,
    dtype: DType,
) -> Result<Vec<Vec<f32>>, String> {
    let inputs: Vec<Tensor<2>> = run
        .inputs
        .iter()
        .map(|input| input.on(device, dtype))
        .collect();
    let result = forward(&inputs);
    let along = Input::noise(&result.dims(), 99)
        .on(device, DType::F32)
        .detach();
    let loss = (result.clone().cast(DType::F32) * along).sum();
    let gradients = loss.backward();
    let mut all = vec![read(result.inner())?];
    for input in &inputs {
        let gradient = input.grad(&gradients);
        all.push(gradient.map_or_else(|| Ok(Vec::new()), read)?);
    }
    Ok(all)
}

fn read(tensor: Tensor<2>) -> Result<Vec<f32>, String> {
    let data = tensor.try_into_data().map_err(|error| error.to_string())?;
    data.convert::<f32>()
        .try_into_vec()
        .map_err(|error| format!("{error:?}"))
}

/// The largest difference, as a share of the largest value, or of `least` if that is more; infinite
/// where one is not a number.
fn difference(found: &[f32], expected: &[f32], least: f32) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let scale = expected.iter().fold(least, |most, x| most.max(x.abs()));
    let worst =
        found
            .iter()
            .zip(expected)
            .fold(0.0_f64, |worst, (a, b)| match (a - b).is_finite() {
                true => worst.max(f64::from((a - b).abs())),
                false => f64::INFINITY,
            });
    worst / f64::from(scale)
}

/// All operations, in an order in which the first failure is the one to look at.
pub(super) fn all(device: &Device, extent: Extent) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut formats = vec![DType::F32];
    if device.supports_dtype(DType::BF16) {
        formats.push(DType::BF16);
    }
    for &dtype in &formats {
        cases.extend([
            products(device, dtype),
            norms(device, dtype),
            rotations(device, dtype),
            softmaxes(device, dtype),
            activations(device, dtype),
            dropouts(device, dtype),
            embeddings(device, dtype),
            chains(device, dtype),
            losses(device, dtype),
            super::writing::attention(device, dtype, extent),
        ]);
    }
    cases.push(super::shortlists::lists(device));
    let mut kernels = vec![("chunked attention", AttentionKernel::Chunked)];
    // On a card without trials of kernels Burn has no fused ones, and computes all scores at once.
    if cfg!(feature = "autotune") || crate::ops::is_cpu(device) {
        kernels.push((FUSED, AttentionKernel::Fused));
    }
    for (name, kernel) in kernels {
        for &dtype in &formats {
            cases.push(attention(device, dtype, name, kernel, grid(extent)));
        }
    }
    #[cfg(feature = "cuda")]
    if ops::flash::is_used_on(device) && formats.contains(&DType::BF16) {
        let kernel = AttentionKernel::Cudnn;
        // cuDNN compiles kernels for each number of heads and each size of them, so there are fewer cases.
        let shapes = match extent {
            Extent::Brief => vec![(6, 128, 65)],
            Extent::Full => vec![
                (1, 64, 63),
                (6, 128, 1),
                (6, 128, 65),
                (6, 128, 160),
                (7, 128, 160),
            ],
        };
        cases.push(attention(device, DType::BF16, CUDNN, kernel, shapes));
        cases.push(packed(device));
    }
    cases
}

fn products(device: &Device, dtype: DType) -> Case {
    let mut case = Case::new("product", device, dtype);
    for [m, n, k] in [[1, 96, 64], [7, 64, 160], [65, 130, 96], [256, 256, 256]] {
        case = case.same(&format!("{m} x {k} by {n}"), &[&[m, k], &[n, k]], |x| {
            reference::linear(x[0].clone(), x[1].clone(), None)
        });
        // Onto what nothing else holds, and what is used again.
        let inputs: [&[usize]; 3] = [&[m, k], &[n, k], &[m, n]];
        case = case.same(&format!("{m} x {k} by {n}, onto"), &inputs, |x| {
            let onto = x[2].clone() * 2.0;
            ops::linear_residual(x[0].clone(), x[1].clone(), onto)
        });
        case = case.same(&format!("{m} x {k} by {n}, beside"), &inputs, |x| {
            let onto = x[2].clone() * 2.0;
            onto.clone() - ops::linear_residual(x[0].clone(), x[1].clone(), onto) * 0.5
        });
        // What a kernel made lies without gaps, and a copy of it has to.
        case = case.same(
            &format!("{m} x {k} by {n}, beside a kernel's"),
            &inputs,
            |x| {
                let onto = ops::swiglu(x[2].clone() * 2.0, x[2].clone());
                onto.clone() - ops::linear_residual(x[0].clone(), x[1].clone(), onto) * 0.5
            },
        );
    }
    case
}

fn norms(device: &Device, dtype: DType) -> Case {
    let mut case = Case::new("RMS norm", device, dtype);
    // Rows of a few vectors, of odd width, and of more vectors than a cube has units.
    for [rows, width] in [[33, 192], [70, 77], [5, 4096]] {
        case = case.same(
            &format!("{rows} x {width}"),
            &[&[rows, width], &[1, width]],
            |x| {
                let weight = x[1].clone().flatten::<1>(0, 1);
                ops::rms_norm(x[0].clone() * 3.0, weight, 1e-6)
            },
        );
    }
    case
}

fn rotations(device: &Device, dtype: DType) -> Case {
    let mut case = Case::new("rotary embedding", device, dtype);
    for first in [0, 32_000] {
        let rope = Rope::new(&config());
        case = case.same(&format!("position {first}"), &[&[70, 128]], move |x| {
            let turned = portable::rotate(x[0].clone(), 64, first, &rope); // [2, 70, 64]
            turned.reshape([140, 64])
        });
    }
    case
}

fn softmaxes(device: &Device, dtype: DType) -> Case {
    Case::new("softmax", device, dtype).same("5 x 40000", &[&[5, 40_000]], |x| {
        let dtype = x[0].dtype();
        let wide = x[0].clone().cast(DType::F32) * 20.0;
        (softmax(wide, 1) * 100.0).cast(dtype)
    })
}

fn activations(device: &Device, dtype: DType) -> Case {
    let mut case = Case::new("gated activation", device, dtype);
    for [rows, width] in [[31, 200], [3, 77]] {
        let shape: &[usize] = &[rows, width];
        case = case.same(&format!("{rows} x {width}"), &[shape, shape], |x| {
            ops::swiglu(x[0].clone() * 8.0, x[1].clone())
        });
    }
    case
}

fn dropouts(device: &Device, dtype: DType) -> Case {
    let mut case = Case::new("dropout", device, dtype);
    for [rows, width] in [[31, 200], [40, 77], [9, 130]] {
        case = case.same(&format!("{rows} x {width}"), &[&[rows, width]], move |x| {
            let (long, short) = (rows - 7, 7);
            let dropping = Dropping::new(0.3, &[1 << 40 | 5, 77], &[long, short]);
            ops::dropout(x[0].clone(), &dropping.at(19))
        });
    }
    case
}

fn embeddings(device: &Device, dtype: DType) -> Case {
    Case::new("embedding", device, dtype).same("repeated ids", &[&[23, 64]], |x| {
        let ids: Vec<u32> = (0..300).map(|i| (i * i) % 23).collect();
        reference::embedding(x[0].clone(), &ids)
    })
}

/// Elementwise operations that a backend may fuse into one kernel, against the CPU, and against
/// themselves with a barrier behind each, which leaves nothing to fuse.
fn chains(device: &Device, dtype: DType) -> Case {
    fn chain(x: &[Tensor<2>], barrier: bool) -> Tensor<2> {
        let wait = |x: Tensor<2>| {
            if barrier {
                let _ = x.device().sync();
            }
            x
        };
        let (a, b) = (x[0].clone(), x[1].clone());
        let c = wait(a.clone() * b.clone());
        let d = wait(c + a.clone() * 0.5);
        let e = wait(d.clone().exp());
        let column = wait(b.sum_dim(1)); // [N, 1]: broadcast back
        wait((e * column + d) * a)
    }
    let (shape, column): (&[usize], &[usize]) = (&[40, 96], &[40, 1]);
    let case = Case::new("fusion", device, dtype)
        .same("one chain", &[shape, shape], |x| chain(x, false))
        .same("one by one", &[shape, shape], |x| chain(x, true));
    case.same("a column", &[column, column], |x| chain(x, false))
}

fn losses(device: &Device, dtype: DType) -> Case {
    let case = Case::new("loss", device, dtype);
    let targets: Vec<u32> = (0..90).map(|i| (i * 37) % 500).collect();
    let weights: Vec<f32> = (0..90)
        .map(|i| if i % 4 == 0 { 0.0 } else { 0.01 })
        .collect();
    let loss = |targets: Vec<u32>, weights: Vec<f32>| -> Forward {
        Arc::new(move |x| {
            let (hidden, weight) = (x[0].clone(), x[1].clone());
            chunked::cross_entropy(hidden, weight, &targets, &weights, 32).reshape([1, 1])
        })
    };
    let plain = |targets: Vec<u32>, weights: Vec<f32>| -> Forward {
        Arc::new(move |x| {
            let (hidden, weight) = (x[0].clone(), x[1].clone());
            reference::cross_entropy(hidden, weight, &targets, &weights, 64).reshape([1, 1])
        })
    };
    let found = loss(targets.clone(), weights.clone());
    case.pair(
        "90 of 500",
        &[&[90, 64], &[500, 64]],
        found,
        plain(targets, weights),
    )
}

/// Query heads to a key-value head, size of a head, and tokens.
type Attended = (usize, usize, usize);

fn grid(extent: Extent) -> Vec<Attended> {
    match extent {
        Extent::Brief => vec![(1, 64, 64), (2, 64, 65)],
        Extent::Full => [1, 5, 6, 7]
            .into_iter()
            .flat_map(|group| [(group, 64), (group, 128)])
            .flat_map(|(group, dim)| [1, 63, 64, 65, 160].map(|length| (group, dim, length)))
            .collect(),
    }
}

/// Makes a case fail, and not be answered by another kernel, where cuDNN does not serve.
#[cfg(feature = "cuda")]
fn served<const D: usize>(q: &Tensor<D>, heads: ops::Heads, lengths: &[usize]) {
    if let Some(reason) = ops::flash::refusal(&q.device(), q.dtype(), heads, lengths) {
        panic!("cuDNN does not serve: {reason}");
    }
}

/// Documents one behind the other in one call, against one after the other.
#[cfg(feature = "cuda")]
fn packed(device: &Device) -> Case {
    const HEADS: ops::Heads = ops::Heads {
        query: 12,
        key_value: 2,
        dim: 128,
    };
    const LENGTHS: [usize; 5] = [3, 200, 64, 1, 129];
    let found: Forward = Arc::new(|x| {
        let [q, k, v] = [0, 1, 2].map(|input: usize| x[input].clone());
        served(&q, HEADS, &LENGTHS);
        ops::flash::attention([q * 3.0, k, v], HEADS, &LENGTHS).out()
    });
    let expected: Forward = Arc::new(|x| {
        let mut first = 0;
        let parts = LENGTHS.map(|length| {
            let heads = |input: usize| {
                let rows = x[input].clone().narrow(0, first, length);
                reference::split_heads(rows, HEADS.dim)
            };
            let mixed = reference::attend(heads(0) * 3.0, heads(1), heads(2));
            first += length;
            mixed
                .swap_dims(0, 1)
                .reshape([length, HEADS.query * HEADS.dim])
        });
        Tensor::cat(parts.to_vec(), 0)
    });
    let rows = |heads: usize| [LENGTHS.iter().sum(), heads * HEADS.dim];
    let (q, kv): (&[usize], &[usize]) = (&rows(HEADS.query), &rows(HEADS.key_value));
    Case::new(&format!("{CUDNN}, packed"), device, DType::BF16).pair(
        "5 documents",
        &[q, kv, kv],
        found,
        expected,
    )
}

fn attention(
    device: &Device,
    dtype: DType,
    name: &str,
    kernel: AttentionKernel,
    cases: Vec<Attended>,
) -> Case {
    const KV_HEADS: usize = 2;
    let mut case = Case::new(name, device, dtype);
    for (group, dim, length) in cases {
        let heads = KV_HEADS * group;
        let shaped = move |x: &[Tensor<2>]| {
            let split = |x: &Tensor<2>, heads| x.clone().reshape([heads, length, dim]);
            (
                split(&x[0], heads),
                split(&x[1], KV_HEADS),
                split(&x[2], KV_HEADS),
            )
        };
        let flat = move |x: Tensor<3>| x.reshape([heads * length, dim]);
        let found: Forward = Arc::new(move |x| {
            let (q, k, v) = shaped(x);
            #[cfg(feature = "cuda")]
            if kernel == AttentionKernel::Cudnn {
                let heads = ops::Heads {
                    query: heads,
                    key_value: KV_HEADS,
                    dim,
                };
                served(&q, heads, &[length]);
            }
            flat(of_document(q * 3.0, k, v, kernel))
        });
        let expected: Forward = Arc::new(move |x| {
            let (q, k, v) = shaped(x);
            flat(reference::attend(q * 3.0, k, v))
        });
        let what = format!("{heads}/{KV_HEADS} heads of {dim}, {length} tokens");
        let (q, kv): (&[usize], &[usize]) = (&[heads, length, dim], &[KV_HEADS, length, dim]);
        case = case.pair(&what, &[q, kv, kv], found, expected);
    }
    case
}

/// A model whose only purpose is its rotary frequencies.
fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 8,
        hidden_size: 128,
        intermediate_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        head_dim: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: None,
        max_position_embeddings: 32_768,
        tie_word_embeddings: true,
        attention_bias: true,
        qk_norm: false,
        bos_token_id: None,
        eos_token_id: vec![0],
        initializer_range: 0.02,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: impl Fn(&[Tensor<2>]) -> Tensor<2> + 'static) -> Check {
        let expected: Forward = Arc::new(|x| x[0].clone() * x[0].clone());
        Case::new("square", &Device::flex(), DType::F32)
            .pair("one case", &[&[3, 4]], Arc::new(found), expected)
            .run()
    }

    #[test]
    fn a_right_operation_passes() {
        let check = check(|x| x[0].clone().square());
        assert!(check.passed(), "{check}");
    }

    /// What Burn's fused attention did on a software device: the result is right, a gradient is not.
    #[test]
    fn a_wrong_gradient_behind_a_right_result_is_found() {
        let check = check(|x| x[0].clone() * x[0].clone().detach());
        assert!(!check.passed(), "{check}");
        assert_eq!(check.at, "one case, gradient of input 1");
    }

    #[test]
    fn a_result_that_is_no_number_is_found() {
        let check = check(|x| x[0].clone() * x[0].clone() * f32::NAN);
        assert!(!check.passed(), "{check}");
    }

    #[test]
    fn a_panic_counts_as_wrong_and_says_what_it_said() {
        let check = check(|_| panic!("no such kernel"));
        assert!(!check.passed(), "{check}");
        assert!(check.at.contains("no such kernel"), "{check}");
    }
}
