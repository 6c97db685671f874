go: $(LIBKVC)
	cd go && test -z "$$(gofmt -l $$(ls -d */ *.go | grep -v raw))" && go vet $$(go list ./... | grep -v /raw) && go vet -tags kvc_gc_stress .
	cd go && go build -o $(OUT)/proof_go ./proof && go build -o $(OUT)/replay_go ./replay
	mkdir -p $(OUT)/go_examples && cd go && go build -o $(OUT)/go_examples/ ./examples/...

go-test: go
	OUT=$(OUT) PREFIX=$(PREFIX) go/check

# Minutes: the collector within every call of whole scripts, and the concurrent tests again and again.
go-long: go
	OUT=$(OUT) PREFIX=$(PREFIX) go/check long

.PHONY: go-long
