//! `intermediate_matches` in JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{IntermediateMatch, match_sets};

/// More than any real pair of models can have.
pub(super) const MOST_MATCHES: usize = 10_000;

pub(super) fn too_many() -> String {
    format!("more than {MOST_MATCHES} matches; list those of the layers that the models have")
}

/// A list of objects and of names of match sets, or one name; `null` is an empty list.
pub(super) fn matches<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IntermediateMatch>, D::Error> {
    struct Matches;

    impl<'de> Visitor<'de> for Matches {
        type Value = Vec<IntermediateMatch>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("null, the name of a match set or a list of matches")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
            named_set(name)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut matches = Vec::new();
            while let Some(Item(items)) = list.next_element()? {
                matches.extend(items);
                // Counted after each element: a short name stands for many matches.
                if matches.len() > MOST_MATCHES {
                    return Err(de::Error::custom(too_many()));
                }
            }
            Ok(matches)
        }
    }

    deserializer.deserialize_any(Matches)
}

/// An element of that list: a match, or the matches of a named set.
struct Item(Vec<IntermediateMatch>);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;

        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of keys and values or the name of a match set")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Item, E> {
                named_set(name).map(Item)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                let item = IntermediateMatch::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Item(vec![item]))
            }
        }

        deserializer.deserialize_any(ItemVisitor)
    }
}

fn named_set<E: de::Error>(name: &str) -> Result<Vec<IntermediateMatch>, E> {
    match_sets::find(name).ok_or_else(|| {
        let known: Vec<_> = match_sets::match_set_names().collect();
        let known = known.join(", ");
        E::custom(format!("unknown match set `{name}`; known: {known}"))
    })
}
