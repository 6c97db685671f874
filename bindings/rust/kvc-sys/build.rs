//! Links libkvc: from the folder in KVC_LIB_DIR, from its own sources with the feature `bundled`, or from where pkg-config or the
//! linker finds it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=KVC_LIB_DIR");
    println!("cargo:rerun-if-env-changed=KVC_SOURCE_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    match std::env::var("KVC_LIB_DIR") {
        Ok(folder) => link_shared(Some(folder)),
        Err(_) if cfg!(feature = "bundled") => link_bundled(),
        Err(_) => link_shared(folder_of_pkg_config()),
    }
}

fn link_shared(folder: Option<String>) {
    println!("cargo:rustc-link-lib=dylib=kvc");
    let Some(folder) = folder else {
        println!("cargo:warning=neither KVC_LIB_DIR nor pkg-config names the folder of libkvc; the linker has to find it");
        return;
    };
    let here = |name: &str| std::path::Path::new(&folder).join(name).exists();
    let names = ["libkvc.so", "libkvc.dylib", "kvc.lib"];
    assert!(
        names.into_iter().any(here),
        "no libkvc in {folder}, which KVC_LIB_DIR or pkg-config names (looked for {})",
        names.join(", ")
    );
    println!("cargo:rustc-link-search=native={folder}");
}

fn folder_of_pkg_config() -> Option<String> {
    let found = Command::new("pkg-config").args(["--variable=libdir", "kvc"]).output().ok()?;
    let folder = String::from_utf8(found.stdout).ok()?.trim().to_owned();
    (found.status.success() && !folder.is_empty()).then_some(folder)
}

#[cfg(not(feature = "bundled"))]
fn link_bundled() {}

/// The static library, so that a program carries all it needs. It has no device: a program for CUDA takes an installed libkvc.
#[cfg(feature = "bundled")]
fn link_bundled() {
    let source = source();
    for part in ["kvc.h", "CMakeLists.txt", "cmake", "core", "capi", "kernels"] {
        println!("cargo:rerun-if-changed={}", source.join(part).display());
    }
    let mut build = cmake::Config::new(&source);
    for option in ["KVC_TESTS", "KVC_BENCH", "KVC_WERROR", "KVC_CUDA"] {
        build.define(option, "OFF");
    }
    let built = build.profile("Release").build_target("kvc_static").build();
    println!("cargo:rustc-link-search=native={}", built.join("build").display());
    println!("cargo:rustc-link-lib=static=kvc_static");
    println!("cargo:rustc-link-lib=dylib=stdc++");
}

/// Where libkvc's sources lie: KVC_SOURCE_DIR, the folder `source` of a packaged crate, or the clone that this crate is part of.
#[cfg(feature = "bundled")]
fn source() -> std::path::PathBuf {
    let crate_folder = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let given = std::env::var_os("KVC_SOURCE_DIR").map(std::path::PathBuf::from);
    let places = given.map_or_else(|| vec![crate_folder.join("source"), crate_folder.join("../../..")], |folder| vec![folder]);
    let found = places.iter().find(|place| place.join("kvc.h").exists() && place.join("core").exists());
    found.unwrap_or_else(|| panic!("no sources of libkvc in {places:?}; KVC_SOURCE_DIR can name their folder")).clone()
}
