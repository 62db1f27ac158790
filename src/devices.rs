//! Opening a device that is known to compute right, and what becomes of one that fails later.

use std::any::Any;
use std::sync::OnceLock;

use anyhow::Result;
use infer::vocab::Unencodable;
use model::device::{Device, DeviceSpec, Dtype, cache_folder, without_cublas, without_cudnn};
use model::foreign;
use model::ops::portable::use_attention_kernel;
use model::self_check::{self, Extent, Identity, Verdict};

use crate::fault::Fault;
use crate::output::{self, Output};

/// The device that is in use, if it is not the CPU: Burn panics where such a device fails.
static IN_USE: OnceLock<DeviceSpec> = OnceLock::new();

/// Leaves panics of this thread to [`failure`] while a device is in use. Those of a device's own
/// threads become a line, because nobody else tells of them. Of panics that become errors, the error
/// tells.
pub(crate) fn mute_their_panics() {
    let (print, main) = (std::panic::take_hook(), std::thread::current().id());
    std::panic::set_hook(Box::new(move |panic| match IN_USE.get() {
        _ if foreign::is_caught() || panic.payload().is::<Unencodable>() => {}
        None => print(panic),
        Some(_) if std::thread::current().id() == main => {}
        Some(spec) => {
            let text = panic_text(panic.payload());
            output::from_another_thread(&format!(
                "warning: a thread of device `{spec}` failed: {text}"
            ));
        }
    }));
}

/// What a panic means while a device is in use; None if the CPU computes.
pub(crate) fn failure(panic: &(dyn Any + Send)) -> Option<Fault> {
    let spec = IN_USE.get()?;
    let text = panic_text(panic);
    let lines: Vec<&str> = text.split_whitespace().collect();
    Some(Fault::new(
        format!("device `{spec}` failed: {}", lines.join(" ")),
        format!(
            "if memory ran out, take fewer rows, shorter texts or smaller batches; \
             `leap doctor --check {spec}` compares its arithmetic with the CPU's"
        ),
    ))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

/// Opens a device. The first time that a device, driver or release of Burn is met, its arithmetic
/// is compared with the CPU's, and the verdict kept for all later runs.
///
/// # Errors
/// If it cannot be opened, or computes wrong.
pub(crate) fn open(spec: &DeviceSpec, output: &mut Output) -> Result<Device> {
    let device = spec.open()?;
    if *spec == DeviceSpec::Cpu {
        return Ok(device);
    }
    IN_USE.get_or_init(|| *spec);
    let identity = Identity::of(*spec, &device);
    let verdict = match known(&identity) {
        Some(verdict) => verdict,
        None => {
            output.note(&format!(
                "`{spec}` ({}) is used for the first time: its arithmetic is compared with the \
                 CPU's, once; compiling the kernels for that takes minutes",
                identity.device
            ));
            let verdict = check(&device, identity, Extent::Full, output);
            keep(&verdict, output);
            verdict
        }
    };
    heed(spec, &device, &verdict, output)?;
    Ok(device)
}

/// What an earlier run has found out about a device, if one has.
pub(crate) fn known(identity: &Identity) -> Option<Verdict> {
    self_check::remembered(&cache_folder()?, identity)
}

/// The number formats that a device computes in, the one for models last.
pub(crate) fn formats(device: &Device) -> Vec<Dtype> {
    match Dtype::Bf16.is_supported_by(device) {
        true => vec![Dtype::F32, Dtype::Bf16],
        false => vec![Dtype::F32],
    }
}

/// The format in which a checkpoint is held that says nothing of it: bf16 where that is computed
/// with, f32 on the CPU.
pub(crate) fn dtype(asked: Option<Dtype>, device: &Device) -> Dtype {
    asked.unwrap_or_else(|| match DeviceSpec::is_cpu(device) {
        true => Dtype::F32,
        false => *formats(device).last().unwrap_or(&Dtype::F32),
    })
}

/// Says so where a recipe has a card compute in f32 that also computes in bf16. Which of them is part of
/// the recipe, at `key`, because numbers differ.
pub(crate) fn tell_format(
    dtype: Dtype,
    spec: &DeviceSpec,
    device: &Device,
    key: &str,
    output: &mut Output,
) {
    if dtype == Dtype::F32
        && *spec != DeviceSpec::Cpu
        && formats(device).last() == Some(&Dtype::Bf16)
    {
        output.note(&format!(
            "`{spec}` computes in f32, as the recipe says; {key}=bf16 needs half the memory for weights \
             and is faster, with slightly other numbers"
        ));
    }
}

/// Runs the self-check and tells of each operation.
pub(crate) fn check(
    device: &Device,
    identity: Identity,
    extent: Extent,
    output: &mut Output,
) -> Verdict {
    self_check::run(device, identity, extent, |check| {
        let verb = match check.passed() {
            true => "Right",
            false => "Wrong",
        };
        output.step(verb, &check.to_string());
    })
}

/// Keeps a verdict for later runs, if there is a place for it.
pub(crate) fn keep(verdict: &Verdict, output: &mut Output) {
    let kept = cache_folder().map(|folder| self_check::remember(&folder, verdict));
    match kept {
        Some(Ok(path)) => output.note(&format!("the verdict is kept in `{}`", path.display())),
        Some(Err(error)) => output.note(&format!(
            "warning: the verdict cannot be kept ({error}), so that the next run checks again"
        )),
        None => output
            .note("warning: neither LEAP_CACHE nor HOME is set, so that the next run checks again"),
    }
}

/// Sets what the verdict says, and refuses a device that computes wrong.
pub(crate) fn heed(
    spec: &DeviceSpec,
    device: &Device,
    verdict: &Verdict,
    output: &mut Output,
) -> Result<()> {
    let broken: Vec<String> = verdict.broken().map(ToString::to_string).collect();
    if !broken.is_empty() {
        return Err(Fault::new(
            format!("`{spec}` computes wrong: {}", broken.join("; ")),
            format!(
                "`leap doctor --check {spec}` checks again, after a new driver for example; \
                 `--device cpu` needs no driver"
            ),
        )
        .into());
    }
    for check in verdict.against_kernels() {
        output.note(&format!(
            "warning: {} is wrong on `{spec}` ({}) and is not used",
            check.name, check.at
        ));
    }
    if let Some(reason) = without_cudnn(device) {
        output.note(&format!(
            "`{spec}` trains without cuDNN, slower where texts are long: {reason}; put the folder of \
             libcudnn.so.9 on LD_LIBRARY_PATH (`pip install nvidia-cudnn-cu13` brings it)"
        ));
    }
    if let Some(reason) = without_cublas(device) {
        output.note(&format!(
            "warning: `{spec}` multiplies without cuBLAS, several times slower: {reason}; put the \
             folder of libcublas.so on LD_LIBRARY_PATH (`pip install nvidia-cublas` brings it)"
        ));
    }
    use_attention_kernel(device, verdict.attention);
    Ok(())
}
