# C# is built twice from the same sources: for mono, and, where the Python package dotnetcore2 is installed, for the CoreCLR that it
# holds, against that run time's own libraries: mono's mscorlib has Span, .NET's has not, so that one build cannot serve both.
CSHARP := $(OUT)/csharp
DOTNET := $(firstword $(wildcard $(ROOT)/.venv/lib/python3*/site-packages/dotnetcore2/bin/dotnet))
DOTNET_LIBRARIES := $(if $(DOTNET),$(firstword $(wildcard $(dir $(DOTNET))shared/Microsoft.NETCore.App/3.1.*)))
MCS := mcs -langversion:7.2 -unsafe -warnaserror -optimize
# 1702: mcs takes a library that refers to a version of another one by itself for a mismatch, of equal versions too.
MCS_CORE := $(MCS) -nowarn:1702 -nostdlib -noconfig $(patsubst %,-r:$(DOTNET_LIBRARIES)/%.dll,System.Private.CoreLib System.Runtime \
    System.Runtime.Extensions System.Runtime.InteropServices System.Runtime.InteropServices.RuntimeInformation System.Memory \
    System.Collections System.Console System.Linq System.IO.FileSystem System.Threading.Thread)
CSHARP_LAYER := $(wildcard csharp/*.cs csharp/generated/*.cs csharp/Kvc/*.cs)
CSHARP_REPLAY := $(wildcard csharp/replay/*.cs)
CSHARP_TESTS := $(wildcard csharp/tests/*.cs)
CSHARP_INPUTS := csharp/examples/Inputs.cs csharp/replay/Numbers.cs csharp/replay/ScriptException.cs csharp/replay/Sha256.cs
CSHARP_EXAMPLES := append_attend budget_evict devices prefix_fork snapshot
# The folder of a package for this machine: libkvc.so.1 is found beside libkvc_csharp.so.
CSHARP_RID := linux-$(if $(filter aarch64,$(shell uname -m)),arm64,x64)
CSHARP_NATIVE := runtimes/$(CSHARP_RID)/native
CSHARP_RUN_TIMES := mono $(if $(DOTNET),core)

$(OUT)/libkvc_csharp.so: $(LIBKVC) csharp/generated/kvc_wrap.c abi_check.h generated/layout.h
	gcc $(CFLAGS) -shared -fPIC -I. csharp/generated/kvc_wrap.c -o $@ $(LINK) -ldl \
	    -Wl,-soname,libkvc_csharp.so -Wl,--enable-new-dtags,-rpath,'$$ORIGIN'

$(OUT)/proof.exe: $(CSHARP_LAYER) csharp/proof/Proof.cs
	@echo mcs $(notdir $@)
	@$(MCS) -out:$@ $^

# $(1): mono or core; $(2): the compiler of that run time.
define CSHARP_PROGRAMS
$(CSHARP)/$(1)/Kvc.dll: $(CSHARP_LAYER) $(OUT)/libkvc_csharp.so
	@mkdir -p $(CSHARP)/$(1)/$(CSHARP_NATIVE)
	@echo mcs $(1)/$$(notdir $$@)
	@$(2) -target:library -out:$$@ $(CSHARP_LAYER)
	@cp $(OUT)/libkvc_csharp.so $(CSHARP)/$(1)/$(CSHARP_NATIVE)
	@ln -sf $(PREFIX)/lib/libkvc.so.1 $(CSHARP)/$(1)/$(CSHARP_NATIVE)
$(CSHARP)/$(1)/replay_csharp.exe: $(CSHARP_REPLAY) $(CSHARP)/$(1)/Kvc.dll
	@echo mcs $(1)/$$(notdir $$@)
	@$(2) -r:$(CSHARP)/$(1)/Kvc.dll -out:$$@ $(CSHARP_REPLAY)
$(CSHARP)/$(1)/kvc_tests.exe: $(CSHARP_TESTS) $(CSHARP)/$(1)/Kvc.dll
	@echo mcs $(1)/$$(notdir $$@)
	@$(2) -r:$(CSHARP)/$(1)/Kvc.dll -out:$$@ $(CSHARP_TESTS)
$(CSHARP)/$(1)/%.exe: csharp/examples/%.cs $(CSHARP_INPUTS) $(CSHARP)/$(1)/Kvc.dll
	@echo mcs $(1)/$$(notdir $$@)
	@$(2) -r:$(CSHARP)/$(1)/Kvc.dll -out:$$@ $$< $(CSHARP_INPUTS)
endef
$(eval $(call CSHARP_PROGRAMS,mono,$(MCS)))
$(if $(DOTNET),$(eval $(call CSHARP_PROGRAMS,core,$(MCS_CORE))))

$(OUT)/replay_csharp: $(CSHARP)/mono/replay_csharp.exe
	@printf '#!/bin/sh\nexec mono "$${0%%/*}/csharp/mono/replay_csharp.exe" "$$@"\n' > $@ && chmod +x $@

# What CoreCLR is told when it starts a program: the version that dotnetcore2 holds, and no ICU, as it comes without.
$(CSHARP)/core/core.json: csharp/rules.mk
	@mkdir -p $(@D)
	@echo '{"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": "3.1.0"}, "configProperties": {"System.Globalization.Invariant": true}}}' > $@

$(OUT)/replay_csharp-coreclr: $(CSHARP)/core/replay_csharp.exe $(CSHARP)/core/core.json
	@printf '#!/bin/sh\ncore="$${0%%/*}/csharp/core"\nexport DOTNET_CLI_TELEMETRY_OPTOUT=1\nexec $(DOTNET) exec --runtimeconfig "$$core/core.json" "$$core/replay_csharp.exe" "$$@"\n' \
	    > $@ && chmod +x $@

$(CSHARP)/libwitness.so: csharp/tests/witness.c $(LIBKVC)
	@mkdir -p $(CSHARP)
	gcc $(CFLAGS) -shared -fPIC $< -o $@ $(LINK) -ldl

# A library of another ABI, for the tests (proof/other_abi.c).
$(CSHARP)/libother.so: proof/other_abi.c $(LIBKVC)
	@mkdir -p $(CSHARP)
	gcc -shared -fPIC -Wl,--no-as-needed -DOTHER_LAYOUT $< -o $@ -L$(PREFIX)/lib -lkvc -ldl

.PHONY: csharp-long csharp-package
csharp-package: $(CSHARP)/mono/Kvc.dll
	@rm -rf $(CSHARP)/package && mkdir -p $(CSHARP)/package/$(CSHARP_NATIVE)
	@cp $< $(CSHARP)/package && cp -L $(CSHARP)/mono/$(CSHARP_NATIVE)/* $(CSHARP)/package/$(CSHARP_NATIVE)

# A replayer for each run time; one of a run time that is gone would only fail.
csharp: $(OUT)/proof.exe $(OUT)/replay_csharp $(if $(DOTNET),$(OUT)/replay_csharp-coreclr)
	$(if $(DOTNET),,@rm -f $(OUT)/replay_csharp-coreclr)

csharp-test csharp-long: csharp csharp-package $(CSHARP)/libwitness.so $(CSHARP)/libother.so \
    $(foreach run_time,$(CSHARP_RUN_TIMES),$(patsubst %,$(CSHARP)/$(run_time)/%.exe,replay_csharp kvc_tests $(CSHARP_EXAMPLES)))
	csharp/test $(CSHARP) $(PREFIX)/include/kvc.h $(if $(filter csharp-long,$@),long,short) $(DOTNET)
