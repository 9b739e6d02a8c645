//! Weights in files and in models: what fits, what does not, and what is hostile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};
use textbrewer::Error;
use textbrewer::weights::{
    LoadOptions, Names, WeightsFile, load_file, load_into, read, read_metadata, save, state_dict,
};

fn no_metadata() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn floats(shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    Tensor::arange(count, (Kind::Float, Device::Cpu)).reshape(shape)
}

fn map<const N: usize>(tensors: [(&str, Tensor); N]) -> BTreeMap<String, Tensor> {
    tensors.map(|(name, t)| (name.to_owned(), t)).into()
}

/// A store with one variable of zeros for each name and shape.
fn zeros(variables: &[(&str, &[i64])]) -> VarStore {
    let store = VarStore::new(Device::Cpu);
    for (name, shape) in variables {
        let mut parts: Vec<_> = name.split('.').collect();
        let last = parts.pop().unwrap();
        let path = parts.iter().fold(store.root(), |path, part| path / part);
        let _ = path.var(last, shape, Init::Const(0.0));
    }
    store
}

fn differences(error: Error) -> Vec<String> {
    match error {
        Error::WeightsMismatch { differences, .. } => differences,
        other => panic!("{other}"),
    }
}

#[test]
fn every_dtype_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let values = Tensor::from_slice(&[0f32, 1.0, 2.0, 64.0]);
    let kinds = [
        Kind::Bool,
        Kind::Uint8,
        Kind::Int8,
        Kind::Int16,
        Kind::Int,
        Kind::Int64,
        Kind::Half,
        Kind::BFloat16,
        Kind::Float,
        Kind::Double,
        Kind::Float8e5m2,
        Kind::Float8e4m3fn,
    ];
    let tensors: Vec<_> = kinds
        .map(|kind| (format!("{kind:?}"), values.to_kind(kind)))
        .into();
    save(&path, &tensors, &no_metadata()).unwrap();
    let back = read(&path).unwrap();
    assert_eq!(back.len(), kinds.len());
    for (name, tensor) in tensors {
        assert_eq!(back[&name].kind(), tensor.kind());
        // Few operations know the 8-bit kinds; all values here are exact in each kind.
        let (got, want) = (
            back[&name].to_kind(Kind::Float),
            tensor.to_kind(Kind::Float),
        );
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn strides_gradients_scalars_and_empty_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    let turned = floats(&[2, 3]).tr();
    let tensors = [
        ("turned", turned.shallow_clone()),
        ("trained", floats(&[2]).set_requires_grad(true)),
        ("scalar", Tensor::from(3.5f32)),
        ("empty", floats(&[0, 4])),
    ];
    save(&path, &tensors, &no_metadata()).unwrap();
    let back = read(&path).unwrap();
    assert!(!turned.is_contiguous());
    assert_eq!(back["turned"], turned);
    assert_eq!(back["trained"], floats(&[2]));
    assert_eq!(back["scalar"].size(), [0i64; 0]);
    assert_eq!(back["scalar"].double_value(&[]), 3.5);
    assert_eq!(back["empty"].size(), [0, 4]);
}

#[test]
fn metadata_comes_back_and_bytes_do_not_depend_on_order() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let metadata: BTreeMap<_, _> = (0..20)
        .map(|i| (format!("k{i}"), format!("v{i}")))
        .collect();
    let (x, y) = (floats(&[2]), floats(&[3]));
    save(&a, &[("x", &x), ("y", &y)], &metadata).unwrap();
    save(&b, &[("y", &y), ("x", &x)], &metadata).unwrap();
    assert_eq!(read_metadata(&a).unwrap(), metadata);
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
}

#[test]
fn no_header_length_looks_like_another_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    // Every last byte that a length can have, and the first two bytes of a zip file.
    let mut texts: Vec<usize> = (0..256).step_by(8).collect();
    texts.extend((0x4b00..0x4b60).step_by(8));
    for length in texts {
        let metadata = BTreeMap::from([("note".to_owned(), "x".repeat(length))]);
        save(&path, &[("a", floats(&[1]))], &metadata).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1, "{length}");
    }
}

#[test]
fn tensors_that_cannot_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let x = floats(&[1]);
    let complex = floats(&[1]).to_kind(Kind::ComplexDouble);
    for (tensors, reason) in [
        (vec![("x", &x), ("x", &x)], "two tensors are named `x`"),
        (vec![("__metadata__", &x)], "no tensor can be named"),
        (vec![("z", &complex)], "safetensors cannot hold"),
    ] {
        let error = save(&path, &tensors, &no_metadata()).unwrap_err();
        assert!(matches!(error, Error::WeightsFile { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn saved_files_are_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let [saved, plain] = ["saved", "plain"].map(|name| folder.path().join(name));
    save(&saved, &[("x", floats(&[1]))], &no_metadata()).unwrap();
    std::fs::write(&plain, b"").unwrap();
    let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&saved), mode(&plain));
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    save(
        &path,
        &[("a", floats(&[3])), ("b", floats(&[2]))],
        &no_metadata(),
    )
    .unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        match read(&path) {
            Err(Error::WeightsFile { reason, .. }) => {
                assert!(
                    reason.contains("cut short") || reason.contains("too few"),
                    "{length}: {reason}"
                );
            }
            other => panic!("{length} bytes: {other:?}"),
        }
    }
}

#[test]
fn hostile_files_are_errors_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let one = |info: &str, data| file(&format!("{{\"a\":{{{info}}}}}"), data);
    // The largest sizes that cannot, and that can, be counted in bits.
    let (max, large) = (usize::MAX, usize::MAX / 8);
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend(b"{}");
    let mut long = 90_000_000u64.to_le_bytes().to_vec();
    long.extend(b"{}");
    let many = vec!["1"; 100].join(",");
    let cases = [
        (huge, "header would be"),
        (long, "cut short: the header needs"),
        (b"PK\x03\x04 something else".to_vec(), "PyTorch pickle"),
        (
            b"\x80\x02\x8a\x0al\xfc\x9c\x46 rest".to_vec(),
            "PyTorch pickle",
        ),
        (file("not json", 0), "damaged header"),
        (file("[1, 2]", 0), "damaged header"),
        (
            one(r#""dtype":"F31","shape":[1],"data_offsets":[0,4]"#, 4),
            "damaged header",
        ),
        (
            one(r#""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#, 4),
            "damaged header",
        ),
        (
            one(r#""dtype":"F32","shape":[1],"data_offsets":[4,0]"#, 4),
            "damaged header",
        ),
        (
            one(r#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#, 4),
            "damaged header",
        ),
        (
            one(r#""dtype":"F32","shape":[1],"data_offsets":[0,4]"#, 5),
            "1 bytes follow",
        ),
        (
            one(r#""dtype":"F32","shape":[1],"data_offsets":[0,4]"#, 0),
            "cut short",
        ),
        (
            one(r#""dtype":"U64","shape":[1],"data_offsets":[0,8]"#, 8),
            "dtype U64",
        ),
        (
            one(
                &format!(r#""dtype":"U8","shape":[{max}],"data_offsets":[0,{max}]"#),
                4,
            ),
            "damaged header",
        ),
        (
            one(
                &format!(r#""dtype":"U8","shape":[{large}],"data_offsets":[0,{large}]"#),
                4,
            ),
            "cut short: its tensors need",
        ),
        (
            one(
                &format!(r#""dtype":"F32","shape":[{max},{max}],"data_offsets":[0,4]"#),
                4,
            ),
            "damaged header",
        ),
        (
            one(
                &format!(r#""dtype":"F32","shape":[0,{max}],"data_offsets":[0,0]"#),
                0,
            ),
            "impossible shape",
        ),
        (
            one(
                &format!(r#""dtype":"F32","shape":[{many}],"data_offsets":[0,4]"#),
                4,
            ),
            "impossible shape",
        ),
        (
            file(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                    "b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
                6,
            ),
            "damaged header",
        ),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, &bytes).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, Error::WeightsFile { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is a folder"), "{error}");
    let error = read(folder.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn sizes_whose_product_with_zero_is_zero_do_not_panic() {
    // libtorch itself may take this shape or refuse it; both are fine.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let header = format!(
        r#"{{"a":{{"dtype":"F32","shape":[0,{0},2],"data_offsets":[0,0]}}}}"#,
        i64::MAX
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    std::fs::write(&path, bytes).unwrap();
    match read(&path) {
        Ok(tensors) => assert_eq!(tensors["a"].numel(), 0),
        Err(error) => assert!(error.to_string().contains("tensor `a`"), "{error}"),
    }
}

#[test]
fn any_byte_but_zero_is_true() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let truth = Tensor::from_slice(&[true, false, true]);
    save(&path, &[("a", &truth)], &no_metadata()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() = 7;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(
        i64::try_from(read(&path).unwrap()["a"].sum(Kind::Int64)).unwrap(),
        2
    );
}

#[test]
fn loading_lists_every_difference_and_changes_nothing() {
    let store = zeros(&[
        ("fits", &[2]),
        ("wide", &[2, 3]),
        ("kind", &[2]),
        ("both", &[2]),
        ("absent", &[1]),
    ]);
    let tensors = map([
        ("fits", floats(&[2]) + 1),
        // libtorch would spread this one value over the whole variable.
        ("wide", floats(&[1])),
        ("kind", floats(&[2]).to_kind(Kind::Double)),
        ("both", floats(&[3]).to_kind(Kind::Half)),
        ("extra", floats(&[1])),
    ]);
    let error = load_into(&store, &tensors, "old.safetensors", &LoadOptions::new()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("old.safetensors does not fit the model; nothing was loaded. 6 diff"),
        "{text}"
    );
    let found = differences(error);
    for expected in [
        "`wide`: shape [1], the model expects [2, 3]",
        "`kind`: dtype Double, the model expects Float; `convert_dtype` would convert it",
        "`both`: shape [3], the model expects [2]",
        "`both`: dtype Half, the model expects Float; `convert_dtype` would convert it",
        "`absent`: missing",
        "`extra`: unexpected, the model has no such weight",
    ] {
        assert!(
            found.iter().any(|line| line == expected),
            "{expected}: {found:?}"
        );
    }
    for (name, variable) in state_dict(&store) {
        assert_eq!(
            variable.abs().sum(Kind::Float).double_value(&[]),
            0.0,
            "{name}"
        );
    }
}

#[test]
fn what_the_options_allow_is_reported() {
    let store = zeros(&[("core.a", &[2]), ("head.b", &[1])]);
    let held = store.variables().remove("core.a").unwrap();
    let tensors = map([
        ("core.a", floats(&[2]).to_kind(Kind::Double)),
        ("other.c", floats(&[1])),
    ]);
    let options = LoadOptions::new()
        .convert_dtype(true)
        .ignore_missing(Names::starting_with(["head."]))
        .ignore_unexpected(Names::All);
    let report = load_into(&store, &tensors, "memory", &options).unwrap();
    assert_eq!(report.loaded, ["core.a"]);
    assert_eq!(report.missing, ["head.b"]);
    assert_eq!(report.unexpected, ["other.c"]);
    // The variable that others hold is the one that changed, and it can still be trained.
    assert_eq!(held, floats(&[2]));
    assert!(held.requires_grad() && held.kind() == Kind::Float);

    let strict = options.ignore_missing(Names::starting_with(["core."]));
    let error = load_into(&store, &tensors, "memory", &strict).unwrap_err();
    assert_eq!(differences(error), ["`head.b`: missing"]);
}

#[test]
fn old_names_buffers_and_prefixes() {
    let store = zeros(&[
        ("bert.LayerNorm.weight", &[1]),
        ("bert.LayerNorm.bias", &[1]),
    ]);
    let tensors = map([
        ("LayerNorm.gamma", floats(&[1]) + 2),
        ("LayerNorm.beta", floats(&[1]) + 3),
        ("embeddings.position_ids", floats(&[1, 4])),
    ]);
    let error = load_into(&store, &tensors, "old", &LoadOptions::new()).unwrap_err();
    assert_eq!(differences(error).len(), 4);
    let options = LoadOptions::new().base_prefix("bert");
    let report = load_into(&store, &tensors, "old", &options).unwrap();
    assert_eq!(
        report.loaded,
        ["bert.LayerNorm.bias", "bert.LayerNorm.weight"]
    );
    assert!(report.unexpected.is_empty());
    assert_eq!(store.variables()["bert.LayerNorm.weight"], floats(&[1]) + 2);

    // The other way round: a task model's weights into the bare model.
    let bare = zeros(&[("LayerNorm.weight", &[1]), ("LayerNorm.bias", &[1])]);
    let tensors: BTreeMap<_, _> = state_dict(&store).into_iter().collect();
    load_into(&bare, &tensors, "task model", &options).unwrap();
    assert_eq!(bare.variables()["LayerNorm.bias"], floats(&[1]) + 3);
}

#[test]
fn a_weight_never_goes_to_two_variables() {
    // `a` bears the first variable's name; the prefix rule must not use it again.
    let store = zeros(&[("a", &[1]), ("bert.a", &[1])]);
    let tensors = map([("a", floats(&[1]) + 1)]);
    let options = LoadOptions::new().base_prefix("bert");
    let error = load_into(&store, &tensors, "memory", &options).unwrap_err();
    assert_eq!(differences(error), ["`bert.a`: missing"]);
}

#[test]
fn a_store_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let store = VarStore::new(Device::Cpu);
    let _ = store.root().randn("a", &[3, 2], 0.0, 1.0);
    let _ = (store.root() / "b").zeros_no_train("c", &[2]);
    let names: Vec<_> = state_dict(&store).into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["a", "b.c"]);
    save(&path, &state_dict(&store), &no_metadata()).unwrap();
    let other = zeros(&[("a", &[3, 2]), ("b.c", &[2])]);
    let report = load_file(&other, &path, &LoadOptions::new()).unwrap();
    assert_eq!(report.loaded, names);
    assert_eq!(other.variables()["a"], store.variables()["a"]);
}

#[test]
fn tensors_are_read_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = [
        ("bert.a", floats(&[2, 3])),
        ("bert.b", floats(&[4]) + 10.0),
        ("c", floats(&[1])),
    ];
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    save(&path, &tensors, &metadata).unwrap();
    let mut file = WeightsFile::open(&path).unwrap();
    assert_eq!(file.metadata(), metadata);
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names, ["bert.a", "bert.b", "c"]);
    // In any order, and more than once.
    for index in [2, 0, 1, 1, 0, 2] {
        let (name, expected) = &tensors[index];
        assert_eq!(file.tensor(name).unwrap(), *expected);
    }
    for (asked, told) in [
        ("b", "has no tensor `b`, but `bert.b`"),
        ("model.c", "has no tensor `model.c`, but `c`"),
        (
            "ert.a",
            "has no tensor `ert.a`; `WeightsFile::names` lists its 3 tensors",
        ),
    ] {
        let error = file.tensor(asked).unwrap_err();
        assert!(matches!(&error, Error::WeightsFile { path: named, .. } if *named == path));
        assert!(
            error
                .to_string()
                .ends_with(&format!("model.safetensors: {told}")),
            "{error}"
        );
    }
    assert!(WeightsFile::open(folder.path()).is_err());
}

#[test]
fn a_tensor_of_a_file_that_no_memory_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    // The large one is a hole in the file, which takes no room on the disk.
    let large: u64 = 1 << 38;
    let header = format!(
        r#"{{"first":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},
            "large":{{"dtype":"U8","shape":[{large}],"data_offsets":[4,{}]}},
            "last":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}}}"#,
        large + 4,
        large + 4,
        large + 8
    );
    let mut file = File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(&1.5f32.to_le_bytes()).unwrap();
    file.seek(SeekFrom::Current(large as i64)).unwrap();
    file.write_all(&2.5f32.to_le_bytes()).unwrap();
    let mut file = WeightsFile::open(&path).unwrap();
    assert_eq!(file.tensor("last").unwrap(), Tensor::from_slice(&[2.5f32]));
    assert_eq!(file.tensor("first").unwrap(), Tensor::from_slice(&[1.5f32]));
}

/// The names of a model that was wrapped, before it was saved.
fn wrapped(prefix: &str, more: &[(&str, Tensor)]) -> BTreeMap<String, Tensor> {
    let names = ["bert.pooler.bias", "head.bias"];
    let wrapped = names.map(|name| (format!("{prefix}{name}"), floats(&[2]) + 1));
    let more = more
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone()));
    wrapped.into_iter().chain(more).collect()
}

#[test]
fn a_prefix_before_all_names_is_named_and_taken_away_where_that_is_allowed() {
    for prefix in ["_orig_mod.", "_orig_mod.module.", "net.student."] {
        let store = zeros(&[("bert.pooler.bias", &[2]), ("head.bias", &[2])]);
        let tensors = wrapped(prefix, &[]);
        let error = load_into(&store, &tensors, "memory", &LoadOptions::new()).unwrap_err();
        let expected = format!(
            "every name in it begins with `{prefix}`, and without that they fit: \
             `LoadOptions::remove_prefix(true)` takes it away"
        );
        assert_eq!(differences(error)[0], expected);
        let options = LoadOptions::new().remove_prefix(true);
        let report = load_into(&store, &tensors, "memory", &options).unwrap();
        assert_eq!(report.loaded, ["bert.pooler.bias", "head.bias"]);
        assert_eq!(report.prefix.as_deref(), Some(prefix));
        assert_eq!(store.variables()["head.bias"], floats(&[2]) + 1);
        // The model alone, out of its task model.
        let bare = zeros(&[("pooler.bias", &[2])]);
        let options = options.base_prefix("bert").ignore_unexpected(Names::All);
        let report = load_into(&bare, &tensors, "memory", &options).unwrap();
        assert_eq!(report.loaded, ["pooler.bias"]);
    }
}

#[test]
fn weights_beside_the_wrapped_model_are_unexpected_as_ever() {
    let store = zeros(&[("bert.pooler.bias", &[2]), ("head.bias", &[2])]);
    let tensors = wrapped("model.", &[("loss.weight", floats(&[2]))]);
    let strict = LoadOptions::new();
    let error = load_into(&store, &tensors, "memory", &strict).unwrap_err();
    let shown = differences(error);
    assert!(
        shown[0].starts_with("2 of the 3 names in it begin with `model.`"),
        "{shown:?}"
    );
    let options = strict.remove_prefix(true);
    let error = load_into(&store, &tensors, "memory", &options).unwrap_err();
    assert_eq!(
        differences(error),
        ["`loss.weight`: unexpected, the model has no such weight"]
    );
    // Options go by the names without the prefix.
    let tensors = wrapped("model.", &[("model.loss.weight", floats(&[2]))]);
    let options = options.ignore_unexpected(Names::starting_with(["loss."]));
    let report = load_into(&store, &tensors, "memory", &options).unwrap();
    assert_eq!(report.unexpected, ["model.loss.weight"]);
}

#[test]
fn no_prefix_is_guessed_where_names_fit_or_several_would() {
    let store = zeros(&[("bert.pooler.bias", &[2]), ("head.bias", &[2])]);
    let options = LoadOptions::new()
        .remove_prefix(true)
        .ignore_missing(Names::All)
        .ignore_unexpected(Names::All);
    let averaged = floats(&[2]) + 5;
    let tensors = map([
        ("head.bias", floats(&[2])),
        ("average.bert.pooler.bias", averaged),
    ]);
    let report = load_into(&store, &tensors, "memory", &options).unwrap();
    assert_eq!(
        (report.loaded, report.prefix),
        (vec!["head.bias".to_owned()], None)
    );
    let mut two = wrapped("teacher.", &[]);
    two.extend(wrapped("student.", &[]));
    let options = options.ignore_missing(Names::None);
    let error = load_into(&store, &two, "memory", &options).unwrap_err();
    let first = &differences(error)[0];
    let expected = "no name in it is one of the model's: `student.bert.pooler.bias`, \
                    `student.head.bias`, `teacher.bert.pooler.bias`, …";
    assert_eq!(first, expected);
}

#[test]
fn a_file_that_is_something_else_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4b3c\nsize 437955512\n";
    for (content, expected) in [
        (
            pointer,
            "is a pointer of Git LFS and not the file itself; `git lfs pull` in its repository \
             fetches it",
        ),
        (
            "<!DOCTYPE html>\n<html><head><title>401</title></head></html>\n",
            "is text (a web page) and not a safetensors file: it begins `<!DOCTYPE html>`; \
             download it again",
        ),
        (
            "{\"weight_map\": {}}",
            "is text and not a safetensors file: it begins `{\"weight_map\": {}}`",
        ),
        (
            "\u{1f}\u{8b}",
            "is not a safetensors file: 3 bytes are too few for a header",
        ),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = read(&path).unwrap_err().to_string();
        let expected = format!("{}: {expected}", path.display());
        assert!(error.starts_with(&expected), "{error}\n{expected}");
    }
}
