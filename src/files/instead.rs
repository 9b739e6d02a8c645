//! What is in a file instead of what its name promises.

use crate::error::shown;

/// How many bytes of a file are enough to tell.
pub(crate) const ENOUGH: usize = 256;

/// What a file that begins with these bytes is, and what to do, if it is something that is often
/// found in the place of another file. It completes a sentence: `model.safetensors` `is …`.
///
/// `wanted` is the text that was expected, such as `a configuration`.
pub fn instead(start: &[u8], wanted: &str) -> Option<String> {
    let start = start.get(..ENOUGH).unwrap_or(start);
    if start.starts_with(ZIP) {
        let zip = format!("a zip archive, or weights of PyTorch, and not {wanted}; unpack it");
        return Some(zip);
    }
    of_any_file(start, wanted)
}

/// Magic bytes of zip archives, which `torch.save` writes too.
const ZIP: &[u8] = b"PK\x03\x04";

fn of_any_file(start: &[u8], wanted: &str) -> Option<String> {
    if start.starts_with(b"version https://git-lfs.github.com/spec/") {
        let pointer = "a pointer of Git LFS and not the file itself; `git lfs pull` in its \
                       repository fetches it";
        return Some(pointer.to_owned());
    }
    if is_page(start) {
        let begins = beginning(start);
        return Some(format!(
            "text (a web page) and not {wanted}: it begins `{begins}`; download it again, and \
             look whether the address needs a login"
        ));
    }
    let archives: [(&[u8], &str); 10] = [
        (ZIP, PICKLE),
        (b"\x80\x02", PICKLE),
        (b"\x80\x03", PICKLE),
        (b"\x80\x04", PICKLE),
        (b"\x80\x05", PICKLE),
        (b"\x1f\x8b", "compressed by gzip; unpack it"),
        (
            b"\x89HDF",
            "an HDF5 file, of Keras or TensorFlow; load it with transformers (`from_tf=True`) and \
             save it again",
        ),
        (b"GGUF\x02", GGUF),
        (b"GGUF\x03", GGUF),
        (
            b"\x93NUMPY",
            "an array of NumPy; write it with safetensors.torch.save_file",
        ),
    ];
    let known = archives.iter().find(|(magic, _)| start.starts_with(magic));
    known.map(|(_, what)| match *what {
        PICKLE => {
            format!("{PICKLE}, not {wanted}; convert it with Python's safetensors.torch.save_file")
        }
        what => what.to_owned(),
    })
}

const PICKLE: &str = "a PyTorch pickle";
const GGUF: &str = "a GGUF file, of llama.cpp; take the original weights";

/// The same of a file of weights, which is not text at all: any text counts.
pub(crate) fn instead_of_binary(start: &[u8], wanted: &str) -> Option<String> {
    let start = start.get(..ENOUGH).unwrap_or(start);
    let text = || {
        let begins = beginning(start);
        is_text(start).then(|| format!("text and not {wanted}: it begins `{begins}`"))
    };
    of_any_file(start, wanted).or_else(text)
}

fn is_page(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start).to_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    ["<!doctype html", "<html", "<?xml"]
        .iter()
        .any(|begin| text.starts_with(begin))
}

fn is_text(start: &[u8]) -> bool {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut in two.
        Err(error) if error.error_len().is_none() => {
            let good = start.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(good).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_odd = |c: char| c.is_control() && !c.is_whitespace();
    !text.is_empty() && !text.chars().any(is_odd)
}

/// The first line that is not blank.
fn beginning(start: &[u8]) -> String {
    let text = String::from_utf8_lossy(start);
    let line = text.lines().find(|line| !line.trim().is_empty());
    let line: String = line.unwrap_or_default().trim().chars().take(60).collect();
    shown(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_often_found_in_the_place_of_a_file() {
        for (start, expected) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:4b3c\nsize 437955512\n"[..],
                "a pointer of Git LFS and not the file itself; `git lfs pull` in its repository \
                 fetches it",
            ),
            (
                b"\n<!DOCTYPE html>\n<html><head>",
                "text (a web page) and not JSON: it begins `<!DOCTYPE html>`; download",
            ),
            (
                b"\xef\xbb\xbf<HTML lang='en'>",
                "text (a web page) and not JSON: it begins",
            ),
            (
                b"<?xml version='1.0'?><Error/>",
                "text (a web page) and not JSON: it begins",
            ),
            (
                b"PK\x03\x04\x14",
                "a zip archive, or weights of PyTorch, and not JSON; unpack it",
            ),
            (b"\x80\x05\x95", "a PyTorch pickle, not JSON; convert it"),
            (b"\x1f\x8b\x08", "compressed by gzip; unpack it"),
            (b"\x89HDF\r\n", "an HDF5 file"),
        ] {
            let found = instead(start, "JSON").unwrap();
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
        for start in [
            &b""[..],
            b"{\"a\": 1}",
            b"[PAD]\n",
            b"version 1",
            b"\xff\xff",
        ] {
            assert_eq!(instead(start, "JSON"), None);
        }
    }

    #[test]
    fn any_text_is_not_a_binary_file() {
        let found = |start: &[u8]| instead_of_binary(start, "a safetensors file");
        let text = found(b"\n  {\"error\": \"not found\"}\n").unwrap();
        let expected = r#"text and not a safetensors file: it begins `{"error": "not found"}`"#;
        assert_eq!(text, expected);
        // A character that is cut in two at the end is text still.
        let long = format!("{}ä", "a".repeat(ENOUGH - 1));
        assert!(found(long.as_bytes()).unwrap().ends_with("aaa`"));
        let pickle = found(b"PK\x03\x04\x14").unwrap();
        assert!(pickle.starts_with("a PyTorch pickle, not a safetensors file; convert it"));
        for binary in [&b""[..], b"\x10\0\0\0\0\0\0\0{}", b"ab\xffcd"] {
            assert_eq!(found(binary), None);
        }
    }
}
