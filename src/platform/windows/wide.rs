//! Text and paths as the Windows API takes them: UTF-16 that ends with a zero.

use std::ffi::OsStr;
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::path::Path;

/// From this length on, a path needs the prefix `\\?\`: MAX_PATH (260) less the 8.3 name that a directory must have room
/// for.
const LONG: usize = 248;

/// A text; an error where it holds a zero.
pub(super) fn text(text: impl AsRef<OsStr>) -> io::Result<Vec<u16>> {
    let mut units: Vec<u16> = text.as_ref().encode_wide().collect();
    if units.contains(&0) {
        let message = "the text holds a zero character";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    units.push(0);
    Ok(units)
}

/// A path; a long one in the form that may exceed MAX_PATH, as the standard library does it.
pub(super) fn path(path: &Path) -> io::Result<Vec<u16>> {
    let units = text(path)?;
    if units.len() < LONG {
        return Ok(units);
    }
    let absolute = text(std::path::absolute(path)?)?;
    let written = String::from_utf16_lossy(&absolute);
    let (prefix, rest) = if written.starts_with(r"\\?\") || written.starts_with(r"\\.\") {
        ("", &absolute[..])
    } else if written.starts_with(r"\\") {
        (r"\\?\UNC\", &absolute[2..])
    } else {
        (r"\\?\", &absolute[..])
    };
    Ok(prefix.encode_utf16().chain(rest.iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(of: &str) -> String {
        let units = path(Path::new(of)).unwrap();
        String::from_utf16(&units[..units.len() - 1]).unwrap()
    }

    #[test]
    fn a_long_path_gets_the_prefix_that_lifts_the_limit() {
        let name = "x".repeat(LONG);
        assert_eq!(written(r"C:\short"), r"C:\short");
        assert_eq!(written(&format!(r"C:\{name}")), format!(r"\\?\C:\{name}"));
        assert_eq!(
            written(&format!(r"\\server\share\{name}")),
            format!(r"\\?\UNC\server\share\{name}")
        );
        assert_eq!(written(&format!(r"\\?\C:\{name}")), format!(r"\\?\C:\{name}"));
    }

    #[test]
    fn a_zero_within_a_text_is_refused() {
        assert_eq!(text("a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(text("ab").unwrap(), [97, 98, 0]);
    }
}
