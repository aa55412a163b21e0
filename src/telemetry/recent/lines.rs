//! The last lines of the log, in a ring of bytes.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// The size of the ring: the lines of several hundred requests.
pub(super) const CAPACITY: usize = 256 << 10;

/// The last lines of the log. The log's thread adds them in batches: no request waits for the lock or copies its line.
#[derive(Default)]
pub(in super::super) struct RecentLines(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    bytes: VecDeque<u8>,
    /// Whether the first line may lack its beginning.
    is_cut: bool,
}

impl RecentLines {
    /// Adds whole lines, in place of the oldest ones.
    pub(in super::super) fn add(&self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let mut ring = self.0.lock();
        let kept = &lines[lines.len().saturating_sub(CAPACITY)..];
        let over = (ring.bytes.len() + kept.len()).saturating_sub(CAPACITY);
        ring.is_cut |= over > 0 || kept.len() < lines.len();
        ring.bytes.drain(..over);
        if ring.bytes.capacity() < CAPACITY {
            // Once: a queue that grows would be copied.
            ring.bytes.reserve_exact(CAPACITY);
        }
        ring.bytes.extend(kept);
    }

    pub(super) fn text(&self) -> String {
        let (bytes, is_cut) = {
            let ring = self.0.lock();
            let (older, newer) = ring.bytes.as_slices();
            ([older, newer].concat(), ring.is_cut)
        };
        let start = if is_cut {
            memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |end| end + 1)
        } else {
            0
        };
        without_colours(&String::from_utf8_lossy(&bytes[start..]))
    }
}

/// A text without the colours of lines that were written for a terminal.
fn without_colours(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let first = pieces.next().unwrap_or_default();
    let after = pieces.map(|piece| piece.split_once('m').map_or(piece, |(_colour, rest)| rest));
    std::iter::once(first).chain(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_in_their_order() {
        let recent = RecentLines::default();
        assert_eq!(recent.text(), "");
        recent.add(b"a\nb\n");
        recent.add(b"");
        recent.add(b"c\n");
        assert_eq!(recent.text(), "a\nb\nc\n");
    }

    #[test]
    fn lines_of_a_terminal_are_shown_without_their_colours() {
        let recent = RecentLines::default();
        recent
            .add(b"\x1b[2m10:06\x1b[0m \x1b[32m INFO\x1b[0m token [a] \x1b[3mstate\x1b[0m\x1b[2m=\x1b[0m1\n");
        assert_eq!(recent.text(), "10:06  INFO token [a] state=1\n");
    }

    #[test]
    fn the_oldest_lines_make_room_and_no_line_is_shown_in_part() {
        let recent = RecentLines::default();
        let line = |number: usize| format!("{number:07} {}\n", "\u{e4}".repeat(50));
        for number in 0..10_000 {
            recent.add(line(number).as_bytes());
        }
        let text = recent.text();
        let lines: Vec<_> = text.lines().collect();
        let size = line(0).len();
        assert!(lines.len() >= CAPACITY / size - 1, "{}", lines.len());
        for (shown, number) in lines.iter().zip(10_000 - lines.len()..) {
            assert_eq!(**shown, *line(number).trim_end());
        }
        assert_eq!(recent.0.lock().bytes.capacity(), CAPACITY);
    }

    #[test]
    fn a_batch_beyond_the_size_leaves_its_last_lines() {
        let recent = RecentLines::default();
        recent.add(b"first\n");
        let batch = format!("{}\nlast\n", "x".repeat(CAPACITY));
        recent.add(batch.as_bytes());
        assert_eq!(recent.text(), "last\n");
    }
}
