//! This crate covers the whole of kvc.h: what the header and the library name is compared with what is written here.

mod fields;

pub(crate) use fields::{Crossed, Sample, Samples};
use std::collections::HashMap;
use std::path::Path;

/// Fields of the caller's memory, which are set through `Cache::with_memory`.
const SET_RAW: [&str; 4] = ["arena_block", "allocate", "release", "allocator_context"];
/// Structs that the raw layer's own type serves, all fields public; and the error, of which `Error` is made.
const RAW: [&str; 8] = [
    "kvc_plan",
    "kvc_evict_report",
    "kvc_step_down_report",
    "kvc_prefix_hit",
    "kvc_prefix_stats",
    "kvc_stats",
    "kvc_seq_stats",
    "kvc_error",
];

fn header() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../kvc.h")).unwrap()
}

/// The text of this crate without its tests and comments.
fn source() -> String {
    let files = files_of("src");
    let own = files.iter().filter(|(path, _)| !path.starts_with("coverage"));
    own.map(|(_, text)| text.split("#[cfg(test)]\nmod tests {").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The Rust files under a folder, beside Cargo.toml or elsewhere: path from there, and text without comments.
fn files_of(folder: &str) -> Vec<(String, String)> {
    let (mut folders, mut files) = (vec![String::new()], Vec::new());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    while let Some(within) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&within)).unwrap().map(|entry| entry.unwrap()) {
            let path = format!("{within}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                folders.push(path + "/");
            } else if path.ends_with(".rs") {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let code = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
                files.push((path, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    files
}

/// Ways into C that do not go through what bindgen makes of kvc.h: no function of another language is declared, and none called by an
/// address that was looked up, without one of these words.
fn other_imports(source: &str) -> Vec<&str> {
    const WAYS: [&str; 12] = [
        "extern",
        "link",
        "link_name",
        "dlsym",
        "dlopen",
        "libloading",
        "no_mangle",
        "asm",
        "global_asm",
        "naked_asm",
        "include",
        "transmute",
    ];
    let words: Vec<&str> = source.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let next = words.iter().skip(1).copied().chain([""]);
    words.iter().copied().zip(next).filter(|(word, next)| WAYS.contains(word) && *next != "crate").map(|(word, _)| word).collect()
}

/// Names of functions in the header that no call in the source mentions.
fn missing_functions(header: &str, source: &str) -> Vec<String> {
    let declared = header.lines().filter_map(|line| line.strip_prefix("KVC_API ")).filter_map(|line| line.split('(').next());
    let names = declared.filter_map(|head| head.rsplit([' ', '*']).next()).map(str::to_owned);
    names.filter(|name| !source.contains(&format!("{name}(")) && !source.contains(&format!(" {name} {{"))).collect()
}

/// Names of fields and enumerators that the library describes and this crate lacks.
fn missing_names(described: &str) -> Vec<String> {
    let options: HashMap<_, _> = crate::options::OPTIONS.iter().copied().collect();
    let kinds: HashMap<_, _> = crate::kinds::KINDS.iter().copied().collect();
    let mut missing = Vec::new();
    for line in described.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["struct", name, ..] if !RAW.contains(&name) => {
                let known = options.get(name).copied().unwrap_or_default();
                let fields = words.iter().zip(&words[1..]).filter(|(word, _)| **word == "field").map(|(_, field)| *field);
                let passed = |field: &&str| known.contains(field) || ["struct_size", "reserved"].contains(field);
                let raw = |field: &&str| name == "kvc_options" && SET_RAW.contains(field);
                missing.extend(fields.filter(|field| !passed(field) && !raw(field)).map(|field| format!("{name}.{field}")));
            }
            ["enum", "kvc_status", enumerator, number] => {
                let status = crate::Status::from_number(number.parse().unwrap());
                let named = number == "0" || (status.name() == enumerator && !matches!(status, crate::Status::Unknown(_)));
                missing.extend((!named).then(|| enumerator.to_owned()));
            }
            ["enum", name, enumerator, number] => {
                // 0 of some enums says that nothing was said; the types here have no such case.
                let known = kinds.get(name).is_some_and(|list| list.contains(&enumerator));
                let unsaid = number == "0" && (enumerator.ends_with("_DEFAULT") || enumerator.ends_with("_UNSET"));
                missing.extend((!known && !unsaid).then(|| enumerator.to_owned()));
            }
            _ => {}
        }
    }
    missing
}

#[test]
fn every_function_of_the_header_is_called() {
    assert_eq!(missing_functions(&header(), &source()), Vec::<String>::new());
    assert!(header().matches("\nKVC_API ").count() > 70);
}

#[test]
fn a_function_that_nothing_calls_is_found() {
    let header = header() + "\nKVC_API kvc_status kvc_seq_invented(kvc_cache* cache);\nKVC_API const char* kvc_name_invented(void);\n";
    assert_eq!(missing_functions(&header, &source()), ["kvc_seq_invented", "kvc_name_invented"]);
}

#[test]
fn all_ways_into_c_are_generated() {
    let mut generated = 0;
    for folder in ["src", "examples", "../replay/src", "../kvc-sys/src", "../kvc-sys/examples"] {
        let files = files_of(folder);
        assert!(!files.is_empty());
        for (path, text) in files.iter().filter(|(path, _)| path != "coverage.rs") {
            if folder == "../kvc-sys/src" && path.starts_with("generated/") {
                generated += other_imports(text).len();
            } else {
                let without_generated = text.replace("include!(\"generated/", "");
                assert_eq!(other_imports(&without_generated), Vec::<&str>::new(), "{folder}/{path}");
            }
        }
    }
    assert!(generated > 70);
    assert!(files_of("examples").iter().any(|(path, _)| path == "model/mod.rs"));
}

#[test]
fn another_way_into_c_is_found_however_it_is_written() {
    for way in [
        "extern \"C\" { fn kvc_version(); }",
        "extern \"C-unwind\" { fn kvc_version(); }",
        "unsafe extern{fn kvc_version();}",
        "type Version = unsafe extern\n    \"C\" fn() -> *const c_char;",
        "#[link(name = \"kvc\")]",
        "let f = dlsym(library, name);",
        "core::arch::global_asm!(\"jmp kvc_version\");",
    ] {
        assert_eq!(other_imports(&format!("fn f() {{}}\n{way}\nfn g() {{}}\n")).len(), 1, "{way}");
    }
    assert_eq!(other_imports("extern crate alloc;\nlet external = linked(1);"), Vec::<&str>::new());
}

#[test]
fn every_field_and_enumerator_of_the_library_is_here() {
    assert_eq!(missing_names(&crate::abi_describe()), Vec::<String>::new());
    assert!(crate::abi_describe().lines().count() > 50);
}

#[test]
fn fields_and_enumerators_that_are_not_here_are_found() {
    let described = "struct kvc_layer 8 field struct_size 0 4 u32 field invented 4 4 i32\nstruct kvc_new 4 field n 0 8 i64\n\
                     enum kvc_dtype KVC_F64 576\nenum kvc_status KVC_E_INVENTED 99\nenum kvc_new KVC_NEW 0\n";
    assert_eq!(missing_names(described), ["kvc_layer.invented", "kvc_new.n", "KVC_F64", "KVC_E_INVENTED", "KVC_NEW"]);
}
