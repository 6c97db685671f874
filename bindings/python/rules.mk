# The compiled part, for the Python of .venv; in an idle tree this takes a second. nanobind and NumPy are in tools/requirements.txt.
PYTHON := $(ROOT)/.venv/bin/python
PYTHON_OUT := $(OUT)/python
# Runs a module with the binding of this clone, over the libkvc that LD_LIBRARY_PATH, LD_PRELOAD or KVC_LIBRARY name, else the installed one.
define python_launcher
@printf '#!/bin/sh\nexport LD_LIBRARY_PATH="$${LD_LIBRARY_PATH:+$$LD_LIBRARY_PATH:}%s" KVC_LIBRARY="$${KVC_LIBRARY:-libkvc.so.1}"\nexport PYTHONPATH="%s"\nexec "%s" -m %s "$$@"\n' \
  $(PREFIX)/lib $(ROOT)/bindings/python $(PYTHON) $(2) > $(OUT)/$(1) && chmod +x $(OUT)/$(1)
endef

python: $(LIBKVC)
	@test -e $(PYTHON_OUT)/cmake/build.ninja || cmake -S python -B $(PYTHON_OUT)/cmake -G Ninja -DCMAKE_BUILD_TYPE=Release \
	  -DPython_EXECUTABLE=$(PYTHON) -DCMAKE_PREFIX_PATH=$(PREFIX) > /dev/null
	@cmake --build $(PYTHON_OUT)/cmake > $(PYTHON_OUT)/build.log || { cat $(PYTHON_OUT)/build.log >&2; exit 1; }
	@cmake --install $(PYTHON_OUT)/cmake --prefix $(PYTHON_OUT) > /dev/null
	$(call python_launcher,replay_python,replay)
	$(call python_launcher,proof_python,proof)

python-test: python
	$(PYTHON) -m pytest -q python/tests

# The documents and what needs a device, on the emulated one, which make test-devices builds before it runs this.
python-devices: python
	@printed=$$(LD_PRELOAD=$(EMULATED) LD_LIBRARY_PATH=$(PREFIX)/lib KVC_LIBRARY=libkvc.so.1 \
	  $(PYTHON) -m pytest -q python/device python/tests/test_documents.py 2>&1) || { echo "$$printed" >&2; exit 1; }

# Storms, and a wheel that is built and installed.
python-long: python
	$(PYTHON) -m pytest -q python/long

# kvc/structs.py and kvc/_kvc.pyi, after a change of kvc.h or of what the compiled part offers; commit the result.
python-regenerate: python
	$(PYTHON) python/structs_generator.py

.PHONY: python-long python-regenerate
