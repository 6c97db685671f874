"""What is compared with what."""

from dataclasses import dataclass

# The peers' types beside each preset of kvc: equal bits first. Layouts: "contiguous" = the tokens of one head side by side.
LLAMA_TYPES = {"fp16": "f16", "int8": "q8_0", "int4": "q4_0", "int2": "q4_0"}
ONNXRUNTIME_TYPES = {"fp16": ["f16", "f32"], "int8": ["int8"], "int4": ["int4", "int8"], "int2": ["int4"]}
PRESETS = list(LLAMA_TYPES)
PREFILL_CONTEXT = 4096


@dataclass(frozen=True)
class Case:
    kind: str
    shape: str
    codec: str
    peer: str
    peer_type: str
    peer_layout: str
    context: int
    threads: int

    def kvc_request(self):
        return f"{self.kind} {self.shape} {self.codec} stored {self.context} {self.threads}"

    def peer_request(self):
        return f"{self.kind} {self.shape} {self.peer_type} {self.peer_layout} {self.context} {self.threads}"


@dataclass(frozen=True)
class Goal:
    case: Case
    ratio: float


def goal(codec, peer, peer_type, layout, ratio):
    return Goal(Case("decode", "L", codec, peer, peer_type, layout, 32768, 2), ratio)


GOALS = [
    goal("int4", "llama.cpp", "q4_0", "contiguous", 8.0),
    goal("int4", "onnxruntime", "int4", "stored", 2.0),
    goal("fp16", "llama.cpp", "f16", "contiguous", 1.5),
]


def against_all(kind, shape, context, threads, presets=PRESETS):
    for codec in presets:
        layouts = ["stored"] if kind == "prefill" else ["contiguous", "stored"]
        for layout in layouts:
            yield Case(kind, shape, codec, "llama.cpp", LLAMA_TYPES[codec], layout, context, threads)
        # In prefill ONNX Runtime's 16 bits are its fastest form, whatever is stored: the one to beat for every preset.
        types = dict.fromkeys(ONNXRUNTIME_TYPES[codec] + (["f16"] if kind == "prefill" else []))
        for peer_type in types:
            yield Case(kind, shape, codec, "onnxruntime", peer_type, "stored", context, threads)


def quick_cases():
    cases = [g.case for g in GOALS]
    cases += against_all("decode", "L", 32768, 2, ["int8", "int4"])
    cases += [Case("prefill", "L", "int4", "onnxruntime", "f16", "stored", PREFILL_CONTEXT, 2)]
    return list(dict.fromkeys(cases))


def all_cases():
    cases = [g.case for g in GOALS]
    for context in (4096, 32768, 131072):
        cases += against_all("decode", "L", context, 2)
    cases += against_all("decode", "L", 32768, 1)
    for context in (4096, 32768):
        cases += against_all("decode", "S", context, 2)
    for shape in ("L", "S"):
        cases += against_all("prefill", shape, PREFILL_CONTEXT, 2)
    return list(dict.fromkeys(cases))
