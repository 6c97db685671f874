package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	bodyBytesMost = 1 << 20
	modelName     = "smollm2-135m"
)

var (
	errInvalid = errors.New("invalid request")
	errGone    = errors.New("the client has gone")
)

// Server answers HTTP requests.
type Server struct {
	engine  *Engine
	opening []int64 // tokens that begin a system prompt
	ending  int64   // the token that ends it
	began   time.Time
	ids     atomic.Int64
}

type choice struct {
	Text     string  `json:"text"`
	Index    int     `json:"index"`
	Logprobs *int    `json:"logprobs"`
	Finish   *string `json:"finish_reason"`
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

type route struct {
	method string
	handle http.HandlerFunc
}

// Routes of the server. http.ServeMux would lead paths such as //healthz elsewhere, and answer for some in words of its own.
func (s *Server) Routes() http.Handler {
	routes := map[string]route{
		"/v1/completions": {http.MethodPost, s.complete},
		"/v1/models":      {http.MethodGet, s.models},
		"/metrics":        {http.MethodGet, s.metrics},
		"/healthz":        {http.MethodGet, s.health},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// http.Server's ReadTimeout would end streams, too.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(requestTime))
		path := r.URL.EscapedPath() // as it was written: what is escaped is another path
		route, known := routes[path]
		switch {
		case !known || strings.Contains(r.RequestURI, "#"): // which net/url leaves in a path or a query
			refuse(w, http.StatusNotFound, "there is no "+r.RequestURI)
		case r.Method != route.method:
			w.Header().Set("Allow", route.method)
			refuse(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s %s: only %s is allowed", r.Method, path, route.method))
		default:
			route.handle(w, r)
		}
	})
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if s.engine.Closing() {
		refuse(w, http.StatusServiceUnavailable, errShutdown.Error())
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	one := map[string]any{"id": modelName, "object": "model", "created": s.began.Unix(), "owned_by": "kvc"}
	answer(w, http.StatusOK, map[string]any{"object": "list", "data": []any{one}})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone hears nothing
}

func errorBody(status int, message string) map[string]any {
	kind := "invalid_request_error"
	if status == http.StatusTooManyRequests {
		kind = "rate_limit_error"
	} else if status >= 500 {
		kind = "server_error"
	}
	return map[string]any{"error": map[string]any{"message": message, "type": kind, "param": nil, "code": nil}}
}

func refuse(w http.ResponseWriter, status int, message string) {
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	answer(w, status, errorBody(status, message))
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, errInvalid):
		return http.StatusBadRequest
	case errors.Is(err, errBusy):
		return http.StatusTooManyRequests
	case errors.Is(err, errShutdown):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// request is the part of a body that matters.
type request struct {
	prompt    string
	maxTokens int
	stream    bool
}

func parse(body []byte) (request, error) {
	out := request{maxTokens: 16}
	bad := func(format string, values ...any) (request, error) {
		return out, fmt.Errorf("%w: %s", errInvalid, fmt.Sprintf(format, values...))
	}
	var fields map[string]any
	if !utf8.Valid(body) {
		return bad("the body is not UTF-8")
	}
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return bad("the body is not a JSON object: %v", err)
	}
	if hasHalfPair(body) {
		return bad("the body escapes half of a surrogate pair, which is no character")
	}
	for name, value := range fields {
		number, isNumber := value.(float64)
		switch name {
		case "prompt":
			if out.prompt, _ = value.(string); out.prompt == "" && value != nil {
				return bad("prompt must be a string that is not empty")
			}
		case "max_tokens":
			if value != nil && (!isNumber || number < 1 || number != math.Trunc(number) || number > math.MaxInt32) {
				return bad("max_tokens must be an integer from 1")
			} else if value != nil {
				out.maxTokens = int(number)
			}
		case "stream":
			var isBool bool
			if out.stream, isBool = value.(bool); !isBool && value != nil {
				return bad("stream must be a boolean")
			}
		case "temperature", "n", "best_of":
			if only := map[string]float64{"n": 1, "best_of": 1}[name]; value != nil && (!isNumber || number != only) {
				return bad("%s must be %v: text is greedy", name, only)
			}
		case "stop", "suffix", "logprobs", "echo":
			if value != nil && !(name == "echo" && value == false) {
				return bad("%s is not offered", name)
			}
		}
	}
	if out.prompt == "" {
		return bad("prompt is required")
	}
	return out, nil
}

// hasHalfPair tells of escapes in JSON that are no characters; encoding/json reads U+FFFD for them.
func hasHalfPair(body []byte) bool {
	escaped := func(at int) rune { // the code that \uXXXX at a place spells; 0 if there is none
		if at+6 > len(body) || body[at] != '\\' || body[at+1] != 'u' {
			return 0
		}
		code, _ := strconv.ParseUint(string(body[at+2:at+6]), 16, 16)
		return rune(code)
	}
	for at := 0; at < len(body); at++ {
		if body[at] != '\\' {
			continue
		}
		if code := escaped(at); utf16.IsSurrogate(code) {
			if utf16.DecodeRune(code, escaped(at+6)) == utf8.RuneError {
				return true
			}
			at += 10
		}
		at++ // what is escaped begins no escape
	}
	return false
}

// refuseBody answers that the body is too large, at once, whether the rest of it is there or not.
func refuseBody(w http.ResponseWriter, r *http.Request) {
	controller := http.NewResponseController(w)
	_ = controller.EnableFullDuplex() // else the body may be waited for before the answer goes out
	w.Header().Set("Connection", "close")
	refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", bodyBytesMost))
	_ = controller.Flush()
	// A client that has written it all reads why it is refused, not a reset. From here on no reading tells it to go on.
	_ = controller.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, r.Body, 2*bodyBytesMost)
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > bodyBytesMost {
		refuseBody(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytesMost))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		refuseBody(w, r)
		return
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		refuse(w, http.StatusRequestTimeout, "the body did not arrive in time")
		return
	} else if err != nil {
		refuse(w, http.StatusBadRequest, "the body cannot be read: "+err.Error()) // a client that has gone hears nothing
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	r, cancel := watched(r)
	defer cancel()
	asked, err := parse(body)
	if err == nil {
		err = s.serve(w, r, asked)
	}
	if err == errGone {
		panic(http.ErrAbortHandler) // ends the connection: to return would be an answer, 200 and empty
	} else if err != nil {
		refuse(w, statusOf(err), err.Error())
	}
}

// serve answers, or returns what to refuse with before anything was written.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, asked request) error {
	if most := s.engine.model.promptBytes; len(asked.prompt) > most {
		return fmt.Errorf("%w: a prompt of %d bytes is longer than the model's context, which holds %d at most", errInvalid, len(asked.prompt), most)
	}
	tokens, err := s.engine.model.Encode(asked.prompt)
	if errors.Is(err, errClosed) {
		return errShutdown
	} else if err != nil {
		return err
	}
	if most := s.engine.model.context; len(tokens)+asked.maxTokens > most {
		return fmt.Errorf("%w: %d tokens of prompt and %d of max_tokens are more than the model's context of %d", errInvalid, len(tokens),
			asked.maxTokens, most)
	}
	stream := newStream(r.Context(), tokens, asked.maxTokens, systemTokens(tokens, s.opening, s.ending))
	if err := s.engine.Submit(stream); err != nil {
		return err
	}
	select {
	case <-stream.admitted:
	case <-r.Context().Done():
		return errGone
	}
	if stream.refused != nil {
		return stream.refused
	}
	head := completion{ID: fmt.Sprintf("cmpl-%d", s.ids.Add(1)), Object: "text_completion", Created: time.Now().Unix(), Model: modelName}
	if asked.stream {
		return sendStream(w, r, stream, head)
	}
	return sendWhole(w, r, stream, head)
}

func sendWhole(w http.ResponseWriter, r *http.Request, stream *Stream, head completion) error {
	var text strings.Builder
	for {
		select {
		case <-r.Context().Done():
			return errGone
		case event := <-stream.events:
			if event.err != nil {
				return event.err
			}
			text.WriteString(event.text)
			if event.finish != "" {
				head.Choices = []choice{{Text: text.String(), Finish: &event.finish}}
				head.Usage = &usage{stream.prompt, stream.written(), stream.prompt + stream.written()}
				answer(w, http.StatusOK, head)
				return nil
			}
		}
	}
}

func sendStream(w http.ResponseWriter, r *http.Request, stream *Stream, head completion) error {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	send := func(body any) {
		data, _ := json.Marshal(body) // plain structs always have a form
		fmt.Fprintf(w, "data: %s\n\n", data)
		_ = http.NewResponseController(w).Flush()
	}
	for {
		select {
		case <-r.Context().Done():
			return errGone
		case event := <-stream.events:
			if event.err != nil {
				send(errorBody(statusOf(event.err), event.err.Error()))
				return nil
			}
			one := choice{Text: event.text}
			if event.finish != "" {
				one.Finish = &event.finish
			}
			if event.text != "" || event.finish != "" {
				head.Choices = []choice{one}
				send(head)
			}
			if event.finish != "" {
				fmt.Fprint(w, "data: [DONE]\n\n")
				return nil
			}
		}
	}
}
