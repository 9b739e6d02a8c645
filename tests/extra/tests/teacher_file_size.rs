//! The memory that a teacher file takes: little of a large one, and little of a small one that says it is
//! large.

#[path = "../../teacher_shards/forge.rs"]
mod forge;
#[path = "../../teacher_shards/mixture.rs"]
mod mixture;

use std::sync::{Mutex, PoisonError};

use textbrewer::TeacherFile;
use torch_meter::measure;

/// One test at a time: the memory of the process is that of both.
static ALONE: Mutex<()> = Mutex::new(());

#[cfg(target_os = "linux")]
mod large {
    use std::io::{Seek, SeekFrom, Write};

    use serde_json::{Value, json};
    use tch::{Kind, Tensor};
    use textbrewer::teacher_file::{Recording, Stored};
    use textbrewer::{AdaptorOutput, TeacherFile};

    use super::forge::{Forged, change_manifest};

    const CLASSES: u64 = 100_000;
    const EXAMPLES: u64 = 26_000;
    const SHARD: &str = "shard-00000.safetensors";

    /// The bytes of this process in main memory.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line
            .and_then(|line| line.split_whitespace().next())
            .unwrap();
        kilobytes.parse::<u64>().unwrap() << 10
    }

    /// Ten gigabytes, of which the disk has the index and the last example: holes read as zeros.
    #[test]
    fn ten_gigabytes() {
        let _alone = super::ALONE
            .lock()
            .unwrap_or_else(super::PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recording::new(folder.path())
            .logits(Stored::Float32)
            .begin()
            .unwrap();
        let logits = Tensor::ones([1, CLASSES as i64], (Kind::Float, tch::Device::Cpu));
        recorder
            .add(&[0], &AdaptorOutput::new().logits(&logits))
            .unwrap();
        drop(recorder.finish().unwrap());
        let path = folder.path().join(SHARD);
        let mut forged = Forged::read(&path);
        let last = std::mem::take(&mut forged.part("logits.0").bytes);
        let data = EXAMPLES * CLASSES * 4;

        let ids: Vec<u64> = (0..EXAMPLES).map(|place| place * 3).collect();
        let mut of_zeros = crc32fast::Hasher::new();
        of_zeros.update(&vec![0; CLASSES as usize * 4]);
        let mut of_last = crc32fast::Hasher::new();
        of_last.update(&last);
        let checksums: Vec<u32> = ids
            .iter()
            .map(|&id| {
                let mut hasher = crc32fast::Hasher::new();
                hasher.update(&id.to_le_bytes());
                hasher.update(&1u64.to_le_bytes());
                hasher.combine(if id == 3 * (EXAMPLES - 1) {
                    &of_last
                } else {
                    &of_zeros
                });
                hasher.finalize()
            })
            .collect();
        let (of_ids, of_checksums) = (8 * EXAMPLES, 4 * EXAMPLES);
        let header = json!({
            "__metadata__": { "teacher_file": forged.description.to_string() },
            "ids": { "dtype": "I64", "shape": [EXAMPLES], "data_offsets": [0, of_ids] },
            "checksums": {
                "dtype": "I32",
                "shape": [EXAMPLES, 1],
                "data_offsets": [of_ids, of_ids + of_checksums],
            },
            "logits.0": {
                "dtype": "F32",
                "shape": [EXAMPLES, CLASSES],
                "data_offsets": [of_ids + of_checksums, of_ids + of_checksums + data],
            },
        })
        .to_string();
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes())
            .unwrap();
        file.write_all(header.as_bytes()).unwrap();
        ids.iter()
            .for_each(|id| file.write_all(&id.to_le_bytes()).unwrap());
        checksums
            .iter()
            .for_each(|crc| file.write_all(&crc.to_le_bytes()).unwrap());
        let bytes = 8 + header.len() as u64 + of_ids + of_checksums + data;
        file.set_len(bytes).unwrap();
        file.seek(SeekFrom::Start(bytes - last.len() as u64))
            .unwrap();
        file.write_all(&last).unwrap();
        drop(file);
        assert!(bytes > 10_000_000_000);
        let mut index = crc32fast::Hasher::new();
        ids.iter().for_each(|id| index.update(&id.to_le_bytes()));
        checksums
            .iter()
            .for_each(|checksum| index.update(&checksum.to_le_bytes()));
        change_manifest(folder.path(), |manifest: &mut Value| {
            manifest["shards"][0]["examples"] = EXAMPLES.into();
            manifest["shards"][0]["bytes"] = bytes.into();
            manifest["shards"][0]["index_crc32"] = index.finalize().into();
            manifest["examples"] = EXAMPLES.into();
        });

        // A small file was read before, so that libtorch is there.
        let before = resident();
        let file = TeacherFile::open(folder.path()).unwrap();
        assert_eq!((file.len() as u64, file.bytes()), (EXAMPLES, bytes));
        let sum = |id: u64| {
            let said = file.read(&[id]).unwrap();
            let logits = said.logits[0].whole().unwrap();
            assert_eq!(logits.size(), [1, CLASSES as i64]);
            logits.sum(Kind::Double).double_value(&[])
        };
        // Until the allocator has what it keeps for the next.
        ids.iter().take(20).for_each(|id| assert_eq!(sum(*id), 0.0));
        let opened = resident();
        let mut read = 0;
        for id in ids.iter().step_by(EXAMPLES as usize / 400) {
            assert_eq!(sum(*id), 0.0);
            read += CLASSES * 4;
        }
        assert_eq!(sum(3 * (EXAMPLES - 1)), CLASSES as f64);
        let after = resident();
        println!(
            "{bytes} bytes: {} resident when opened, {} more after reading {read}",
            opened - before.min(opened),
            after - opened.min(after)
        );
        // A kilobyte for each of its megabytes, and as much as some examples.
        assert!(
            opened < before + bytes / 1000 + (8 << 20),
            "{before} {opened}"
        );
        // Nothing stays of what was read.
        assert!(read > 150_000_000, "{read}");
        assert!(after < opened + (8 << 20), "{opened} {after}");
    }
}

/// A few kilobytes that say they are many gigabytes.
#[test]
fn giant_counts_take_no_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let shard = "shard-00000.safetensors";
    let most = |change: &dyn Fn(&mut forge::Forged)| {
        mixture::recorded(folder.path(), 0.5, 4);
        forge::forge(folder.path(), shard, change);
        let mut is_read = false;
        let mut of_tensors = 0;
        let allocated = allocation_counter::measure(|| {
            let read = || -> textbrewer::Result<()> {
                let file = TeacherFile::open(folder.path())?;
                let ids: Vec<u64> = file.ids().collect();
                file.read(&ids).map(drop)
            };
            let (result, usage) = measure(read);
            is_read = result.is_ok();
            of_tensors = usage.peak_bytes;
        });
        let bytes = std::fs::metadata(folder.path().join(shard)).unwrap().len();
        std::fs::remove_dir_all(folder.path()).unwrap();
        let all = allocated.bytes_max + of_tensors as u64;
        println!("{all} bytes for a file of {bytes}");
        (is_read, all)
    };
    let (is_read, usual) = most(&|_| {});
    assert!(is_read);
    let set = |name: &str, number: u32| {
        let name = name.to_owned();
        move |forged: &mut forge::Forged| {
            let mut numbers = forged.integers(&name).unwrap();
            numbers[1] = number;
            forged.set_integers(&name, &numbers);
        }
    };
    for name in [
        "logits.0.positions",
        "logits.0.top4.positions",
        "logits.0.draws9.positions",
        "logits.0.draws9.bytes",
        "hidden.0.positions",
        "attention.0.positions",
    ] {
        for number in [1 << 20, u32::MAX / 2, u32::MAX] {
            let (is_read, all) = most(&set(name, number));
            assert!(!is_read, "{name}: {number}");
            assert!(
                all <= usual,
                "{name}: {number}: {all} bytes, {usual} of a good file"
            );
        }
    }
    let (is_read, all) = most(&|forged| forged.part("logits.0").shape = vec![1 << 40, 1 << 20]);
    assert!(
        !is_read && all <= usual,
        "{all} bytes, {usual} of a good file"
    );
}
