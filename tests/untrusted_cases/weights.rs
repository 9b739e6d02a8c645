//! Files of weights.

use std::collections::BTreeMap;
use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Tensor};
use textbrewer::Error;
use textbrewer::weights::{LoadOptions, Transfer, load_file, read, read_metadata, save};

use crate::message;

fn write(path: &Path, header: &str, data: &[u8]) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn headers_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let four = r#"{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}"#;
    let shaped = |shape: &str, end: u64| {
        format!(r#"{{"a": {{"dtype": "F32", "shape": [{shape}], "data_offsets": [0, {end}]}}}}"#)
    };
    let deep = 100_000;
    let cases = [
        (
            format!(r#"{{"a": {four}, "a": {four}}}"#),
            "`a` is there twice",
        ),
        (
            r#"{"__metadata__": {}, "__metadata__": {}}"#.to_owned(),
            "`__metadata__` is there twice",
        ),
        (format!(r#"{{"a": {four}, "b": {four}}}"#), "invalid offset"),
        (shaped("2", 4), "invalid shape, data type, or offset"),
        (
            shaped("4294967296, 4294967296", 0),
            "`a` has an impossible shape",
        ),
        (
            shaped("4611686018427387904, 2, 0", 0),
            "`a` has an impossible shape",
        ),
        (
            shaped("0, 9223372036854775807", 0),
            "`a` has an impossible shape",
        ),
        (
            shaped("18446744073709551615", 4),
            "`a` has an impossible shape",
        ),
        (shaped("18446744073709551616", 4), "invalid type"),
        (shaped("-1", 4), "invalid value"),
        (shaped("1.0", 4), "invalid type"),
        (
            shaped(&vec!["1"; 1_000_000].join(","), 4),
            "more than 64 dimensions",
        ),
        (
            shaped("288230376151711744", 1152921504606846976),
            "is cut short: its tensors need 1152921504606846976",
        ),
        (
            shaped("1073741824", 4294967296),
            "is cut short: its tensors need 4294967296",
        ),
        (
            shaped("1", 18446744073709551615),
            "invalid shape, data type, or offset",
        ),
        (
            r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}"#.to_owned(),
            "offset",
        ),
        (
            r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}"#.to_owned(),
            "offset",
        ),
        (
            r#"{"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}"#.to_owned(),
            "F33",
        ),
        (
            r#"{"a": {"dtype": "U32", "shape": [1], "data_offsets": [0, 4]}}"#.to_owned(),
            "U32",
        ),
        (
            r#"{"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}"#.to_owned(),
            "header",
        ),
        (
            r#"{"a": {"dtype": "F32", "shape": [1]}}"#.to_owned(),
            "missing field",
        ),
        (r#"{"__metadata__": {"a": 1}}"#.to_owned(), "invalid type"),
        (r#"{"__metadata__": null}"#.to_owned(), "invalid type"),
        ("{}".to_owned(), "4 bytes follow the last tensor"),
        ("[]".to_owned(), "invalid type"),
        (format!("{{\"a\": {}", "[".repeat(deep)), "header"),
        (format!("{{\"a\": {}", "{\"a\":".repeat(deep)), "header"),
        (format!("{{\"{}\": {four}", "n".repeat(1 << 20)), "EOF"),
        (format!("{{\"{}\": 1}}", "n".repeat(1 << 20)), "header"),
    ];
    for (header, expected) in &cases {
        write(&path, header, &[0; 4]);
        let what = &header[..header.len().min(100)];
        let shown = message(what, read(&path));
        assert!(shown.contains(expected), "{what}\n{expected}\n{shown}");
    }
}

#[test]
fn every_beginning_of_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    save(
        &path,
        &[("a", Tensor::from_slice(&[1f32, 2.0]))],
        &BTreeMap::new(),
    )
    .unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        message(&format!("{length} bytes"), read(&path));
        message(&format!("{length} bytes"), read_metadata(&path));
    }
}

#[test]
fn names_are_only_names() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let path = inside.join("w.safetensors");
    let names = [
        "../outside",
        "/etc/passwd",
        "",
        ".",
        "a\u{0}b",
        "\u{1b}]0;title\u{7}",
        "\n\n",
        "\u{202e}gnp.exe",
        "encoder.layer.18446744073709551616.bias",
        "LayerNorm.gamma",
        "💥",
    ];
    let tensors = names.map(|name| (name, Tensor::from_slice(&[1f32])));
    save(&path, &tensors, &BTreeMap::new()).unwrap();
    let back = read(&path).unwrap();
    assert_eq!(back.len(), names.len());

    let variables = VarStore::new(Device::Cpu);
    let kept = variables.root().zeros("kept", &[1]);
    let shown = message("names", load_file(&variables, &path, &LoadOptions::new()));
    assert!(
        shown.contains(r"`\u{1b}]0;title\u{7}`: unexpected"),
        "{shown}"
    );
    assert!(shown.contains(r"`\n\n`: unexpected"), "{shown}");
    assert_eq!(shown.lines().count(), 1 + 1 + names.len(), "{shown}");
    message("names", Transfer::layers([0]).copy_file(&path, &variables));
    assert_eq!(kept.double_value(&[0]), 0.0);
    let entries = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!((entries(folder.path()), entries(&inside)), (1, 1));
}

#[test]
fn a_thousand_differences_are_counted_and_not_all_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let tensors: Vec<_> = (0..1000)
        .map(|i| (format!("{i}{}", "n".repeat(1000)), Tensor::from(1f32)))
        .collect();
    save(&path, &tensors, &BTreeMap::new()).unwrap();
    let variables = VarStore::new(Device::Cpu);
    let _ = variables.root().zeros("kept", &[1]);
    let error = load_file(&variables, &path, &LoadOptions::new()).unwrap_err();
    let Error::WeightsMismatch { differences, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(differences.len(), 1001);
    let shown = error.to_string();
    assert!(shown.ends_with("… and 961 more"), "{shown}");
    assert!(shown.len() < 20_000, "{}", shown.len());
}

/// A file system may say that a file is huge when there is nothing in it.
#[cfg(unix)]
#[test]
fn weights_that_no_model_wants_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let size = 1u64 << 42;
    let header =
        format!(r#"{{"a": {{"dtype": "U8", "shape": [{size}], "data_offsets": [0, {size}]}}}}"#);
    write(&path, &header, &[]);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Not every file system can hold such a file.
    if file.set_len(8 + header.len() as u64 + size).is_ok() {
        let variables = VarStore::new(Device::Cpu);
        let _ = variables.root().zeros("a", &[1]);
        let shown = message("sparse", load_file(&variables, &path, &LoadOptions::new()));
        assert!(
            shown.contains("`a`: shape [4398046511104], the model expects [1]"),
            "{shown}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_is_replaced_and_not_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (
        folder.path().join("precious"),
        folder.path().join("w.safetensors"),
    );
    std::fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    save(&link, &[("a", Tensor::from(1f32))], &BTreeMap::new()).unwrap();
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    assert!(!link.symlink_metadata().unwrap().is_symlink());
}
