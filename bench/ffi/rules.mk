# The programs of bench/ffi, one a language, over the idiomatic layers: make -C bindings -f Makefile -f ../bench/ffi/rules.mk ffi
# Built in build/bindings/ffi; C#'s lie beside Kvc.dll, where its libraries are.
FFI := $(OUT)/ffi
FFI_SOURCES := $(ROOT)/bench/ffi

.PHONY: ffi
ffi: go rust java python $(FFI)/c $(CSHARP)/mono/ffi.exe $(if $(DOTNET),$(CSHARP)/core/ffi.exe $(CSHARP)/core/ffi.json)
	cd $(FFI_SOURCES)/go && test -z "$$(gofmt -l .)" && go vet . && go build -o $(FFI)/go .
	cargo build --quiet --locked --release --manifest-path $(FFI_SOURCES)/rust/Cargo.toml
	cp $(OUT)/rust/release/ffi $(FFI)/rust
	$(JAVAC) --release 17 -cp $(OUT)/kvc.jar -d $(FFI)/java $(FFI_SOURCES)/java/Ffi.java
	$(call python_launcher,ffi/python,ffi)
	@sed -i 's|PYTHONPATH="|&$(FFI_SOURCES):|' $(FFI)/python

$(FFI)/c: $(FFI_SOURCES)/ffi.c $(LIBKVC)
	@mkdir -p $(FFI)
	gcc -std=c99 -D_POSIX_C_SOURCE=200809L $(CFLAGS) $< -o $@ $(LINK)

$(CSHARP)/mono/ffi.exe: $(FFI_SOURCES)/csharp/Ffi.cs $(CSHARP)/mono/Kvc.dll
	@echo mcs mono/$(notdir $@)
	@$(MCS) -r:$(CSHARP)/mono/Kvc.dll -out:$@ $<

$(CSHARP)/core/ffi.exe: $(FFI_SOURCES)/csharp/Ffi.cs $(CSHARP)/core/Kvc.dll
	@echo mcs core/$(notdir $@)
	@$(MCS_CORE) -r:$(CSHARP)/core/Kvc.dll -out:$@ $<

$(CSHARP)/core/ffi.json:
	@echo '{"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": "3.1.0"}, "configProperties": {"System.Globalization.Invariant": true}}}' > $@
