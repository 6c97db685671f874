go: $(LIBKVC)
	cd go && test -z "$$(gofmt -l proof)" && go vet ./proof && go build -o $(OUT)/proof_go ./proof

go-test: go
	cd go && LD_LIBRARY_PATH=$(PREFIX)/lib go test -count=1 ./proof
