//! Raw bindings to libkvc: `kvc.h` through bindgen, one to one. The manual is `kvc.h` itself.
#![no_std]
#![allow(non_camel_case_types, non_upper_case_globals)]

extern crate alloc;

include!("generated/bindings.rs");
mod layout;
pub use layout::abi_mismatch;
