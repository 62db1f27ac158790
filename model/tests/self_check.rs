//! The operations for other devices, run on the CPU: they compute what the plain forms compute,
//! forward and backward, and a device's verdict is remembered.

#![expect(clippy::unwrap_used, reason = "a test fails on what cannot be had")]

use burn::tensor::{DType, Tensor, TensorData};
use model::device::{Device, DeviceSpec};
use model::ops::portable::AttentionKernel;
use model::ops::{chunked, reference};
use model::self_check::{self, Extent, Identity, Verdict};

fn verdict(extent: Extent) -> Verdict {
    let device = Device::flex();
    let identity = Identity::of(DeviceSpec::Cpu, &device);
    self_check::run(&device, identity, extent, |_| {})
}

#[test]
fn every_operation_is_right_on_the_cpu_in_both_formats() {
    let verdict = verdict(Extent::Full);
    let names: Vec<&str> = verdict
        .checks
        .iter()
        .map(|check| check.name.as_str())
        .collect();
    for operation in [
        "product",
        "RMS norm",
        "rotary embedding",
        "softmax",
        "gated activation",
        "embedding",
        "fusion",
        "loss",
        "chunked attention",
        "fused attention",
    ] {
        for format in ["f32", "bf16"] {
            let name = format!("{operation} {format}");
            assert!(names.contains(&name.as_str()), "{name} is checked");
        }
    }
    for check in &verdict.checks {
        assert!(check.passed(), "{check}");
    }
    assert_eq!(verdict.attention, AttentionKernel::Fused);
}

#[test]
fn a_verdict_is_remembered_for_what_it_was_found_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut verdict = verdict(Extent::Brief);
    // What could not run is remembered too.
    verdict.checks[0].worst = f64::INFINITY;
    let identity = verdict.identity.clone();
    assert_eq!(self_check::remembered(folder.path(), &identity), None);
    let path = self_check::remember(folder.path(), &verdict).unwrap();
    assert_eq!(
        self_check::remembered(folder.path(), &identity),
        Some(verdict)
    );
    let driver = "another".to_owned();
    let other = Identity {
        driver,
        ..identity.clone()
    };
    assert_eq!(self_check::remembered(folder.path(), &other), None);
    std::fs::write(path, "{").unwrap();
    assert_eq!(self_check::remembered(folder.path(), &identity), None);
}

/// Values between -1 and 1.
fn tensor<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    let data = TensorData::new((0..count).map(value).collect::<Vec<_>>(), shape);
    Tensor::from_data(data, &Device::flex().autodiff()).require_grad()
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

#[track_caller]
fn check_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(
            off <= tolerance,
            "{what}[{index}]: {found}, expected {expected}"
        );
    }
}

/// However attention is cut into chunks, it is the same attention.
#[test]
fn chunks_of_any_size_give_the_same_attention() {
    for (heads, kv_heads, length, dim) in [(4, 4, 1, 8), (6, 2, 37, 12), (7, 1, 130, 16)] {
        let run = |rows: Option<usize>| {
            let q = tensor([heads, length, dim], 1);
            let (k, v) = (
                tensor([kv_heads, length, dim], 2),
                tensor([kv_heads, length, dim], 3),
            );
            let inputs = [q.clone(), k.clone(), v.clone()];
            let out = match rows {
                None => reference::attend(q, k, v),
                Some(rows) => chunked::attention(q, k, v, Some(rows)),
            };
            let along = tensor([heads, length, dim], 4).detach();
            let gradients = (out.clone() * along).sum().backward();
            let mut all = vec![floats(out)];
            all.extend(inputs.map(|x| floats(x.grad(&gradients).unwrap())));
            all
        };
        let expected = run(None);
        for rows in [1, 5, 16, 64, 1000] {
            for (part, (found, expected)) in run(Some(rows)).iter().zip(&expected).enumerate() {
                let what = format!("{heads}/{kv_heads} x {length}, {rows} rows, part {part}");
                check_near(&what, found, expected, 2e-5);
            }
        }
    }
}

/// What is not asked for is not computed, and the incoming gradient is heeded.
#[test]
fn the_loss_gives_gradients_to_what_is_trained() {
    let targets: Vec<u32> = (0..20).map(|i| (i * 7) % 30).collect();
    let weights: Vec<f32> = (0..20).map(|i| [0.0, 0.5, 1.0][i % 3]).collect();
    for (trains_hidden, trains_weight) in [(true, true), (true, false), (false, true)] {
        let run = |chunk: Option<usize>| {
            let hidden = tensor([20, 8], 1).set_require_grad(trains_hidden);
            let weight = tensor([30, 8], 2).set_require_grad(trains_weight);
            let (h, w) = (hidden.clone(), weight.clone());
            let loss = match chunk {
                None => reference::cross_entropy(h, w, &targets, &weights, 100),
                Some(chunk) => chunked::cross_entropy(h, w, &targets, &weights, chunk),
            };
            let gradients = (loss.clone() * 3.0).sum().backward();
            (
                floats(loss),
                hidden.grad(&gradients).map(floats),
                weight.grad(&gradients).map(floats),
            )
        };
        let (loss, of_hidden, of_weight) = run(None);
        for chunk in [1, 7, 100] {
            let (found, found_hidden, found_weight) = run(Some(chunk));
            check_near("loss", &found, &loss, 1e-4);
            assert_eq!(found_hidden.is_some(), trains_hidden);
            assert_eq!(found_weight.is_some(), trains_weight);
            for (found, expected) in [(found_hidden, &of_hidden), (found_weight, &of_weight)] {
                if let (Some(found), Some(expected)) = (found, expected) {
                    check_near("gradient", &found, expected, 1e-5);
                }
            }
        }
    }
}

/// In bf16 the loss is still summed in f32.
#[test]
fn the_loss_of_bf16_tensors_is_f32() {
    let hidden = tensor([20, 8], 1).cast(DType::BF16);
    let weight = tensor([30, 8], 2).cast(DType::BF16);
    let targets = vec![3; 20];
    let loss = chunked::cross_entropy(hidden, weight, &targets, &[1.0; 20], 8);
    assert_eq!(loss.dtype(), DType::F32);
}
