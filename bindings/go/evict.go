package kvc

import "kvc/raw"

// EvictOptions says where and how much Evict and EvictKeep act; ends of 0 mean all layers, all kv heads.
type EvictOptions struct {
	LayerBegin, LayerEnd int
	HeadBegin, HeadEnd   int
	Budget               int // tokens to keep per layer and head; 0 = the policy's
	Recent               int // newest tokens to keep besides
}

// EvictReport tells what an eviction or a merge did.
type EvictReport struct {
	TokensEvicted  int
	RecordsFreed   int
	BytesFreed     int
	TokensRepacked int
	TokensMerged   int
}

func (o *EvictOptions) fill(to raw.Kvc_evict_options) {
	to.SetLayer_begin(int64(o.LayerBegin))
	to.SetLayer_end(int64(o.LayerEnd))
	to.SetHead_begin(int64(o.HeadBegin))
	to.SetHead_end(int64(o.HeadEnd))
	to.SetBudget(int64(o.Budget))
	to.SetRecent(int64(o.Recent))
}

func evictReportOf(from raw.Kvc_evict_report) EvictReport {
	return EvictReport{
		TokensEvicted:  int(from.GetTokens_evicted()),
		RecordsFreed:   int(from.GetRecords_freed()),
		BytesFreed:     int(from.GetBytes_freed()),
		TokensRepacked: int(from.GetTokens_repacked()),
		TokensMerged:   int(from.GetTokens_merged()),
	}
}

// reported runs a call that fills an EvictReport.
func (s *Sequence) reported(operation string,
	run func(cache uintptr, sequence int64, out raw.Kvc_evict_report, x *crossing) raw.Kvc_status) (EvictReport, error) {
	out := raw.NewKvc_evict_report()
	defer raw.DeleteKvc_evict_report(out)
	err := s.call(operation, func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status { return run(cache, sequence, out, x) })
	if err != nil {
		return EvictReport{}, err
	}
	return evictReportOf(out), nil
}

// Evict evicts down to the budget by the policy.
func (s *Sequence) Evict(options EvictOptions) (EvictReport, error) { return s.evict(nil, options) }

// EvictByScores is Evict where the highest scores stay: [layers acted on, heads acted on, length - first position].
func (s *Sequence) EvictByScores(scores []float32, options EvictOptions) (EvictReport, error) {
	return s.evict(given(scores), options)
}

func (s *Sequence) evict(scores []float32, options EvictOptions) (EvictReport, error) {
	with := raw.NewKvc_evict_options()
	defer raw.DeleteKvc_evict_options(with)
	options.fill(with)
	return s.reported("evict", func(cache uintptr, sequence int64, out raw.Kvc_evict_report, x *crossing) raw.Kvc_status {
		return raw.Kvc_evict(cache, sequence, scores, with, out, x.failure)
	})
}

// EvictKeep evicts all tokens but those at the positions (ascending), sinks and the residual window.
func (s *Sequence) EvictKeep(positions []int64, options EvictOptions) (EvictReport, error) {
	with := raw.NewKvc_evict_options()
	defer raw.DeleteKvc_evict_options(with)
	options.fill(with)
	return s.reported("evict_keep", func(cache uintptr, sequence int64, out raw.Kvc_evict_report, x *crossing) raw.Kvc_status {
		return raw.Kvc_evict_keep(cache, sequence, positions, with, out, x.failure)
	})
}

// MergeOptions says where and how Merge acts; ends of 0 mean all layers, all kv heads.
type MergeOptions struct {
	LayerBegin, LayerEnd int
	HeadBegin, HeadEnd   int
	ValuesOnly           bool // the kept token's key stays as it is
	Unbiased             bool // log(count) is not added to logits
}

func (o *MergeOptions) fill(to raw.Kvc_merge_options) {
	to.SetLayer_begin(int64(o.LayerBegin))
	to.SetLayer_end(int64(o.LayerEnd))
	to.SetHead_begin(int64(o.HeadBegin))
	to.SetHead_end(int64(o.HeadEnd))
	to.SetValues_only(flag(o.ValuesOnly))
	to.SetUnbiased(flag(o.Unbiased))
}

// Merge joins tokens: clusters [layers acted on, heads acted on, length - first position] names the token that each joins, itself
// if it stays, -1 if it is dropped.
func (s *Sequence) Merge(clusters []int32, options MergeOptions) (EvictReport, error) {
	with := raw.NewKvc_merge_options()
	defer raw.DeleteKvc_merge_options(with)
	options.fill(with)
	return s.reported("merge", func(cache uintptr, sequence int64, out raw.Kvc_evict_report, x *crossing) raw.Kvc_status {
		return raw.Kvc_merge(cache, sequence, clusters, with, out, x.failure)
	})
}

// StepDownOptions says which pages go down a ladder, and how far.
type StepDownOptions struct {
	Rung                 int32 // lowest rung that pages take; 0 = each layer's lowest
	LayerBegin, LayerEnd int
	BudgetBytes          int // of the sequence's records afterwards; 0 = all pages go down
	Recent               int // pages that hold one of so many newest tokens stay
}

// StepDownReport tells what StepDown did.
type StepDownReport struct {
	Pages             int
	TokensRequantized int
	BytesFreed        int
	RecordBytes       int
}

func (o *StepDownOptions) fill(to raw.Kvc_step_down_options) {
	to.SetRung(o.Rung)
	to.SetLayer_begin(int64(o.LayerBegin))
	to.SetLayer_end(int64(o.LayerEnd))
	to.SetBudget_bytes(int64(o.BudgetBytes))
	to.SetRecent(int64(o.Recent))
}

func stepDownReportOf(from raw.Kvc_step_down_report) StepDownReport {
	return StepDownReport{
		Pages:             int(from.GetPages()),
		TokensRequantized: int(from.GetTokens_requantized()),
		BytesFreed:        int(from.GetBytes_freed()),
		RecordBytes:       int(from.GetRecord_bytes()),
	}
}

// StepDown codes pages once more with fewer bits, along the ladder that the codec names.
func (s *Sequence) StepDown(options StepDownOptions) (StepDownReport, error) {
	with, out := raw.NewKvc_step_down_options(), raw.NewKvc_step_down_report()
	defer raw.DeleteKvc_step_down_options(with)
	defer raw.DeleteKvc_step_down_report(out)
	options.fill(with)
	err := s.call("step_down", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_step_down(cache, sequence, with, out, x.failure)
	})
	if err != nil {
		return StepDownReport{}, err
	}
	return stepDownReportOf(out), nil
}
