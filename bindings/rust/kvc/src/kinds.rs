//! The enums of `kvc.h`. Their numbers are C's.

/// An enum whose cases are enumerators of C.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $raw:ident { $($(#[$note:meta])* $case:ident = $enumerator:ident),* $(,)? })*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name { $($(#[$note])* $case),* }

        impl $name {
            pub(crate) fn number(self) -> i32 {
                match self { $($name::$case => kvc_sys::$raw::$enumerator.0 as i32),* }
            }
        })*

        /// What of each enum of C is in this crate, for the test that nothing is missing.
        #[cfg(test)]
        pub(crate) const KINDS: &[(&str, &[&str])] = &[$((stringify!($raw), &[$(stringify!($enumerator)),*])),*];
    };
}

kinds! {
    /// Element types of callers' buffers.
    Dtype: kvc_dtype { F16 = KVC_F16, F32 = KVC_F32, Bf16 = KVC_BF16 }

    /// Where a cache or a buffer lives.
    Device: kvc_device { Cpu = KVC_CPU, Cuda = KVC_CUDA }

    /// Keys or values.
    Part: kvc_part { Keys = KVC_KEYS, Values = KVC_VALUES }

    /// Which channels turn together: halves of the head (i and i + dims/2), or neighbours.
    RopePairs: kvc_rope_pairs { Halves = KVC_ROPE_HALVES, Interleaved = KVC_ROPE_INTERLEAVED }

    /// Whether keys and queries come turned, or kvc turns both while it attends.
    Keys: kvc_keys { AfterRope = KVC_KEYS_AFTER_ROPE, BeforeRope = KVC_KEYS_BEFORE_ROPE }

    /// By which positions keys and queries turn.
    Positions: kvc_positions { True = KVC_POSITIONS_TRUE, InCache = KVC_POSITIONS_IN_CACHE }

    /// What truncate and fork may do below the exact floor.
    Cut: kvc_cut { Exact = KVC_CUT_EXACT, Inexact = KVC_CUT_INEXACT }

    /// Memory of the device, or memory of the host that the device reads and writes without a copy in between.
    BufferKind: kvc_buffer_kind { Device = KVC_BUFFER_DEVICE, Pinned = KVC_BUFFER_PINNED }
}

macro_rules! defaults {
    ($($name:ident: $case:ident),*) => {
        $(impl Default for $name {
            fn default() -> Self {
                $name::$case
            }
        })*
    };
}

// Where C has a default, it is the same one.
defaults! { Dtype: F32, Device: Cpu, RopePairs: Halves, Keys: AfterRope, Positions: True, Cut: Exact }
