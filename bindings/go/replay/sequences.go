package main

import (
	"kvc"
	"kvc/internal/numbers"
)

var (
	cuts  = map[string]kvc.Cut{"exact": kvc.CutExact, "inexact": kvc.CutInexact}
	parts = map[string]kvc.Part{"keys": kvc.Keys, "values": kvc.Values}
)

func sequenceOptions(o *operation) kvc.SequenceOptions {
	return kvc.SequenceOptions{FirstPosition: o.number("first_position"), PromptLength: o.number("prompt_length")}
}

func (r *replay) seq(o *operation) error {
	made, err := r.cache.NewSequence(sequenceOptions(o))
	if err == nil {
		r.sequences[o.name(0)] = sequence{made, uint64(o.number("data")), o.number("first_position")}
	}
	return err
}

func (r *replay) fork(o *operation) error {
	from := r.sequences[o.name(1)]
	made, err := from.Fork(o.number("length"), choice(o, "cut", "exact", cuts))
	if err == nil {
		r.sequences[o.name(0)] = sequence{made, uint64(o.numberOr("data", int(from.data))), from.first}
	}
	return err
}

func (r *replay) truncate(o *operation) error {
	return r.sequences[o.name(0)].Truncate(o.number("length"), choice(o, "cut", "exact", cuts))
}

func (r *replay) destroy(o *operation) error { return r.sequences[o.name(0)].Destroy() }

func (r *replay) prompt(o *operation) error { return r.sequences[o.name(0)].SetPrompt(o.number("end")) }

func (r *replay) length(o *operation) error {
	n, err := r.sequences[o.name(0)].Length()
	r.give(n)
	return err
}

func (r *replay) floor(o *operation) error {
	n, err := r.sequences[o.name(0)].ExactFloor()
	r.give(n)
	return err
}

func (r *replay) live(o *operation) error {
	n, err := r.sequences[o.name(0)].Live(o.number("layer"), o.number("head"))
	r.give(n)
	return err
}

// ---- Eviction, merging, precision ----

func evictOptions(o *operation) kvc.EvictOptions {
	options := kvc.EvictOptions{Budget: o.number("budget"), Recent: o.number("recent")}
	options.LayerBegin, options.LayerEnd = o.span("layers")
	options.HeadBegin, options.HeadEnd = o.span("heads")
	return options
}

func (r *replay) giveReport(report kvc.EvictReport) {
	r.give(report.TokensEvicted, report.RecordsFreed, report.BytesFreed, report.TokensRepacked)
}

// tokensSince counts the tokens from a sequence's first position on; a sequence that has no length has none.
func tokensSince(s sequence) int {
	length, _ := s.Length()
	return max(length-s.first, 0)
}

func (r *replay) evict(o *operation) error {
	of := r.sequences[o.name(0)]
	if !o.has("scores") {
		report, err := of.Evict(evictOptions(o))
		r.giveReport(report)
		return err
	}
	var scores []float32
	n := tokensSince(of)
	r.shapes.eachHead(o, func(layer, head int) {
		row := make([]float32, n)
		stream := numbers.Stream{Seed: uint64(o.number("scores")), Data: of.data, Layer: int64(layer), Part: numbers.Scores}
		numbers.Fill(row, stream, int64(head), 1)
		scores = append(scores, row...)
	})
	report, err := of.EvictByScores(scores, evictOptions(o))
	r.giveReport(report)
	return err
}

func (r *replay) keep(o *operation) error {
	report, err := r.sequences[o.name(0)].EvictKeep(o.list("positions"), evictOptions(o))
	r.giveReport(report)
	return err
}

func (r *replay) merge(o *operation) error {
	of := r.sequences[o.name(0)]
	n := tokensSince(of)
	first, recent := o.number("first"), o.number("recent")
	var clusters []int32
	r.shapes.eachHead(o, func(layer, head int) {
		stream := numbers.Stream{Seed: uint64(o.number("seed")), Data: of.data, Layer: int64(layer), Part: numbers.Clusters}
		row := stream.Row(int64(head))
		for i := range n {
			decides := row.Number(int64(i)) & 3 // the remainder of 4 that is not negative
			switch {
			case i%4 == 0 || i < first || i >= n-recent || decides >= 2:
				clusters = append(clusters, int32(i))
			case decides == 0:
				clusters = append(clusters, int32(i-i%4))
			default:
				clusters = append(clusters, -1)
			}
		}
	})
	options := kvc.MergeOptions{ValuesOnly: o.flag("values_only"), Unbiased: o.flag("unbiased")}
	options.LayerBegin, options.LayerEnd = o.span("layers")
	options.HeadBegin, options.HeadEnd = o.span("heads")
	report, err := of.Merge(clusters, options)
	r.giveReport(report)
	r.give(report.TokensMerged)
	return err
}

func (r *replay) stepDown(o *operation) error {
	options := kvc.StepDownOptions{Rung: int32(o.number("rung")), BudgetBytes: o.number("budget_bytes"), Recent: o.number("recent")}
	options.LayerBegin, options.LayerEnd = o.span("layers")
	report, err := r.sequences[o.name(0)].StepDown(options)
	r.give(report.Pages, report.TokensRequantized, report.BytesFreed, report.RecordBytes)
	return err
}

// ---- Read-back ----

// dim is the head dim of the part that a read or codes line names.
func (r *replay) dim(o *operation) (kvc.Part, int) {
	part := choice(o, "part", "keys", parts)
	if part == kvc.Keys {
		return part, r.shapes.of(o).KDim
	}
	return part, r.shapes.of(o).VDim
}

func (r *replay) read(o *operation) error {
	of, layer, head, first := r.sequences[o.name(0)], o.number("layer"), o.number("head"), o.number("first")
	live, _ := of.Live(layer, head)
	n := o.numberOr("n", live-first)
	part, dim := r.dim(o)
	values := make([]float32, max(n, 0)*dim)
	err := of.Read(layer, head, part, first, n, values)
	giveAll(r, values)
	return err
}

func (r *replay) codes(o *operation) error {
	of, layer, head := r.sequences[o.name(0)], o.number("layer"), o.number("head")
	part, dim := r.dim(o)
	tokens, err := of.ReadCodes(layer, head, part, nil)
	if err != nil {
		return err
	}
	codes := make([]byte, tokens*dim)
	tokens, err = of.ReadCodes(layer, head, part, codes)
	r.give(tokens)
	r.given = append(r.given, codes...)
	return err
}

type perToken func(s *kvc.Sequence, layer, head int, buffer []int64) ([]int64, error)

func (r *replay) perToken(o *operation, ask perToken) error {
	list, err := ask(r.sequences[o.name(0)].Sequence, o.number("layer"), o.number("head"), nil)
	giveAll(r, list)
	return err
}

func (r *replay) mass(o *operation) error      { return r.perToken(o, (*kvc.Sequence).ReadMass) }
func (r *replay) positions(o *operation) error { return r.perToken(o, (*kvc.Sequence).Positions) }
func (r *replay) counts(o *operation) error    { return r.perToken(o, (*kvc.Sequence).ReadCounts) }
func (r *replay) rungs(o *operation) error     { return r.perToken(o, (*kvc.Sequence).ReadRungs) }
