//! Compiles the native part against libtorch's headers, and lets this package's own
//! binaries, tests and examples find libtorch at run time.

use std::env;
use std::path::{Path, PathBuf};

const HEADERS: [&str; 4] = [
    "src/native/common.h",
    "src/native/divergence.h",
    "src/native/process_group.h",
    "src/native/gloo",
];
const SOURCES: [&str; 11] = [
    "src/native/autocast.cpp",
    "src/native/backend.cpp",
    "src/native/divergence.cpp",
    ROWS,
    "src/native/history.cpp",
    "src/native/layers.cpp",
    "src/native/optim.cpp",
    "src/native/process_group.cpp",
    "src/native/reducer.cpp",
    "src/native/widening.cpp",
    "src/native/with_gradients.cpp",
];
/// Compiled for any processor and, where that is possible, for those with AVX2.
const ROWS: &str = "src/native/divergence_rows.cpp";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for file in SOURCES.iter().chain(&HEADERS) {
        println!("cargo:rerun-if-changed={file}");
    }
    // Unset under `doc-only`, where there is no libtorch and nothing links. A dependent's build.rs
    // works there all the same.
    let Ok(folder) = env::var("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo:link_arg=-Wl,--no-as-needed");
        return;
    };
    compile(Path::new(&folder));
    // One argument, which a dependent's build.rs repeats in one line: where libtorch is at run
    // time, and that it is wanted although nothing refers to `libtorch.so` itself. It is what
    // loads the CUDA part.
    let link_arg = format!("-Wl,-rpath,{folder},--no-as-needed,-ltorch");
    println!("cargo:rustc-link-arg={link_arg}");
    println!("cargo:link_arg={link_arg}");
}

fn compile(libraries: &Path) {
    let abi = variable("LIBTORCH_CXX11_ABI").unwrap_or_else(|| "1".to_owned());
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .pic(true)
        // Not only in release builds: libtorch's headers are templates throughout.
        .opt_level(2)
        .debug(false)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .warnings(true)
        .extra_warnings(true);
    // Not on a user's machine: a newer compiler may warn of what none warned of here.
    if variable("TEXTBREWER_WARNINGS_ARE_ERRORS").is_some() {
        build.flag("-Werror");
    }
    // As system folders, so that only warnings about our own code count.
    let include = headers(libraries);
    for folder in [include.join("torch/csrc/api/include"), include] {
        build.flag("-isystem").flag(folder);
    }
    // After libtorch's, in case that has them.
    build.flag("-isystem").flag("src/native/gloo");
    build.flag_if_supported("-fopenmp-simd");
    if variable("CARGO_CFG_TARGET_ARCH").as_deref() == Some("x86_64") {
        build.define("TEXTBREWER_HAS_AVX2", None);
        let mut rows = build.clone();
        rows.define("TEXTBREWER_FOR_AVX2", None);
        rows.flag("-mavx2").flag("-mfma").file(ROWS);
        rows.compile("textbrewer_native_avx2");
    }
    build.files(SOURCES);
    build.compile("textbrewer_native");
}

/// Where a libtorch archive, an installed PyTorch or, failing both, the user has them.
fn headers(libraries: &Path) -> PathBuf {
    let beside = libraries.join("../include");
    match variable("LIBTORCH_INCLUDE") {
        Some(folder) if !beside.join("ATen").exists() => Path::new(&folder).join("include"),
        _ => beside,
    }
}

fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok()
}
