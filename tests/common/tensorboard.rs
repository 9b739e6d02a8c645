//! Reads event files: the framing of TFRecord, and as much of protobuf as scalars need.
//! Written from the formats' descriptions and not from the code that writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One record.
#[derive(Debug, Default)]
pub struct Event {
    pub wall_time: f64,
    pub step: i64,
    pub file_version: Option<String>,
    pub scalars: Vec<(String, f32)>,
    /// Tag and Markdown.
    pub texts: Vec<(String, String)>,
    /// Whether a process starts here, which makes what came before at later steps void.
    pub starts: bool,
}

/// One value of a curve.
#[derive(Debug, PartialEq)]
pub struct Scalar {
    pub tag: String,
    pub value: f32,
    pub step: i64,
}

/// All scalars of a file, in their order. Panics at anything that is not as it should be.
pub fn read_scalars(file: &Path) -> Vec<Scalar> {
    let scalars = read_events(file).into_iter().flat_map(|event| {
        let step = event.step;
        let scalars = event.scalars.into_iter();
        scalars.map(move |(tag, value)| Scalar { tag, value, step })
    });
    scalars.collect()
}

/// The event files of a run, in the order in which TensorBoard reads them.
pub fn event_files(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The curves of a run as TensorBoard shows them: a start makes earlier points from its step on
/// void.
pub fn curves(run: &Path) -> BTreeMap<String, Vec<(i64, f32)>> {
    let mut curves: BTreeMap<String, Vec<(i64, f32)>> = BTreeMap::new();
    for event in event_files(run).iter().flat_map(|file| read_events(file)) {
        if event.starts {
            for curve in curves.values_mut() {
                curve.retain(|(step, _)| *step < event.step);
            }
        }
        for (tag, value) in event.scalars {
            curves.entry(tag).or_default().push((event.step, value));
        }
    }
    curves
}

/// All records of a file. Panics at anything that is not as it should be.
pub fn read_events(file: &Path) -> Vec<Event> {
    let bytes = fs::read(file).unwrap();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let length = take(&mut rest, 8);
        check(length, take(&mut rest, 4));
        let body = take(
            &mut rest,
            u64::from_le_bytes(length.try_into().unwrap()) as usize,
        );
        check(body, take(&mut rest, 4));
        events.push(event(body));
    }
    events
}

/// CRC-32C (Castagnoli), bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
        })
    })
}

fn check(bytes: &[u8], checksum: &[u8]) {
    let masked = crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8);
    assert_eq!(checksum, masked.to_le_bytes(), "checksum");
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest
        .split_at_checked(length)
        .expect("the file is cut short");
    *rest = left;
    taken
}

enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

fn fields(mut rest: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut rest)),
            1 => Field::Fixed64(take(&mut rest, 8).try_into().unwrap()),
            2 => {
                let length = varint(&mut rest) as usize;
                Field::Bytes(take(&mut rest, length))
            }
            5 => Field::Fixed32(take(&mut rest, 4).try_into().unwrap()),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint without end");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn event(body: &[u8]) -> Event {
    let mut event = Event::default();
    for field in fields(body) {
        match field {
            (1, Field::Fixed64(bytes)) => event.wall_time = f64::from_le_bytes(bytes),
            (2, Field::Varint(step)) => event.step = step as i64,
            (3, Field::Bytes(version)) => event.file_version = Some(text(version)),
            (5, Field::Bytes(summary)) => {
                for field in fields(summary) {
                    let (1, Field::Bytes(value)) = field else {
                        panic!("a summary has only values");
                    };
                    match value_of(value) {
                        (tag, Value::Scalar(scalar)) => event.scalars.push((tag, scalar)),
                        (tag, Value::Text(text)) => event.texts.push((tag, text)),
                    }
                }
            }
            (7, Field::Bytes(session)) => match fields(session)[..] {
                [(1, Field::Varint(1))] => event.starts = true,
                _ => panic!("a session that does not only start"),
            },
            (number, _) => panic!("field {number} of an event"),
        }
    }
    event
}

enum Value {
    Scalar(f32),
    Text(String),
}

fn value_of(body: &[u8]) -> (String, Value) {
    let (mut tag, mut value, mut plugin) = (None, None, None);
    for field in fields(body) {
        match field {
            (1, Field::Bytes(bytes)) => tag = Some(text(bytes)),
            (2, Field::Fixed32(bytes)) => value = Some(Value::Scalar(f32::from_le_bytes(bytes))),
            (8, Field::Bytes(tensor)) => value = Some(Value::Text(text_of(tensor))),
            (9, Field::Bytes(metadata)) => match fields(metadata)[..] {
                // The data of a plugin, in which its name.
                [(1, Field::Bytes(data))] => match fields(data)[..] {
                    [(1, Field::Bytes(name))] => plugin = Some(text(name)),
                    _ => panic!("a plugin without its name"),
                },
                _ => panic!("metadata other than of a plugin"),
            },
            (number, _) => panic!("field {number} of a value"),
        }
    }
    let value = value.expect("neither a simple_value nor a tensor");
    let expected = match value {
        Value::Scalar(_) => None,
        Value::Text(_) => Some("text"),
    };
    assert_eq!(plugin.as_deref(), expected);
    (tag.expect("no tag"), value)
}

/// The only string of a tensor.
fn text_of(tensor: &[u8]) -> String {
    match fields(tensor)[..] {
        // DT_STRING is 7.
        [(1, Field::Varint(7)), (8, Field::Bytes(bytes))] => text(bytes),
        _ => panic!("a tensor of something else"),
    }
}
