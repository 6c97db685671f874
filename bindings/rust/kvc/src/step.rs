//! A step: one forward pass over some sequences.

use crate::device::DeviceSlice;
use crate::element::{bytes_of, Element};
use crate::error::{call, Error, Result};
use crate::graph::Graph;
use crate::kinds::{Device, Dtype};
use crate::options::{AttendOptions, StepOptions};
use crate::Cache;
use kvc_sys::{kvc_attend_options, kvc_step};
use std::ffi::c_void;
use std::ptr::{null, null_mut};

/// An open step. It borrows its cache and its sequences; dropping it undoes it, unless its stream is being captured: then it stays open
/// until the cache ends, as nobody is left to end it. [`Step::try_commit`] and [`Step::try_abort`] say so and keep the step.
///
/// It may move to another thread, but one thread at a time works on it: it is [`Send`] and not [`Sync`].
#[derive(Debug)]
pub struct Step<'a> {
    raw: *mut kvc_step,
    cache: &'a Cache,
    kv: Dtype,
    q: Dtype,
    out: Dtype,
    buffers: Device,
    graph: Option<Graph>, // must not be destroyed before the step has ended
}

unsafe impl Send for Step<'_> {}

impl<'a> Step<'a> {
    /// A step that came from elsewhere as a handle, and is undone with this object. A handle that is none gives a step whose calls
    /// answer [`Status::Handle`](crate::Status::Handle).
    ///
    /// # Safety
    /// The step, if there is one, was begun with these types and this place of buffers.
    pub unsafe fn from_raw(cache: &'a Cache, raw: *mut kvc_step, options: &StepOptions) -> Step<'a> {
        let (kv, q, out) = (options.kv_dtype, options.q_dtype, options.out_dtype);
        Step { raw, cache, kv, q, out, buffers: options.buffers, graph: options.graph.clone() }
    }

    pub fn raw(&self) -> *mut kvc_step {
        self.raw
    }

    /// The handle alone, which this object no longer undoes.
    pub fn into_raw(mut self) -> *mut kvc_step {
        std::mem::replace(&mut self.raw, null_mut())
    }

    /// Stores the keys `[tokens, kv_heads, k_dim]` and values `[tokens, kv_heads, v_dim]` of one layer.
    pub fn append<T: Element>(&mut self, layer: i64, k: &[T], v: &[T]) -> Result<()> {
        self.takes("kvc_append", "k and v", T::DTYPE, self.kv, true)?;
        call!(kvc_append(self.raw, layer, k.as_ptr().cast(), bytes_of(k), v.as_ptr().cast(), bytes_of(v)))
    }

    /// The same from memory of the device.
    pub fn append_device<T: Element>(&mut self, layer: i64, k: DeviceSlice<T>, v: DeviceSlice<T>) -> Result<()> {
        self.takes("kvc_append", "k and v", T::DTYPE, self.kv, false)?;
        k.check_cache("kvc_append", self.cache.raw())?;
        v.check_cache("kvc_append", self.cache.raw())?;
        call!(kvc_append(self.raw, layer, k.address().cast_const(), k.bytes(), v.address().cast_const(), v.bytes()))
    }

    /// Attention of the step's queries `[tokens, q_heads, k_dim]` over their sequences, into out `[tokens, q_heads, v_dim]`.
    pub fn attend<Q: Element, O: Element>(&mut self, layer: i64, q: &[Q], out: &mut [O]) -> Result<()> {
        self.attend_slices(layer, q, out, None, null())
    }

    /// The same with options, and the log-sum-exp `[tokens, q_heads]` if asked.
    pub fn attend_with<Q: Element, O: Element>(
        &mut self,
        layer: i64,
        q: &[Q],
        out: &mut [O],
        lse: Option<&mut [f32]>,
        options: &AttendOptions,
    ) -> Result<()> {
        let options = options.raw("kvc_attend")?;
        self.attend_slices(layer, q, out, lse, &options)
    }

    /// The same with memory of the device.
    pub fn attend_device<Q: Element, O: Element>(
        &mut self,
        layer: i64,
        q: DeviceSlice<Q>,
        out: DeviceSlice<O>,
        lse: Option<DeviceSlice<f32>>,
        options: &AttendOptions,
    ) -> Result<()> {
        self.takes("kvc_attend", "q", Q::DTYPE, self.q, false)?;
        self.takes("kvc_attend", "out", O::DTYPE, self.out, false)?;
        q.check_cache("kvc_attend", self.cache.raw())?;
        out.check_cache("kvc_attend", self.cache.raw())?;
        lse.map_or(Ok(()), |lse| lse.check_cache("kvc_attend", self.cache.raw()))?;
        let options = options.raw("kvc_attend")?;
        let (lse, lse_bytes) = lse.map_or((null_mut(), 0), |lse| (lse.address(), lse.bytes()));
        self.attend_raw(layer, (q.address().cast_const(), q.bytes()), (out.address(), out.bytes()), (lse, lse_bytes), &options)
    }

    fn attend_slices<Q: Element, O: Element>(
        &mut self,
        layer: i64,
        q: &[Q],
        out: &mut [O],
        lse: Option<&mut [f32]>,
        options: *const kvc_attend_options,
    ) -> Result<()> {
        self.takes("kvc_attend", "q", Q::DTYPE, self.q, true)?;
        self.takes("kvc_attend", "out", O::DTYPE, self.out, true)?;
        let lse = lse.map_or((null_mut(), 0), |lse| (lse.as_mut_ptr().cast(), bytes_of(lse)));
        self.attend_raw(layer, (q.as_ptr().cast(), bytes_of(q)), (out.as_mut_ptr().cast(), bytes_of(out)), lse, options)
    }

    fn attend_raw(
        &mut self,
        layer: i64,
        q: (*const c_void, i64),
        out: (*mut c_void, i64),
        lse: (*mut c_void, i64),
        options: *const kvc_attend_options,
    ) -> Result<()> {
        call!(kvc_attend(self.raw, layer, q.0, q.1, out.0, out.1, lse.0.cast(), lse.1, options))
    }

    /// Publishes all tokens of the step. If that fails, the step is undone as a dropped one is. Where the step should outlive the refusal,
    /// as one whose stream is captured must, call [`Step::try_commit`].
    pub fn commit(mut self) -> Result<()> {
        self.try_commit(None)
    }

    /// Publishes the first `accepted[i]` tokens of each sequence, of a step that was begun with `partial_commit`. If that fails, the
    /// step is undone, as by [`Step::commit`].
    pub fn commit_accepted(mut self, accepted: &[i64]) -> Result<()> {
        self.try_commit(Some(accepted))
    }

    /// Publishes all tokens or those accepted; if that fails, the step stays open. Afterwards the step has ended, and its calls answer
    /// [`Status::Handle`](crate::Status::Handle).
    pub fn try_commit(&mut self, accepted: Option<&[i64]>) -> Result<()> {
        let (list, n) = accepted.map_or((null(), 0), |list| (list.as_ptr(), list.len() as i64));
        call!(kvc_step_commit(self.raw, list, n))?;
        self.has_ended();
        Ok(())
    }

    /// Ends the step as if it had never begun, and says whether that went well. If it did not, the step is dropped all the same; call
    /// [`Step::try_abort`] to keep it.
    pub fn abort(mut self) -> Result<()> {
        self.try_abort()
    }

    /// Ends the step as if it had never begun; if that fails, as it does while the step's stream is captured, the step stays open and
    /// can be ended later. Afterwards its calls answer [`Status::Handle`](crate::Status::Handle).
    pub fn try_abort(&mut self) -> Result<()> {
        call!(kvc_step_abort(self.raw))?;
        self.has_ended();
        Ok(())
    }

    fn has_ended(&mut self) {
        self.raw = null_mut();
        self.graph = None;
    }

    /// C sees addresses and sizes alone, so that a wrong type or place is noticed here.
    fn takes(&self, operation: &'static str, what: &str, given: Dtype, wanted: Dtype, on_host: bool) -> Result<()> {
        if given != wanted {
            return Err(Error::argument(operation, format!("{what}: the step was begun for {wanted:?}, not {given:?}")));
        }
        if on_host != (self.buffers == Device::Cpu) {
            return Err(Error::argument(operation, format!("{what}: the step was begun for buffers on {:?}", self.buffers)));
        }
        Ok(())
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            let _ = self.try_abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Status};

    #[test]
    fn a_step_that_could_not_be_ended_is_kept() {
        let cache = Cache::new(&Options { layers: 1, kv_heads: 1, k_dim: 16, arena_tokens: 64, ..Default::default() }).unwrap();
        let sequence = cache.sequence(&Default::default()).unwrap();
        let options = StepOptions { graph: Some(Graph::of_handle(&cache, null_mut())), ..Default::default() };
        let mut step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
        step.graph.clone_from(&options.graph);
        // A handle that libkvc refuses stands for a stream that is captured, which takes a device.
        let raw = std::mem::replace(&mut step.raw, 4096 as *mut kvc_step);
        for _ in 0..2 {
            assert_eq!(step.try_abort().unwrap_err().status, Status::Handle);
            assert_eq!(step.try_commit(None).unwrap_err().status, Status::Handle);
            assert!(step.raw() == 4096 as *mut kvc_step && step.graph.is_some());
        }
        step.raw = raw;
        assert_eq!(cache.stats().unwrap().open_steps, 1);
        step.try_abort().unwrap();
        assert_eq!(cache.stats().unwrap().open_steps, 0);
        assert!(step.raw().is_null() && step.graph.is_none());
        assert_eq!(step.try_abort().unwrap_err().status, Status::Handle);
    }
}
