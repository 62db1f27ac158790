//! A first computation on a device, with panics of its driver made errors.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::tensor::{Device, Tensor};

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use super::{DeviceError, DeviceSpec};

/// The device, if it multiplies two small matrices right.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) fn asked(spec: DeviceSpec, device: Device) -> Result<Device, DeviceError> {
    let failed = |reason: String| DeviceError::Failed { spec, reason };
    let product = quietly(|| {
        let a = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &device);
        let product = a.clone().matmul(a);
        product
            .try_into_data()
            .map(|data| data.iter::<f32>().collect::<Vec<_>>())
    });
    match product {
        Ok(Ok(values)) if values == [7.0, 10.0, 15.0, 22.0] => Ok(device),
        Ok(Ok(values)) => Err(failed(format!("a product of two matrices gave {values:?}"))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(reason) => Err(failed(reason)),
    }
}

thread_local! {
    /// Whether panics of this thread are told by [`quietly`] alone.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; a panic is its message and prints nothing. Panics of other threads, such as a device's
/// own, are printed as ever: whoever waits for such a thread would not learn of them otherwise.
pub(crate) fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                print(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    QUIET.set(false);
    result.map_err(|payload| {
        let text = match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast::<&str>().map_or_else(
                |_| "a panic without a message".to_owned(),
                |text| (*text).to_owned(),
            ),
        };
        let lines: Vec<&str> = text.split_whitespace().collect();
        lines.join(" ")
    })
}
