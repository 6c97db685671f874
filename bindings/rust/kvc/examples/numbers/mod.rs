//! The numbers that examples, tests and the replayer feed to kvc: docs/SCRIPTS.md, "Numbers". They depend on what they stand for, never
//! on how a stream is cut into steps.
#![allow(dead_code)] // each program uses some of them

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Normal,
    Sharp,
    Constant,
    Zero,
    Outlier,
    Tiny,
    Extreme,
    Huge,
    Nan,
    Inf,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Type {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy)]
pub enum Part {
    Keys = 1,
    Values = 2,
    Queries = 3,
    Scores = 4,
    SinkLogits = 5,
    Clusters = 6,
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
    z ^ (z >> 31)
}

fn key(a: u64, b: u64) -> u64 {
    mix(a.wrapping_add(0x9e3779b97f4a7c15u64.wrapping_mul(b.wrapping_add(1))))
}

/// n(i) of a row: bell-shaped, from -131070 to 131070.
pub fn bell(row: u64, i: u64) -> i64 {
    let bits = key(row, i);
    let quarters = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    quarters as i64 - 131070
}

/// What a row of numbers belongs to, but for its position.
#[derive(Clone, Copy)]
pub struct Stream {
    pub seed: u64,
    pub data: u64,
    pub layer: i64,
    pub part: Part,
    pub kind: Kind,
    pub element: Type,
}

impl Stream {
    /// Ordinary numbers in f32.
    pub fn normal(seed: u64, data: u64, layer: i64, part: Part) -> Stream {
        Stream { seed, data, layer, part, kind: Kind::Normal, element: Type::F32 }
    }

    pub fn row(&self, position: i64) -> u64 {
        let at = (self.layer as u64).wrapping_mul(8).wrapping_add(self.part as u64);
        let position = if self.kind == Kind::Constant { 0 } else { position as u64 };
        key(key(key(self.seed, self.data), at), position)
    }

    fn element(&self, row: u64, i: i64, channel: i64) -> f32 {
        let n = bell(row, i as u64);
        let x = match self.element {
            Type::F32 => n as f32 / 65536.0,
            Type::F16 => (n >> 7) as f32 / 512.0,
            Type::Bf16 => (n >> 10) as f32 / 64.0,
        };
        let sign = if n < 0 { -1.0 } else { 1.0 };
        match self.kind {
            Kind::Zero => 0.0,
            Kind::Sharp => x * 16.0,
            Kind::Outlier if channel % 16 == 3 => x * 32.0,
            Kind::Tiny => x / 16384.0,
            Kind::Extreme => 65280.0 * sign,
            Kind::Huge if self.element == Type::F16 => f32::INFINITY * sign,
            Kind::Huge => 131072.0 * sign,
            _ => x,
        }
    }

    /// Appends the rows `[tokens][heads * dim]` of the tokens from `position` on.
    pub fn extend(&self, to: &mut Vec<f32>, position: i64, tokens: i64, heads: i64, dim: i64) {
        for token in 0..tokens {
            let row = self.row(position + token);
            to.extend((0..heads * dim).map(|i| self.element(row, i, i % dim)));
        }
    }

    pub fn rows(&self, position: i64, tokens: i64, heads: i64, dim: i64) -> Vec<f32> {
        let mut rows = Vec::with_capacity((tokens.max(0) * heads * dim) as usize);
        self.extend(&mut rows, position, tokens, heads, dim);
        rows
    }
}
