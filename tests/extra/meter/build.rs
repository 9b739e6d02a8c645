//! Compiles the C++ part against libtorch's headers.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=src/meter.cpp");
    // Without libtorch, as on docs.rs, nothing is linked either.
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    // Where the build.rs of textbrewer looks for them too.
    let beside = Path::new(&folder).join("../include");
    let include = match std::env::var("LIBTORCH_INCLUDE") {
        Ok(other) if !beside.join("ATen").exists() => Path::new(&other).join("include"),
        _ => beside,
    };
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false) // of libtorch's headers
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .include(include)
        .file("src/meter.cpp")
        .compile("torch_meter");
}
