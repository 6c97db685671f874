rust: $(LIBKVC)
	cargo build --quiet --locked --manifest-path rust/Cargo.toml --example proof

rust-test: rust
