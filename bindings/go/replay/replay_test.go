package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What build/release/tests/model/kvc_script run testdata/verbs.txt target=scalar prints.
const verbsDigest = "8cfbc3ecfe6390ba9b73c135d7869fa2959387afe10dd18c6835c68a686b9c9c"

func TestAllVerbsGiveTheDigestOfC(t *testing.T) {
	text, err := os.ReadFile("testdata/verbs.txt")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, line := range strings.Split(string(text), "\n") {
		if o := parseLine(line); o != nil {
			said[o.verb] = true
		}
	}
	for verb := range verbs {
		if !said[verb] {
			t.Errorf("the script does not say %s", verb)
		}
	}
	for _, threads := range []int{0, 2} {
		digest, err := replayFile("testdata/verbs.txt", "scalar", threads)
		if err != nil || digest != verbsDigest {
			t.Errorf("threads=%d: digest %s, error %v", threads, digest, err)
		}
	}
}

// What goes otherwise than the script says is told with its line; so is what is no script.
func TestScriptsThatGoOtherwise(t *testing.T) {
	const create = "create k_dim=16 arena_tokens=128 # one\n\n"
	for script, want := range map[string]string{
		create + "seq a -> handle":                    "line 3: seq a -> handle: answered ok",
		create + "destroy a":                          "answered handle: kvc: seq_destroy: ",
		create + "destroy a -> ok|busy":               "answered handle",
		create + "sing a":                             "line 3: unknown operation sing",
		create + "seq a data=x":                       `line 3: "x" is no number`,
		create + "begin t a:x":                        `line 3: "x" is no number`,
		create + "evict a layers=1":                   "expected begin:end",
		create + "read a part=heads":                  "part=heads: unknown",
		create + "begin t kv=f64":                     "kv=f64: unknown",
		create + "create":                             "a script has one cache",
		create + "seq a -> ok ok":                     "one word of statuses follows ->",
		create + "attend t scale=x":                   `"x" is no number`,
		"append t":                                    "no cache was created",
		"create policy=nothing arena_tokens=64":       "answered argument",
		"create arena_tokens=64 -> ok\nlength nobody": "line 2",
	} {
		file := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		digest, err := replayFile(file, "scalar", 0)
		if err == nil || digest != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: digest %q, error %v", script, digest, err)
		}
	}
	if _, err := replayFile(filepath.Join(t.TempDir(), "missing"), "", 0); err == nil {
		t.Error("a file that is not there was replayed")
	}
}

// A step that writes between the rows of out is found.
func TestPaddingIsWatched(t *testing.T) {
	defer func() {
		if _, is := recover().(fault); !is {
			t.Error("a changed byte of the padding was not found")
		}
	}()
	padding := padded[float32](1, 0, 3)
	checkPadding(padding)
	padding[2] = 0
	checkPadding(padding)
}
