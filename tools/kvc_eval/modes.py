"""What the user may write in --modes.

A mode is a codec (a preset's name or a codec string), an eviction policy (docs/POLICIES.md), or both with a plus sign:
    int4      k=int4.ch.g32.m8,v=int4.tok.rot.sym,window=128,sinks=4      h2o:20%      streaming:4+512      int4+h2o:50%
A policy alone keeps its tokens in fp16. Percentages are of the tokens of the text that is read.
"""
from dataclasses import dataclass

import kvc

POLICY_CODEC = "fp16"  # of modes that name a policy alone


@dataclass(frozen=True)
class Mode:
    name: str
    codec: str
    policy: str = ""  # canonical, "" for none


def split_modes(text: str) -> list[str]:
    """Splits --modes at its commas, except for those inside a codec or policy string: pieces like v=... continue the one before."""
    modes: list[str] = []
    for piece in (piece.strip() for piece in text.replace(";", ",").split(",")):
        if not piece:
            continue
        continues = "=" in piece.split("+")[0].split(":")[0] and not piece.startswith("k=")
        if continues and modes:
            modes[-1] += "," + piece
        else:
            modes.append(piece)
    if not modes:
        raise ValueError("--modes names no mode")
    return modes


def parse_mode(text: str) -> Mode:
    """The mode of that text; its parts are checked by the library."""
    library = kvc.default_library()
    if text.partition(":")[0] in library.policies():
        return Mode(text, POLICY_CODEC, library.policy_format(text))
    codec, plus, policy = text.partition("+")
    if not plus:
        return Mode(text, codec)
    if not policy:
        raise ValueError(f"mode {text}: a policy belongs after the plus sign")
    return Mode(text, codec, library.policy_format(policy))
