//! Files with right checksums that say what cannot be.

use serde_json::{Value, json};
use textbrewer::Result;

use super::forge::{Forged, change_column, change_manifest, forge};
use super::{Recorded, SHARDS, message};

/// Opens, verifies and reads.
fn examine(recorded: &Recorded) -> Result<()> {
    recorded.read()?.verify()
}

#[test]
fn untouched_and_signed_again_nothing_changes() {
    let recorded = Recorded::new(0.5);
    for name in SHARDS {
        forge(recorded.path(), name, |_| {});
    }
    examine(&recorded).unwrap();
}

/// Changes of a shard, and what is said of them.
#[test]
fn shards() {
    let recorded = Recorded::new(0.5);
    let ids = Forged::read(&recorded.path().join(SHARDS[0])).ids();
    let (first, second) = (ids[0], ids[1]);
    let top = "logits.0.top4";
    let drawn = "logits.0.draws9";
    type Change<'a> = Box<dyn Fn(&mut Forged) + 'a>;
    let set = |name: &'static str, place: usize, number: u32| -> Change<'_> {
        Box::new(move |forged| {
            let mut numbers = forged.integers(name).unwrap();
            numbers[place] = number;
            forged.set_integers(name, &numbers);
        })
    };
    let reshape = |name: &'static str, shape: &'static [u64]| -> Change<'_> {
        Box::new(move |forged| forged.part(name).shape = shape.to_vec())
    };
    let on = |name: &'static str, change: fn(&mut Vec<u8>)| -> Change<'_> {
        Box::new(move |forged| change(&mut forged.part(name).bytes))
    };
    let example = format!("example {first} is damaged");
    let changes: Vec<(&str, Change<'_>, &str)> = vec![
        (
            "version",
            Box::new(|forged| forged.description["version"] = 2.into()),
            "has version 2",
        ),
        (
            "no version",
            Box::new(|forged| forged.description = json!({})),
            "damaged description",
        ),
        (
            "an id twice",
            Box::new(|forged| forged.set_ids(&[first, first])),
            "twice, in `shard-00000",
        ),
        (
            "an id of the other shard",
            Box::new(|forged| {
                forged.set_ids(&[
                    first,
                    (0..4).find(|id| ![first, second].contains(id)).unwrap(),
                ]);
            }),
            "twice, in `shard-0000",
        ),
        (
            "a class of none",
            Box::new(|forged| forged.part(top).bytes[0] |= 31),
            &example,
        ),
        (
            "a drawn class of none",
            Box::new(|forged| {
                // Four bits of how many there are, then five of the first class.
                let bytes = &mut forged.part(drawn).bytes;
                (bytes[0], bytes[1]) = (bytes[0] | 0xf0, bytes[1] | 1);
            }),
            &example,
        ),
        (
            "too many classes",
            Box::new(|forged| forged.part(drawn).bytes[0] |= 15),
            &example,
        ),
        (
            "giant positions",
            set("logits.0.positions", 0, u32::MAX),
            "`logits.0` has ",
        ),
        (
            "giant positions of samples",
            set("logits.0.draws9.positions", 0, u32::MAX),
            "more positions than bytes",
        ),
        (
            "giant positions of attentions",
            set("attention.0.positions", 1, u32::MAX),
            "`attention.0` has ",
        ),
        (
            "giant bytes",
            set("logits.0.draws9.bytes", 0, u32::MAX),
            "`logits.0.draws9` has ",
        ),
        (
            "fewer positions",
            set("logits.0.positions", 0, 0),
            "`logits.0` has ",
        ),
        (
            "a giant shape",
            reshape("logits.0", &[1 << 33, 1 << 33]),
            "impossible shape",
        ),
        (
            "a hidden giant shape",
            reshape("hidden.0", &[0, 1 << 63, 4]),
            SHARDS[0],
        ),
        ("another shape", reshape("ids", &[3]), SHARDS[0]),
        (
            "a longer tensor",
            on("hidden.0", |bytes| bytes.push(0)),
            SHARDS[0],
        ),
        (
            "another kind",
            Box::new(|forged| forged.part("logits.0").dtype = "I32".to_owned()),
            "another shape",
        ),
        (
            "ids of another kind",
            Box::new(|forged| forged.part("ids").dtype = "U64".to_owned()),
            SHARDS[0],
        ),
        (
            "no ids",
            Box::new(|forged| {
                forged.part("ids").name = "others".to_owned();
                forged.tensors.push(super::forge::Part {
                    name: "ids".to_owned(),
                    dtype: "I32".to_owned(),
                    shape: vec![0],
                    bytes: vec![],
                });
            }),
            SHARDS[0],
        ),
        (
            "no column",
            Box::new(|forged| forged.part("hidden.0").name = "hidden.1".to_owned()),
            "`hidden.0` is missing",
        ),
        (
            "more columns",
            Box::new(|forged| {
                let columns = forged.description["columns"].as_array_mut().unwrap();
                columns.push(columns[0].clone());
            }),
            "checksums for 2 examples",
        ),
        (
            "fewer columns",
            Box::new(|forged| forged.description["columns"] = json!([])),
            "checksums for 2 examples",
        ),
        (
            "numbers after the last position",
            Box::new(|forged| {
                let mut lengths = forged.integers("logits.0.draws9.bytes").unwrap();
                lengths[0] += 1;
                forged.set_integers("logits.0.draws9.bytes", &lengths);
                let part = forged.part(drawn);
                part.bytes.insert(lengths[0] as usize - 1, 7);
                part.shape[0] += 1;
            }),
            &example,
        ),
    ];
    for (what, change, expected) in changes {
        // Before anything is signed by what it says, each is made of the whole.
        forge(recorded.path(), SHARDS[0], change);
        let said = message(what, examine(&recorded));
        assert!(said.contains(expected), "{what}: {said}");
        assert!(said.contains("shard-0000"), "{what}: {said}");
        if !what.contains("id of the other") {
            recorded.mend(SHARDS[0]);
        }
        recorded.restore();
    }
}

#[test]
fn columns() {
    let recorded = Recorded::new(0.5);
    let changes: &[(&str, &str, Value)] = &[
        ("logits.0", "/width", json!(1u64 << 31)),
        ("logits.0", "/width", json!((1u64 << 31) + 1)),
        ("logits.0", "/width", json!(i64::MAX)),
        ("logits.0", "/width", json!(0)),
        ("logits.0", "/width", json!(-5)),
        ("logits.0", "/of/logits/head", json!(u64::MAX)),
        ("logits.0", "/form/numbers/stored", json!("int8")),
        ("logits.0", "/layout", json!("example")),
        (
            "logits.0",
            "/layout",
            json!({ "groups": { "groups": 1 << 16 } }),
        ),
        (
            "logits.0",
            "/layout",
            json!({ "attention": { "heads": 1 } }),
        ),
        ("logits.0.top4", "/width", json!(1u64 << 31)),
        ("logits.0.top4", "/form/top_k/k", json!(i64::MAX)),
        ("logits.0.top4", "/form/top_k/k", json!(0)),
        ("logits.0.top4", "/form/top_k/temperature", json!(0.0)),
        ("logits.0.top4", "/form/top_k/temperature", json!(-1.0)),
        ("logits.0.draws9", "/form/sample/draws", json!(i64::MAX)),
        ("logits.0.draws9", "/form/sample/draws", json!(-1)),
        ("logits.0.draws9", "/width", json!(1u64 << 31)),
        ("attention.0", "/layout/attention/heads", json!(i64::MAX)),
        ("attention.0", "/layout/attention/heads", json!(1 << 16)),
        ("attention.0", "/layout/attention/heads", json!(0)),
        ("attention.0", "/width", json!(3)),
        ("hidden.0", "/of/feature/layer", json!(1)),
        ("hidden.0", "/of/feature/layers", json!(u64::MAX)),
        (
            "hidden.0",
            "/form",
            json!({ "probabilities": { "stored": "int8" } }),
        ),
        (
            "hidden.0",
            "/form",
            json!({ "top_k": { "k": 1, "temperature": 1.0 } }),
        ),
        ("hidden.0", "/width", json!(null)),
    ];
    for (column, place, value) in changes {
        change_column(recorded.path(), column, |column| {
            *column.pointer_mut(place).unwrap() = value.clone();
        });
        let what = format!("{column}{place} = {value}");
        let said = message(&what, examine(&recorded));
        assert!(
            said.contains("safetensors") || said.contains("manifest.json"),
            "{what}: {said}"
        );
        recorded.restore();
    }
}

#[test]
fn manifests() {
    let recorded = Recorded::new(0.5);
    type Change = fn(&mut Value);
    let changes: &[(&str, Change, &str)] = &[
        (
            "a version",
            |all| all["plan"]["version"] = 9.into(),
            "has version 9 of the format",
        ),
        (
            "a path",
            |all| all["shards"][0]["name"] = "../x".into(),
            "lists `../x`",
        ),
        (
            "a path of a shard",
            |all| all["shards"][0]["name"] = "../shard-00000.safetensors".into(),
            "which is no shard",
        ),
        (
            "itself",
            |all| all["shards"][0]["name"] = "manifest.json".into(),
            "which is no shard",
        ),
        (
            "a temporary file",
            |all| all["shards"][0]["name"] = ".shard-00000.safetensors.tmp".into(),
            "which is no shard",
        ),
        (
            "escapes",
            |all| all["shards"][0]["name"] = "\u{1b}[2J\u{202e}".into(),
            "which is no shard",
        ),
        (
            "a long name",
            |all| all["shards"][0]["name"] = "x".repeat(100_000).into(),
            "which is no shard",
        ),
        (
            "a shard twice",
            |all| {
                all["shards"][1] = all["shards"][0].clone();
            },
            "twice, in `shard-00000.safetensors` and in `shard-00000",
        ),
        (
            "a missing shard",
            |all| all["shards"][1]["name"] = "shard-00009.safetensors".into(),
            "shard-00009.safetensors: is missing",
        ),
        (
            "no shards",
            |all| {
                all["shards"] = json!([]);
                all["examples"] = 0.into();
            },
            "has no example",
        ),
        (
            "fewer examples",
            |all| all["examples"] = 3.into(),
            "another number of examples",
        ),
        (
            "giant examples",
            |all| {
                all["shards"][0]["examples"] = u64::MAX.into();
                all["shards"][1]["examples"] = u64::MAX.into();
            },
            "another number of examples",
        ),
        (
            "giant bytes",
            |all| all["shards"][0]["bytes"] = u64::MAX.into(),
            "is cut short or damaged",
        ),
        (
            "no processes",
            |all| all["plan"]["parts"] = 0.into(),
            "of process 0 of 0, under another name",
        ),
        (
            "many processes",
            |all| all["plan"]["parts"] = u64::MAX.into(),
            "under another name",
        ),
        (
            "another process",
            |all| all["plan"]["part"] = 7.into(),
            "under another name",
        ),
        (
            "an unknown key",
            |all| all["\u{1b}key"] = 1.into(),
            "unknown field",
        ),
        (
            "columns of nothing",
            |all| all["columns"] = json!([]),
            "is not the shard",
        ),
        (
            "another order of columns",
            |all| all["columns"].as_array_mut().unwrap().reverse(),
            "is not the shard",
        ),
        (
            "a column twice",
            |all| {
                let columns = all["columns"].as_array_mut().unwrap();
                columns.push(columns[0].clone());
            },
            "is not the shard",
        ),
    ];
    for (what, change, expected) in changes {
        change_manifest(recorded.path(), change);
        let said = message(what, examine(&recorded));
        assert!(said.contains(expected), "{what}: {said}");
        recorded.mend("manifest.json");
    }
    for (bytes, expected) in [
        (&b"\xff\xfe{\0}\0"[..], "is not text in UTF-8"),
        (b"", "manifest.json"),
        (b"[]", "is damaged"),
        (&[b'['; 100_000], "is damaged"),
    ] {
        std::fs::write(recorded.path().join("manifest.json"), bytes).unwrap();
        let said = message("no JSON", examine(&recorded));
        assert!(said.contains(expected), "{said}");
        recorded.mend("manifest.json");
    }
}

/// A manifest that is good JSON, and was changed without its checksum.
#[test]
fn facts_that_were_changed() {
    let recorded = Recorded::new(0.5);
    let text = String::from_utf8(recorded.files["manifest.json"].clone()).unwrap();
    for (from, to) in [("a table", "another"), ("word 3\"", "word 4\"")] {
        std::fs::write(
            recorded.path().join("manifest.json"),
            text.replace(from, to),
        )
        .unwrap();
        let said = message(from, examine(&recorded));
        assert!(said.contains("is damaged, or was changed"), "{said}");
    }
}
