//! Arrays of NumPy: their headers.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::super::wrong;
use crate::error::{Error, Result, shown};
use crate::files::open_regular;

/// A file whose header was read; next come its numbers.
#[derive(Debug)]
pub(super) struct Npy {
    pub(super) file: File,
    /// As NumPy says it, such as `<f4`.
    pub(super) kind: String,
    pub(super) shape: Vec<u64>,
}

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer than the header of any array of numbers.
const LONGEST: u64 = 1 << 16;

impl Npy {
    /// Reads the header and checks that the file has as many numbers as it says.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::io(path, source);
        let damaged = |reason: String| wrong(path, reason);
        let mut file = open_regular(path).map_err(failed)?;
        let there = file.metadata().map_err(failed)?.len();
        let mut start = [0; 8];
        let mut length = [0; 4];
        let is_array = there >= 10 && {
            file.read_exact(&mut start).map_err(failed)?;
            start.starts_with(MAGIC)
        };
        if !is_array {
            let reason = "is no array of NumPy; write it with `numpy.save`".to_owned();
            return Err(damaged(reason));
        }
        let of_length = match start {
            [.., 1, _] => 2,
            _ => 4,
        };
        let cut = || damaged("is cut short: its header is not whole".to_owned());
        let place = length.get_mut(..of_length).unwrap_or_default();
        file.read_exact(place).map_err(|_| cut())?;
        let header = u64::from(u32::from_le_bytes(length));
        let begin = 8 + of_length as u64 + header;
        if header > LONGEST || begin > there {
            return Err(cut());
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(|_| cut())?;
        let header = Header::parse(&text).ok_or_else(|| {
            let text = String::from_utf8_lossy(&text);
            let text = shown(text.trim());
            damaged(format!(
                "has a header that is not understood: `{text}`; save a plain array of numbers"
            ))
        })?;
        if header.is_fortran {
            let reason =
                "has its numbers in Fortran's order; save `numpy.ascontiguousarray(array)`";
            return Err(damaged(reason.to_owned()));
        }
        // How long other things are does not matter: who asked for numbers refuses them.
        let is_numbers = header.kind.contains(['f', 'i', 'u']);
        let size = header.kind.get(2..).and_then(|size| size.parse().ok());
        let mut sizes = header.shape.iter().copied().chain(size);
        let needed = sizes.try_fold(1, u64::checked_mul);
        let whole = needed.and_then(|needed| needed.checked_add(begin));
        if is_numbers && whole != Some(there) {
            return Err(damaged(format!(
                "has {} bytes of numbers, and an array {:?} of `{}` needs {}; it is cut short or damaged",
                there - begin,
                header.shape,
                shown(&header.kind),
                needed.map_or("more than there can be".to_owned(), |needed| needed
                    .to_string())
            )));
        }
        file.seek(SeekFrom::Start(begin)).map_err(failed)?;
        Ok(Npy {
            file,
            kind: header.kind,
            shape: header.shape,
        })
    }
}

/// Writes the header of an array.
pub(super) fn write_header(
    writer: &mut dyn Write,
    kind: &str,
    shape: &[u64],
) -> std::io::Result<()> {
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let mut header = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}",
        sizes.join(" ")
    );
    // All before the numbers is a multiple of 64 bytes.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    writer.write_all(MAGIC)?;
    writer.write_all(&[1, 0])?;
    writer.write_all(&(header.len() as u16).to_le_bytes())?;
    writer.write_all(header.as_bytes())
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`
#[derive(Debug, PartialEq)]
struct Header {
    kind: String,
    is_fortran: bool,
    shape: Vec<u64>,
}

impl Header {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let mut rest = text.strip_prefix('{')?.strip_suffix('}')?.trim();
        let (mut kind, mut is_fortran, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let (name, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            let after = match name {
                "descr" => {
                    let (text, after) = quoted(value)?;
                    kind = Some(text.to_owned());
                    after
                }
                "fortran_order" => {
                    is_fortran = Some(value.starts_with("True"));
                    value.strip_prefix("True").or(value.strip_prefix("False"))?
                }
                "shape" => {
                    let (sizes, after) = value.strip_prefix('(')?.split_once(')')?;
                    let sizes = sizes
                        .split(',')
                        .map(str::trim)
                        .filter(|size| !size.is_empty());
                    shape = Some(
                        sizes
                            .map(|size| size.parse().ok())
                            .collect::<Option<Vec<u64>>>()?,
                    );
                    after
                }
                _ => return None,
            };
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(after) => after.trim_start(),
                None if after.is_empty() => after,
                None => return None,
            };
        }
        Some(Header {
            kind: kind?,
            is_fortran: is_fortran?,
            shape: shape?,
        })
    }
}

/// The text in quotes that `rest` begins with, and what comes after it.
fn quoted(rest: &str) -> Option<(&str, &str)> {
    let quote = rest
        .chars()
        .next()
        .filter(|quote| ['\'', '"'].contains(quote))?;
    rest.get(1..)?.split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let parse = |text: &str| Header::parse(text.as_bytes());
        let header = parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }      \n");
        let header = header.unwrap();
        assert_eq!(
            (header.kind.as_str(), header.is_fortran, &header.shape[..]),
            ("<f4", false, &[3, 2][..])
        );
        assert_eq!(
            parse("{\"shape\":(),'fortran_order':True,'descr':'<i8'}")
                .unwrap()
                .shape,
            [0u64; 0]
        );
        for bad in [
            "",
            "{}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (3,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3 }",
            "{'descr': '<f4' 'fortran_order': False, 'shape': (3,), }",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
