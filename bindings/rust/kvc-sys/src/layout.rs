//! Does the libkvc that was loaded have the ABI that these bindings were generated for?

use crate::*;
use alloc::{format, string::String, vec};
use core::ffi::CStr;

/// One line or field of `kvc_abi_describe`, as this crate's own compiler lays it out.
enum Row {
    Struct(&'static str, usize),
    Field(&'static str, &'static str, usize, usize),
    Enum(&'static str, &'static str, i64),
}

fn size_of_field<S, F>(_: impl Fn(&S) -> &F) -> usize {
    core::mem::size_of::<F>()
}

macro_rules! layout {
    ($(struct $s:ident { $($f:ident),* })* $(enum $e:ident { $($v:ident),* })*) => {
        fn rows() -> alloc::vec::Vec<Row> {
            vec![
                $(Row::Struct(stringify!($s), core::mem::size_of::<$s>()),
                  $(Row::Field(stringify!($s), stringify!($f), core::mem::offset_of!($s, $f), size_of_field(|s: &$s| &s.$f)),)*)*
                $($(Row::Enum(stringify!($e), stringify!($v), i64::from($e::$v.0)),)*)*
            ]
        }
    };
}
include!("generated/layout.rs");

fn description() -> String {
    let bytes = unsafe { kvc_abi_describe(core::ptr::null_mut(), 0) };
    let mut text = vec![0u8; bytes as usize];
    unsafe { kvc_abi_describe(text.as_mut_ptr().cast(), bytes) };
    CStr::from_bytes_until_nul(&text).map(|t| t.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A library of the same ABI may have grown, so a struct may be larger; what is known here must be where it was.
fn has(description: &str, row: &Row) -> bool {
    let line_of = |name: &str| description.lines().find(|line| line.starts_with(&format!("struct {name} ")));
    match row {
        Row::Struct(name, size) => {
            line_of(name).and_then(|line| line.split_whitespace().nth(2)?.parse::<usize>().ok()).is_some_and(|actual| actual >= *size)
        }
        Row::Field(name, field, offset, bytes) => {
            line_of(name).is_some_and(|line| line.contains(&format!(" field {field} {offset} {bytes} ")))
        }
        Row::Enum(name, enumerator, value) => {
            let want = format!("enum {name} {enumerator} {value}");
            description.lines().any(|line| line.trim_end() == want)
        }
    }
}

/// `None` if the ABI is the one these bindings were generated for; otherwise what differs.
pub fn abi_mismatch() -> Option<String> {
    let version = unsafe { kvc_abi_version() };
    if version != i64::from(KVC_ABI_VERSION) {
        return Some(format!("libkvc has ABI {version}, this program needs ABI {KVC_ABI_VERSION}"));
    }
    let description = description();
    rows().iter().find(|row| !has(&description, row)).map(|row| match row {
        Row::Struct(name, size) => format!("libkvc differs from kvc.h in struct {name} size (expected {size})"),
        Row::Field(name, field, offset, bytes) => {
            format!("libkvc differs from kvc.h in struct {name} field {field} (expected {offset} {bytes})")
        }
        Row::Enum(name, enumerator, value) => format!("libkvc differs from kvc.h in enum {name} {enumerator} (expected {value})"),
    })
}
