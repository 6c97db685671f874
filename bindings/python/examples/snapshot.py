"""A sequence leaves the cache as bytes, comes back, and goes on where it was."""
import hashlib

from inputs import new_cache, run

with new_cache() as cache:
    with cache.create_sequence() as sequence:
        run(cache, sequence, 200, data=1)
        snapshot = cache.export([sequence])
    print("bytes", len(snapshot))
    [restored] = cache.import_(snapshot)
    print("restored", cache.length(restored))
    print("sha256", hashlib.sha256(run(cache, restored, 1, data=1)).hexdigest())
