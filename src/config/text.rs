//! Text files as editors and Windows tools write them: in UTF-8, with or without a byte order mark.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

use crate::platform::shell::{quoted, to_utf_8};
use crate::problems::{Problem, files};

/// Reads a regular file of up to so many MiB. A pipe would block, or be empty at the next use.
pub(crate) fn read(path: &Path, most_mib: u64) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let cannot = |error: io::Error| cannot_read(path, &error);
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if metadata.is_dir() {
        return Err(cannot(io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(files::not_regular(path.display()));
    }
    let most = most_mib << 20;
    if metadata.len() > most {
        return Err(files::too_large(path.display(), most_mib));
    }
    // A buffer that grows leaves copies of a secret behind. So does, on the stack, the reader's probe for the end if
    // little room is left.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0) + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let file = File::open(path).map_err(cannot)?;
    file.take(most).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

/// The one file of a directory that is not hidden, or a name for one.
fn file_in(directory: &Path) -> PathBuf {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.is_file());
    let is_hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut files = files.filter(|path| !is_hidden(path));
    match (files.next(), files.next()) {
        (Some(file), None) => file,
        _ => directory.join("client_secret"),
    }
}

/// Why a file cannot be read.
pub(crate) fn cannot_read(path: &Path, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => files::missing(path.display()),
        io::ErrorKind::PermissionDenied => files::denied(path.display()),
        io::ErrorKind::IsADirectory => files::is_directory(path.display(), file_in(path).display()),
        _ => files::unreadable(path.display(), error),
    }
}

/// The text of a file, without its byte order mark.
pub(crate) fn decode<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str, Problem> {
    let is_utf_32 = match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => true,
        [first, 0, 0, 0, ..] => *first != 0,
        [0, 0, 0, last, ..] => *last != 0,
        _ => false,
    };
    if is_utf_32 {
        return Err(files::in_utf_32(quoted(path), to_utf_8(path, "UTF-32")));
    }
    let encoding = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [first, 0, ..] if *first != 0 => Some("UTF-16LE"),
        [0, second, ..] if *second != 0 => Some("UTF-16BE"),
        _ => None,
    };
    if let Some(encoding) = encoding {
        return Err(files::in_utf_16(quoted(path), to_utf_8(path, encoding)));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(text).map_err(|error| {
        let line = text[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        files::not_utf_8(quoted(path), line, to_utf_8(path, "WINDOWS-1252"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_order_mark_is_not_part_of_a_text() {
        let text = |bytes: &'static [u8]| decode(bytes, Path::new("f")).unwrap();
        assert_eq!(text(b"\xef\xbb\xbfa\r\n"), "a\r\n");
        assert_eq!(text(b"\xef\xbb\xbf\xef\xbb\xbfa"), "\u{feff}a");
        assert_eq!(text(b""), "");
    }

    #[test]
    fn another_encoding_is_named_with_the_command_that_converts_it() {
        for (bytes, code, encoding) in [
            (&b"\xff\xfea\0"[..], "file-in-utf-16", "UTF-16"),
            (b"\xfe\xff\0a", "file-in-utf-16", "UTF-16"),
            (b"a\0b\0", "file-in-utf-16", "UTF-16LE"),
            (b"\0a\0b", "file-in-utf-16", "UTF-16BE"),
            (b"\xff\xfe\0\0a\0\0\0", "file-in-utf-32", "UTF-32"),
            (b"\0\0\xfe\xff\0\0\0a", "file-in-utf-32", "UTF-32"),
            (b"a\n\xe4\n", "file-not-utf-8", "WINDOWS-1252"),
        ] {
            let problem = decode(bytes, Path::new("f")).unwrap_err();
            assert_eq!(problem.code(), code);
            let command = to_utf_8(Path::new("f"), encoding);
            assert!(problem.fix().ends_with(&command), "{problem}");
        }
        let problem = decode(b"a\n\xe4\n", Path::new("f")).unwrap_err();
        assert!(problem.cause().contains("line 2"), "{problem}");
    }
}
