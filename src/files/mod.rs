//! Opening files that are not trusted, and replacing files atomically.

mod atomic;
mod open;

pub(crate) use atomic::write_atomically;
pub(crate) use open::{open_regular, read_text};
