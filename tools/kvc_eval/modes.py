"""What the user may write in --modes.

A mode is a codec (a preset's name or a codec string) and, after a plus sign, possibly an eviction policy:
    int4      k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=128,sinks=4      fp16+stream:516      int4+h2o:20%
Policies act after every EVICT_EVERY tokens by position, however the text is cut into steps. Their budget counts
all tokens kept per layer and head, or a share of the text's tokens.
"""
from dataclasses import dataclass

EVICT_EVERY = 64
POLICIES = ("stream", "h2o")


@dataclass(frozen=True)
class Mode:
    name: str
    codec: str
    policy: str = "none"
    budget: str = ""

    def budget_tokens(self, tokens: int) -> int:
        """Tokens to keep of a text of so many tokens."""
        if self.budget.endswith("%"):
            return max(1, int(tokens * float(self.budget[:-1]) / 100))
        return int(self.budget)

    def cuts(self, first: int, end: int) -> list[tuple[int, int]]:
        """Steps that read positions first .. end - 1: one, unless a policy acts in between."""
        if self.policy == "none":
            return [(first, end)]
        inner = range((first // EVICT_EVERY + 1) * EVICT_EVERY, end, EVICT_EVERY)
        edges = [first, *inner, end]
        return list(zip(edges, edges[1:]))


def split_modes(text: str) -> list[str]:
    """Splits --modes at its commas, except for those inside a codec string (pieces like v=... continue the one before)."""
    modes: list[str] = []
    for piece in (piece.strip() for piece in text.replace(";", ",").split(",")):
        if not piece:
            continue
        continues = "=" in piece.split("+")[0] and not piece.startswith("k=")
        if continues and modes and modes[-1].startswith("k="):
            modes[-1] += "," + piece
        else:
            modes.append(piece)
    if not modes:
        raise ValueError("--modes names no mode")
    return modes


def parse_mode(text: str) -> Mode:
    codec, plus, rest = text.partition("+")
    if not plus:
        return Mode(text, codec)
    policy, _, budget = rest.partition(":")
    number = budget.removesuffix("%")
    if policy not in POLICIES or not number.replace(".", "", 1).isdigit() or float(number) <= 0:
        raise ValueError(f"mode {text}: after the plus sign comes {' or '.join(POLICIES)}, a colon and a budget such as 516 or 20%")
    return Mode(text, codec, policy, budget)
