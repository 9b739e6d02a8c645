//! Tells the tests where libtorch is.

fn main() {
    println!(
        "cargo:rustc-link-arg={}",
        std::env::var("DEP_TEXTBREWER_LINK_ARG").unwrap_or_default()
    );
}
