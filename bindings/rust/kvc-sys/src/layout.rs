//! Does the libkvc that was loaded have the ABI that these bindings were generated for?

use crate::*;
use alloc::{format, string::String, vec};
use core::ffi::CStr;

/// One line or field of `kvc_abi_describe`, as this crate's own compiler lays it out.
enum Row {
    Struct(&'static str, usize),
    Field(&'static str, &'static str, usize, usize, &'static str),
    Enum(&'static str, &'static str, i64),
}

/// The type of a field, by its name there.
trait Type {
    const NAME: &'static str;
}

macro_rules! types {
    ($([$($of:tt)*] $t:ty = $name:literal)*) => {
        $(impl<$($of)*> Type for $t { const NAME: &'static str = $name; })*
    };
}
types! {
    [] u32 = "u32"
    [] i32 = "i32"
    [] i64 = "i64"
    [] f32 = "f32"
    [] f64 = "f64"
    [const N: usize] [core::ffi::c_char; N] = "char"
    [T] *mut T = "ptr"
    [F] Option<F> = "fn"
}

fn bytes_and_type<S, F: Type>(_: impl Fn(&S) -> &F) -> (usize, &'static str) {
    (core::mem::size_of::<F>(), F::NAME)
}

macro_rules! layout {
    ($(struct $s:ident { $($f:ident),* })* $(enum $e:ident { $($v:ident),* })*) => {
        fn rows() -> alloc::vec::Vec<Row> {
            vec![
                $(Row::Struct(stringify!($s), core::mem::size_of::<$s>()),
                  $({
                      let (bytes, of) = bytes_and_type(|s: &$s| &s.$f);
                      Row::Field(stringify!($s), stringify!($f), core::mem::offset_of!($s, $f), bytes, of)
                  },)*)*
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
        Row::Field(name, field, offset, bytes, of) => {
            let want = format!("field {field} {offset} {bytes} {of}");
            line_of(name).is_some_and(|line| line.split(" ; ").any(|entry| entry == want))
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
        Row::Field(name, field, offset, bytes, of) => {
            format!("libkvc differs from kvc.h in struct {name} field {field} (expected {offset} {bytes} {of})")
        }
        Row::Enum(name, enumerator, value) => format!("libkvc differs from kvc.h in enum {name} {enumerator} (expected {value})"),
    })
}
