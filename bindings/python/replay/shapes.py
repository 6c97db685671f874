"""The cache of a script: its options, and the shape of each layer with all defaults in place."""
from __future__ import annotations

from dataclasses import dataclass, field

import kvc

from .script import Operation, ScriptError


@dataclass
class LayerShape:
    kv_heads: int
    q_heads: int
    k_dim: int
    v_dim: int


@dataclass
class Shapes:
    lines: dict[int, Operation] = field(default_factory=dict)  # of "layer", by number
    options: dict = field(default_factory=dict)
    layers: list[LayerShape] = field(default_factory=list)     # at least one once there is a cache
    differ: list[dict] = field(default_factory=list)           # kvc_layer fields; empty where all layers are alike

    def create(self, line: Operation, target: str, threads: int) -> None:
        text = {key: line.word(key) for key in ("codec", "policy")}
        keys = ("q_heads", "v_dim", "sliding_window", "arena_bytes", "arena_tokens", "arena_sequences", "spare_pages", "saturate",
                "context_tokens", "rope_dims")
        self.options = {
            "layers": line.number("layers", 1), "kv_heads": line.number("kv_heads", 1), "k_dim": line.number("k_dim", 64),
            "arena_growth": line.number("growth"), "rope_theta": line.real("rope_theta"), "target": target, "threads": threads,
            "keys": line.choice("keys", {"after": kvc.Keys.KEYS_AFTER_ROPE, "before": kvc.Keys.KEYS_BEFORE_ROPE}, "after"),
            "positions": line.choice("positions", {"true": kvc.Positions.POSITIONS_TRUE, "in_cache": kvc.Positions.POSITIONS_IN_CACHE}, "true"),
            "rope_pairs": line.choice("pairs", {"halves": kvc.RopePairs.ROPE_HALVES, "interleaved": kvc.RopePairs.ROPE_INTERLEAVED}, "halves"),
            **text, **{key: line.number(key) for key in keys},
        }
        count = max(1, self.options["layers"])
        self.layers = [self._shape(self.lines.get(i)) for i in range(count)]
        if any(other.arguments for other in self.lines.values()):
            self.differ = [self._difference(self.lines.get(i)) for i in range(count)]

    def _shape(self, line: Operation | None) -> LayerShape:
        o, said = self.options, line or Operation(0, "layer")
        kv_heads, k_dim = said.number("kv_heads", o["kv_heads"]), said.number("k_dim", o["k_dim"])
        return LayerShape(kv_heads, said.number("q_heads", o["q_heads"] or kv_heads), k_dim, said.number("v_dim", o["v_dim"] or k_dim))

    @staticmethod
    def _difference(line: Operation | None) -> dict:
        if line is None:
            return {}
        fields = {key: line.number(key) for key in ("kv_heads", "q_heads", "k_dim", "v_dim", "sliding_window") if key in line.arguments}
        if "rope_theta" in line.arguments:
            fields["rope_theta"] = line.real("rope_theta")
        return fields | ({"codec": line.word("codec")} if "codec" in line.arguments else {})

    def of(self, line: Operation) -> LayerShape:
        """The shape of the layer that the line names, or of the first one if there is no such layer."""
        if not self.layers:
            raise ScriptError("no cache was created")
        layer = line.number("layer")
        return self.layers[layer if 0 <= layer < len(self.layers) else 0]

    def acted_on(self, line: Operation) -> list[tuple[int, int]]:
        """(layer, head) of the rows of scores or clusters."""
        (layer_begin, layer_end), (head_begin, head_end) = line.range("layers"), line.range("heads")
        layer_end = min(layer_end or len(self.layers), len(self.layers))
        return [(layer, head) for layer in range(max(0, layer_begin), layer_end)
                for head in range(head_begin, head_begin + (max(0, head_end - head_begin) if head_end else self.layers[layer].kv_heads))]
