package kvc

import "kvc/raw"

// PlanRequest says how a cache will be used.
type PlanRequest struct {
	PartialCommit bool
	Tokens        int // per sequence
	Sequences     int // parallel ones; 0 = 1
	StepTokens    int // of one sequence per step while its prompt is read; 0 = 512
	BudgetBytes   int // for the two Max answers; 0 = do not compute them
}

// Plan is what such a cache takes; kvc_plan in kvc.h explains each number.
type Plan struct {
	ArenaBytes      int
	SlabBytes       int
	RecordBytes     int
	FP16Bytes       int
	MaxTokens       int
	MaxSequences    int
	CodecBits       float64
	EffectiveBits   float64
	CheckpointBytes int
}

// ComputePlan runs the allocator's own arithmetic.
func ComputePlan(options Options, request PlanRequest, layers ...Layer) (Plan, error) {
	asked, out := raw.NewKvc_plan_request(), raw.NewKvc_plan()
	defer raw.DeleteKvc_plan_request(asked)
	defer raw.DeleteKvc_plan(out)
	request.fill(asked)
	err := withShape("plan_compute", &options, layers, func(s shape, x *crossing) raw.Kvc_status {
		return raw.Kvc_plan_compute(s.options, s.layers, s.count, asked, out, x.failure)
	})
	if err != nil {
		return Plan{}, err
	}
	return planOf(out), nil
}

func (r *PlanRequest) fill(to raw.Kvc_plan_request) {
	to.SetPartial_commit(flag(r.PartialCommit))
	to.SetTokens(int64(r.Tokens))
	to.SetSequences(int64(r.Sequences))
	to.SetStep_tokens(int64(r.StepTokens))
	to.SetBudget_bytes(int64(r.BudgetBytes))
}

func planOf(from raw.Kvc_plan) Plan {
	return Plan{
		ArenaBytes:      int(from.GetArena_bytes()),
		SlabBytes:       int(from.GetSlab_bytes()),
		RecordBytes:     int(from.GetRecord_bytes()),
		FP16Bytes:       int(from.GetFp16_bytes()),
		MaxTokens:       int(from.GetMax_tokens()),
		MaxSequences:    int(from.GetMax_sequences()),
		CodecBits:       from.GetCodec_bits(),
		EffectiveBits:   from.GetEffective_bits(),
		CheckpointBytes: int(from.GetCheckpoint_bytes()),
	}
}
