//! `leap bench gpu`: is a device right, and how fast is it?

mod decode;
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
use crate::cli::{BenchGpu, GpuRow};
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
    output: &'a mut Output,
    /// Once it is measured.
    roof: Option<Roof>,
}

/// What the device can do at best, as measured in this process.
#[derive(Clone, Copy)]
struct Roof {
    /// Bytes per second, read and written.
    memory: f64,
    /// Floating-point operations per second of products in the format of weights.
    products: f64,
}

/// What a row found: figures, and whether they are what they have to be.
struct Found {
    figures: Value,
    right: bool,
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
        output,
        roof: None,
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

    /// The roof, measured if it is not yet.
    fn roof(&mut self) -> Result<Roof> {
        if self.roof.is_none() {
            self.measure_roof()?;
        }
        self.roof.ok_or_else(|| anyhow!("the roof was measured"))
    }

    fn measure_roof(&mut self) -> Result<Found> {
        let (bytes, size) = match self.small {
            true => (1 << 24, 256),
            false => (1 << 31, 8192),
        };
        let failed = |reason: String| anyhow!("the device failed: {reason}");
        let memory = memory::copy_bandwidth(&self.device, bytes, 5).map_err(failed)?;
        let mut products = Vec::new();
        for &dtype in &self.formats {
            let rate = memory::product_rate(&self.device, dtype, [size; 3], 5).map_err(failed)?;
            products.push((dtype.to_string(), rate));
        }
        let last = products.last().map_or(f64::NAN, |(_, rate)| *rate);
        self.roof = Some(Roof {
            memory,
            products: last,
        });
        let rates: serde_json::Map<String, Value> = products
            .into_iter()
            .map(|(name, rate)| (name, json!(rate)))
            .collect();
        Ok(Found {
            figures: json!({
                "memory_bytes_per_s": memory,
                "product_size": size,
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
