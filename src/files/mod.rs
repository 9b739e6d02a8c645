//! Files from strangers opened with care, and files replaced whole.

mod atomic;
mod open;

pub(crate) use atomic::write_atomically;
pub(crate) use open::{open_regular, read_text};
