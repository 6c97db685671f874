//! Memory of a device, its streams, and copies.

use crate::cache::Owner;
use crate::element::{bytes_of, Element};
use crate::error::{call, make, Error, Result};
use crate::kinds::{BufferKind, Device};
use crate::Cache;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

/// A stream of the device (a `CUstream`); the default is one of kvc's own.
#[derive(Clone, Copy, Debug)]
pub struct Stream(*mut c_void);

unsafe impl Send for Stream {}
unsafe impl Sync for Stream {}

impl Stream {
    /// # Safety
    /// `stream` is a stream of the cache's device, and lives until the steps that are given it have ended and been waited for.
    pub unsafe fn from_raw(stream: *mut c_void) -> Stream {
        Stream(stream)
    }

    pub(crate) fn address(self) -> *mut c_void {
        self.0
    }
}

impl Default for Stream {
    fn default() -> Self {
        Stream(std::ptr::null_mut())
    }
}

/// `len` elements at an address of the device, which Rust never reads. `'b` is the life of their buffer.
#[derive(Debug)]
pub struct DeviceSlice<'b, T> {
    address: *mut c_void,
    len: usize,
    of: PhantomData<&'b [T]>,
}

impl<T> Clone for DeviceSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for DeviceSlice<'_, T> {}
unsafe impl<T: Element> Send for DeviceSlice<'_, T> {}
unsafe impl<T: Element> Sync for DeviceSlice<'_, T> {}

impl<T: Element> DeviceSlice<'_, T> {
    /// Memory of another library, such as a tensor's.
    ///
    /// # Safety
    /// `len` elements lie at `address`, in memory of the cache's device, until all work on them has been waited for.
    pub unsafe fn from_raw(address: *mut c_void, len: usize) -> Self {
        DeviceSlice { address, len, of: PhantomData }
    }

    pub fn address(&self) -> *mut c_void {
        self.address
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn bytes(&self) -> i64 {
        (self.len * std::mem::size_of::<T>()) as i64
    }
}

/// Memory that a cache made in or for its device. Dropping it waits for what still uses it.
#[derive(Debug)]
pub struct Buffer {
    owner: Arc<Owner>,
    kind: BufferKind,
    address: *mut c_void,
    bytes: i64,
}

unsafe impl Send for Buffer {}
unsafe impl Sync for Buffer {}

impl Buffer {
    pub fn bytes(&self) -> i64 {
        self.bytes
    }

    /// A part of the buffer: `len` elements from `offset_bytes` on.
    pub fn slice<T: Element>(&self, offset_bytes: usize, len: usize) -> Result<DeviceSlice<'_, T>> {
        let end = std::mem::size_of::<T>().checked_mul(len).and_then(|bytes| bytes.checked_add(offset_bytes));
        if end.map_or(true, |end| end as u64 > self.bytes as u64) || offset_bytes % std::mem::size_of::<T>() != 0 {
            let message = format!("slice: {len} elements from byte {offset_bytes} on do not lie in a buffer of {} bytes", self.bytes);
            return Err(Error::argument("kvc_buffer_create", message));
        }
        Ok(DeviceSlice { address: self.address.cast::<u8>().wrapping_add(offset_bytes).cast(), len, of: PhantomData })
    }

    /// A pinned buffer as memory of the host, for steps whose buffers lie there.
    ///
    /// # Safety
    /// All work of the device on the buffer has been waited for ([`Cache::synchronize`]), and none begins while the slice lives.
    pub unsafe fn host_slice<T: Element>(&mut self) -> Result<&mut [T]> {
        if self.kind != BufferKind::Pinned {
            return Err(Error::argument("kvc_buffer_create", "host_slice: the buffer lies on the device, not in pinned memory"));
        }
        Ok(std::slice::from_raw_parts_mut(self.address.cast(), self.bytes as usize / std::mem::size_of::<T>()))
    }

    /// Destroys the buffer now, and says whether that went well.
    pub fn close(mut self) -> Result<()> {
        self.destroy()
    }

    fn destroy(&mut self) -> Result<()> {
        let address = std::mem::replace(&mut self.address, std::ptr::null_mut());
        call!(kvc_buffer_destroy(self.owner.raw, self.kind.number(), address))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.address.is_null() {
            let _ = self.destroy();
        }
    }
}

impl Cache {
    /// Waits for all that was launched for the cache; on the host it does nothing.
    pub fn synchronize(&self) -> Result<()> {
        call!(kvc_synchronize(self.owner.raw))
    }

    pub fn buffer(&self, kind: BufferKind, bytes: i64) -> Result<Buffer> {
        let address = make!(kvc_buffer_create(self.owner.raw, kind.number(), bytes))?;
        Ok(Buffer { owner: self.owner.clone(), kind, address, bytes })
    }

    /// Copies behind all that was launched before.
    pub fn copy_to_device<T: Element>(&self, from: &[T], to: DeviceSlice<T>) -> Result<()> {
        same_bytes(bytes_of(from), to.bytes())?;
        let (device, host) = (self.owner.device.number(), Device::Cpu.number());
        call!(kvc_buffer_copy(self.owner.raw, to.address, device, from.as_ptr().cast(), host, to.bytes()))
    }

    /// Copies and waits.
    pub fn copy_to_host<T: Element>(&self, from: DeviceSlice<T>, to: &mut [T]) -> Result<()> {
        same_bytes(from.bytes(), bytes_of(to))?;
        let (device, host) = (self.owner.device.number(), Device::Cpu.number());
        call!(kvc_buffer_copy(self.owner.raw, to.as_mut_ptr().cast(), host, from.address.cast_const(), device, from.bytes()))
    }

    pub fn copy_on_device<T: Element>(&self, from: DeviceSlice<T>, to: DeviceSlice<T>) -> Result<()> {
        same_bytes(from.bytes(), to.bytes())?;
        let device = self.owner.device.number();
        call!(kvc_buffer_copy(self.owner.raw, to.address, device, from.address.cast_const(), device, from.bytes()))
    }
}

fn same_bytes(from: i64, to: i64) -> Result<()> {
    if from == to {
        return Ok(());
    }
    Err(Error::argument("kvc_buffer_copy", format!("buffer_copy: {from} bytes into {to}")))
}
