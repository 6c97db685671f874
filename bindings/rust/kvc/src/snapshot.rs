//! Sequences as bytes, and back.

use crate::error::{call, Error, Result};
use crate::list::List;
use crate::{Cache, Sequence};
use std::ffi::CString;
use std::path::Path;
use std::ptr::{null, null_mut};

impl Cache {
    /// The sequences as bytes; `None` means all of the cache. An empty list is refused, here and in the next three: nobody who computed one
    /// means all, and nobody wants a snapshot of nothing.
    pub fn snapshot_export(&self, sequences: Option<&[&Sequence]>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.snapshot_bytes(sequences)? as usize];
        let written = self.snapshot_export_into(sequences, &mut bytes)?;
        bytes.truncate(written as usize);
        Ok(bytes)
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
        let mut raw = vec![0; self.snapshot_sequences(data)? as usize];
        let (from, bytes, room, mut n) = (data.as_ptr().cast(), data.len() as i64, raw.len() as i64, 0);
        call!(kvc_snapshot_import(self.owner.raw, from, bytes, raw.as_mut_ptr(), room, &mut n))?;
        Ok(raw.into_iter().map(|seq| Sequence::from_raw(self, seq)).collect())
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
        let (path, mut n) = (c_path("kvc_snapshot_load", path.as_ref())?, 0);
        call!(kvc_snapshot_load(self.owner.raw, path.as_ptr(), null_mut(), 0, &mut n))?;
        let mut raw = vec![0; n as usize];
        call!(kvc_snapshot_load(self.owner.raw, path.as_ptr(), raw.as_mut_ptr(), raw.len() as i64, &mut n))?;
        raw.truncate(n as usize); // the file may have been replaced by a smaller one in between
        Ok(raw.into_iter().map(|seq| Sequence::from_raw(self, seq)).collect())
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
