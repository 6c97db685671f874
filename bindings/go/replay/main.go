// Replays operation scripts (docs/SCRIPTS.md) over package kvc and prints the SHA-256 of all that they let a caller see:
//
//	replay_go [target=T] [threads=N] FILE...
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
	var target string
	var threads int
	var files []string
	for _, word := range os.Args[1:] {
		if value, found := strings.CutPrefix(word, "target="); found {
			target = value
		} else if value, found := strings.CutPrefix(word, "threads="); found {
			n, err := strconv.Atoi(value)
			if err != nil {
				usage()
			}
			threads = n
		} else {
			files = append(files, word)
		}
	}
	if len(files) == 0 {
		usage()
	}
	out := bufio.NewWriter(os.Stdout)
	failed := false
	for _, file := range files {
		digest, err := replayFile(file, target, threads)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			failed = true
			continue
		}
		fmt.Fprintf(out, "%s  %s\n", digest, file)
	}
	out.Flush()
	if failed {
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "replay_go [target=T] [threads=N] FILE...")
	os.Exit(2)
}

func replayFile(file, target string, threads int) (digest string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	r := newReplay(target, threads)
	defer func() {
		r.cache.Close()
		switch cause := recover().(type) {
		case nil:
		case fault:
			err = fmt.Errorf("line %d: %s", r.line, cause)
		default:
			panic(cause)
		}
	}()
	for i, line := range strings.Split(string(text), "\n") {
		r.line = i + 1
		o := parseLine(line)
		if o == nil {
			continue
		}
		if err := r.run(o); err != nil {
			return "", fmt.Errorf("line %d: %s: %w", r.line, strings.TrimSpace(line), err)
		}
	}
	return r.digest(), nil
}
