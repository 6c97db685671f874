"""Times BitDecoding's decode attention over the shapes of kvc_gpu_bench, by the method of flashinfer_decode.py, and writes its JSON:

    bitdecoding_decode.py --json OUT [--quick] [--only TEXT]

Its caches of 4 and 2 bits with groups of 128 are one block of memory for each sequence, which is what its published benchmark times; keys
are scaled by channel or by token, and the faster counts. Head dim 128 alone. Exits with 77 where there is no GPU or no BitDecoding.
"""

import argparse
import json
import math
import statistics
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import flashinfer_decode as method  # noqa: E402

GROUP = 128
DIM = 128
# What results may be off by against attention over the numbers before coding, most of it what coding loses. Wrong results are off by 1.
ERROR_LIMITS = {4: 0.35, 2: 0.9}


def cases(quick):
    return [fields[:6] for fields in method.CASES if fields[4] == DIM and fields[5] == 1 and (fields[6] or not quick)]


def shapes(batch, context, bits, mode):
    """(pack and scales of keys, pack and scales of values): as many codes as fit 16 bits lie along tokens, or along channels."""
    codes = 16 // bits
    by_token = ((batch, context, method.KV_HEADS, DIM // codes), (batch, DIM // GROUP, method.KV_HEADS, context))
    by_channel = ((batch, context // codes, method.KV_HEADS, DIM), (batch, context // GROUP, method.KV_HEADS, DIM))
    return (*(by_channel if mode == "k-channel" else by_token), *by_token)


def bytes_of(batch, context, bits, mode):
    k_pack, k_scales, v_pack, v_scales = (math.prod(shape) for shape in shapes(batch, context, bits, mode))
    return 2 * (k_pack + v_pack) + 4 * (k_scales + v_scales)


class Caches:
    """As many layers as are several times larger than the L2 cache; all hold the same numbers."""

    def __init__(self, torch, bit_decode, fields, bits, mode, l2_bytes):
        _, batch, context, group, _, _ = fields
        self.bit_decode, self.bits, self.mode = bit_decode, bits, mode
        random = torch.Generator("cuda").manual_seed(1)
        make = lambda *shape: torch.randn(shape, generator=random, device="cuda", dtype=torch.float16)  # noqa: E731
        self.q = make(batch, 1, method.KV_HEADS * group, DIM)
        self.bytes = bytes_of(batch, context, bits, mode)
        k, v = make(batch, context, method.KV_HEADS, DIM), make(batch, context, method.KV_HEADS, DIM)
        types = (torch.uint16, torch.float32, torch.uint16, torch.float32)
        first = [torch.zeros(shape, dtype=dtype, device="cuda") for shape, dtype in zip(shapes(batch, context, bits, mode), types)]
        starts = torch.arange(0, (batch + 1) * context, context, dtype=torch.int32, device="cuda")
        k_pack, k_scales, v_pack, v_scales = first
        bit_decode.kvcache_pack_int(k, k_pack, k_scales, v, v_pack, v_scales, None, starts, context, mode, GROUP, bits)
        count = max(1, math.ceil(method.L2_TIMES * l2_bytes / self.bytes))
        self.layers = [first, *([tensor.clone() for tensor in first] for _ in range(count - 1))]
        self.exact = [(row, head, self.exact_row(torch, k, v, row, head, group))
                      for row, head in {(0, 0), (batch - 1, method.KV_HEADS * group - 1)}]

    def exact_row(self, torch, k, v, row, head, group):
        keys, values = (part[row, :, head // group].to(torch.float64) for part in (k, v))
        return torch.softmax(keys @ self.q[row, 0, head].to(torch.float64) / math.sqrt(DIM), 0) @ values

    def run(self, layer):
        return self.bit_decode.fwd_kvcache_int(self.q, *self.layers[layer], None, 1 / math.sqrt(DIM), self.mode, GROUP, self.bits)

    def error(self):
        out = self.run(0)
        worst = max(float((out[row, 0, head].double() - exact).norm() / exact.norm()) for row, head, exact in self.exact)
        return worst if math.isfinite(worst) else math.inf


def try_mode(torch, bit_decode, fields, bits, mode, found):
    """Adds the mode's time, or why there is none; its figures become the result's if it is the fastest."""
    try:
        caches = Caches(torch, bit_decode, fields, bits, mode, torch.cuda.get_device_properties(0).L2_cache_size)
        samples, how = method.time_launches(torch, caches.run, len(caches.layers), method.LAUNCHES)
        error = caches.error()
    except Exception as failure:  # noqa: BLE001 - whatever it cannot do is written down, and the others go on
        found["variants"][mode] = f"failed: {type(failure).__name__}: {str(failure)[:200]}"
        return
    if error > ERROR_LIMITS[bits]:
        found["variants"][mode] = f"wrong: relative error {error:.1e}"
        return
    us = statistics.median(samples)
    found["variants"][mode] = round(us, 2)
    if found["us"] is None or us < found["us"]:
        found.update(us=us, us_low=min(samples), us_high=max(samples), variant=mode, timing=how, out_error=error, bytes=caches.bytes,
                     bytes_per_second=caches.bytes / us * 1e6)


def begin_result(version, fields, bits):
    name, batch, context, group, dim, new_tokens = fields
    return {"kind": "peer", "peer": f"BitDecoding {version}", "case": name, "codec": f"int{bits}", "batch": batch, "context": context,
            "kv_heads": method.KV_HEADS, "gqa": group, "new_tokens": new_tokens, "head_dim": dim, "us": None, "variants": {}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    try:
        import torch
        import bit_decode
    except ImportError as error:
        print(f"no BitDecoding: {error}", file=sys.stderr)
        return method.NO_DEVICE
    if not torch.cuda.is_available():
        print("no GPU", file=sys.stderr)
        return method.NO_DEVICE
    results = []
    for fields in cases(arguments.quick):
        for bits in (4, 2):
            if arguments.only not in f"{fields[0]} int{bits}":
                continue
            results.append(begin_result(metadata.version("bit_decode"), fields, bits))
            for mode in ("k-channel", "k-tensor"):
                try_mode(torch, bit_decode, fields, bits, mode, results[-1])
                torch.cuda.empty_cache()
            Path(arguments.json).write_text(json.dumps(results, indent=1))
            print(method.line_of(results[-1]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
