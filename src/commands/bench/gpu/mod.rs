//! `leap bench gpu`: is a device right, and how fast is it?

mod decode;
mod engine;
mod parity;
mod products;
mod shapes;
mod training;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use model::device::{Device, DeviceSpec, Dtype};
use model::memory;
use model::self_check::{Extent, Identity};
use serde_json::{Value, json};

use self::shapes::{Shape, distilled};
use super::super::ExitStatus;
use crate::cli::{BenchGpu, GpuRow, GpuTrained};
use crate::devices;
use crate::ledger::write_whole;
use crate::output::Output;

/// A device under measurement.
struct Bench<'a> {
    device: Device,
    spec: DeviceSpec,
    /// Number formats that it computes in.
    formats: Vec<Dtype>,
    small: bool,
    /// Names of the shapes that are measured; none: all.
    shapes: &'a [String],
    /// What is trained of them; none: all that is measured.
    trained: &'a [GpuTrained],
    /// Of a step whose optimizer lies in host memory.
    micro_batches: usize,
    output: &'a mut Output,
    /// What the device can do at best, once it is measured: see [`Bench::memory_roof`].
    memory_roof: Option<f64>,
    /// See [`Bench::product_roof`].
    product_roof: Option<f64>,
}

/// What a row found: figures, and whether they are what they have to be.
struct Found {
    figures: Value,
    right: bool,
}

fn failed(reason: String) -> anyhow::Error {
    anyhow!("the device failed: {reason}")
}

pub(super) fn run(args: &BenchGpu, output: &mut Output) -> Result<ExitStatus> {
    let spec: DeviceSpec = args.device.parse()?;
    let device = spec.open()?;
    let identity = Identity::of(spec, &device);
    if let Some(verdict) = devices::known(&identity) {
        model::ops::portable::use_attention_kernel(&device, verdict.attention);
    }
    let mut bench = Bench {
        formats: match spec {
            DeviceSpec::Cpu => vec![Dtype::F32],
            _ => devices::formats(&device),
        },
        device,
        spec,
        small: args.small,
        shapes: &args.shapes,
        trained: &args.trained,
        micro_batches: args.micro_batches,
        output,
        memory_roof: None,
        product_roof: None,
    };
    let rows = match args.only.as_slice() {
        [] => GpuRow::value_variants(),
        rows => rows,
    };
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder `{}`", args.out.display()))?;
    let mut all = Vec::new();
    let mut right = true;
    for &row in rows {
        let name = row
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned());
        bench.output.step("Measuring", &name);
        let found = catch_unwind(AssertUnwindSafe(|| bench.row(row))).unwrap_or_else(|panic| {
            Err(anyhow!(
                "the device failed: {}",
                devices::panic_text(&*panic)
            ))
        });
        let value = match found {
            Ok(found) => {
                right &= found.right;
                json!({ "right": found.right, "figures": found.figures })
            }
            Err(error) => {
                right = false;
                bench.output.note(&format!("warning: {name}: {error:#}"));
                json!({ "right": false, "failed": format!("{error:#}") })
            }
        };
        let value = json!({
            "row": name,
            "device": args.device,
            "card": identity.device,
            "driver": identity.driver,
            "burn": identity.burn,
            "products": identity.products,
            "packed_attention": identity.packed,
            "commit": env!("LEAP_VERSION"),
            "small": args.small,
            "attention": model::ops::portable::attention_kernel(&bench.device),
            "result": value,
        });
        let text = serde_json::to_string_pretty(&value)? + "\n";
        write_whole(&args.out.join(format!("{name}.json")), text.as_bytes())?;
        all.push(value);
    }
    output.data(&serde_json::to_string_pretty(
        &json!({ "bench": "gpu", "rows": all }),
    )?);
    Ok(match right {
        true => ExitStatus::Done,
        false => ExitStatus::AnswerIsNo,
    })
}

impl Bench<'_> {
    fn row(&mut self, row: GpuRow) -> Result<Found> {
        match row {
            GpuRow::Roof => self.measure_roof(),
            GpuRow::Products => products::run(self),
            GpuRow::SelfCheck => Ok(self.self_check()),
            GpuRow::Logits => parity::logits(self),
            GpuRow::Training => training::parity(self),
            GpuRow::Decode => decode::run(self),
            GpuRow::Engine => engine::run(self),
            GpuRow::Train => training::speed(self),
            GpuRow::Growth => training::growth(self),
        }
    }

    /// The models that are measured.
    fn models(&self) -> Vec<Shape> {
        let mut all = distilled(self.small);
        all.retain(|shape| self.shapes.is_empty() || self.shapes.iter().any(|s| s == shape.name));
        all
    }

    /// The format in which models are measured.
    fn dtype(&self) -> Dtype {
        *self.formats.last().unwrap_or(&Dtype::F32)
    }

    /// Bytes per second, read and written, as measured in this process.
    fn memory_roof(&mut self) -> Result<f64> {
        match self.memory_roof {
            Some(rate) => Ok(rate),
            None => {
                let bytes = if self.small { 1 << 24 } else { 1 << 31 };
                let rate = memory::copy_bandwidth(&self.device, bytes, 5).map_err(failed)?;
                self.memory_roof = Some(rate);
                Ok(rate)
            }
        }
    }

    /// Rows and columns of the products that are measured.
    fn product_size(&self) -> usize {
        if self.small { 256 } else { 8192 }
    }

    /// Floating-point operations per second of products in the format of weights, as measured in this process.
    ///
    /// Apart from the memory's: the largest tensor of a process sets the size of its pages of memory, so a
    /// training that is measured comes behind no copy of gigabytes.
    fn product_roof(&mut self) -> Result<f64> {
        match self.product_roof {
            Some(rate) => Ok(rate),
            None => {
                let rate = self.product_rate(self.dtype())?;
                self.product_roof = Some(rate);
                Ok(rate)
            }
        }
    }

    fn product_rate(&self, dtype: Dtype) -> Result<f64> {
        memory::product_rate(&self.device, dtype, [self.product_size(); 3], 5).map_err(failed)
    }

    fn measure_roof(&mut self) -> Result<Found> {
        let memory = self.memory_roof()?;
        let mut rates = serde_json::Map::new();
        for dtype in self.formats.clone() {
            let rate = self.product_rate(dtype)?;
            rates.insert(dtype.to_string(), json!(rate));
            if dtype == self.dtype() {
                self.product_roof = Some(rate);
            }
        }
        Ok(Found {
            figures: json!({
                "memory_bytes_per_s": memory,
                "product_size": self.product_size(),
                "product_flops": rates,
            }),
            right: true,
        })
    }

    /// Also chooses how attention is computed in the rows behind it.
    fn self_check(&mut self) -> Found {
        let extent = match self.small {
            true => Extent::Brief,
            false => Extent::Full,
        };
        let identity = Identity::of(self.spec, &self.device);
        let verdict = devices::check(&self.device, identity, extent, self.output);
        if extent == Extent::Full && self.spec != DeviceSpec::Cpu {
            devices::keep(&verdict, self.output);
        }
        model::ops::portable::use_attention_kernel(&self.device, verdict.attention);
        Found {
            right: verdict.broken().next().is_none(),
            figures: json!({ "attention": verdict.attention, "checks": verdict.checks }),
        }
    }
}
