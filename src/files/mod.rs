//! Opening files that are not trusted, and replacing files atomically.

mod atomic;
mod instead;
mod open;

pub(crate) use atomic::write_atomically;
pub use instead::instead;
pub(crate) use instead::{ENOUGH, instead_of_binary};
pub(crate) use open::{open_regular, read_text};
