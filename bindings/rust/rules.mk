# kvc-sys and kvc, their tests, and the replayer of operation scripts. rust-long also runs the tests under the address sanitizer and
# valgrind, and builds libkvc from the packaged crates. CI sets up what rust-long needs: valgrind, and rustfmt and clippy if it has them.
RUST_MANIFEST := rust/Cargo.toml
CARGO_BUILD := --quiet --locked --manifest-path $(RUST_MANIFEST)

rust: $(LIBKVC)
	cargo build $(CARGO_BUILD) --workspace --bins --examples
	cp $(OUT)/rust/debug/replay $(OUT)/replay_rust

rust-test: rust
	OUT=$(OUT) rust/test

# What needs a device, on the emulated one, which must have been built.
rust-on-device: rust
	OUT=$(OUT) EMULATED=$(EMULATED) rust/test device

.PHONY: rust-long rust-package rust-on-device
rust-long: rust-test rust-package
	OUT=$(OUT) rust/test-long

# Crates that carry the sources of libkvc, for the feature bundled.
rust-package:
	OUT=$(OUT) rust/package
