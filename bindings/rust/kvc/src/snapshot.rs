//! Sequences as bytes, and back.

use crate::error::{call, Error, Result, Status};
use crate::list::List;
use crate::{Cache, Sequence};
use kvc_sys::kvc_seq;
use std::ffi::CString;
use std::path::Path;
use std::ptr::{null, null_mut};

impl Cache {
    /// The sequences as bytes; `None` means all of the cache. An empty list is refused, here and in the next three: nobody who computed one
    /// means all, and nobody wants a snapshot of nothing.
    pub fn snapshot_export(&self, sequences: Option<&[&Sequence]>) -> Result<Vec<u8>> {
        whole(|| self.snapshot_bytes(sequences), |out| self.snapshot_export_into(sequences, out))
    }

    /// Writes the sequences into the caller's memory; gives the bytes of the snapshot.
    pub fn snapshot_export_into(&self, sequences: Option<&[&Sequence]>, out: &mut [u8]) -> Result<i64> {
        let list = self.handles_of("kvc_snapshot_export", sequences)?;
        let (seqs, n) = raw_list(&list);
        let (mut written, bytes) = (0, out.len() as i64);
        call!(kvc_snapshot_export(self.owner.raw, seqs, n, out.as_mut_ptr().cast(), bytes, &mut written)).map(|()| written)
    }

    /// The bytes that an export would take.
    pub fn snapshot_bytes(&self, sequences: Option<&[&Sequence]>) -> Result<i64> {
        let list = self.handles_of("kvc_snapshot_export", sequences)?;
        let (seqs, n) = raw_list(&list);
        let mut bytes = 0;
        call!(kvc_snapshot_export(self.owner.raw, seqs, n, null_mut(), 0, &mut bytes)).map(|()| bytes)
    }

    /// New sequences from a snapshot, in the order of the export: all of them, or none and nothing has changed.
    pub fn snapshot_import(&self, data: &[u8]) -> Result<Vec<Sequence>> {
        let (from, bytes) = (data.as_ptr().cast(), data.len() as i64);
        let made = whole(
            || self.snapshot_sequences(data),
            |out: &mut [kvc_seq]| {
                let mut n = 0;
                let (to, room) = (out.as_mut_ptr(), out.len() as i64);
                call!(kvc_snapshot_import(self.owner.raw, from, bytes, to, room, &mut n)).map(|()| n)
            },
        )?;
        Ok(made.into_iter().map(|seq| Sequence::from_raw(self, seq)).collect())
    }

    /// Checks a snapshot; gives the number of its sequences.
    pub fn snapshot_sequences(&self, data: &[u8]) -> Result<i64> {
        let mut n = 0;
        call!(kvc_snapshot_import(self.owner.raw, data.as_ptr().cast(), data.len() as i64, null_mut(), 0, &mut n)).map(|()| n)
    }

    /// The same to a file, which is replaced as a whole or stays as it was.
    pub fn snapshot_save(&self, sequences: Option<&[&Sequence]>, path: impl AsRef<Path>) -> Result<()> {
        let (path, list) = (c_path("kvc_snapshot_save", path.as_ref())?, self.handles_of("kvc_snapshot_save", sequences)?);
        let (seqs, n) = raw_list(&list);
        call!(kvc_snapshot_save(self.owner.raw, seqs, n, path.as_ptr()))
    }

    /// The same from a file.
    pub fn snapshot_load(&self, path: impl AsRef<Path>) -> Result<Vec<Sequence>> {
        let path = c_path("kvc_snapshot_load", path.as_ref())?;
        let load = |out: *mut kvc_seq, room: i64| {
            let mut n = 0;
            call!(kvc_snapshot_load(self.owner.raw, path.as_ptr(), out, room, &mut n)).map(|()| n)
        };
        let made = whole(|| load(null_mut(), 0), |out| load(out.as_mut_ptr(), out.len() as i64))?;
        Ok(made.into_iter().map(|seq| Sequence::from_raw(self, seq)).collect())
    }

    fn handles_of(&self, operation: &'static str, sequences: Option<&[&Sequence]>) -> Result<Option<List>> {
        let Some(sequences) = sequences else { return Ok(None) };
        if sequences.is_empty() {
            return Err(Error::argument(operation, "no sequences were named; None stands for all of the cache"));
        }
        let mut list = List::new();
        for sequence in sequences {
            list.push(self.handle_of(operation, sequence)?);
        }
        Ok(Some(list))
    }
}

/// Asks how many there are and takes them, again and again until they fit: a commit can make more of a snapshot in between, and another
/// process more of a file. The question answers all else that may be wrong with the arguments.
fn whole<T: Clone + Default>(ask: impl Fn() -> Result<i64>, mut take: impl FnMut(&mut [T]) -> Result<i64>) -> Result<Vec<T>> {
    loop {
        let mut out = vec![T::default(); ask()? as usize];
        match take(&mut out) {
            Ok(n) => {
                out.truncate(n as usize);
                return Ok(out);
            }
            Err(error) if error.status == Status::Argument => {}
            Err(error) => return Err(error),
        }
    }
}

fn raw_list(list: &Option<List>) -> (*const i64, i64) {
    list.as_ref().map_or((null(), 0), |list| (list.as_slice().as_ptr(), list.as_slice().len() as i64))
}

#[cfg(unix)]
fn c_path(operation: &'static str, path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::argument(operation, format!("{path:?} has a NUL inside")))
}

#[cfg(not(unix))]
fn c_path(operation: &'static str, path: &Path) -> Result<CString> {
    let text = path.to_str().ok_or_else(|| Error::argument(operation, format!("{path:?} is not Unicode")))?;
    crate::discovery::c_text(operation, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cut, Options};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn extend(cache: &Cache, sequence: &Sequence, tokens: i64) {
        let rows = vec![0.5f32; 16 * tokens as usize];
        let mut step = cache.begin([(sequence, tokens)], &Default::default()).unwrap();
        step.append(0, &rows, &rows).unwrap();
        step.commit().unwrap();
    }

    fn cache() -> Cache {
        Cache::new(&Options { layers: 1, kv_heads: 1, k_dim: 16, arena_tokens: 2048, ..Default::default() }).unwrap()
    }

    #[test]
    fn an_export_is_whole_whatever_is_committed_meanwhile() {
        let cache = cache();
        let sequence = cache.sequence(&Default::default()).unwrap();
        extend(&cache, &sequence, 100);
        type Change<'a> = (&'a str, &'a dyn Fn(&mut Sequence));
        let changes: [Change; 4] = [
            ("nothing", &|_| {}),
            ("a longer sequence", &|same| extend(&cache, same, 50)),
            ("a shorter one", &|same| same.truncate(0, Cut::Inexact).unwrap()),
            ("the first tokens", &|same| extend(&cache, same, 70)),
        ];
        let only = Some(&[&sequence][..]);
        for (name, change) in changes {
            let mut changed = false;
            let take = |out: &mut [u8]| {
                if !std::mem::replace(&mut changed, true) {
                    let mut same = Sequence::from_raw(&cache, sequence.raw());
                    change(&mut same);
                    same.into_raw();
                }
                cache.snapshot_export_into(only, out)
            };
            let got = whole(|| cache.snapshot_bytes(only), take).unwrap();
            assert!(got == cache.snapshot_export(only).unwrap(), "{name}");
        }
        let stale = Sequence::from_raw(&cache, sequence.raw());
        sequence.close().unwrap();
        assert_eq!(cache.snapshot_export(Some(&[&stale])).unwrap_err().status, Status::Handle);
    }

    /// The same of exports that nothing stops.
    #[test]
    fn exports_while_sequences_come_and_go() {
        let (cache, done) = (cache(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let some: Vec<_> = (0..20).map(|_| cache.sequence(&Default::default()).unwrap()).collect();
                    drop(some);
                }
            });
            let failed = (0..5000).find_map(|_| cache.snapshot_export(None).err());
            done.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{}", failed.unwrap());
        });
    }

    #[test]
    fn a_file_gives_those_that_it_has_whoever_replaces_it_meanwhile() {
        let cache = cache();
        let (a, b) = (cache.sequence(&Default::default()).unwrap(), cache.sequence(&Default::default()).unwrap());
        let path = std::env::temp_dir().join(format!("kvc-rust-{}.replaced", std::process::id()));
        let c_path = c_path("kvc_snapshot_load", &path).unwrap();
        for (before, after) in [(&[&a, &b][..], &[&a][..]), (&[&a][..], &[&a, &b][..])] {
            cache.snapshot_save(Some(before), &path).unwrap();
            let asked = || cache.snapshot_sequences(&std::fs::read(&path).unwrap());
            let take = |out: &mut [kvc_seq]| {
                cache.snapshot_save(Some(after), &path).unwrap();
                let (mut n, room) = (0, out.len() as i64);
                call!(kvc_snapshot_load(cache.raw(), c_path.as_ptr(), out.as_mut_ptr(), room, &mut n)).map(|()| n)
            };
            let made = whole(asked, take).unwrap();
            assert!(made.len() == after.len() && made.iter().all(|seq| *seq != 0));
            made.into_iter().for_each(|seq| drop(Sequence::from_raw(&cache, seq)));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(cache.stats().unwrap().sequences, 2);
    }
}
