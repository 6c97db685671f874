//! Options and shapes of the cache as a script gives them.

use crate::script::{Operation, Parsed};
use kvc::{Keys, Layer, Options, Positions, RopePairs};

#[derive(Default)]
pub struct Shapes {
    /// "layer" lines: the number of each, and what it says.
    lines: Vec<(i64, Layer)>,
    pub options: Options,
    /// One for each layer, with the cache's values where the layer has none of its own.
    layers: Vec<Layer>,
}

impl Shapes {
    pub fn layer(&mut self, operation: &Operation) -> Parsed<()> {
        let number = operation.name(0).parse().map_err(|_| format!("\"{}\" is no layer", operation.name(0)))?;
        let layer = Layer {
            kv_heads: operation.number("kv_heads")?,
            q_heads: operation.number("q_heads")?,
            k_dim: operation.number("k_dim")?,
            v_dim: operation.number("v_dim")?,
            sliding_window: operation.number("sliding_window")?,
            codec: operation.word("codec").to_owned(),
            rope_theta: operation.real("rope_theta")?,
        };
        self.lines.retain(|(line, _)| *line != number);
        self.lines.push((number, layer));
        Ok(())
    }

    pub fn create(&mut self, operation: &Operation) -> Parsed<()> {
        self.options = Options {
            layers: operation.number_or("layers", 1)?,
            kv_heads: operation.number_or("kv_heads", 1)?,
            q_heads: operation.number("q_heads")?,
            k_dim: operation.number_or("k_dim", 64)?,
            v_dim: operation.number("v_dim")?,
            sliding_window: operation.number("sliding_window")?,
            codec: operation.word("codec").to_owned(),
            arena_bytes: operation.number("arena_bytes")?,
            arena_tokens: operation.number("arena_tokens")?,
            arena_sequences: operation.number("arena_sequences")?,
            arena_growth: operation.flag("growth")?,
            spare_pages: operation.small("spare_pages")?,
            saturate: operation.flag("saturate")?,
            keys: operation.choice("keys", &[("after", Keys::AfterRope), ("before", Keys::BeforeRope)])?,
            positions: operation.choice("positions", &[("true", Positions::True), ("in_cache", Positions::InCache)])?,
            rope_pairs: operation.choice("pairs", &[("halves", RopePairs::Halves), ("interleaved", RopePairs::Interleaved)])?,
            rope_theta: operation.real("rope_theta")?,
            rope_dims: operation.number("rope_dims")?,
            policy: operation.word("policy").to_owned(),
            context_tokens: operation.number("context_tokens")?,
            ..Default::default()
        };
        self.layers = (0..self.options.layers.max(1)).map(|layer| self.resolved(layer)).collect();
        Ok(())
    }

    fn resolved(&self, number: i64) -> Layer {
        let (all, none) = (&self.options, Layer::default());
        let own = self.lines.iter().find(|(line, _)| *line == number).map_or(&none, |(_, layer)| layer);
        let first = |choices: &[i64]| choices.iter().copied().find(|value| *value != 0).unwrap_or(0);
        let (kv_heads, k_dim) = (first(&[own.kv_heads, all.kv_heads]), first(&[own.k_dim, all.k_dim]));
        Layer {
            kv_heads,
            k_dim,
            q_heads: first(&[own.q_heads, all.q_heads, kv_heads]),
            v_dim: first(&[own.v_dim, all.v_dim, k_dim]),
            ..own.clone()
        }
    }

    /// What kvc is told of layers: nothing if they are all alike.
    pub fn layers(&self) -> &[Layer] {
        if self.lines.is_empty() {
            &[]
        } else {
            &self.layers
        }
    }

    /// The layer that an operation names, or the first one if there is no such layer.
    pub fn layer_of(&self, operation: &Operation) -> Parsed<&Layer> {
        let named = usize::try_from(operation.number("layer")?).ok().and_then(|layer| self.layers.get(layer));
        named.or(self.layers.first()).ok_or_else(|| "no cache was created".to_owned())
    }

    /// The kv heads that a line acts on, as (layer, head), in the order of scores and clusters.
    pub fn heads_acted_on(&self, operation: &Operation) -> Parsed<Vec<(i64, i64)>> {
        let (layers, heads) = (operation.range("layers")?, operation.range("heads")?);
        let end = if layers.end == 0 { self.options.layers } else { layers.end.min(self.options.layers) };
        let heads_of = |layer: i64| match heads.end {
            0 => heads.start..heads.start + self.layers[layer as usize].kv_heads,
            _ => heads.clone(),
        };
        Ok((layers.start.max(0)..end).flat_map(|layer| heads_of(layer).map(move |head| (layer, head))).collect())
    }
}
