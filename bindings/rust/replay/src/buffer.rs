//! Buffers in a script's element type, rows padded by elements that nobody may touch.

use crate::numbers::Type;
use kvc::{Bf16, Dtype, Element, F16};

/// An element that a script can name.
pub trait Number: Element + PartialEq {
    fn of(x: f32) -> Self;
    fn put(self, to: &mut Vec<u8>);
    /// All bytes are 0xff; a NaN in every type.
    fn untouched() -> Self;
    fn is_untouched(self) -> bool {
        let mut bytes = Vec::new();
        self.put(&mut bytes);
        bytes.iter().all(|byte| *byte == 0xff)
    }
}

impl Number for f32 {
    fn of(x: f32) -> f32 {
        x
    }
    fn put(self, to: &mut Vec<u8>) {
        to.extend(self.to_le_bytes());
    }
    fn untouched() -> f32 {
        f32::from_le_bytes([0xff; 4])
    }
}

impl Number for F16 {
    /// Of numbers that are exact in fp16, as those of scripts are: nothing is rounded.
    fn of(x: f32) -> F16 {
        let sign = (x.to_bits() >> 16) as u16 & 0x8000;
        let size = x.abs();
        let bits = match size {
            _ if size.is_nan() => 0x7e00,
            _ if size.is_infinite() => 0x7c00,
            _ if size < 2f32.powi(-14) => (size * 2f32.powi(24)) as u16,
            _ => ((size.to_bits() >> 13) - (112 << 10)) as u16,
        };
        F16(sign | bits)
    }
    fn put(self, to: &mut Vec<u8>) {
        to.extend(self.0.to_le_bytes());
    }
    fn untouched() -> F16 {
        F16(0xffff)
    }
}

impl Number for Bf16 {
    fn of(x: f32) -> Bf16 {
        Bf16((x.to_bits() >> 16) as u16)
    }
    fn put(self, to: &mut Vec<u8>) {
        to.extend(self.0.to_le_bytes());
    }
    fn untouched() -> Bf16 {
        Bf16(0xffff)
    }
}

pub fn type_of(dtype: Dtype) -> Type {
    match dtype {
        Dtype::F32 => Type::F32,
        Dtype::F16 => Type::F16,
        Dtype::Bf16 => Type::Bf16,
    }
}

/// `rows` rows of `width` elements, `padding` untouched ones behind each.
pub struct Buffer<T> {
    pub elements: Vec<T>,
    width: usize,
    padding: usize,
}

impl<T: Number> Buffer<T> {
    pub fn empty(rows: i64, width: i64, padding: i64) -> Buffer<T> {
        let elements = vec![T::untouched(); (rows * (width + padding)) as usize];
        Buffer { elements, width: width as usize, padding: padding as usize }
    }

    pub fn filled(numbers: &[f32], width: i64, padding: i64) -> Buffer<T> {
        let rows = if width > 0 { numbers.len() as i64 / width } else { 0 };
        let mut buffer = Buffer::empty(rows, width, padding);
        for (row, from) in buffer.rows().zip(numbers.chunks(width as usize)) {
            row.iter_mut().zip(from).for_each(|(to, x)| *to = T::of(*x));
        }
        buffer
    }

    fn rows(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.elements.chunks_mut((self.width + self.padding).max(1))
    }

    /// The rows without what lies between them; a fault if that was written.
    pub fn bytes(&mut self) -> Result<Vec<u8>, String> {
        let (width, mut bytes) = (self.width, Vec::new());
        for row in self.rows() {
            row[..width].iter().for_each(|element| element.put(&mut bytes));
            if !row[width..].iter().all(|element| element.is_untouched()) {
                return Err("attend wrote between the rows of out".to_owned());
            }
        }
        Ok(bytes)
    }
}
