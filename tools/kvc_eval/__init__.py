"""kvc-eval: what compressing the KV cache costs a real language model, measured."""
