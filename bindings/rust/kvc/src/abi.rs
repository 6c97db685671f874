//! Refuses a library of another ABI than the one that the raw layer was generated for.

use crate::error::{Error, Result, Status};
use std::sync::OnceLock;

/// Compares once; what makes an object or reads a struct of the library asks here first.
pub(crate) fn check() -> Result<()> {
    static MISMATCH: OnceLock<Option<String>> = OnceLock::new();
    match MISMATCH.get_or_init(kvc_sys::abi_mismatch) {
        None => Ok(()),
        Some(mismatch) => Err(Error::new(Status::Unsupported, "kvc_abi_describe", mismatch.clone())),
    }
}
