# Go compiles a package of C anew when a file in its folder changes. The headers of the raw layer lie elsewhere, so that their hash is a flag.
GO_HEADERS := abi_check.h generated/layout.h $(ROOT)/kvc.h
go go-test go-long go-on-device: export CGO_CFLAGS := -O2 -g -DKVC_HEADERS=0x$(shell cat $(GO_HEADERS) | sha256sum | cut -c 1-16)

go: $(LIBKVC)
	cd go && test -z "$$(gofmt -l $$(ls -d */ *.go | grep -v raw))" && go vet $$(go list ./... | grep -v /raw) && go vet -tags kvc_gc_stress .
	cd go && go build -o $(OUT)/proof_go ./proof && go build -o $(OUT)/replay_go ./replay
	mkdir -p $(OUT)/go_examples && cd go && go build -o $(OUT)/go_examples/ ./examples/...

go-test: go
	OUT=$(OUT) PREFIX=$(PREFIX) go/check

# Minutes: the collector within every call of whole scripts, and the concurrent tests again and again.
go-long: go
	OUT=$(OUT) PREFIX=$(PREFIX) go/check long

# What needs a device, on the emulated one, which must have been built.
go-on-device: go
	OUT=$(OUT) PREFIX=$(PREFIX) EMULATED=$(EMULATED) go/check device

.PHONY: go-long go-on-device
