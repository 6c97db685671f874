"""Times FlashInfer's attention over the shapes of kvc_gpu_bench, by the same method, and writes JSON of the same form.

    flashinfer_decode.py --json OUT [--quick] [--only TEXT]

Every case is tried with each page size, layout and kernel that FlashInfer has for it; the fastest is the peer's figure. Exits with 77
where there is no GPU or no FlashInfer.
"""

import argparse
import ctypes
import json
import math
import statistics
import sys
import time

NO_DEVICE = 77
SAMPLES, LAUNCHES, WARM_UP_SECONDS, L2_TIMES = 9, 20, 0.05, 4
ERROR_LIMIT = 3e-3

# name, batch, context, query heads for each of the 8 kv heads, head dim, new tokens, also with --quick; as in kvc_gpu_bench.cpp
CASES = [
    ("batch16-32k-gqa4", 16, 32768, 4, 128, 1, True),
    ("batch16-32k-gqa8", 16, 32768, 8, 128, 1, False),
    ("batch16-32k-dim64", 16, 32768, 4, 64, 1, False),
    ("batch1-32k", 1, 32768, 4, 128, 1, True),
    ("batch1-128k", 1, 131072, 4, 128, 1, True),
    ("prompt2k-32k", 1, 34816, 4, 128, 2048, True),
]
KV_HEADS = 8


def variants(quick, new_tokens, safe):
    """(page size, layout, kernel): decode without tensor cores, by FlashAttention 2's kernel, by XQA; prompts by FlashAttention 2's and 3's.

    safe: FlashAttention 2's and the plain kernels; the others, which may end the whole program, come when these are written down.
    """
    kernels = ("cuda_cores", "fa2") if new_tokens == 1 else ("fa2",)
    others = ("xqa",) if new_tokens == 1 else ("fa3",)
    for kernel in kernels if safe else others:
        for page in (64,) if kernel == "xqa" else (16, 64):
            for layout in ("HND",) if quick or kernel == "xqa" else ("HND", "NHD"):
                yield page, layout, kernel


class Case:
    """A cache of random numbers in shuffled pages, as many layers as make it several times larger than the L2 cache."""

    def __init__(self, torch, name, batch, context, group, dim, new_tokens, dtype, page, layout, l2_bytes, device="cuda"):
        self.torch, self.name, self.batch, self.context, self.group, self.dim, self.page = torch, name, batch, context, group, dim, page
        self.layout, self.new_tokens = layout, new_tokens
        self.pages = context // page
        total = batch * self.pages
        size = 2 * batch * context * KV_HEADS * dim * torch.finfo(dtype).bits // 8
        self.bytes = size
        self.layers = max(1, math.ceil(L2_TIMES * l2_bytes / size))
        inner = (KV_HEADS, page) if layout == "HND" else (page, KV_HEADS)
        random = torch.Generator(device).manual_seed(1)
        self.kv = torch.empty((self.layers, total, 2, *inner, dim), dtype=dtype, device=device)
        for layer in range(self.layers):  # a layer at a time, because half precision needs room for the numbers it is rounded from
            for part in self.kv[layer].split(max(1, (1 << 28) // (2 * page * KV_HEADS * dim))):
                part.copy_(torch.randn(part.shape, generator=random, device=device, dtype=torch.float16))
        order = torch.randperm(total, generator=torch.Generator().manual_seed(2), dtype=torch.int32)
        self.indices = order.to(device)
        self.indptr = torch.arange(batch + 1, dtype=torch.int32) * self.pages
        self.last = torch.full((batch,), page, dtype=torch.int32)
        self.q = torch.randn((batch * new_tokens, KV_HEADS * group, dim), generator=random, device=device, dtype=torch.float16)
        self.out = torch.empty_like(self.q)

    def exact(self, layer, row, head):
        """Attention of one query row in double precision; row: [batch][new_tokens]."""
        torch = self.torch
        sequence, seen = row // self.new_tokens, self.context - (self.new_tokens - 1 - row % self.new_tokens)
        mine = self.indices[sequence * self.pages:(sequence + 1) * self.pages].long()
        # As bytes, because not every type can be indexed.
        pages = self.kv[layer].view(torch.uint8)[mine].view(self.kv.dtype)
        pages = pages[:, :, head // self.group] if self.layout == "HND" else pages[:, :, :, head // self.group]
        k, v = (pages[:, part].reshape(-1, self.dim)[:seen].to(torch.float64) for part in (0, 1))
        p = torch.softmax(k @ self.q[row, head].to(torch.float64) / math.sqrt(self.dim), 0)
        return p @ v

    def error(self, layer):
        worst = 0.0
        for row, head in {(0, 0), (self.batch * self.new_tokens - 1, KV_HEADS * self.group - 1)}:
            exact = self.exact(layer, row, head)
            difference = (self.out[row, head].double() - exact).norm() / exact.norm()
            worst = max(worst, float(difference)) if math.isfinite(float(difference)) else math.inf
        return worst


def runner(flashinfer, torch, case, kernel, workspace):
    """run(layer): one launch of the kernel over the layer's cache."""
    if kernel == "xqa":
        tables = case.indices.reshape(case.batch, case.pages)
        lengths = torch.full((case.batch,), case.context, dtype=torch.int32, device="cuda")
        return lambda layer: flashinfer.decode.trtllm_batch_decode_with_kv_cache(
            case.q, case.kv[layer], workspace, tables, lengths, case.context, bmm1_scale=1 / math.sqrt(case.dim), bmm2_scale=1.0,
            out=case.out, kv_layout=case.layout, backend="xqa")
    if case.new_tokens > 1:
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, case.layout, backend=kernel)
        starts = torch.arange(case.batch + 1, dtype=torch.int32) * case.new_tokens
        wrapper.plan(starts, case.indptr, case.indices, case.last, KV_HEADS * case.group, KV_HEADS, case.dim, case.page, causal=True,
                     q_data_type=torch.float16, kv_data_type=case.kv.dtype)
        return lambda layer: wrapper.run(case.q, case.kv[layer], out=case.out)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, case.layout, use_tensor_cores=kernel != "cuda_cores",
                                                            backend="fa2" if kernel == "fa2" else "auto")
    wrapper.plan(case.indptr, case.indices, case.last, KV_HEADS * case.group, KV_HEADS, case.dim, case.page,
                 q_data_type=torch.float16, kv_data_type=case.kv.dtype)
    return lambda layer: wrapper.run(case.q, case.kv[layer], out=case.out)


def time_launches(torch, run, layers, launches):
    """Microseconds of a launch, one number a sample, and how: replays of a graph, or plain launches if they cannot be captured."""
    turns = math.ceil(launches / layers)

    def plain():
        for _ in range(turns):
            for layer in range(layers):
                run(layer)

    plain()
    torch.cuda.synchronize()
    launch, how = plain, "launches"
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            plain()
        launch, how = graph.replay, "graph"
    except RuntimeError as error:
        print(f"  not captured: {error}", file=sys.stderr)
        torch.cuda.synchronize()
    end = time.monotonic() + WARM_UP_SECONDS
    while time.monotonic() < end:
        launch()
        torch.cuda.synchronize()
    samples = []
    for _ in range(SAMPLES):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        launch()
        after.record()
        after.synchronize()
        samples.append(1e3 * before.elapsed_time(after) / (turns * layers))
    return samples, how


def measure(flashinfer, torch, fields, dtype, page, layout, kernel, workspace):
    case = Case(torch, *fields, dtype, page, layout, torch.cuda.get_device_properties(0).L2_cache_size)
    workspace.zero_()
    run = runner(flashinfer, torch, case, kernel, workspace)
    samples, how = time_launches(torch, run, case.layers, LAUNCHES if case.new_tokens == 1 else 4)
    case.out.fill_(math.nan)
    run(case.layers - 1)
    torch.cuda.synchronize()
    return case, samples, how, case.error(case.layers - 1)


def begin_result(flashinfer, fields, codec):
    name, batch, context, group, dim, new_tokens = fields
    return {"kind": "peer", "peer": f"flashinfer {flashinfer.__version__}", "case": name, "codec": codec, "batch": batch,
            "context": context, "kv_heads": KV_HEADS, "gqa": group, "new_tokens": new_tokens, "head_dim": dim, "us": None, "variants": {}}


def try_variant(flashinfer, torch, fields, dtype, variant, workspace, found):
    """Adds the variant's time, or why there is none, to the result; its figures become the result's if it is the fastest."""
    page, layout, kernel = variant
    label = f"{kernel} {layout} page {page}"
    try:
        case, samples, how, error = measure(flashinfer, torch, fields, dtype, page, layout, kernel, workspace)
    except Exception as failure:  # noqa: BLE001 - whatever a variant cannot do is written down, and the others go on
        found["variants"][label] = f"failed: {type(failure).__name__}: {str(failure)[:200]}"
        return
    us = statistics.median(samples)
    if error > ERROR_LIMIT:
        found["variants"][label] = f"wrong: relative error {error:.1e}"
        return
    found["variants"][label] = round(us, 2)
    if found["us"] is None or us < found["us"]:
        found.update(us=us, us_low=min(samples), us_high=max(samples), variant=label, timing=how, out_error=error, bytes=case.bytes,
                     bytes_per_second=case.bytes / us * 1e6)


def measure_all(flashinfer, torch, quick, only, save):
    workspace = torch.zeros(256 << 20, dtype=torch.uint8, device="cuda")
    results = {}
    for safe in (True, False):
        for *fields, is_quick in CASES:
            for codec, dtype in (("fp16", torch.float16), ("fp8", torch.float8_e4m3fn)):
                if only not in f"{fields[0]} {codec}" or (quick and not is_quick):
                    continue
                found = results.setdefault((fields[0], codec), begin_result(flashinfer, fields, codec))
                for variant in variants(quick, fields[5], safe):
                    try_variant(flashinfer, torch, fields, dtype, variant, workspace, found)
                    torch.cuda.empty_cache()
                    save(list(results.values()))
                print(line_of(found), flush=True)


def line_of(found):
    if found["us"] is None:
        return f"{found['case']:20} {found['codec']:5} not measured: {found['variants']}"
    return (f"{found['case']:20} {found['codec']:5} {found['us']:9.1f} us ({found['us_low']:.1f}-{found['us_high']:.1f}) "
            f"{found['bytes_per_second'] * 1e-9:7.1f} GB/s, {found['variant']}, by {found['timing']}; {found['variants']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    try:
        import torch
        import flashinfer
        import flashinfer.decode
    except ImportError as error:
        print(f"no FlashInfer: {error}", file=sys.stderr)
        return NO_DEVICE
    if torch.cuda.is_available():
        # Modules that were linked without a driver do not name its library, and find its functions here.
        ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
    else:
        print("no GPU", file=sys.stderr)
        return NO_DEVICE

    def save(results):
        with open(arguments.json, "w") as out:
            json.dump(results, out, indent=1)

    measure_all(flashinfer, torch, arguments.quick, arguments.only, save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
