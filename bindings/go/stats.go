package kvc

import "kvc/raw"

// Stats are those of a cache; kvc_stats in kvc.h explains each number.
type Stats struct {
	OpenSteps         int
	ArenaBytes        int
	BoundBytes        int
	RecordBytes       int
	SinkBytes         int
	WindowBytes       int
	CodeBytes         int
	SideBytes         int
	ReservedBytes     int
	TableBytes        int
	ScratchBytes      int
	Sequences         int
	TokensAppended    int
	TokensEvicted     int
	PagesQuantized    int
	TokensRequantized int
	SlowCalls         int
	TokensMerged      int
	Synchronizations  int
	BytesStaged       int
}

func statsOf(from raw.Kvc_stats) Stats {
	return Stats{
		OpenSteps:         int(from.GetOpen_steps()),
		ArenaBytes:        int(from.GetArena_bytes()),
		BoundBytes:        int(from.GetBound_bytes()),
		RecordBytes:       int(from.GetRecord_bytes()),
		SinkBytes:         int(from.GetSink_bytes()),
		WindowBytes:       int(from.GetWindow_bytes()),
		CodeBytes:         int(from.GetCode_bytes()),
		SideBytes:         int(from.GetSide_bytes()),
		ReservedBytes:     int(from.GetReserved_bytes()),
		TableBytes:        int(from.GetTable_bytes()),
		ScratchBytes:      int(from.GetScratch_bytes()),
		Sequences:         int(from.GetSequences()),
		TokensAppended:    int(from.GetTokens_appended()),
		TokensEvicted:     int(from.GetTokens_evicted()),
		PagesQuantized:    int(from.GetPages_quantized()),
		TokensRequantized: int(from.GetTokens_requantized()),
		SlowCalls:         int(from.GetSlow_calls()),
		TokensMerged:      int(from.GetTokens_merged()),
		Synchronizations:  int(from.GetSynchronizations()),
		BytesStaged:       int(from.GetBytes_staged()),
	}
}

// SequenceStats are those of one sequence; kvc_seq_stats in kvc.h explains each number.
type SequenceStats struct {
	Tokens        int
	RecordBytes   int
	SharedBytes   int
	TableBytes    int
	FP16Bytes     int
	CodecBits     float64
	EffectiveBits float64
}

func sequenceStatsOf(from raw.Kvc_seq_stats) SequenceStats {
	return SequenceStats{
		Tokens:        int(from.GetTokens()),
		RecordBytes:   int(from.GetRecord_bytes()),
		SharedBytes:   int(from.GetShared_bytes()),
		TableBytes:    int(from.GetTable_bytes()),
		FP16Bytes:     int(from.GetFp16_bytes()),
		CodecBits:     from.GetCodec_bits(),
		EffectiveBits: from.GetEffective_bits(),
	}
}

// Stats counts what the cache holds and has done.
func (c *Cache) Stats() (Stats, error) {
	out := raw.NewKvc_stats()
	defer raw.DeleteKvc_stats(out)
	err := c.call("stats_get", func(cache uintptr, x *crossing) raw.Kvc_status { return raw.Kvc_stats_get(cache, out, x.failure) })
	if err != nil {
		return Stats{}, err
	}
	return statsOf(out), nil
}

// Stats counts what the sequence holds.
func (s *Sequence) Stats() (SequenceStats, error) {
	out := raw.NewKvc_seq_stats()
	defer raw.DeleteKvc_seq_stats(out)
	err := s.call("seq_stats_get", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_stats_get(cache, sequence, out, x.failure)
	})
	if err != nil {
		return SequenceStats{}, err
	}
	return sequenceStatsOf(out), nil
}
