"""Forward pass of the gemma3 architecture (text only).

What differs from llama: embeddings scaled by the root of the width, norms of Q and K per head, norms after
attention and feed-forward, GeGLU, NeoX pairs in RoPE, and five layers in six that see a sliding window
only and use another RoPE base.
"""
import numpy as np

from .gguf_file import GgufFile
from .layers import Rope, gelu_tanh, rms_norm
from .model import AttentionShape, Attend, Model

GLOBAL_LAYER_PERIOD = 6  # layers 5, 11, 17, ... see all tokens
LOCAL_ROPE_BASE = 10000.0  # of the sliding-window layers; the GGUF names only the global layers' base


class Gemma3(Model):
    def __init__(self, file: GgufFile):
        self.name = file.metadata.get("general.name", file.path.stem)
        layers, width = file.parameter("block_count"), file.parameter("embedding_length")
        q_heads, kv_heads = file.parameter("attention.head_count"), file.parameter("attention.head_count_kv")
        head_dim = file.parameter("attention.key_length")
        window = file.parameter("attention.sliding_window")
        windows = tuple(0 if (layer + 1) % GLOBAL_LAYER_PERIOD == 0 else window for layer in range(layers))
        self.shape = AttentionShape(layers, q_heads, kv_heads, head_dim, windows)
        self.context_length = file.parameter("context_length")
        self._epsilon = file.parameter("attention.layer_norm_rms_epsilon")
        self._global_rope = Rope(head_dim, file.parameter("rope.freq_base", 1000000.0), adjacent_pairs=False)
        self._local_rope = Rope(head_dim, LOCAL_ROPE_BASE, adjacent_pairs=False)
        self.embedding = file.tensor("token_embd.weight")
        self._embedding_scale = np.float32(np.sqrt(width))
        self.vocabulary = len(self.embedding)
        self.output = file.tensor("output.weight") if "output.weight" in file else self.embedding
        self._output_norm = file.tensor("output_norm.weight")
        self._blocks = [_Block(file, layer) for layer in range(layers)]

    def forward(self, tokens: np.ndarray, positions: np.ndarray, attend: Attend) -> np.ndarray:
        shape, count, epsilon = self.shape, len(tokens), self._epsilon
        query_width, kv_width = shape.q_heads * shape.head_dim, shape.kv_heads * shape.head_dim
        local_angles, global_angles = self._local_rope.angles(positions), self._global_rope.angles(positions)
        x = self.embedding[tokens] * self._embedding_scale
        for layer, block in enumerate(self._blocks):
            rope, angles = (self._local_rope, local_angles) if shape.windows[layer] else (self._global_rope, global_angles)
            qkv = rms_norm(x, block.attention_norm, epsilon) @ block.qkv.T
            q = qkv[:, :query_width].reshape(count, shape.q_heads, shape.head_dim)
            k = qkv[:, query_width:query_width + kv_width].reshape(count, shape.kv_heads, shape.head_dim)
            v = qkv[:, query_width + kv_width:].reshape(count, shape.kv_heads, shape.head_dim)
            q, k = rms_norm(q, block.q_norm, epsilon), rms_norm(k, block.k_norm, epsilon)
            out = attend(layer, rope.rotate(q, angles), rope.rotate(k, angles), np.ascontiguousarray(v))
            x += rms_norm(out.reshape(count, query_width) @ block.attention_output.T, block.post_attention_norm, epsilon)
            gate_up = rms_norm(x, block.feed_forward_norm, epsilon) @ block.gate_up.T
            hidden = gate_up.shape[1] // 2
            feed_forward = (gelu_tanh(gate_up[:, :hidden]) * gate_up[:, hidden:]) @ block.down.T
            x += rms_norm(feed_forward, block.post_feed_forward_norm, epsilon)
        return rms_norm(x, self._output_norm, epsilon)


class _Block:
    """Weights of one layer. The converter to GGUF has already added the 1 of Gemma's (1 + weight) norms."""

    def __init__(self, file: GgufFile, layer: int):
        def weight(name: str) -> np.ndarray:
            return file.tensor(f"blk.{layer}.{name}.weight")

        self.attention_norm, self.feed_forward_norm = weight("attn_norm"), weight("ffn_norm")
        self.post_attention_norm, self.post_feed_forward_norm = weight("post_attention_norm"), weight("post_ffw_norm")
        self.q_norm, self.k_norm = weight("attn_q_norm"), weight("attn_k_norm")
        self.qkv = np.concatenate([weight("attn_q"), weight("attn_k"), weight("attn_v")])
        self.attention_output = weight("attn_output")
        self.gate_up = np.concatenate([weight("ffn_gate"), weight("ffn_up")])
        self.down = weight("ffn_down")
