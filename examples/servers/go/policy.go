package main

import (
	"fmt"
	"strconv"
	"strings"

	"kvc"
)

const stepRows = 256 // of one step, decoded tokens and prompt together

// Policy is what a server gives up when memory is full, and how much of the arena requests may count on.
type Policy struct {
	library  string // for kvc itself: acts at all times
	stepDown bool
	evictTo  int     // tokens; 0 = never
	most     float64 // sum of shares
	planned  string  // codec that admission counts
}

func parsePolicy(text, mode string) (Policy, error) {
	p := Policy{most: 1, planned: mode}
	const ofRoom = 7.0 / 8
	switch budget, evicts := strings.CutPrefix(text, "evict:"); {
	case text == "step-down":
		last, err := lastRung(mode)
		if err != nil {
			return p, err
		}
		p.stepDown, p.most, p.planned = true, ofRoom, last
	case evicts:
		tokens, err := strconv.ParseUint(budget, 10, 31) // which takes digits alone
		if err != nil || tokens < 1 {
			return p, fmt.Errorf("--policy %s: a number of tokens follows evict:", text)
		}
		p.evictTo, p.most = int(tokens), ofRoom
	default:
		p.library = text
	}
	return p, nil
}

// lastRung is the codec of a ladder's last rung, with the window and sinks that the first one says for all.
func lastRung(ladder string) (string, error) {
	canonical, err := kvc.FormatCodec(ladder)
	if err != nil {
		return "", err
	}
	rungs := strings.Split(canonical, "/")
	if len(rungs) < 2 {
		return "", fmt.Errorf("--policy step-down needs a ladder as --mode, such as int8/int4, not %q", ladder)
	}
	last, _, _ := strings.Cut(rungs[len(rungs)-1], "@")
	return last + rungs[0][strings.Index(rungs[0], ",window="):], nil
}

// Admission knows the share of the arena that a request takes, by kvc's planner.
type Admission struct {
	options kvc.Options
	policy  Policy
	most    map[int]int // sequences by length
}

func newAdmission(options kvc.Options, policy Policy) *Admission {
	options.Codec = policy.planned
	return &Admission{options, policy, map[int]int{}}
}

// Share of a request with so many tokens in all; 0: the arena can never hold it.
func (a *Admission) Share(tokens int) (float64, error) {
	rounded := min((tokens+63)/64*64, a.options.ContextTokens)
	if a.policy.evictTo > 0 {
		rounded = min(rounded, a.policy.evictTo+stepRows)
	}
	most, known := a.most[rounded]
	if !known {
		plan, err := kvc.ComputePlan(a.options, kvc.PlanRequest{Tokens: rounded, StepTokens: stepRows, BudgetBytes: a.options.ArenaBytes})
		if err != nil {
			return 0, err
		}
		most = plan.MaxSequences
		a.most[rounded] = most
	}
	if most == 0 || 1/float64(most) > a.policy.most {
		return 0, nil
	}
	return 1 / float64(most), nil
}

// relieve makes room among running streams: true if one of them gave something up.
func (e *Engine) relieve() bool {
	sequences := byWeight(e.running, e.policy)
	for _, sequence := range sequences {
		if e.policy.stepDown {
			if report, err := sequence.StepDown(kvc.StepDownOptions{}); err == nil && report.Pages > 0 {
				e.count.steppedDown.Add(1)
				return true
			}
		} else if e.policy.evictTo > 0 {
			if report, err := sequence.Evict(kvc.EvictOptions{Budget: e.policy.evictTo}); err == nil && report.TokensEvicted > 0 {
				e.count.evicted.Add(1)
				return true
			}
		}
	}
	return false
}
