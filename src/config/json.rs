//! Reading and writing JSON, with errors that name the place.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_path_to_error::Track;

use crate::error::{Error, shown};
use crate::files;

/// The place in an error about text that did not come from a file.
pub(crate) const TEXT: &str = "JSON text";

pub(crate) fn from_file<T: DeserializeOwned>(path: &Path) -> crate::error::Result<T> {
    from_text(&files::read_text(path)?, &path.display().to_string())
}

pub(crate) fn from_str<T: DeserializeOwned>(text: &str) -> crate::error::Result<T> {
    from_text(text, TEXT)
}

/// An error about the value of `key` in the outermost object of `text`, with the key's line.
pub(crate) fn about_key(text: &str, place: &str, key: &str, reason: &str) -> Error {
    let at = line_of(text, key).map_or(String::new(), |line| format!(" at line {line}"));
    let reason = format!("{}{at}", plain(reason));
    Error::Json {
        place: place.to_owned(),
        source: serde_json::Error::custom(&reason),
        reason,
    }
}

/// The line of a key in the outermost object.
fn line_of(text: &str, key: &str) -> Option<usize> {
    struct Find<'k>(&'k str);

    impl<'de> Visitor<'de> for Find<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of keys and values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<String>()? {
                if key == self.0 {
                    // The parser adds the place where it stands.
                    return Err(A::Error::custom("found"));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }

    let found = serde_json::Deserializer::from_str(text).deserialize_map(Find(key));
    found
        .err()
        .map(|error| error.line())
        .filter(|line| *line > 0)
}

/// One of several names. With a derived implementation serde_json would report a number in its place as
/// broken JSON; this one lists the names.
pub(crate) fn one_of<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    names: &'static [&'static str],
    named: fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Name<T> {
        names: &'static [&'static str],
        named: fn(&str) -> Option<T>,
    }

    impl<T> Visitor<'_> for Name<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "one of \"{}\"", self.names.join("\", \""))
        }

        fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<T, E> {
            (self.named)(name).ok_or_else(|| E::unknown_variant(name, self.names))
        }
    }

    deserializer.deserialize_str(Name { names, named })
}

pub(super) fn to_string<T: Serialize>(value: &T) -> crate::error::Result<String> {
    serde_json::to_string_pretty(value).map_err(|source| Error::Json {
        place: "writing JSON".to_owned(),
        reason: source.to_string(),
        source,
    })
}

/// One line of JSON, for `Display`.
pub(super) fn write_compact<T: Serialize>(f: &mut fmt::Formatter<'_>, value: &T) -> fmt::Result {
    f.write_str(&serde_json::to_string(value).map_err(|_| fmt::Error)?)
}

/// Reads a struct from an object only. serde's derived structs also accept a list of the
/// fields' values, which in a configuration can only be a mistake.
pub(super) fn object<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of keys and values")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

pub(crate) fn from_text<T: DeserializeOwned>(text: &str, place: &str) -> crate::error::Result<T> {
    let mut json = serde_json::Deserializer::from_str(text);
    let mut track = Track::new();
    let read = object(serde_path_to_error::Deserializer::new(
        &mut json, &mut track,
    ));
    let path = track.path();
    read.and_then(|value| json.end().map(|()| value))
        .map_err(|source| Error::Json {
            place: place.to_owned(),
            reason: explain(&path, &source, text),
            source,
        })
}

fn explain(path: &serde_path_to_error::Path, error: &serde_json::Error, text: &str) -> String {
    // When the text ends inside a key, serde shows that last part of the path as `?`.
    let path = path.to_string();
    let path = shown(path.trim_end_matches(['.', '?']));
    let known = !path.is_empty();
    match error.classify() {
        Category::Eof if text.trim().is_empty() => {
            "there is no JSON, the text is empty; write at least {}".to_owned()
        }
        Category::Eof => {
            let inside = if known {
                format!(" inside `{path}`")
            } else {
                String::new()
            };
            format!(
                "the JSON is cut short{inside}: it ends at line {} column {}",
                error.line(),
                error.column()
            )
        }
        Category::Syntax if known => format!("not valid JSON near `{path}`: {error}"),
        Category::Syntax => format!("not valid JSON: {error}"),
        Category::Data | Category::Io if known => format!("{path}: {}", plain(&error.to_string())),
        Category::Data | Category::Io => plain(&error.to_string()),
    }
}

/// serde names the types it expected as Rust does; readers of JSON need not know Rust.
fn plain(message: &str) -> String {
    let mut message = message.to_owned();
    for (rust, plain) in [
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected i64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
    ] {
        if let Some(start) = message.rfind(rust) {
            message.replace_range(start..start + rust.len(), plain);
        }
    }
    message
}
