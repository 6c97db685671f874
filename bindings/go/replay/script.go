package main

import (
	"fmt"
	"strconv"
	"strings"
)

// An operation is one line of a script.
type operation struct {
	verb      string
	names     []string
	counts    []count
	arguments map[string]string
	expected  []string // statuses
}

// A count is a pair name:number.
type count struct {
	name string
	n    int
}

// A fault of a script: what no replayer can make sense of. The accessors below panic with it; a run ends there.
type fault string

func faultf(format string, values ...any) fault { return fault(fmt.Sprintf(format, values...)) }

// parseLine gives nil for a line without an operation.
func parseLine(line string) *operation {
	line, _, _ = strings.Cut(line, "#")
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil
	}
	o := &operation{verb: words[0], arguments: map[string]string{}, expected: []string{"ok"}}
	for i, word := range words[1:] {
		if word == "->" {
			if i+3 != len(words) {
				panic(fault("one word of statuses follows ->"))
			}
			o.expected = strings.Split(words[i+2], "|")
			break
		}
		if key, value, found := strings.Cut(word, "="); found {
			o.arguments[key] = value
		} else if name, n, found := strings.Cut(word, ":"); found {
			o.counts = append(o.counts, count{name, parseNumber(n)})
		} else {
			o.names = append(o.names, word)
		}
	}
	return o
}

func parseNumber(text string) int {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(faultf("%q is no number", text))
	}
	return int(n)
}

func (o *operation) has(key string) bool {
	_, found := o.arguments[key]
	return found
}

func (o *operation) name(i int) string {
	if i < len(o.names) {
		return o.names[i]
	}
	return ""
}

func (o *operation) word(key, otherwise string) string {
	if value, found := o.arguments[key]; found {
		return value
	}
	return otherwise
}

func (o *operation) numberOr(key string, otherwise int) int {
	if value, found := o.arguments[key]; found {
		return parseNumber(value)
	}
	return otherwise
}

func (o *operation) number(key string) int { return o.numberOr(key, 0) }

func (o *operation) flag(key string) bool { return o.number(key) != 0 }

func (o *operation) real(key string) float64 {
	value, found := o.arguments[key]
	if !found {
		return 0
	}
	x, err := strconv.ParseFloat(value, 64)
	if err != nil {
		panic(faultf("%q is no number", value))
	}
	return x
}

// span is begin:end; 0, 0 if it is absent.
func (o *operation) span(key string) (begin, end int) {
	value, found := o.arguments[key]
	if !found {
		return 0, 0
	}
	first, last, found := strings.Cut(value, ":")
	if !found {
		panic(faultf("%s=%s: expected begin:end", key, value))
	}
	return parseNumber(first), parseNumber(last)
}

func (o *operation) list(key string) []int64 {
	var numbers []int64
	for _, item := range strings.FieldsFunc(o.word(key, ""), func(r rune) bool { return r == ',' }) {
		numbers = append(numbers, int64(parseNumber(item)))
	}
	return numbers
}

// choice is the number that a word stands for; the word must be one of them.
func choice[T any](o *operation, key, otherwise string, of map[string]T) T {
	word := o.word(key, otherwise)
	value, found := of[word]
	if !found {
		panic(faultf("%s=%s: unknown", key, word))
	}
	return value
}
