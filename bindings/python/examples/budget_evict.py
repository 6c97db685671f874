"""A prompt of 512 tokens gives way to a budget: 256 tokens stay in each layer and head, the newest 32 among them."""
from inputs import LAYERS, new_cache, run

with new_cache() as cache:
    sequence = cache.create_sequence()
    run(cache, sequence, 512, data=1)
    report = cache.evict(sequence, budget=256, recent=32)
    for layer in range(LAYERS):
        print("layer", layer, "live", cache.live(sequence, layer, 0))
    print("evicted", report.tokens_evicted)
