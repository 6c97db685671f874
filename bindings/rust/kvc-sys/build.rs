//! Links libkvc: from the folder in KVC_LIB_DIR, otherwise from where pkg-config or the linker finds it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=KVC_LIB_DIR");
    println!("cargo:rustc-link-lib=dylib=kvc");
    let folder = std::env::var("KVC_LIB_DIR").ok().or_else(|| {
        let found = Command::new("pkg-config").args(["--variable=libdir", "kvc"]).output().ok()?;
        let folder = String::from_utf8(found.stdout).ok()?.trim().to_owned();
        (found.status.success() && !folder.is_empty()).then_some(folder)
    });
    if let Some(folder) = folder {
        println!("cargo:rustc-link-search=native={folder}");
    }
}
