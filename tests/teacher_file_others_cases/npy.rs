//! Arrays of NumPy.

use std::path::Path;

use tch::{Kind, Tensor};
use textbrewer::AdaptorOutput;
use textbrewer::teacher_file::{NpyRows, Recording, Stored, TopKLines};

/// A file as `numpy.save` writes it.
fn save(path: &Path, kind: &str, order: &str, shape: &str, numbers: &[u8]) {
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}").into_bytes();
    header.resize(117, b' ');
    header.push(b'\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header);
    bytes.extend(numbers);
    std::fs::write(path, bytes).unwrap();
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

fn doubles(numbers: &[f64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

#[test]
fn logits_are_read_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.npy");
    let numbers = [0.1f32, -2.5, 1e-30, f32::NEG_INFINITY, 7.0, 0.3];
    save(&path, "<f4", "False", "(3, 2)", &floats(&numbers));
    let file = NpyRows::logits(&path)
        .record(Recording::new(folder.path().join("a")))
        .unwrap();
    assert_eq!(file.ids().collect::<Vec<_>>(), [0, 1, 2]);
    let said = file.read(&[2, 0, 1]).unwrap();
    let wanted =
        Tensor::from_slice(&[7.0, 0.3, 0.1, -2.5, 1e-30, f32::NEG_INFINITY]).reshape([3, 2]);
    assert_eq!(said.logits[0].whole().unwrap(), wanted);

    let wide = numbers.map(f64::from);
    save(&path, "<f8", "False", "(3, 2)", &doubles(&wide));
    let ids = folder.path().join("ids.npy");
    let of_ids: Vec<u8> = [9u64, u64::MAX, 4]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect();
    save(&ids, "<u8", "False", "(3,)", &of_ids);
    let rows = NpyRows::logits(&path).ids_file(&ids);
    let file = rows
        .record(Recording::new(folder.path().join("b")))
        .unwrap();
    let said = file.read(&[4, 9, u64::MAX]).unwrap();
    assert_eq!(said.logits[0].whole().unwrap(), wanted);
}

#[test]
fn embeddings_become_a_feature() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pooled.npy");
    // 1, -2, 0.5, 4 in float16.
    let halves = [0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38, 0x00, 0x44];
    save(&path, "<f2", "False", "(2, 2)", &halves);
    let rows = NpyRows::feature(&path, "pooled").ids([8, 7]);
    let file = rows
        .record(Recording::new(folder.path().join("a")))
        .unwrap();
    assert_eq!(
        file.columns()[0].to_string(),
        "pooled.0: 2 numbers in float16"
    );
    let said = file.read(&[7, 8]).unwrap();
    let wanted = Tensor::from_slice2(&[[0.5f32, 4.0], [1.0, -2.0]]);
    assert_eq!(said.features["pooled"].layers[0], wanted);
}

/// More rows than are read at a time.
#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let logits = Tensor::randn([3000, 400], (Kind::Float, tch::Device::Cpu));
    let mut recorder = Recording::new(folder.path().join("a"))
        .logits(Stored::Float32)
        .begin()
        .unwrap();
    let ids: Vec<u64> = (0..3000).map(|id| 5 * (2999 - id)).collect();
    recorder
        .add(&ids, &AdaptorOutput::new().logits(&logits))
        .unwrap();
    let path = folder.path().join("logits.npy");
    recorder
        .finish()
        .unwrap()
        .write_npy("logits.0", &path)
        .unwrap();
    assert_eq!(Tensor::read_npy(&path).unwrap(), logits.flip([0]));

    let rows = NpyRows::logits(&path).ids_file(folder.path().join("logits.ids.npy"));
    let file = rows
        .record(Recording::new(folder.path().join("b")))
        .unwrap();
    assert_eq!(file.read(&ids).unwrap().logits[0].whole().unwrap(), logits);
}

#[test]
fn positions_are_written_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::new(folder.path().join("a")).logits(Stored::Float32);
    let recording = recording
        .feature("hidden", [0], Stored::BFloat16)
        .top_k(2, 1.0);
    let mut recorder = recording
        .attention("maps", [0], Stored::Float32)
        .begin()
        .unwrap();
    let logits = Tensor::arange(12, (Kind::Float, tch::Device::Cpu)).reshape([2, 2, 3]);
    let hidden = Tensor::ones([2, 2, 4], (Kind::Float, tch::Device::Cpu));
    let maps = Tensor::arange(8, (Kind::Float, tch::Device::Cpu)).reshape([2, 1, 2, 2]);
    let mask = Tensor::from_slice2(&[[1i64, 0], [1, 1]]);
    let said = AdaptorOutput::new()
        .logits(&logits)
        .logits_mask(&mask)
        .inputs_mask(&mask);
    let said = said.feature("hidden", &[hidden]).feature("maps", &[maps]);
    recorder.add(&[1, 0], &said).unwrap();
    let file = recorder.finish().unwrap();
    let path = folder.path().join("logits.npy");
    file.write_npy("logits.0", &path).unwrap();
    let rows = logits
        .reshape([4, 3])
        .index_select(0, &Tensor::from_slice(&[2i64, 3, 0]));
    assert_eq!(Tensor::read_npy(&path).unwrap(), rows);
    let positions = std::fs::read(folder.path().join("logits.positions.npy")).unwrap();
    assert!(positions.ends_with(&[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]));

    for (name, what) in [
        ("maps.0", "`maps.0` has maps of different sizes"),
        (
            "logits.0.top2",
            "`logits.0.top2` is a top k, which is no array",
        ),
    ] {
        let error = file.write_npy(name, &path).unwrap_err().to_string();
        let wanted = format!("{what}; use `TeacherFile::write_jsonl`");
        assert!(error.contains(&wanted), "{error}");
    }
    let error = file.write_npy("logits", &path).unwrap_err().to_string();
    assert!(
        error.contains("has no column `logits`, but logits.0, hidden.0"),
        "{error}"
    );

    let path = folder.path().join("all.jsonl");
    file.write_jsonl(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    let one = "{\"id\":1,\"logits.0\":[[0.0,1.0,2.0]],\"hidden.0\":[[1.0,1.0,1.0,1.0]],\"logits.0.top2\":[{\
               \"classes\":[2,1],\"log_probabilities\":[";
    assert!(lines[1].starts_with(one), "{}", lines[1]);
    assert!(lines[1].ends_with("\"maps.0\":[[[0.0]]]}"), "{}", lines[1]);
    assert!(
        lines[0].contains("\"maps.0\":[[[4.0,5.0],[6.0,7.0]]]"),
        "{}",
        lines[0]
    );
    for line in lines {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn a_sample_and_a_top_k_of_examples_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::new(folder.path().join("a"))
        .sample(4, 1.0, 0)
        .top_k(1, 1.0);
    let mut recorder = recording.probabilities(Stored::Float32).begin().unwrap();
    let logits = Tensor::from_slice2(&[[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY]]);
    recorder
        .add(&[3], &AdaptorOutput::new().logits(&logits))
        .unwrap();
    let path = folder.path().join("all.jsonl");
    recorder.finish().unwrap().write_jsonl(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let wanted = "{\"id\":3,\"logits.0.draws4\":{\"classes\":[1],\"weights\":[1.0]},\"logits.0.top1\":{\
                  \"classes\":[1],\"log_probabilities\":[0.0],\"log_tail\":null},\
                  \"logits.0.probabilities\":[0.0,1.0,0.0]}\n";
    assert_eq!(text, wanted);
}

#[test]
fn what_is_wrong_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.npy");
    let four = floats(&[1.0, 2.0, 3.0, 4.0]);
    let nan = floats(&[1.0, 2.0, 3.0, f32::NAN]);
    let error = |rows: NpyRows| {
        let error = rows
            .record(Recording::new(folder.path().join("a")))
            .unwrap_err()
            .to_string();
        assert!(error.contains(".npy: "), "{error}");
        error
    };
    let cases = [
        (
            "<f4",
            "True",
            "(2, 2)",
            &four,
            "Fortran's order; save `numpy.ascontiguousarray(array)`",
        ),
        (
            ">f4",
            "False",
            "(2, 2)",
            &four,
            "numbers of the kind `>f4`; save `array.astype('<f4')`",
        ),
        ("|O", "False", "(2, 2)", &four, "numbers of the kind `|O`"),
        (
            "<f4",
            "False",
            "(4,)",
            &four,
            "has the shape [4], and [examples, size] is needed",
        ),
        (
            "<f4",
            "False",
            "(0, 2)",
            &Vec::new(),
            "has the shape [0, 2]",
        ),
        (
            "<f4",
            "False",
            "(2, 3)",
            &four,
            "has 16 bytes of numbers, and an array [2, 3] of `<f4` needs 24",
        ),
        (
            "<f4",
            "False",
            "(4294967296, 4294967296)",
            &four,
            "needs more than there can be",
        ),
        (
            "<f4",
            "maybe",
            "(2, 2)",
            &four,
            "has a header that is not understood",
        ),
        (
            "<f4",
            "False",
            "(2, 2)",
            &nan,
            "has NaN or infinity in row 1, counted from 0",
        ),
    ];
    for (kind, order, shape, numbers, expected) in cases {
        save(&path, kind, order, shape, numbers);
        let error = error(NpyRows::logits(&path));
        assert!(error.contains(expected), "{error}");
        let _ = std::fs::remove_dir_all(folder.path().join("a"));
    }
    std::fs::write(&path, "id,bad,good\n").unwrap();
    assert!(error(NpyRows::logits(&path)).contains("is no array of NumPy"));
    std::fs::write(&path, b"\x93NUMPY\x02\x00\xff\xff\xff\xff").unwrap();
    assert!(error(NpyRows::logits(&path)).contains("is cut short"));

    save(&path, "<f4", "False", "(2, 2)", &four);
    let ids = folder.path().join("ids.npy");
    let error_of_ids = |kind: &str, numbers: &[i64]| {
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        save(
            &ids,
            kind,
            "False",
            &format!("({},)", numbers.len()),
            &bytes,
        );
        error(NpyRows::logits(&path).ids_file(&ids))
    };
    assert!(error_of_ids("<i8", &[1, -1]).contains("has a negative id for row 1"));
    assert!(error_of_ids("<i8", &[1, 1]).contains("has the id 1 a second time for row 1"));
    assert!(error_of_ids("<i8", &[1]).contains("has 2 rows, for 1 ids"));
    assert!(error_of_ids("<f8", &[1, 2]).contains("save `array.astype('<u8')`"));
}

/// What is written of a top k are the numbers of a server again.
#[test]
fn lines_of_servers_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let line = r#"{"id": 3, "prompt_logprobs": [null, {"7": {"logprob": -0.5}, "2": {"logprob": -1.5}}, {"4": {"logprob": -0.5}}, {}]}"#;
    std::fs::write(&path, line).unwrap();
    let file = TopKLines::new(&path, 10)
        .record(Recording::new(folder.path().join("a")))
        .unwrap();
    let path = folder.path().join("out.jsonl");
    file.write_jsonl(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let wanted = "{\"id\":3,\"logits.0.top2\":[{\"classes\":[7,2],\"log_probabilities\":[-0.5,-1.5],\
                  \"log_tail\":-1.7";
    assert!(text.starts_with(wanted), "{text}");
    // Without what fills up the last two positions.
    let rest = "},{\"classes\":[4],\"log_probabilities\":[-0.5],\"log_tail\":-0.9";
    assert!(text.contains(rest), "{text}");
    let last = "},{\"classes\":[],\"log_probabilities\":[],\"log_tail\":0.0}]}\n";
    assert!(text.ends_with(last), "{text}");
}

#[test]
fn probabilities_that_are_read_as_logits_are_warned_of() {
    crate::listen();
    let folder = tempfile::tempdir().unwrap();
    let told = "save `numpy.log(p)`";
    for (name, numbers, is_warned_of) in [
        ("a", [0.8, 0.21, 0.0, 1.0], true),
        ("b", [0.8, 0.2, 1.5, -0.5], false),
        ("c", [0.8, 0.2, 1.0, 1.0], false),
    ] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("logits.npy");
        save(&path, "<f4", "False", "(2, 2)", &floats(&numbers));
        NpyRows::feature(&path, "pooled")
            .record(Recording::new(folder.join("feature")))
            .unwrap();
        assert_eq!(crate::warnings_of(&folder), [""; 0]);
        NpyRows::logits(&path)
            .record(Recording::new(folder.join("teacher")))
            .unwrap();
        let warnings = crate::warnings_of(&folder);
        assert_eq!(warnings.len(), usize::from(is_warned_of), "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains(told)));
    }
}
