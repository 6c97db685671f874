//! Memory of a device, its streams, and copies.

use crate::element::{bytes_of, Element};
use crate::error::{call, make, Error, Result, Status};
use crate::kinds::{BufferKind, Device};
use crate::Cache;
use kvc_sys::kvc_cache;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::null_mut;

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
        Stream(null_mut())
    }
}

/// `len` elements at an address of the device, which Rust never reads. `'b` is the life of their buffer.
#[derive(Debug)]
pub struct DeviceSlice<'b, T> {
    address: *mut c_void,
    len: usize,
    is_pinned: bool,
    cache: *mut kvc_cache, // that waits for its own work before it frees the buffer; null: whoever made the slice sees to that
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
        DeviceSlice { address, len, is_pinned: false, cache: null_mut(), of: PhantomData }
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

    /// Which side of a copy it is: pinned memory is the host's.
    fn place(&self, cache: &Cache) -> i32 {
        let device = if self.is_pinned { Device::Cpu } else { cache.owner.device };
        device.number()
    }

    /// A buffer's end waits for the work of its own cache; that of another one could still be under way.
    pub(crate) fn check_cache(&self, operation: &'static str, cache: *mut kvc_cache) -> Result<()> {
        if self.cache.is_null() || self.cache == cache {
            return Ok(());
        }
        Err(Error::new(Status::Handle, operation, "a buffer belongs to another cache"))
    }
}

/// Memory that a cache made in or for its device, and frees when it ends: so it borrows the cache. Dropping it waits for what the cache
/// still does with it.
#[derive(Debug)]
pub struct Buffer<'c> {
    cache: &'c Cache,
    kind: BufferKind,
    address: *mut c_void,
    bytes: i64,
}

unsafe impl Send for Buffer<'_> {}
unsafe impl Sync for Buffer<'_> {}

impl Buffer<'_> {
    pub fn bytes(&self) -> i64 {
        self.bytes
    }

    /// A part of the buffer: `len` elements from `offset_bytes` on.
    pub fn slice<T: Element>(&self, offset_bytes: usize, len: usize) -> Result<DeviceSlice<'_, T>> {
        self.check_open("Buffer::slice")?;
        let end = std::mem::size_of::<T>().checked_mul(len).and_then(|bytes| bytes.checked_add(offset_bytes));
        if end.map_or(true, |end| end as u64 > self.bytes as u64) || offset_bytes % std::mem::size_of::<T>() != 0 {
            let message = format!("slice: {len} elements from byte {offset_bytes} on do not lie in a buffer of {} bytes", self.bytes);
            return Err(Error::argument("Buffer::slice", message));
        }
        let address = self.address.cast::<u8>().wrapping_add(offset_bytes).cast();
        Ok(DeviceSlice { address, len, is_pinned: self.kind == BufferKind::Pinned, cache: self.cache.raw(), of: PhantomData })
    }

    /// A pinned buffer as memory of the host, for steps whose buffers lie there.
    ///
    /// # Safety
    /// All work of the device on the buffer has been waited for ([`Cache::synchronize`]), and none begins while the slice lives.
    pub unsafe fn host_slice<T: Element>(&mut self) -> Result<&mut [T]> {
        self.check_open("Buffer::host_slice")?;
        if self.kind != BufferKind::Pinned {
            return Err(Error::argument("Buffer::host_slice", "host_slice: the buffer lies on the device, not in pinned memory"));
        }
        Ok(std::slice::from_raw_parts_mut(self.address.cast(), self.bytes as usize / std::mem::size_of::<T>()))
    }

    /// Destroys the buffer now, and says whether that went well. If it did not, the object is dropped all the same; call
    /// [`Buffer::try_close`] to keep it.
    pub fn close(mut self) -> Result<()> {
        self.try_close()
    }

    /// Destroys the buffer; if that fails, the buffer stays as it was. Afterwards it has no memory, and its calls answer
    /// [`Status::Handle`]: libkvc knows a buffer by its address, which may be another one's by then.
    pub fn try_close(&mut self) -> Result<()> {
        self.check_open("kvc_buffer_destroy")?;
        call!(kvc_buffer_destroy(self.cache.raw(), self.kind.number(), self.address))?;
        (self.address, self.bytes) = (null_mut(), 0);
        Ok(())
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.address.is_null() {
            return Err(Error::new(Status::Handle, operation, "the buffer has been closed"));
        }
        Ok(())
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        if !self.address.is_null() {
            let _ = self.try_close();
        }
    }
}

impl Cache {
    /// Waits for all that was launched for the cache; on the host it does nothing.
    pub fn synchronize(&self) -> Result<()> {
        call!(kvc_synchronize(self.owner.raw))
    }

    /// So many bytes of memory. It borrows the cache, which can be neither dropped nor closed before it.
    pub fn buffer(&self, kind: BufferKind, bytes: i64) -> Result<Buffer<'_>> {
        let address = make!(kvc_buffer_create(self.owner.raw, kind.number(), bytes))?;
        Ok(Buffer { cache: self, kind, address, bytes })
    }

    /// Copies behind all that was launched before.
    pub fn copy_to_device<T: Element>(&self, from: &[T], to: DeviceSlice<T>) -> Result<()> {
        same_bytes(bytes_of(from), to.bytes())?;
        to.check_cache("kvc_buffer_copy", self.owner.raw)?;
        let (place, host) = (to.place(self), Device::Cpu.number());
        call!(kvc_buffer_copy(self.owner.raw, to.address, place, from.as_ptr().cast(), host, to.bytes()))
    }

    /// Copies and waits.
    pub fn copy_to_host<T: Element>(&self, from: DeviceSlice<T>, to: &mut [T]) -> Result<()> {
        same_bytes(from.bytes(), bytes_of(to))?;
        from.check_cache("kvc_buffer_copy", self.owner.raw)?;
        let (place, host) = (from.place(self), Device::Cpu.number());
        call!(kvc_buffer_copy(self.owner.raw, to.as_mut_ptr().cast(), host, from.address.cast_const(), place, from.bytes()))
    }

    /// Copies behind all that was launched before; one of the two may be pinned memory.
    pub fn copy_on_device<T: Element>(&self, from: DeviceSlice<T>, to: DeviceSlice<T>) -> Result<()> {
        same_bytes(from.bytes(), to.bytes())?;
        from.check_cache("kvc_buffer_copy", self.owner.raw)?;
        to.check_cache("kvc_buffer_copy", self.owner.raw)?;
        let (to_place, from_place) = (to.place(self), from.place(self));
        call!(kvc_buffer_copy(self.owner.raw, to.address, to_place, from.address.cast_const(), from_place, from.bytes()))
    }
}

fn same_bytes(from: i64, to: i64) -> Result<()> {
    if from == to {
        return Ok(());
    }
    Err(Error::argument("kvc_buffer_copy", format!("buffer_copy: {from} bytes into {to}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Step, StepOptions};

    fn cache() -> Cache {
        Cache::new(&Options { layers: 1, kv_heads: 1, k_dim: 16, arena_tokens: 64, ..Default::default() }).unwrap()
    }

    /// A buffer whose memory is the test's: what a cache on a device would make. Its end is refused by the cache, which is on the host.
    fn buffer<'c>(cache: &'c Cache, memory: &mut [f32; 16]) -> Buffer<'c> {
        Buffer { cache, kind: BufferKind::Device, address: memory.as_mut_ptr().cast(), bytes: 64 }
    }

    #[test]
    fn a_slice_lies_within_its_buffer() {
        let (cache, mut memory) = (cache(), [0f32; 16]);
        let mut buffer = buffer(&cache, &mut memory);
        assert_eq!(buffer.slice::<f32>(8, 14).unwrap().address(), buffer.address.wrapping_byte_add(8));
        for (offset, len) in [(0, 17), (4, 16), (2, 1), (68, 0), (usize::MAX, 1), (0, usize::MAX)] {
            let error = buffer.slice::<f32>(offset, len).unwrap_err();
            assert!(error.message.contains("a buffer of 64 bytes") && error.operation == "Buffer::slice", "{error}");
        }
        assert_eq!(unsafe { buffer.host_slice::<f32>() }.unwrap_err().operation, "Buffer::host_slice");
    }

    #[test]
    fn a_buffer_that_could_not_be_ended_is_kept_and_one_that_has_ended_has_no_memory() {
        let (cache, mut memory) = (cache(), [0f32; 16]);
        let mut buffer = buffer(&cache, &mut memory);
        for _ in 0..2 {
            let refused = buffer.try_close().unwrap_err(); // the cache is on the host
            assert_eq!((refused.status, refused.operation), (Status::Unsupported, "kvc_buffer_destroy"));
            assert!(buffer.slice::<f32>(0, 16).is_ok() && buffer.bytes() == 64);
        }
        (buffer.address, buffer.bytes, buffer.kind) = (null_mut(), 0, BufferKind::Pinned); // as try_close leaves one
        assert_eq!(buffer.try_close().unwrap_err().status, Status::Handle);
        assert_eq!(buffer.slice::<f32>(0, 0).unwrap_err().status, Status::Handle);
        assert_eq!(unsafe { buffer.host_slice::<f32>() }.unwrap_err().status, Status::Handle);
    }

    #[test]
    fn pinned_memory_is_the_hosts_side_of_a_copy() {
        let on_host = cache();
        let cache = unsafe { Cache::from_raw(std::ptr::null_mut(), Device::Cuda) };
        let mut memory = [0f32; 16];
        let mut buffer = buffer(&cache, &mut memory);
        assert_eq!(buffer.slice::<f32>(0, 1).unwrap().place(&cache), Device::Cuda.number());
        buffer.kind = BufferKind::Pinned;
        assert_eq!(buffer.slice::<f32>(0, 1).unwrap().place(&cache), Device::Cpu.number());
        let free = unsafe { DeviceSlice::<f32>::from_raw(std::ptr::null_mut(), 1) };
        assert_eq!((free.place(&cache), free.place(&on_host)), (Device::Cuda.number(), Device::Cpu.number()));
    }

    #[test]
    fn a_buffer_is_for_the_work_of_its_own_cache() {
        let (own, other, mut memory) = (cache(), cache(), [0f32; 16]);
        let buffer = buffer(&own, &mut memory);
        let slice = buffer.slice::<f32>(0, 16).unwrap();
        let foreign = |answer: Result<()>| answer.unwrap_err().message == "a buffer belongs to another cache";
        assert!(foreign(other.copy_to_device(&[0f32; 16], slice)) && foreign(other.copy_to_host(slice, &mut [0f32; 16])));
        let free = unsafe { DeviceSlice::from_raw(std::ptr::null_mut(), 16) };
        assert!(foreign(other.copy_on_device(slice, free)) && foreign(other.copy_on_device(free, slice)));
        assert!(!foreign(own.copy_on_device(slice, free)));
        let on_device = StepOptions { buffers: Device::Cuda, ..Default::default() };
        let mut step = unsafe { Step::from_raw(&other, std::ptr::null_mut(), &on_device) };
        assert!(foreign(step.append_device(0, slice, free)) && foreign(step.append_device(0, free, slice)));
        for (q, out, lse) in [(slice, free, None), (free, slice, None), (free, free, Some(slice))] {
            assert!(foreign(step.attend_device(0, q, out, lse, &Default::default())));
        }
        assert!(!foreign(step.attend_device(0, free, free, Some(free), &Default::default())));
    }
}
