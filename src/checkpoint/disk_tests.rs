//! Files that are written, linked and replaced.

use super::*;

#[test]
fn what_was_written_is_what_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let disk = Disk::default();
    let written = disk
        .replace(&path, |file| {
            file.write_all(&bytes)
                .map_err(|error| Error::io("file", error))
        })
        .unwrap();
    assert_eq!(written.bytes, 100_000);
    assert_eq!(written.crc32, crc32fast::hash(&bytes));
    assert_eq!(examine(&path).unwrap(), written);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let path = folder.path().join("file");
    for place in [&path, &temporary(&path)] {
        std::os::unix::fs::symlink(&victim, place).unwrap();
    }
    Disk::default().replace(&path, |_| Ok(())).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
}

#[test]
fn a_second_name_takes_the_place_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("one"), "1").unwrap();
    fs::write(at("two"), "2").unwrap();
    let disk = Disk::default();
    for (from, expected) in [("one", b"1"), ("two", b"2"), ("two", b"2")] {
        disk.replace_by_link(&at(from), &at("best")).unwrap();
        assert_eq!(fs::read(at("best")).unwrap(), expected);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}
