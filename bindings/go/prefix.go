package kvc

import (
	"unsafe"

	"kvc/raw"
)

// PrefixOptions are those of Publish.
type PrefixOptions struct {
	Pinned bool // the entry stays until it is removed
	Seal   bool // it holds codes alone, at the codec's sinks and whole pages of 64
}

func (o *PrefixOptions) fill(to raw.Kvc_prefix_options) {
	to.SetPinned(flag(o.Pinned))
	to.SetSeal(flag(o.Seal))
}

// PrefixHit tells how much of a prompt was found.
type PrefixHit struct {
	Tokens int // that the new sequence holds; 0 = a miss
	Shared int // the most that the prompt shares with an entry
}

func prefixHitOf(from raw.Kvc_prefix_hit) PrefixHit {
	return PrefixHit{Tokens: int(from.GetTokens()), Shared: int(from.GetShared())}
}

// PrefixStats are those of the index.
type PrefixStats struct {
	Entries     int
	Tokens      int
	RecordBytes int
	HostBytes   int
	BudgetBytes int
	Hits        int
	Misses      int
	HitTokens   int
	Evictions   int
}

func prefixStatsOf(from raw.Kvc_prefix_stats) PrefixStats {
	return PrefixStats{
		Entries:     int(from.GetEntries()),
		Tokens:      int(from.GetTokens()),
		RecordBytes: int(from.GetRecord_bytes()),
		HostBytes:   int(from.GetHost_bytes()),
		BudgetBytes: int(from.GetBudget_bytes()),
		Hits:        int(from.GetHits()),
		Misses:      int(from.GetMisses()),
		HitTokens:   int(from.GetHit_tokens()),
		Evictions:   int(from.GetEvictions()),
	}
}

// saltBytes are the bytes of a string, not copied: the library only reads them.
func saltBytes(salt string) []byte { return unsafe.Slice(unsafe.StringData(salt), len(salt)) }

// Publish puts the first len(tokens) tokens of the sequence into the index, under their ids and a salt that keeps tenants apart.
func (s *Sequence) Publish(tokens []int64, salt string, options PrefixOptions) error {
	with := raw.NewKvc_prefix_options()
	defer raw.DeleteKvc_prefix_options(with)
	options.fill(with)
	return s.call("prefix_publish", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_prefix_publish(cache, sequence, tokens, saltBytes(salt), with, x.failure)
	})
}

// Lookup makes a sequence with the longest published beginning of a prompt, an empty one if there is none. The caller appends the
// prompt from PrefixHit.Tokens on.
func (c *Cache) Lookup(tokens []int64, salt string, options SequenceOptions) (*Sequence, PrefixHit, error) {
	with, hit := raw.NewKvc_seq_options(), raw.NewKvc_prefix_hit()
	defer raw.DeleteKvc_seq_options(with)
	defer raw.DeleteKvc_prefix_hit(hit)
	options.fill(with)
	var handle int64
	err := c.call("prefix_lookup", func(cache uintptr, x *crossing) raw.Kvc_status {
		handle = raw.Kvc_prefix_lookup(cache, tokens, saltBytes(salt), with, hit, x.failure)
		return x.made(handle != 0)
	})
	if err != nil {
		return nil, PrefixHit{}, err
	}
	return c.adopt(handle), prefixHitOf(hit), nil
}

// RemovePrefixes removes all entries of the salt that begin with these tokens, and says how many; no tokens: all of the salt.
func (c *Cache) RemovePrefixes(tokens []int64, salt string) (int, error) {
	var removed int64
	err := c.call("prefix_remove", func(cache uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_prefix_remove(cache, tokens, saltBytes(salt), &removed, x.failure)
	})
	return int(removed), err
}

// ClearPrefixes removes all entries of all salts.
func (c *Cache) ClearPrefixes() error {
	return c.call("prefix_clear", func(cache uintptr, x *crossing) raw.Kvc_status { return raw.Kvc_prefix_clear(cache, x.failure) })
}

// SetPrefixBudget bounds the bytes of records that entries may hold; 0 = no bound but the arena.
func (c *Cache) SetPrefixBudget(bytes int) error {
	return c.call("prefix_budget_set", func(cache uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_prefix_budget_set(cache, int64(bytes), x.failure)
	})
}

// PrefixStats counts what the index holds and has served.
func (c *Cache) PrefixStats() (PrefixStats, error) {
	out := raw.NewKvc_prefix_stats()
	defer raw.DeleteKvc_prefix_stats(out)
	err := c.call("prefix_stats_get", func(cache uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_prefix_stats_get(cache, out, x.failure)
	})
	if err != nil {
		return PrefixStats{}, err
	}
	return prefixStatsOf(out), nil
}
