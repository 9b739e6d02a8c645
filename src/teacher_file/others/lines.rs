//! The lines of a file of JSON objects.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::super::wrong;
use crate::error::{Error, Result, shown};
use crate::files::open_regular;

/// An object of JSON as it is written: a name that comes twice is there twice.
#[derive(Debug)]
pub(super) struct Fields(pub(super) Vec<(String, Value)>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let mut fields = self.0.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }
}

/// Calls `each` with the number of each line, from 1, and its object. Empty lines are passed over.
///
/// # Errors
/// When the file cannot be read or a line is no object, and those of `each`.
pub(super) fn objects(path: &Path, mut each: impl FnMut(u64, Fields) -> Result<()>) -> Result<()> {
    let failed = |source| Error::io(path, source);
    let mut reader = BufReader::new(open_regular(path).map_err(failed)?);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
            break;
        }
        let mut text = bytes.as_slice();
        if line == 1 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let fields = serde_json::from_slice(text).map_err(|error| {
            let reason = shown(&error.to_string()).into_owned();
            let remedy =
                "each line has to be one JSON object; numbers that are not finite are no JSON";
            wrong(
                path,
                format!("line {line} cannot be read: {reason}; {remedy}"),
            )
        })?;
        each(line, fields)?;
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(
                self,
                mut map: M,
            ) -> std::result::Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
