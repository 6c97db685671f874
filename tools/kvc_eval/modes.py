"""What the user may write in --modes.

A mode is a codec (a preset's name or a codec string), an eviction policy (docs/POLICIES.md), or both with a plus sign:
    int4      k=int4.ch.g32.m8,v=int4.tok.rot.sym,window=128,sinks=4      h2o:20%      streaming:4+512      int4+h2o:50%
int8/int4@512/int2@1024 is a ladder: pages step down by age (docs/PRECISION.md).
@FILE is a calibration: a codec for every layer (docs/FORMATS.md section 6; a path without commas and plus signs).
A policy alone keeps its tokens in fp16. Percentages are of the tokens of the text that is read.
"""
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import kvc

POLICY_CODEC = "fp16"  # of modes that name a policy alone


@dataclass(frozen=True)
class Mode:
    name: str
    codec: str | tuple[str, ...]  # one for all layers, or one each
    policy: str = ""  # canonical, "" for none
    policy_text: str = ""  # as it was given: the canonical form can be longer than kvc_options.policy; "" = policy

    @property
    def cache_policy(self) -> str:
        """What a cache of this mode is given."""
        return self.policy_text or self.policy


def split_modes(text: str) -> list[str]:
    """Splits --modes at its commas, except for those inside a codec or policy string: pieces like v=... continue the one before."""
    modes: list[str] = []
    for piece in (piece.strip() for piece in text.replace(";", ",").split(",")):
        if not piece:
            continue
        begins = piece.startswith(("k=", "@")) or re.match("[^=]*/k=", piece)  # the last: a ladder whose first rung is a preset
        continues = "=" in piece.split("+")[0].split(":")[0] and not begins
        if continues and modes:
            modes[-1] += "," + piece
        else:
            modes.append(piece)
    if not modes:
        raise ValueError("--modes names no mode")
    return modes


def codec_options(codec: str | tuple[str, ...], layers: list[dict] | None = None) -> dict:
    """A mode's codec as options of a cache, together with what else differs in its layers."""
    if isinstance(codec, str):
        return dict(codec=codec, **(dict(layers_differ=layers) if layers else {}))
    return dict(layers_differ=[layer | dict(codec=own) for layer, own in zip(layers or [{}] * len(codec), codec, strict=True)])


def codec_names(codec: str | tuple[str, ...]) -> tuple[str, str]:
    """The parts k=... and v=... of the codec's canonical string."""
    if not isinstance(codec, str) or codec.startswith("@"):
        return "by layer", "by layer"
    if "/" in codec:
        return "by age", "by age"
    parts = dict(part.split("=", 1) for part in kvc.default_library().codec_format(codec).split(","))
    return parts["k"], parts["v"]


@contextmanager
def naming(mode: str) -> Iterator[None]:
    """What the library refuses inside is said with the mode that it was refused for."""
    try:
        yield
    except kvc.KvcError as fault:
        raise type(fault)(f"mode {mode}: {fault.message}", fault.status, fault.operation) from fault


def parse_mode(text: str) -> Mode:
    """The mode of that text; its parts are checked by the library."""
    with naming(text):
        library = kvc.default_library()
        if _is_policy(text):
            return Mode(text, POLICY_CODEC, library.policy_format(text), text)
        codec, plus, policy = text.partition("+")
        if plus and not policy:
            raise ValueError(f"mode {text}: a policy belongs after the plus sign")
        if not codec.startswith("@"):
            _check_codec(codec)
        return Mode(text, codec, library.policy_format(policy) if plus else "", policy)


def _is_policy(text: str) -> bool:
    """A policy alone, be it a misspelt one: codecs have no colon, and before a policy's there is one word."""
    library = kvc.default_library()
    return text in library.policies() or re.match(r"\w*:", text) is not None


def _check_codec(text: str) -> None:
    if re.fullmatch(r"\w*", text) and text not in kvc.default_library().presets():
        library = kvc.default_library()
        raise ValueError(f"mode {text}: neither a codec ({' '.join(library.presets())}) nor a policy ({' '.join(library.policies())}, "
                         "each with a budget, as in h2o:20%)")
    kvc.default_library().codec_format(text)


def check_acts(mode: Mode) -> None:
    """A policy that waits to be called would be judged as if it had evicted."""
    if mode.policy.startswith("given") or "every=never" in mode.policy:
        raise ValueError(f"mode {mode.name}: nobody calls kvc_evict here, so that this policy would never act")
