"""kvc behind the interface that the models use, against the fp32 reference."""
import numpy as np
import pytest
from kvc_eval.compressed_cache import CompressedCache
from kvc_eval.evaluate import Reader
from kvc_eval.model import AttentionShape
from kvc_eval.modes import parse_mode
from kvc_eval.reference_cache import ReferenceCache

SHAPE = AttentionShape(2, 4, 2, 64, (0, 70))  # the second layer sees a sliding window


class EchoModel:
    """A model of nothing but attention: q, k and v are drawn from the token id, and the layers' outputs are added."""
    shape = SHAPE

    def forward(self, tokens, positions, attend):
        hidden = np.zeros((len(tokens), 4, 64), np.float32)
        for layer in range(SHAPE.layers):
            q, k, v = (np.stack([draw(int(token), layer, part) for token in tokens])[:, :heads].copy()
                       for part, heads in ((0, 4), (1, 2), (2, 2)))
            hidden += attend(layer, q, k, v)
        return hidden.reshape(len(tokens), -1)


def draw(token: int, layer: int, part: int) -> np.ndarray:
    return np.random.default_rng([token, layer, part]).standard_normal((4, 64)).astype(np.float32)


def open_reader(codec: str, sequences: int, tokens: int, **options) -> Reader:
    cache = CompressedCache(SHAPE, codec, 1, arena_tokens=tokens, arena_sequences=sequences, arena_growth=1, **options)
    return Reader(EchoModel(), cache, [cache.create_sequence() for _ in range(sequences)])


@pytest.mark.parametrize("codec, bound", [("fp16", 2e-3), ("int8", 2e-2), ("int4", 0.2)])
def test_ragged_batches_over_sliding_layers(codec, bound):
    reference = ReferenceCache(SHAPE)
    truth = Reader(EchoModel(), reference, [reference.create_sequence() for _ in range(2)])
    reader = open_reader(codec, 2, 400)
    for first, end, other in ((0, 300, 40), (300, 301, 1), (301, 330, 0)):
        pieces = [np.arange(first, end), np.arange(900, 900 + other)]
        for expected, got in zip(truth.read(pieces), reader.read(pieces)):
            assert np.linalg.norm(got - expected) <= bound * np.linalg.norm(expected)
    assert reader.cache.length(reader.sequences[0]) == 330 and reader.seconds > 0
    reader.cache.close()


@pytest.mark.parametrize("policy", ["streaming", "h2o"])
def test_policies_keep_their_budget(policy):
    mode = parse_mode(f"{policy}:100")
    reader = open_reader(mode.codec, 1, 400, policy=mode.policy)
    reader.read([np.arange(320)])
    kept = reader.cache.cache.positions(reader.sequences[0], 0, 0)
    # Whole pages of the newest tokens, or exactly the budget.
    assert len(kept) == (4 + 96 + (320 - 100) % 64 if policy == "streaming" else 100) and set(range(4)) <= set(kept.tolist())
    newest = len(kept) - 4 if policy == "streaming" else 50
    assert set(range(320 - newest, 320)) <= set(kept.tolist())
    assert (np.diff(kept[4:]) == 1).all() == (policy == "streaming")
    reader.cache.close()


def test_bytes_held_follow_the_codec():
    held = {}
    for codec in ("fp16", "int4"):
        reader = open_reader(codec, 1, 1000)
        reader.read([np.arange(1000)])
        held[codec] = reader.cache.bytes_held(reader.sequences[0])
        reader.cache.close()
    assert held["int4"] < 0.6 * held["fp16"]
    assert reader.cache.codec_names() == ("int4.ch.g32.m8", "int4.tok.rot.sym")
