package main

import (
	"fmt"
	"net/http"
	"strings"
)

// metrics are Prometheus text, under vLLM's names behind "kvc:".
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	e := s.engine
	stats, err := e.cache.Stats()
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	prefix, err := e.cache.PrefixStats()
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	var out strings.Builder
	family := func(name, kind string, values ...any) { // pairs of labels and number
		fmt.Fprintf(&out, "# TYPE kvc:%s %s\n", name, kind)
		for i := 0; i < len(values); i += 2 {
			fmt.Fprintf(&out, "kvc:%s%s %v\n", name, values[i], values[i+1])
		}
	}
	running, waiting := e.Depth()
	family("num_requests_running", "gauge", "", running)
	family("num_requests_waiting", "gauge", "", waiting)
	family("kv_cache_usage_perc", "gauge", "", float64(stats.RecordBytes)/float64(stats.ArenaBytes))
	family("kv_cache_bytes", "gauge", `{kind="arena"}`, stats.ArenaBytes, `{kind="bound"}`, stats.BoundBytes, `{kind="record"}`, stats.RecordBytes,
		`{kind="sink"}`, stats.SinkBytes, `{kind="window"}`, stats.WindowBytes, `{kind="code"}`, stats.CodeBytes, `{kind="side"}`, stats.SideBytes,
		`{kind="reserved"}`, stats.ReservedBytes, `{kind="table"}`, stats.TableBytes, `{kind="scratch"}`, stats.ScratchBytes,
		`{kind="prefix"}`, prefix.RecordBytes)
	family("kv_cache_sequences", "gauge", "", stats.Sequences)
	family("kv_cache_compression_ratio", "gauge", "", e.compressionRatio(stats.RecordBytes))
	c := &e.count
	family("prefix_cache_queries_total", "counter", "", c.lookedUp.Load())
	family("prefix_cache_hits_total", "counter", "", c.found.Load())
	family("prompt_tokens_total", "counter", "", c.promptTokens.Load())
	family("generation_tokens_total", "counter", "", c.textTokens.Load())
	family("request_success_total", "counter", `{finished_reason="stop"}`, c.stopped.Load(), `{finished_reason="length"}`, c.reachedLength.Load(),
		`{finished_reason="abort"}`, c.aborted.Load())
	family("request_rejected_total", "counter", "", c.rejected.Load())
	family("num_preemptions_total", "counter", "", c.preempted.Load())
	family("pressure_total", "counter", `{action="step_down"}`, c.steppedDown.Load(), `{action="evict"}`, c.evicted.Load())
	family("tokens_evicted_total", "counter", "", stats.TokensEvicted)
	family("tokens_requantized_total", "counter", "", stats.TokensRequantized)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	fmt.Fprint(w, out.String())
}

// compressionRatio is that of the tokens of running sequences; 0 without any.
func (e *Engine) compressionRatio(recordBytes int) float64 {
	const bytesOfNumber, keysAndValues = 2, 2
	held := e.count.heldTokens.Load() * int64(e.model.layers*e.model.kvWidth*bytesOfNumber*keysAndValues)
	if recordBytes == 0 {
		return 0
	}
	return float64(held) / float64(recordBytes)
}
