//! What this build and machine have.

use crate::abi;
use crate::error::{make, static_text, Result};
use crate::kinds::Device;
use std::ffi::{c_char, CString};

/// Version of the library that was loaded, as "1.2.3".
pub fn version() -> &'static str {
    static_text(unsafe { kvc_sys::kvc_version() }).unwrap_or_default()
}

/// The ABI of the library that was loaded; this crate needs [`kvc_sys::KVC_ABI_VERSION`].
pub fn abi_version() -> i64 {
    unsafe { kvc_sys::kvc_abi_version() }
}

/// Compiler, options and kernel targets of the library, one line.
pub fn build_info() -> &'static str {
    static_text(unsafe { kvc_sys::kvc_build_info() }).unwrap_or_default()
}

/// Every public struct and enum of the library, one line each.
pub fn abi_describe() -> String {
    written(|out, bytes| Ok(unsafe { kvc_sys::kvc_abi_describe(out, bytes) })).unwrap_or_default()
}

/// Names of the codec presets.
pub fn presets() -> impl Iterator<Item = &'static str> {
    (0..unsafe { kvc_sys::kvc_preset_count() }).filter_map(|i| static_text(unsafe { kvc_sys::kvc_preset_name(i) }))
}

/// Names of the eviction policies.
pub fn policies() -> impl Iterator<Item = &'static str> {
    (0..unsafe { kvc_sys::kvc_policy_count() }).filter_map(|i| static_text(unsafe { kvc_sys::kvc_policy_name(i) }))
}

/// Kernel targets that this machine can run, best first.
pub fn targets() -> impl Iterator<Item = &'static str> {
    (0..unsafe { kvc_sys::kvc_target_count() }).filter_map(|i| static_text(unsafe { kvc_sys::kvc_target_name(i) }))
}

/// The canonical string of a codec, given as preset name or string.
pub fn codec_format(codec: &str) -> Result<String> {
    let codec = c_text("kvc_codec_format", codec)?;
    written(|out, bytes| make!(kvc_codec_format(codec.as_ptr(), out, bytes)))
}

/// The canonical string of an eviction policy, with all defaults.
pub fn policy_format(policy: &str) -> Result<String> {
    let policy = c_text("kvc_policy_format", policy)?;
    written(|out, bytes| make!(kvc_policy_format(policy.as_ptr(), out, bytes)))
}

/// Devices of a kind. None is the error [`Unsupported`](crate::Status::Unsupported), whose message says why.
pub fn device_count(device: Device) -> Result<i64> {
    make!(kvc_device_count(device.number()))
}

/// The name of one of them.
pub fn device_describe(device: Device, ordinal: i64) -> Result<String> {
    written(|out, bytes| make!(kvc_device_describe(device.number(), ordinal, out, bytes)))
}

pub(crate) fn c_text(operation: &'static str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| crate::Error::argument(operation, format!("{text:?} has a NUL inside")))
}

/// A text that a function writes; asked without room it gives the bytes that it needs.
fn written(write: impl Fn(*mut c_char, i64) -> Result<i64>) -> Result<String> {
    abi::check()?;
    let bytes = write(std::ptr::null_mut(), 0)?;
    let mut text = vec![0u8; bytes as usize];
    write(text.as_mut_ptr().cast(), bytes)?;
    text.pop(); // the final NUL
    Ok(String::from_utf8_lossy(&text).into_owned())
}
