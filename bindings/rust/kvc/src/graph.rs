//! Steps that are captured in a CUDA graph of the caller's and replayed: see Graphs in `kvc.h`.

use crate::cache::Owner;
use crate::error::{call, make, Result};
use crate::Cache;
use kvc_sys::kvc_graph;
use std::sync::Arc;

/// Room for the launches of a step, named in [`StepOptions::graph`](crate::StepOptions). Clones are the same graph, which is
/// destroyed with the last of them; a step holds one.
#[derive(Clone, Debug)]
pub struct Graph {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    raw: *mut kvc_graph,
    _owner: Arc<Owner>, // the cache goes after its graphs
}

unsafe impl Send for Inner {}
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = call!(kvc_graph_destroy(self.raw));
    }
}

impl Graph {
    /// One of that handle, which may be none.
    #[cfg(test)]
    pub(crate) fn of_handle(cache: &Cache, raw: *mut kvc_graph) -> Graph {
        Graph { inner: Arc::new(Inner { raw, _owner: cache.owner.clone() }) }
    }

    pub(crate) fn handle(&self) -> *mut kvc_graph {
        self.inner.raw
    }
}

impl Cache {
    /// A graph for steps of `counts[i]` tokens of so many sequences, each of which then has at most `max_tokens`. `attends`: calls of
    /// attend in a step, 0 = one for each layer; `slots`: steps whose tables may be on their way at a time, 0 = 4.
    pub fn graph(&self, counts: &[i64], max_tokens: i64, attends: i64, slots: i64) -> Result<Graph> {
        let n = counts.len() as i64;
        let raw = make!(kvc_graph_create(self.owner.raw, counts.as_ptr(), n, max_tokens, attends, slots))?;
        Ok(Graph { inner: Arc::new(Inner { raw, _owner: self.owner.clone() }) })
    }
}
