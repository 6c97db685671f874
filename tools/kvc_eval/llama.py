"""Forward pass of the llama architecture (SmolLM2 among them)."""
import numpy as np

from .gguf_file import GgufFile
from .layers import Rope, rms_norm, silu
from .model import AttentionShape, Attend, Model


class Llama(Model):
    def __init__(self, file: GgufFile):
        self.name = file.metadata.get("general.name", file.path.stem)
        layers, width = file.parameter("block_count"), file.parameter("embedding_length")
        q_heads = file.parameter("attention.head_count")
        kv_heads = file.parameter("attention.head_count_kv", q_heads)
        head_dim = file.parameter("attention.key_length", width // q_heads)
        self.shape = AttentionShape(layers, q_heads, kv_heads, head_dim, (0,) * layers)
        self.context_length = file.parameter("context_length")
        self._epsilon = file.parameter("attention.layer_norm_rms_epsilon")
        if file.parameter("rope.dimension_count", head_dim) != head_dim:
            raise ValueError(f"{file.path}: RoPE over a part of the head is not supported")
        # Converters to GGUF permute the rows of Q and K so that RoPE turns adjacent pairs.
        self.rope_base = file.parameter("rope.freq_base", 10000.0)
        self._rope = Rope(head_dim, self.rope_base, adjacent_pairs=True)
        self.embedding = file.tensor("token_embd.weight")
        self.vocabulary = len(self.embedding)
        self.output = file.tensor("output.weight") if "output.weight" in file else self.embedding
        self._output_norm = file.tensor("output_norm.weight")
        self._blocks = [_Block(file, layer) for layer in range(layers)]

    def forward(self, tokens: np.ndarray, positions: np.ndarray, attend: Attend) -> np.ndarray:
        shape, count = self.shape, len(tokens)
        query_width, kv_width = shape.q_heads * shape.head_dim, shape.kv_heads * shape.head_dim
        angles = self._rope.angles(positions)
        x = self.embedding[tokens]
        for layer, block in enumerate(self._blocks):
            qkv = rms_norm(x, block.attention_norm, self._epsilon) @ block.qkv.T
            q = qkv[:, :query_width].reshape(count, shape.q_heads, shape.head_dim)
            k = qkv[:, query_width:query_width + kv_width].reshape(count, shape.kv_heads, shape.head_dim)
            v = qkv[:, query_width + kv_width:].reshape(count, shape.kv_heads, shape.head_dim)
            out = attend(layer, self._rope.rotate(q, angles), self._rope.rotate(k, angles), np.ascontiguousarray(v))
            x += out.reshape(count, query_width) @ block.attention_output.T
            gate_up = rms_norm(x, block.feed_forward_norm, self._epsilon) @ block.gate_up.T
            hidden = gate_up.shape[1] // 2
            x += (silu(gate_up[:, :hidden]) * gate_up[:, hidden:]) @ block.down.T
        return rms_norm(x, self._output_norm, self._epsilon)


class _Block:
    """Weights of one layer; matrices that read the same input are stacked into one product."""

    def __init__(self, file: GgufFile, layer: int):
        def weight(name: str) -> np.ndarray:
            return file.tensor(f"blk.{layer}.{name}.weight")

        self.attention_norm, self.feed_forward_norm = weight("attn_norm"), weight("ffn_norm")
        self.qkv = np.concatenate([weight("attn_q"), weight("attn_k"), weight("attn_v")])
        self.attention_output = weight("attn_output")
        self.gate_up = np.concatenate([weight("ffn_gate"), weight("ffn_up")])
        self.down = weight("ffn_down")
