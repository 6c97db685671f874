"""A prompt of 200 tokens, then 8 tokens one by one: keys and values go in, attention over the compressed pages comes out."""
import hashlib

from inputs import new_cache, run

with new_cache() as cache:
    sequence, digest = cache.create_sequence(), hashlib.sha256()
    for tokens in [200] + 8 * [1]:
        digest.update(run(cache, sequence, tokens, data=1))
    print("tokens", cache.length(sequence))
    print("sha256", digest.hexdigest())
    print("record_bytes", cache.sequence_stats(sequence).record_bytes)
