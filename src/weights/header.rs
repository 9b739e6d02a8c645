//! The header of a safetensors file, which is not trusted.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::shown;

/// The header's key for free text; no tensor can have this name.
pub(super) const METADATA: &str = "__metadata__";
/// More dimensions than libtorch's operations can handle.
const MAX_DIMENSIONS: usize = 64;

/// Reads a header and checks that the tensors lie one after the other, without gaps, each of
/// as many bytes as its shape needs.
///
/// The safetensors crate's own reader is not used: it keeps an untyped copy of the header (many
/// times its size), and when two tensors have the same name it drops the first.
pub(super) fn parse(bytes: &[u8]) -> Result<Metadata, String> {
    let header: Header = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut tensors: Vec<(String, TensorInfo)> = header.tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    for (name, info) in &tensors {
        // A size of 0 would hide that the product of the others overflows; libtorch multiplies
        // those too.
        let sizes = info.shape.iter().filter(|size| **size > 0);
        let mut product = Some((info.dtype.bitsize() / 8).max(1) as i64);
        for size in sizes {
            let size = i64::try_from(*size).ok();
            product = product.and_then(|product| product.checked_mul(size?));
        }
        if product.is_none() {
            return Err(format!("tensor `{}` has an impossible shape", shown(name)));
        }
    }
    Metadata::new(header.metadata, tensors).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Header {
    metadata: Option<HashMap<String, String>>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that maps names to tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == METADATA {
                header.metadata.replace(map.next_value()?).is_some()
            } else {
                let info: Info = map.next_value()?;
                header.tensors.insert(name.clone(), info.into()).is_some()
            };
            if twice {
                let name = shown(&name);
                return Err(de::Error::custom(format!("`{name}` is there twice")));
            }
        }
        Ok(header)
    }
}

#[derive(Deserialize)]
struct Info {
    dtype: Dtype,
    #[serde(deserialize_with = "shape")]
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl From<Info> for TensorInfo {
    fn from(info: Info) -> Self {
        TensorInfo {
            dtype: info.dtype,
            shape: info.shape,
            data_offsets: info.data_offsets,
        }
    }
}

fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    struct Shape;

    impl<'de> Visitor<'de> for Shape {
        type Value = Vec<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of sizes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<usize>, A::Error> {
            let mut sizes = Vec::new();
            while let Some(size) = list.next_element()? {
                if sizes.len() == MAX_DIMENSIONS {
                    let reason =
                        format!("an impossible shape: more than {MAX_DIMENSIONS} dimensions");
                    return Err(de::Error::custom(reason));
                }
                sizes.push(size);
            }
            Ok(sizes)
        }
    }

    deserializer.deserialize_seq(Shape)
}
