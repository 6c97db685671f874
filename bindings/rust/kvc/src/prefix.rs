//! The prefix index of a cache.

use crate::error::{call, make, report, Result};
use crate::options::{PrefixOptions, SeqOptions};
use crate::{Cache, Sequence};
use kvc_sys::{kvc_prefix_hit, kvc_prefix_stats};

impl Cache {
    /// Publishes the first tokens of a sequence under their ids.
    pub fn prefix_publish(&self, sequence: &Sequence, tokens: &[i64], salt: &[u8], options: &PrefixOptions) -> Result<()> {
        let (seq, options) = (self.handle_of("kvc_prefix_publish", sequence)?, options.raw("kvc_prefix_publish")?);
        let (list, n) = (tokens.as_ptr(), tokens.len() as i64);
        call!(kvc_prefix_publish(self.owner.raw, seq, list, n, salt.as_ptr().cast(), salt.len() as i64, &options))
    }

    /// A new sequence with the longest published beginning of a prompt, an empty one if there is none.
    pub fn prefix_lookup(&self, tokens: &[i64], salt: &[u8], options: &SeqOptions) -> Result<(Sequence, kvc_prefix_hit)> {
        let (mut hit, options) = (report!(kvc_prefix_hit), options.raw("kvc_prefix_lookup")?);
        let (list, n, salt_bytes) = (tokens.as_ptr(), tokens.len() as i64, salt.len() as i64);
        let raw = make!(kvc_prefix_lookup(self.owner.raw, list, n, salt.as_ptr().cast(), salt_bytes, &options, &mut hit))?;
        Ok((Sequence::from_raw(self, raw), hit))
    }

    /// Removes all entries of the salt whose tokens begin with these; none: all of the salt. Gives how many.
    pub fn prefix_remove(&self, tokens: &[i64], salt: &[u8]) -> Result<i64> {
        let mut removed = 0;
        let (list, n) = (tokens.as_ptr(), tokens.len() as i64);
        call!(kvc_prefix_remove(self.owner.raw, list, n, salt.as_ptr().cast(), salt.len() as i64, &mut removed)).map(|()| removed)
    }

    /// Removes all entries of all salts.
    pub fn prefix_clear(&self) -> Result<()> {
        call!(kvc_prefix_clear(self.owner.raw))
    }

    /// The most bytes of records that entries may hold from now on; 0 = no bound but the arena.
    pub fn prefix_budget_set(&self, bytes: i64) -> Result<()> {
        call!(kvc_prefix_budget_set(self.owner.raw, bytes))
    }

    pub fn prefix_stats(&self) -> Result<kvc_prefix_stats> {
        let mut out = report!(kvc_prefix_stats);
        call!(kvc_prefix_stats_get(self.owner.raw, &mut out)).map(|()| out)
    }
}
