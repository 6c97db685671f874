package kvc

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"kvc/raw"
)

// used lists the names of the raw layer that this package's own files use.
func used(t *testing.T) map[string]bool {
	own := func(file fs.FileInfo) bool { return !strings.HasSuffix(file.Name(), "_test.go") }
	packages, err := parser.ParseDir(token.NewFileSet(), ".", own, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	ast.Inspect(packages["kvc"], func(node ast.Node) bool {
		if selector, is := node.(*ast.SelectorExpr); is {
			if from, is := selector.X.(*ast.Ident); is && from.Name == "raw" {
				names[selector.Sel.Name] = true
			}
		}
		return true
	})
	return names
}

func TestEveryFunctionOfTheHeaderIsUsed(t *testing.T) {
	header, err := os.ReadFile("../../kvc.h")
	if err != nil {
		t.Fatal(err)
	}
	functions := regexp.MustCompile(`(?s)KVC_API [^;(]*?\b(kvc_\w+)\(`).FindAllSubmatch(header, -1)
	if len(functions) < 60 {
		t.Fatalf("only %d functions found in kvc.h", len(functions))
	}
	names := used(t)
	for _, function := range functions {
		name := string(function[1])
		if of, is := strings.CutSuffix(name, "_init"); is { // called by the raw layer's constructor
			if !names["NewK"+of[1:]] && !names["K"+of[1:]+"s_new"] {
				t.Errorf("%s: no %s is made", name, of)
			}
		} else if !names["K"+name[1:]] {
			t.Errorf("%s is not used", name)
		}
	}
}

// The library is reached through the raw layer alone: no other file imports C, and none that Go would hand to another compiler, or link,
// lies in a package.
func TestNoOtherPackageImportsC(t *testing.T) {
	ways, err := waysIntoC(os.DirFS("."))
	if want := []string{"raw/kvc.go", "raw/kvc_wrap.c"}; err != nil || !slices.Equal(ways, want) {
		t.Errorf("ways into C: %v, error %v; want %v", ways, err, want)
	}
}

func TestAnotherWayIntoCIsFound(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	ways, err := waysIntoC(fstest.MapFS{
		"a.go": file("package kvc\n\nimport \"fmt\"\n"), "b.go": file("package kvc\n\nimport (\n\t\"fmt\"\n\tC `C`\n)\n"),
		"c.go": file("//go:build never\n\npackage kvc\n\nimport \"C\"\n"), "d_linux.go": file("package kvc\n\nimport \"plugin\"\n"),
		"e.c": file(""), "sub/f.S": file(""), "sub/g.hpp": file(""), "sub/h.syso": file(""), "README.md": file(""),
		"replay/testdata/i.txt": file(""), "check": file(""),
	})
	if want := []string{"b.go", "c.go", "d_linux.go", "e.c", "sub/f.S", "sub/g.hpp", "sub/h.syso"}; err != nil || !slices.Equal(ways, want) {
		t.Errorf("ways into C: %v, error %v; want %v", ways, err, want)
	}
}

// waysIntoC lists the Go files that import C or open libraries, and all that is neither Go nor known to be no part of a package.
func waysIntoC(tree fs.FS) (ways []string, err error) {
	err = fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		switch filepath.Ext(path) {
		case "", ".md", ".mod", ".mk", ".txt", ".i": // go.i is read by SWIG, which bindings/generate runs: Go runs it for .swig and .swigcxx
			return nil
		case ".go":
			text, err := fs.ReadFile(tree, path)
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
			if err != nil {
				return err
			}
			native := func(imported *ast.ImportSpec) bool {
				name, err := strconv.Unquote(imported.Path.Value)
				return err != nil || name == "C" || name == "plugin"
			}
			if !slices.ContainsFunc(file.Imports, native) {
				return nil
			}
		}
		ways = append(ways, path)
		return nil
	})
	return ways, err
}

// described reads ABIDescription: fields of each struct, enumerators of each enum.
func described(t *testing.T) (fields, enumerators map[string][]string) {
	fields, enumerators = map[string][]string{}, map[string][]string{}
	for _, line := range strings.Split(ABIDescription(), "\n") {
		for i, item := range strings.Split(line, ";") {
			words := strings.Fields(item)
			switch {
			case len(words) == 0:
			case words[0] == "enum":
				enumerators[words[1]] = append(enumerators[words[1]], words[2])
			case i == 0:
				fields[words[1]] = nil
			default:
				of := strings.Fields(line)[1]
				fields[of] = append(fields[of], words[1])
			}
		}
	}
	if len(fields) < 18 || len(enumerators) < 9 {
		t.Fatalf("%d structs and %d enums described", len(fields), len(enumerators))
	}
	return fields, enumerators
}

func TestEveryEnumeratorHasAName(t *testing.T) {
	_, enumerators := described(t)
	names := used(t)
	for enum, list := range enumerators {
		for _, name := range list {
			// What is not set is the zero value of the Go type.
			if !names[name] && !strings.HasSuffix(name, "_UNSET") && !strings.HasSuffix(name, "_DEFAULT") && !strings.HasSuffix(name, "_MAX_") {
				t.Errorf("%s of %s is not used", name, enum)
			}
		}
	}
}

// A pair is a C struct and the Go struct that stands for it: one of fill and read carries the fields over.
type pair struct {
	made any                // in C's memory
	fill func(from any)     // sets made from a pointer to the Go struct
	read func() (value any) // the Go struct from made
	of   any                // a zero Go struct
	free func()
}

func inputPair[R, G any](made R, free func(R), fill func(*G, R)) pair {
	return pair{free: func() { free(made) }, made: made, of: *new(G), fill: func(from any) { fill(from.(*G), made) }}
}

func outputPair[R, G any](made R, free func(R), read func(R) G) pair {
	return pair{free: func() { free(made) }, made: made, of: *new(G), read: func() any { return read(made) }}
}

func pairs() map[string]pair {
	return map[string]pair{
		"kvc_options":           inputPair(raw.NewKvc_options(), raw.DeleteKvc_options, (*Options).fill),
		"kvc_layer":             inputPair(raw.NewKvc_layer(), raw.DeleteKvc_layer, (*Layer).fill),
		"kvc_plan_request":      inputPair(raw.NewKvc_plan_request(), raw.DeleteKvc_plan_request, (*PlanRequest).fill),
		"kvc_seq_options":       inputPair(raw.NewKvc_seq_options(), raw.DeleteKvc_seq_options, (*SequenceOptions).fill),
		"kvc_step_options":      inputPair(raw.NewKvc_step_options(), raw.DeleteKvc_step_options, (*StepOptions).fill),
		"kvc_attend_options":    inputPair(raw.NewKvc_attend_options(), raw.DeleteKvc_attend_options, (*AttendOptions).fill),
		"kvc_evict_options":     inputPair(raw.NewKvc_evict_options(), raw.DeleteKvc_evict_options, (*EvictOptions).fill),
		"kvc_merge_options":     inputPair(raw.NewKvc_merge_options(), raw.DeleteKvc_merge_options, (*MergeOptions).fill),
		"kvc_step_down_options": inputPair(raw.NewKvc_step_down_options(), raw.DeleteKvc_step_down_options, (*StepDownOptions).fill),
		"kvc_prefix_options":    inputPair(raw.NewKvc_prefix_options(), raw.DeleteKvc_prefix_options, (*PrefixOptions).fill),
		"kvc_plan":              outputPair(raw.NewKvc_plan(), raw.DeleteKvc_plan, planOf),
		"kvc_evict_report":      outputPair(raw.NewKvc_evict_report(), raw.DeleteKvc_evict_report, evictReportOf),
		"kvc_step_down_report":  outputPair(raw.NewKvc_step_down_report(), raw.DeleteKvc_step_down_report, stepDownReportOf),
		"kvc_prefix_hit":        outputPair(raw.NewKvc_prefix_hit(), raw.DeleteKvc_prefix_hit, prefixHitOf),
		"kvc_prefix_stats":      outputPair(raw.NewKvc_prefix_stats(), raw.DeleteKvc_prefix_stats, prefixStatsOf),
		"kvc_stats":             outputPair(raw.NewKvc_stats(), raw.DeleteKvc_stats, statsOf),
		"kvc_seq_stats":         outputPair(raw.NewKvc_seq_stats(), raw.DeleteKvc_seq_stats, sequenceStatsOf),
	}
}

// Fields that Go does not have: what the raw layer sets itself, what is reserved, and callbacks, which C does not make into Go.
var leftOut = map[string]bool{"struct_size": true, "reserved": true, "allocate": true, "release": true, "allocator_context": true}

// Every field crosses alone: what is set on one side arrives in the field of that name on the other, and nowhere else.
func TestEveryFieldCrosses(t *testing.T) {
	structs, _ := described(t)
	known := pairs()
	for _, p := range known {
		defer p.free()
	}
	for name, fields := range structs {
		if name == "kvc_error" { // read in crossing.go: the tests of errors see both of its fields
			continue
		}
		p, found := known[name]
		if !found {
			t.Errorf("%s: Go has no struct for it", name)
			continue
		}
		crossed := 0
		for _, field := range fields {
			if leftOut[field] {
				continue
			}
			crossed++
			if problem := crosses(p, field); problem != "" {
				t.Errorf("%s.%s: %s", name, field, problem)
			}
		}
		if n := reflect.TypeOf(p.of).NumField(); n != crossed {
			t.Errorf("%s has %d fields, Go's struct %d", name, crossed, n)
		}
	}
}

func crosses(p pair, field string) string {
	goName := func(name string) bool { return strings.EqualFold(name, strings.ReplaceAll(field, "_", "")) }
	rawName := strings.ToUpper(field[:1]) + field[1:]
	value := reflect.New(reflect.TypeOf(p.of))
	target := value.Elem().FieldByNameFunc(goName)
	if !target.IsValid() {
		return "Go's struct lacks it"
	}
	if p.fill != nil {
		set(target)
		p.fill(value.Interface())
		got := reflect.ValueOf(p.made).MethodByName("Get" + rawName).Call(nil)[0]
		if !same(target, got) {
			return "Go's " + text(target) + " arrives as " + text(got)
		}
		target.SetZero()
		p.fill(value.Interface())
		if got := reflect.ValueOf(p.made).MethodByName("Get" + rawName).Call(nil)[0]; !got.IsZero() {
			return "set by another field"
		}
		return ""
	}
	setter := reflect.ValueOf(p.made).MethodByName("Set" + rawName)
	given := reflect.New(setter.Type().In(0)).Elem()
	set(given)
	setter.Call([]reflect.Value{given})
	got := reflect.ValueOf(p.read()).FieldByNameFunc(goName)
	setter.Call([]reflect.Value{reflect.Zero(given.Type())})
	if !same(given, got) {
		return "C's " + text(given) + " arrives as " + text(got)
	}
	if after := reflect.ValueOf(p.read()); !after.IsZero() {
		return "set by another field"
	}
	return ""
}

func set(value reflect.Value) {
	switch value.Kind() {
	case reflect.Bool:
		value.SetBool(true)
	case reflect.String:
		value.SetString("h2o")
	case reflect.Float32, reflect.Float64:
		value.SetFloat(1.5)
	case reflect.Uintptr:
		value.SetUint(4096)
	case reflect.Pointer:
		value.Set(reflect.ValueOf(&Graph{handle: 4096}))
	default:
		value.SetInt(7)
	}
}

// text is a value as both sides write it: Go's true is C's 1.
func text(value reflect.Value) string {
	switch value.Kind() {
	case reflect.Bool:
		return strconv.Itoa(int(flag(value.Bool())))
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(value.Float(), 'g', -1, 64)
	case reflect.String:
		return value.String()
	case reflect.Pointer:
		return strconv.FormatUint(uint64(value.Interface().(*Graph).access()), 10)
	case reflect.Uintptr, reflect.Uint64:
		return strconv.FormatUint(value.Uint(), 10)
	}
	return strconv.FormatInt(value.Int(), 10)
}

func same(a, b reflect.Value) bool { return text(a) == text(b) }
