"""ONNX Runtime's side: GroupQueryAttention over a cache bound in place, so that nothing is copied. Speaks engine.h's protocol.

Types: f32, f16, int8 (one scale per tensor), int4 (one scale per channel); these are static scales, given with the model.
The cache is [kv_heads][tokens][head_dim], which is the operator's own layout ("stored").
"""

import sys
import time
from pathlib import Path

import numpy
import onnxruntime
from onnx import TensorProto, helper

PROMPT_TOKENS = 512
SHORT_TOKENS = 512     # of the attention that only wakes threads up
FLUSH_BYTES_FLOOR = 96 << 20
SHAPES = {"L": (8, 32, 128), "S": (3, 9, 64)}  # kv heads, query heads, head_dim
SCALE = {"int8": 4.0 / 127, "int4": 4.0 / 8}   # the numbers are normally distributed: 4 standard deviations fit


def model_bytes(kv_heads, q_heads, dim, cache_type):
    number = TensorProto.FLOAT16 if cache_type == "f16" else TensorProto.FLOAT
    cache = {"int8": TensorProto.INT8, "int4": TensorProto.UINT8}.get(cache_type, number)
    inputs = ["q", "k", "v", "past_k", "past_v", "seqlens", "total"]
    attributes = {"num_heads": q_heads, "kv_num_heads": kv_heads}
    if cache_type in SCALE:
        inputs += [""] * 5 + ["k_scale", "v_scale"]
        kind = "PER_TENSOR" if cache_type == "int8" else "PER_CHANNEL"
        attributes |= {"k_quant_type": kind, "v_quant_type": kind, "kv_cache_bit_width": int(cache_type[3:])}
    node = helper.make_node("GroupQueryAttention", inputs, ["out", "present_k", "present_v"], domain="com.microsoft", **attributes)
    value = helper.make_tensor_value_info
    graph_inputs = [value("q", number, [1, "s", q_heads * dim]), value("k", number, [1, "s", kv_heads * dim]),
                    value("v", number, [1, "s", kv_heads * dim]), value("past_k", cache, [1, kv_heads, "p", None]),
                    value("past_v", cache, [1, kv_heads, "p", None]), value("seqlens", TensorProto.INT32, [1]),
                    value("total", TensorProto.INT32, [1])]
    if cache_type in SCALE:
        graph_inputs += [value("k_scale", TensorProto.FLOAT, None), value("v_scale", TensorProto.FLOAT, None)]
    outputs = [value("out", number, [1, "s", q_heads * dim]), value("present_k", cache, [1, kv_heads, "t", None]),
               value("present_v", cache, [1, kv_heads, "t", None])]
    graph = helper.make_graph([node], "attention", graph_inputs, outputs)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


class Attention:
    """A cache of `tokens`, the last `queries` of which a run writes before it attends to all."""

    def __init__(self, session, shape, cache_type, tokens, queries):
        self.session, self.cache_type, self.tokens, self.queries = session, cache_type, tokens, queries
        self.kv_heads, self.q_heads, self.dim = shape
        self.random = numpy.random.default_rng(7)
        self.number = numpy.float16 if cache_type == "f16" else numpy.float32
        self.k, self.v = self.filled_cache(), self.filled_cache()
        self.past = [onnxruntime.OrtValue.ortvalue_from_numpy(x) for x in (self.k, self.v)]
        draw = lambda heads: self.random.standard_normal((1, queries, heads * self.dim), dtype=numpy.float32).astype(self.number)
        self.q = draw(self.q_heads)
        fixed = {"q": self.q, "k": draw(self.kv_heads), "v": draw(self.kv_heads),
                 "seqlens": numpy.array([tokens - 1], numpy.int32), "total": numpy.array([tokens], numpy.int32)}
        if cache_type in SCALE:
            n = 1 if cache_type == "int8" else self.kv_heads * self.dim
            shape_of_scale = (1,) if n == 1 else (1, self.kv_heads, 1, self.dim)
            fixed["k_scale"] = fixed["v_scale"] = numpy.full(shape_of_scale, SCALE[cache_type], numpy.float32)
        self.kept = fixed
        self.binding = session.io_binding()
        for name, array in fixed.items():
            self.binding.bind_cpu_input(name, array)
        for name, value in zip(("k", "v"), self.past):
            self.binding.bind_ortvalue_input("past_" + name, value)
            self.binding.bind_ortvalue_output("present_" + name, value)
        # The output in place as well: no allocation in the run.
        self.out = onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros((1, queries, self.q_heads * self.dim), self.number))
        self.binding.bind_ortvalue_output("out", self.out)

    def filled_cache(self):
        if self.cache_type == "int4":
            shape = (1, self.kv_heads, self.tokens, self.dim // 2)
        else:
            shape = (1, self.kv_heads, self.tokens, self.dim)
        dtype = {"int8": numpy.int8, "int4": numpy.uint8}.get(self.cache_type, self.number)
        cache = numpy.empty(shape, dtype)
        for head in range(self.kv_heads):  # by head, to stay small beside the cache
            x = self.random.standard_normal((self.tokens, self.dim), dtype=numpy.float32)
            if self.cache_type in SCALE:
                limit = 127 if self.cache_type == "int8" else 7
                codes = numpy.clip(numpy.rint(x / SCALE[self.cache_type]), -limit - 1, limit).astype(numpy.int8)
                x = codes if self.cache_type == "int8" else ((codes[:, 0::2] + 8) | ((codes[:, 1::2] + 8) << 4)).astype(numpy.uint8)
            cache[0, head] = x
        return cache

    def dequantized(self, part):
        """[kv_heads, tokens, dim] in double precision, of what the run has left in the cache."""
        held = self.past[part].numpy()[0]
        if self.cache_type == "int4":
            codes = numpy.empty((self.kv_heads, self.tokens, self.dim), numpy.float64)
            codes[..., 0::2], codes[..., 1::2] = held & 15, held >> 4
            return (codes - 8) * SCALE["int4"]
        return held.astype(numpy.float64) * SCALE.get(self.cache_type, 1.0)

    def run(self):
        start = time.perf_counter()
        self.session.run_with_iobinding(self.binding)
        return time.perf_counter() - start

    def error(self):
        k, v = self.dequantized(0), self.dequantized(1)
        q = self.q.astype(numpy.float64).reshape(self.queries, self.q_heads, self.dim)
        out = self.out.numpy().astype(numpy.float64).reshape(self.queries, self.q_heads, self.dim)
        visible = numpy.arange(self.tokens)[None, :] <= self.tokens - self.queries + numpy.arange(self.queries)[:, None]
        difference = norm = 0.0
        for head in range(self.q_heads):
            kv = head // (self.q_heads // self.kv_heads)
            logits = numpy.where(visible, q[:, head] @ k[kv].T / numpy.sqrt(self.dim), -numpy.inf)
            weights = numpy.exp(logits - logits.max(axis=1, keepdims=True))
            exact = weights @ v[kv] / weights.sum(axis=1, keepdims=True)
            difference += ((out[:, head] - exact) ** 2).sum()
            norm += (exact ** 2).sum()
        return float(numpy.sqrt(difference / norm))


def last_level_cache_bytes():
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().rstrip("K\n")) << 10
    except (OSError, ValueError):
        return 0


class Engine:
    def __init__(self):
        self.flush = numpy.ones(max(FLUSH_BYTES_FLOOR, 3 * last_level_cache_bytes()) // 8, numpy.uint64)
        self.prepared = None

    def prepare(self, kind, shape, cache_type, layout, context, threads):
        asked = (kind, shape, cache_type, layout, context, threads)
        if asked != self.prepared:
            if layout != "stored" or shape not in SHAPES or cache_type not in ("f32", "f16", "int8", "int4"):
                sys.exit(f"onnxruntime_engine: no such case: {asked}")
            self.attention = self.short = None
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = int(threads)
            options.log_severity_level = 3
            kv_heads, q_heads, dim = SHAPES[shape]
            session = onnxruntime.InferenceSession(model_bytes(kv_heads, q_heads, dim, cache_type), options,
                                                   providers=["CPUExecutionProvider"])
            queries = PROMPT_TOKENS if kind == "prefill" else 1
            tokens = int(context) + (PROMPT_TOKENS if kind == "prefill" else 0)
            self.attention = Attention(session, SHAPES[shape], cache_type, tokens, queries)
            self.short = Attention(session, SHAPES[shape], cache_type, SHORT_TOKENS, 1)
            self.prepared = asked
        return self.attention.k.nbytes + self.attention.v.nbytes

    def time(self, budget):
        self.attention.run()
        samples = []
        while not samples or sum(samples) < budget:
            self.flush.sum()
            self.short.run()
            samples.append(self.attention.run())
        return float(numpy.median(samples))

    def answer(self, verb, *words):
        if verb == "prepare":
            return f"ok {self.prepare(*words)}"
        if verb == "time":
            return f"seconds {self.time(float(words[0]) / 1000):.9g}"
        if verb == "check":
            return f"error {self.attention.error():.9g}"
        sys.exit(f"onnxruntime_engine: '{verb}' is no request")


if __name__ == "__main__":
    engine = Engine()
    for line in sys.stdin:
        print(engine.answer(*line.split()), flush=True)
