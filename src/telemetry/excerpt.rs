//! The beginning of a text that may be too long to be kept or logged.

/// The first characters of a text, in at most `longest` bytes.
#[must_use]
pub fn excerpt(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(excerpt("caf\u{e9}", 10), "caf\u{e9}");
        assert_eq!(excerpt("caf\u{e9}", 4), "caf");
        assert_eq!(excerpt("\u{e9}", 1), "");
        assert_eq!(excerpt("", 4), "");
    }
}
