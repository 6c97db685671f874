//! The elements of callers' buffers.

use crate::kinds::Dtype;

/// A number that lies in a buffer as kvc reads and writes it: [`f32`], [`F16`], [`Bf16`], and with the feature `half` those of the
/// crate half.
pub trait Element: Copy + Send + Sync + 'static + sealed::Plain {
    const DTYPE: Dtype;
}

/// The bits of an IEEE half-precision number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct F16(pub u16);

/// The bits of a bfloat16 number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bf16(pub u16);

mod sealed {
    /// Any bits are a value, and a value is nothing but its bits. Types of other crates would have to promise that.
    pub trait Plain {}
}

macro_rules! elements {
    ($($(#[$when:meta])* $type:ty = $dtype:ident;)*) => {
        $($(#[$when])* impl sealed::Plain for $type {}
        $(#[$when])* impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
        })*
    };
}

elements! {
    f32 = F32;
    F16 = F16;
    Bf16 = Bf16;
    #[cfg(feature = "half")] half::f16 = F16;
    #[cfg(feature = "half")] half::bf16 = Bf16;
}

pub(crate) fn bytes_of<T>(slice: &[T]) -> i64 {
    std::mem::size_of_val(slice) as i64
}
