//! The program of bindings/proof/proof.c over kvc-sys; it prints the same digest.

use kvc_sys::*;
use sha2::{Digest, Sha256};
use std::ffi::CStr;
use std::ptr::{null, null_mut};

const LAYERS: i64 = 2;
const KV_HEADS: i64 = 2;
const Q_HEADS: i64 = 4;
const DIM: i64 = 64;

struct Proof {
    hash: Sha256,
    seed: u32,
    err: kvc_error,
}

impl Proof {
    fn check(&self, good: bool) {
        if !good {
            let message = unsafe { CStr::from_ptr(self.err.message.as_ptr()) };
            panic!("proof.rs: status {}: {}", self.err.status, message.to_string_lossy());
        }
    }

    /// Multiples of 2^-15 from an integer generator: exact in every language.
    fn fill(&mut self, n: i64) -> Vec<f32> {
        let mut next = || {
            self.seed = self.seed.wrapping_mul(1664525).wrapping_add(1013904223);
            ((self.seed >> 16) as i32 - 32768) as f32 / 32768.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn digest_floats(&mut self, data: &[f32]) {
        data.iter().for_each(|x| self.hash.update(x.to_le_bytes()));
    }

    fn digest_counts(&mut self, data: &[i64]) {
        data.iter().for_each(|x| self.hash.update(x.to_le_bytes()));
    }

    unsafe fn step(&mut self, cache: *mut kvc_cache, seq: kvc_seq, tokens: i64) {
        let (kv, qo, l) = (tokens * KV_HEADS * DIM, tokens * Q_HEADS * DIM, tokens * Q_HEADS);
        let (mut out, mut lse) = (vec![0f32; qo as usize], vec![0f32; l as usize]);
        let step = kvc_step_begin(cache, &seq, &tokens, 1, null(), 0, null(), &mut self.err);
        self.check(!step.is_null());
        for layer in 0..LAYERS {
            let (k, v, q) = (self.fill(kv), self.fill(kv), self.fill(qo));
            let status = kvc_append(step, layer, k.as_ptr().cast(), kv * 4, v.as_ptr().cast(), kv * 4, &mut self.err);
            self.check(status == kvc_status::KVC_OK);
            let (o, m) = (out.as_mut_ptr().cast(), lse.as_mut_ptr());
            let status = kvc_attend(step, layer, q.as_ptr().cast(), qo * 4, o, qo * 4, m, l * 4, null(), &mut self.err);
            self.check(status == kvc_status::KVC_OK);
            self.digest_floats(&out);
            self.digest_floats(&lse);
        }
        let status = kvc_step_commit(step, null(), 0, &mut self.err);
        self.check(status == kvc_status::KVC_OK);
    }

    unsafe fn read_back(&mut self, cache: *mut kvc_cache, seq: kvc_seq, layer: i64, head: i64) {
        let mut live = 0;
        let status = kvc_seq_live(cache, seq, layer, head, &mut live, &mut self.err);
        self.check(status == kvc_status::KVC_OK);
        let (mut positions, mut rows) = (vec![0i64; live as usize], vec![0f32; (live * DIM) as usize]);
        let status = kvc_seq_positions(cache, seq, layer, head, positions.as_mut_ptr(), live, std::ptr::null_mut(), &mut self.err);
        self.check(status == kvc_status::KVC_OK);
        self.digest_counts(&positions);
        for part in [kvc_part::KVC_KEYS, kvc_part::KVC_VALUES] {
            let (out, bytes) = (rows.as_mut_ptr(), live * DIM * 4);
            let status = kvc_seq_read(cache, seq, layer, head, part.0 as i32, 0, live, out, bytes, &mut self.err);
            self.check(status == kvc_status::KVC_OK);
            self.digest_floats(&rows);
        }
    }

    unsafe fn create(&mut self, target: &str) -> *mut kvc_cache {
        let mut options = kvc_options::default();
        self.check(kvc_options_init(&mut options, size_of(&options)) == kvc_status::KVC_OK);
        (options.layers, options.kv_heads, options.q_heads) = (LAYERS, KV_HEADS, Q_HEADS);
        (options.k_dim, options.v_dim, options.arena_tokens) = (DIM, DIM, 1024);
        options.codec.iter_mut().zip(*b"int4\0").for_each(|(to, from)| *to = from as _);
        options.target.iter_mut().zip(target.bytes()).for_each(|(to, from)| *to = from as _);
        let cache = kvc_create(&options, null(), 0, &mut self.err);
        self.check(!cache.is_null());
        cache
    }

    unsafe fn run(&mut self, target: &str) {
        let cache = self.create(target);
        let seq = kvc_seq_create(cache, null(), &mut self.err);
        self.check(seq != 0);
        self.step(cache, seq, 200);
        (0..150).for_each(|_| self.step(cache, seq, 1));
        let (mut evict, mut report, mut stats) = (kvc_evict_options::default(), kvc_evict_report::default(), kvc_stats::default());
        self.check(kvc_evict_options_init(&mut evict, size_of(&evict)) == kvc_status::KVC_OK);
        (evict.budget, report.struct_size, stats.struct_size) = (256, size_of(&report) as u32, size_of(&stats) as u32);
        let status = kvc_evict(cache, seq, null(), 0, &evict, &mut report, &mut self.err);
        self.check(status == kvc_status::KVC_OK);
        (0..20).for_each(|_| self.step(cache, seq, 1));
        for (layer, head) in (0..LAYERS).flat_map(|layer| (0..KV_HEADS).map(move |head| (layer, head))) {
            self.read_back(cache, seq, layer, head);
        }
        let status = kvc_stats_get(cache, &mut stats, &mut self.err);
        self.check(status == kvc_status::KVC_OK);
        let (r, s) = (report, stats);
        self.digest_counts(&[r.tokens_evicted, r.records_freed, r.bytes_freed, s.tokens_appended]);
        self.digest_counts(&[s.tokens_evicted, s.pages_quantized, s.record_bytes, s.sequences]);
        let status = kvc_destroy(cache, &mut self.err);
        self.check(status == kvc_status::KVC_OK);
        assert_eq!(kvc_destroy(cache, null_mut()), kvc_status::KVC_E_HANDLE, "a cache was destroyed twice");
    }
}

fn size_of<T>(_: &T) -> i64 {
    std::mem::size_of::<T>() as i64
}

fn main() {
    if let Some(mismatch) = abi_mismatch() {
        panic!("proof.rs: {mismatch}");
    }
    let err = kvc_error { struct_size: size_of(&kvc_error::default()) as u32, ..Default::default() };
    let mut proof = Proof { hash: Sha256::new(), seed: 1, err };
    unsafe { proof.run(&std::env::args().nth(1).unwrap_or_default()) };
    println!("{}", proof.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
}
