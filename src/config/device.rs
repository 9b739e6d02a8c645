//! PyTorch's names for devices.

use serde::{Deserialize, Deserializer, Serializer, de};
use tch::{Cuda, Device};

use crate::error::{self, Error, shown};

/// A device by the name that PyTorch gives it and that configurations have: `cpu`, `cuda`,
/// `cuda:1`, `mps` or `vulkan`. `cuda` is the first one. It is for command lines, as clap's
/// `value_parser` among others; whether the machine has the device is not asked here but by
/// [`TrainingConfig::validate`](crate::TrainingConfig::validate).
///
/// ```
/// use tch::Device;
/// use textbrewer::config::parse_device;
///
/// assert_eq!(parse_device("cuda:1")?, Device::Cuda(1));
/// assert_eq!(
///     parse_device("gpu").unwrap_err().to_string(),
///     "device: unknown device `gpu`, expected `cpu`, `cuda`, `cuda:N`, `mps` or `vulkan`"
/// );
/// # textbrewer::Result::Ok(())
/// ```
///
/// # Errors
/// [`Error::Config`] for any other name.
pub fn parse_device(name: &str) -> error::Result<Device> {
    parse(name).ok_or_else(|| Error::config("device", unknown(&shown(name))))
}

/// The name PyTorch gives a device.
pub(crate) fn name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_owned(),
        Device::Vulkan => "vulkan".to_owned(),
    }
}

fn unknown(name: &str) -> String {
    format!("unknown device `{name}`, expected `cpu`, `cuda`, `cuda:N`, `mps` or `vulkan`")
}

fn parse(name: &str) -> Option<Device> {
    Some(match name {
        "cpu" => Device::Cpu,
        "cuda" => Device::Cuda(0),
        "mps" => Device::Mps,
        "vulkan" => Device::Vulkan,
        _ => {
            let index = name.strip_prefix("cuda:")?;
            // `parse` alone would accept "+1".
            if !index.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Device::Cuda(index.parse().ok()?)
        }
    })
}

pub(super) fn serialize<S: Serializer>(device: &Device, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name(*device))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Device, D::Error> {
    let given = String::deserialize(deserializer)?;
    parse(&given).ok_or_else(|| de::Error::custom(unknown(&given)))
}

/// Checks that the machine has the device.
pub(super) fn check(device: Device) -> crate::error::Result<()> {
    match absent(device) {
        None => Ok(()),
        Some(reason) => Err(Error::config(
            "device",
            format!(
                "{reason}; choose another, or leave the key out to get CUDA where there is one \
                 and the CPU otherwise"
            ),
        )),
    }
}

/// Why the device cannot be used; `None` if it can.
pub(crate) fn absent(device: Device) -> Option<String> {
    let reason = match device {
        Device::Cpu => return None,
        Device::Cuda(index) => {
            let count = usize::try_from(Cuda::device_count()).unwrap_or(0);
            if Cuda::is_available() && index < count {
                return None;
            }
            format!("libtorch finds {count} CUDA device(s) here")
        }
        Device::Mps if tch::utils::has_mps() => return None,
        Device::Vulkan if tch::utils::has_vulkan() => return None,
        Device::Mps | Device::Vulkan => "this build of libtorch does not find it here".to_owned(),
    };
    Some(format!("`{}` is not there: {reason}", name(device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_pytorchs_and_come_back() {
        for (written, device) in [
            ("cpu", Device::Cpu),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:12", Device::Cuda(12)),
            ("mps", Device::Mps),
            ("vulkan", Device::Vulkan),
        ] {
            assert_eq!(name(device), written);
            assert_eq!(parse(written), Some(device));
        }
        assert_eq!(parse("cuda"), Some(Device::Cuda(0)));
        for wrong in [
            "",
            "gpu",
            "CUDA",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:1.0",
            "cuda:99999999999999999999999",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
