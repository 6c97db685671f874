"""What was computed for one prompt serves the next that begins alike, and a fork goes its own way from there."""
import numpy as np

from inputs import new_cache, run


def ids(n: int) -> np.ndarray:
    return 1000 * np.arange(n, dtype=np.int64) + 7


with new_cache() as cache:
    with cache.create_sequence() as first:
        run(cache, first, 200, data=1)
        cache.publish_prefix(first, ids(200), salt=b"tenant")
    original, hit = cache.look_up_prefix(ids(250), salt=b"tenant")
    print("hit", hit.tokens)
    fork = cache.fork(original, cache.length(original))
    run(cache, fork, 10, data=2)
    print("original", cache.length(original), "fork", cache.length(fork))
