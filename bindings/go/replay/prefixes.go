package main

import "kvc"

// promptTokens are the ids of a publish, lookup or unpublish line.
func promptTokens(o *operation) []int64 {
	tokens := make([]int64, o.number("n"))
	turn := o.numberOr("turn", len(tokens))
	for i := range tokens {
		text := o.number("text")
		if i >= turn {
			text = o.number("other")
		}
		tokens[i] = int64(i*1000 + text)
	}
	return tokens
}

func (r *replay) publish(o *operation) error {
	return r.sequences[o.name(0)].Publish(promptTokens(o), o.word("salt", ""), kvc.PrefixOptions{Pinned: o.flag("pinned"), Seal: o.flag("seal")})
}

func (r *replay) lookup(o *operation) error {
	made, hit, err := r.cache.Lookup(promptTokens(o), o.word("salt", ""), sequenceOptions(o))
	if err != nil {
		return err
	}
	r.sequences[o.name(0)] = sequence{made, uint64(o.number("data")), o.number("first_position")}
	r.give(hit.Tokens, hit.Shared)
	return nil
}

func (r *replay) unpublish(o *operation) error {
	n, err := r.cache.RemovePrefixes(promptTokens(o), o.word("salt", ""))
	r.give(n)
	return err
}

func (r *replay) prefixClear(*operation) error { return r.cache.ClearPrefixes() }

func (r *replay) prefixBudget(o *operation) error { return r.cache.SetPrefixBudget(o.number("bytes")) }

func (r *replay) prefixStats(*operation) error {
	s, err := r.cache.PrefixStats()
	r.give(s.Entries, s.Tokens, s.RecordBytes, s.BudgetBytes, s.Hits, s.Misses, s.HitTokens, s.Evictions)
	return err
}
