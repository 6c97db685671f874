//! Every field of the options arrives as itself: set alone in Rust, it is that field of C which changes, and no other.

use crate::graph::Graph;
use crate::kinds::{Device, Dtype, Keys, Positions, RopePairs};
use crate::{Cache, Options, Stream};
use std::ops::Range;

/// What some of the values are made of.
pub(crate) struct Samples {
    graph: Graph,
}

const ADDRESS: usize = 0x1000;

/// A value that is no default, and as what it arrives in the fields of C.
pub(crate) trait Sample: Sized {
    fn of(samples: &Samples) -> (Self, Vec<String>);
}

macro_rules! samples {
    ($($type:ty: $value:expr => $($expected:expr),+;)*) => {
        $(impl Sample for $type {
            fn of(_: &Samples) -> (Self, Vec<String>) {
                ($value, vec![$($expected.to_string()),+])
            }
        })*
    };
}

samples! {
    i64: 7 => 7;
    i32: 3 => 3;
    f32: 1.5 => 1.5;
    f64: 2.5 => 2.5;
    bool: true => 1;
    String: "h2o:256".to_owned() => "h2o:256";
    Range<i64>: 5..9 => 5, 9;
    Device: Device::Cuda => kvc_sys::kvc_device::KVC_CUDA.0;
    Dtype: Dtype::Bf16 => kvc_sys::kvc_dtype::KVC_BF16.0;
    RopePairs: RopePairs::Interleaved => kvc_sys::kvc_rope_pairs::KVC_ROPE_INTERLEAVED.0;
    Keys: Keys::BeforeRope => kvc_sys::kvc_keys::KVC_KEYS_BEFORE_ROPE.0;
    Positions: Positions::InCache => kvc_sys::kvc_positions::KVC_POSITIONS_IN_CACHE.0;
    Stream: unsafe { Stream::from_raw(ADDRESS as *mut _) } => ADDRESS;
}

impl Sample for Option<Graph> {
    fn of(samples: &Samples) -> (Self, Vec<String>) {
        (Some(samples.graph.clone()), vec![ADDRESS.to_string()])
    }
}

/// What one field of Rust did to a struct of C.
pub(crate) struct Crossed {
    of: &'static str,
    field: &'static str,
    to: &'static [&'static str],
    expected: Vec<String>,
    unset: Vec<(String, String)>, // all fields of C and their values, without it
    set: Vec<(String, String)>,   // and with it
}

impl Crossed {
    pub(crate) fn new<T>(
        (of, field): (&'static str, &'static str),
        to: &'static [&'static str],
        (unset, set): (&T, &T),
        expected: Vec<String>,
    ) -> Crossed {
        Crossed { of, field, to, expected, unset: values(of, unset), set: values(of, set) }
    }

    /// What is wrong; nothing if the field arrives as itself.
    fn fault(&self) -> Option<String> {
        let named = match self.to {
            [one] => *one == self.field,
            [begin, end] => [begin.strip_suffix("_begin"), end.strip_suffix("_end")] == [self.field.strip_suffix('s'); 2],
            _ => false,
        };
        let changed: Vec<_> =
            self.set.iter().zip(&self.unset).filter(|(set, unset)| set != unset).map(|(set, _)| set.clone()).collect();
        let expected: Vec<_> = self.to.iter().map(|to| to.to_string()).zip(self.expected.iter().cloned()).collect();
        (!named || changed != expected).then(|| format!("{}.{} set {:?}, {:?} are expected", self.of, self.field, changed, expected))
    }
}

/// The fields of a struct that the library describes, as texts.
fn values<T>(of: &str, raw: &T) -> Vec<(String, String)> {
    let described = crate::abi_describe();
    let line = described.lines().find(|line| line.starts_with(&format!("struct {of} "))).unwrap();
    let fields = line.split(" ; field ").skip(1).map(|field| {
        let words: Vec<&str> = field.split(' ').collect();
        let (offset, bytes): (usize, usize) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        assert!(offset + bytes <= std::mem::size_of::<T>(), "{of}");
        let field = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(raw).cast::<u8>().add(offset), bytes) };
        (words[0].to_owned(), text(field, words[3]))
    });
    fields.collect()
}

fn text(bytes: &[u8], kind: &str) -> String {
    let four = || bytes.try_into().unwrap();
    let eight = || bytes.try_into().unwrap();
    match kind {
        "char" => String::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap(),
        "i32" | "u32" => i32::from_ne_bytes(four()).to_string(),
        "f32" => f32::from_ne_bytes(four()).to_string(),
        "i64" | "ptr" | "fn" => i64::from_ne_bytes(eight()).to_string(),
        "f64" => f64::from_ne_bytes(eight()).to_string(),
        _ => panic!("type {kind}"),
    }
}

#[test]
fn every_field_arrives_as_itself() {
    let shape = Options { layers: 1, kv_heads: 1, k_dim: 16, arena_tokens: 64, ..Default::default() };
    let cache = Cache::new(&shape).unwrap();
    let samples = Samples { graph: Graph::of_handle(&cache, ADDRESS as *mut _) };
    let all = crate::options::each_field_alone(&samples);
    assert_eq!(all.iter().filter_map(Crossed::fault).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(all.iter().map(|one| one.to.len()).sum::<usize>(), crate::options::OPTIONS.iter().map(|(_, to)| to.len()).sum());
    assert!(all.len() > 60);
}

#[test]
fn a_field_that_arrives_as_another_is_found() {
    let (unset, mut set) = (kvc_sys::kvc_seq_options::default(), kvc_sys::kvc_seq_options::default());
    set.prompt_length = 7;
    let one = |field, to| Crossed::new(("kvc_seq_options", field), to, (&unset, &set), vec!["7".to_owned()]).fault();
    assert_eq!(one("prompt_length", &["prompt_length"]), None);
    assert!(one("first_position", &["prompt_length"]).is_some()); // swapped names
    assert!(one("first_position", &["first_position"]).is_some()); // a setter that sets another
    set.prompt_length = 0;
    assert!(Crossed::new(("kvc_seq_options", "prompt_length"), &["prompt_length"], (&unset, &set), vec!["7".to_owned()])
        .fault()
        .is_some());
}
