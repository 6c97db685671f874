//! What a call answers when it fails, and the one way into libkvc.

use kvc_sys::{kvc_error, kvc_status};
use std::ffi::{c_char, CStr};

/// Why a call failed; `kvc.h` says of each function which it can answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// A value is wrong; the message says which and what is allowed.
    Argument,
    /// Not a live cache, step or sequence.
    Handle,
    /// A position that is not held, or below the exact floor.
    Range,
    /// The calls of a step came in the wrong order.
    Order,
    /// The sequence belongs to an open step.
    Busy,
    /// Arena, budget or host memory is exhausted; retry after freeing.
    NoMemory,
    /// NaN, infinity, or a number beyond the window's type.
    Nonfinite,
    /// A valid request that this build or machine cannot serve.
    Unsupported,
    /// The process forked and this call needs what did not survive.
    Forked,
    /// A fault of kvc; please report it.
    Internal,
    /// Bytes that are no snapshot, or no longer one.
    Corrupt,
    /// A file could not be read or written.
    Io,
    /// The device failed; the cache is lost.
    Device,
    /// Not what a graph was created or captured for, or a call that a capture cannot hold.
    Capture,
    /// Nothing is free now: the same call later succeeds.
    Again,
    /// A status of a library newer than this crate.
    Unknown(i32),
}

/// Every status and its number, which C gave.
const STATUSES: [(Status, kvc_status); 15] = [
    (Status::Argument, kvc_status::KVC_E_ARGUMENT),
    (Status::Handle, kvc_status::KVC_E_HANDLE),
    (Status::Range, kvc_status::KVC_E_RANGE),
    (Status::Order, kvc_status::KVC_E_ORDER),
    (Status::Busy, kvc_status::KVC_E_BUSY),
    (Status::NoMemory, kvc_status::KVC_E_NO_MEMORY),
    (Status::Nonfinite, kvc_status::KVC_E_NONFINITE),
    (Status::Unsupported, kvc_status::KVC_E_UNSUPPORTED),
    (Status::Forked, kvc_status::KVC_E_FORKED),
    (Status::Internal, kvc_status::KVC_E_INTERNAL),
    (Status::Corrupt, kvc_status::KVC_E_CORRUPT),
    (Status::Io, kvc_status::KVC_E_IO),
    (Status::Device, kvc_status::KVC_E_DEVICE),
    (Status::Capture, kvc_status::KVC_E_CAPTURE),
    (Status::Again, kvc_status::KVC_E_AGAIN),
];

impl Status {
    /// The status of a number of `kvc_status`. 0, which is success, is none.
    pub fn from_number(number: i32) -> Status {
        let known = STATUSES.iter().find(|(_, raw)| raw.0 as i32 == number);
        known.map_or(Status::Unknown(number), |(status, _)| *status)
    }

    /// Its number in `kvc_status`.
    pub fn number(self) -> i32 {
        let known = STATUSES.iter().find(|(status, _)| *status == self);
        match self {
            Status::Unknown(number) => number,
            _ => known.map_or(i32::MAX, |(_, raw)| raw.0 as i32),
        }
    }

    /// Its name in C, such as `KVC_E_HANDLE`.
    pub fn name(self) -> &'static str {
        static_text(unsafe { kvc_sys::kvc_status_name(self.number()) }).unwrap_or("unknown")
    }
}

/// A call that failed. It has changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} ({operation}: {})", .message, .status.name())]
pub struct Error {
    pub status: Status,
    /// The function of `kvc.h` that failed, or the method where none stands behind it: `Buffer::slice`.
    pub operation: &'static str,
    /// What is wrong, which one, and the limit.
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(status: Status, operation: &'static str, message: impl Into<String>) -> Error {
        Error { status, operation, message: message.into() }
    }

    pub(crate) fn argument(operation: &'static str, message: impl Into<String>) -> Error {
        Error::new(Status::Argument, operation, message)
    }

    fn of(operation: &'static str, err: &kvc_error) -> Error {
        let message = unsafe { CStr::from_ptr(err.message.as_ptr()) }.to_string_lossy();
        Error::new(Status::from_number(err.status), operation, message)
    }
}

fn empty_error() -> kvc_error {
    kvc_error { struct_size: std::mem::size_of::<kvc_error>() as u32, ..Default::default() }
}

/// Runs a function that answers a status.
pub(crate) fn checked(operation: &'static str, call: impl FnOnce(*mut kvc_error) -> kvc_status) -> Result<()> {
    let mut err = empty_error();
    let status = call(&mut err);
    if status == kvc_status::KVC_OK {
        return Ok(());
    }
    err.status = status.0 as i32;
    Err(Error::of(operation, &err))
}

/// Runs a function that answers an object, a number of bytes or a count; NULL and 0 are its failure.
pub(crate) fn made<T: Made>(operation: &'static str, call: impl FnOnce(*mut kvc_error) -> T) -> Result<T> {
    let mut err = empty_error();
    let made = call(&mut err);
    if made.is_nothing() {
        return Err(Error::of(operation, &err));
    }
    Ok(made)
}

pub(crate) trait Made {
    fn is_nothing(&self) -> bool;
}

impl<T> Made for *mut T {
    fn is_nothing(&self) -> bool {
        self.is_null()
    }
}

impl Made for i64 {
    fn is_nothing(&self) -> bool {
        *self == 0
    }
}

/// Calls a function of `kvc.h` by its name, which also is the operation of its error. Handles are values that libkvc looks up before
/// use, so none can do harm; buffers are passed as the pointer and length of a slice that lives until the call has returned.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::error::checked(stringify!($function), |err| unsafe { kvc_sys::$function($($argument,)* err) })
    };
}

macro_rules! make {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::error::made(stringify!($function), |err| unsafe { kvc_sys::$function($($argument,)* err) })
    };
}

pub(crate) use {call, make};

/// A text that libkvc holds for ever; none if there is none.
pub(crate) fn static_text(text: *const c_char) -> Option<&'static str> {
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default())
}

/// An empty report with its size filled in, as kvc wants it.
macro_rules! report {
    ($report:ident) => {
        $report { struct_size: std::mem::size_of::<$report>() as u32, ..Default::default() }
    };
}

pub(crate) use report;
