//! Every e2e test also searches for secrets: the output of each daemon process at the level trace, its libraries included,
//! and every response are searched for each client secret of this test run and each access token, plain, percent-encoded,
//! in base64 and in hexadecimal digits. (A daemon within the test's process prints nothing; its responses are searched.)

use std::sync::{LazyLock, Mutex};

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bondgate::simulator::TOKEN_MARK;

/// What is searched for.
static PATTERNS: LazyLock<Mutex<Patterns>> = LazyLock::new(|| {
    let mut texts = Vec::new();
    add(&mut texts, TOKEN_MARK);
    Mutex::new(Patterns {
        automaton: AhoCorasick::new(&texts).unwrap(),
        texts,
    })
});

struct Patterns {
    texts: Vec<Vec<u8>>,
    automaton: AhoCorasick,
}

/// Adds a client secret to the search. It must be no common word, which could be in any text.
pub(crate) fn keep(secret: &str) {
    let mut patterns = PATTERNS.lock().unwrap();
    let known = patterns.texts.len();
    add(&mut patterns.texts, secret);
    if patterns.texts.len() > known {
        patterns.automaton = AhoCorasick::new(&patterns.texts).unwrap();
    }
}

fn add(texts: &mut Vec<Vec<u8>>, secret: &str) {
    for spelling in spellings(secret) {
        assert!(spelling.len() <= TAIL);
        if !texts.contains(&spelling) {
            texts.push(spelling);
        }
    }
}

/// How a secret looks in each encoding.
pub(crate) fn spellings(secret: &str) -> Vec<Vec<u8>> {
    assert!(secret.len() >= 9, "{secret:?} may stand in any text");
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let strict = form.replace('+', "%20");
    let escaped: String = secret.chars().flat_map(char::escape_default).collect();
    let json = serde_json::to_string(secret).unwrap();
    let ascii = json.chars().map(|c| match c {
        ' '..='~' => c.to_string(),
        _ => format!("\\u{:04x}", u32::from(c)),
    });
    let mut spellings = vec![
        secret.as_bytes().to_vec(),
        escaped.into_bytes(),
        json.trim_matches('"').as_bytes().to_vec(),
        ascii.collect::<String>().trim_matches('"').as_bytes().to_vec(),
    ];
    for encoded in [&form, &strict] {
        spellings.push(encoded.as_bytes().to_vec());
        spellings.push(encoded.to_lowercase().into_bytes());
    }
    // In base64 a text looks one of three ways, by where in a group of three bytes it begins; what its
    // neighbours have a part in is left out. Both alphabets are the same but for two characters.
    for text in [secret, &form, &strict] {
        for before in 0..3 {
            let all = BASE64_STANDARD.encode([&[0; 3][..before], text.as_bytes()].concat());
            let whole = (before + text.len()) / 3 * 4;
            let inner = &all[if before == 0 { 0 } else { 4 }..whole];
            spellings.push(inner.as_bytes().to_vec());
            spellings.push(inner.replace('+', "-").replace('/', "_").into_bytes());
        }
    }
    let digits = secret
        .bytes()
        .flat_map(|byte| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16)));
    let hex: String = digits.flatten().collect();
    spellings.push(hex.to_uppercase().into_bytes());
    spellings.push(hex.into_bytes());
    spellings
}

/// A stream of bytes that is searched as it passes.
#[derive(Default)]
pub(crate) struct Search {
    /// What may be the beginning of a match.
    tail: Vec<u8>,
}

/// Longer than any spelling.
const TAIL: usize = 512;

impl Search {
    /// Fails the test if what passes holds a secret.
    pub(crate) fn see(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        assert_clean(&self.tail);
        let seen = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..seen);
    }
}

/// Fails the test if a text holds a secret.
pub(crate) fn assert_clean(text: &[u8]) {
    let found = PATTERNS.lock().unwrap().automaton.find(text);
    assert!(
        found.is_none(),
        "a secret leaked: {}",
        String::from_utf8_lossy(text)
    );
}

#[test]
fn a_secret_is_found_in_every_encoding_and_across_chunks() {
    let secret = "find+me %&=/ \u{fc}";
    keep(secret);
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    for text in [
        secret.to_owned(),
        form.clone(),
        form.replace('+', "%20").to_lowercase(),
        BASE64_STANDARD.encode(secret),
        BASE64_STANDARD.encode(format!("x:{secret}")),
        BASE64_STANDARD.encode(format!("xy:{form}:z")),
        "66696e642b6d652025263d2f20c3bc".to_owned(),
        format!("a{TOKEN_MARK}b"),
    ] {
        let found = std::panic::catch_unwind(|| {
            let mut search = Search::default();
            for piece in text.as_bytes().chunks(3) {
                search.see(piece);
            }
        });
        assert!(found.is_err(), "{text} is not found");
    }
    assert_clean(b"find me");
}
