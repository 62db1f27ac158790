//! Graphics adapters, numbered as `wgpu:N`: real cards first, then those of the processor, then
//! software.

use burn::tensor::{Device, DeviceType};

use super::answer::quietly;
use super::{DeviceError, DeviceSpec};

/// The adapters, in order.
pub(super) fn adapters() -> Result<Vec<Device>, String> {
    quietly(|| Device::enumerate(DeviceType::Wgpu).into_iter().collect())
}

/// What an adapter calls itself. Opens it.
pub(super) fn name(device: &Device) -> String {
    let asked = quietly(|| device.identity());
    match asked {
        Ok(Some(identity)) => identity.name,
        Ok(None) => "unnamed".to_owned(),
        Err(reason) => format!("cannot be opened: {reason}"),
    }
}

/// The adapter of this number.
pub(super) fn device(spec: DeviceSpec, index: usize) -> Result<Device, DeviceError> {
    let adapters = adapters().map_err(|reason| DeviceError::Failed { spec, reason })?;
    if adapters.is_empty() {
        return Err(DeviceError::Missing {
            spec,
            problem: "no graphics adapter was found".into(),
            remedy: "install a Vulkan driver (a software one: Debian's `mesa-vulkan-drivers`)"
                .into(),
        });
    }
    match adapters.get(index) {
        Some(device) => Ok(device.clone()),
        None => Err(DeviceError::NoSuch {
            spec,
            found: adapters
                .iter()
                .enumerate()
                .map(|(at, device)| format!("wgpu:{at} ({})", name(device)))
                .collect(),
        }),
    }
}
