# Left out of the laws on CUDA devices are those that do not hold there as they are written:
set(left_out
    # A number that cannot be stored is found behind append; the random scripts and late.cpp have that.
    "not finite: refused at once*" "saturate: clamps*" "order: tokens that arrive*"
    "interplay: what a policy had to put off*" "page mass: neither the cut*"  # keys that are coded per token, for which there are no kernels
    "byte budgets: without a window*")  # bytes of head dims below 64
# And those that take longest, for the gate and for bench/gpu/run; test-full has them.
set(long
    "ages: what is stored*" "budgets: in bytes*" "byte budgets: they hold*" "cut: behind*" "every policy*" "full arena: an eviction that empties*"
    "full arena: likewise*" "interplay: an import*" "interplay: detours*" "page mass: of every*" "planner: likewise*" "policies: between*"
    "precision: a full*" "prefix budget: an entry*" "prefix memory: a s*" "prefix memory: an entry*" "prefix memory: forks*" "prefix step-down: *" "prefix: L is*" "prefix: a conversation*" "prefix: a hit*"
    "prefix: an entry*" "prefix: of several*" "prefix: under*" "prefix: what has*" "quantized once more: *" "quantized once: a sequence*"
    "repacked: each*" "sealed policies: a hit*" "sealed policies: what the*" "sealed policies: where*" "sealed prefix: an arena*"
    "sealed prefix: hits*" "sealed prefix: it holds*" "short sliding window: answers*" "spare pages: below*" "streaming budgets: a*"
    "streaming budgets: growth*" "streaming budgets: whatever*")
list(JOIN left_out "," left_out)
list(JOIN long "," long)
