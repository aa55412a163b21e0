//! Odd responses, each with what a caller must get of it. A row is a response as an upstream sends it, in a short
//! notation: `\n` is CR LF, `␊` a bare line feed, `␍` a bare carriage return, `{B}` the body, `{L}` its length,
//! `{C}` the body in chunks; every other character is the byte of its number.

/// A response and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// As the upstream sends it, in the notation above.
    pub(super) text: String,
    /// Whether the upstream closes the connection behind it.
    pub(super) closes: bool,
    pub(super) want: Want,
    /// What a caller gets in response to HEAD, where the class alone does not say it.
    pub(super) head: Option<Want>,
    /// What a token request with this response brings, where the class alone does not say it.
    pub(super) token: Option<&'static str>,
    /// Lines that the head has, spelled as here.
    pub(super) has: Vec<String>,
    /// Fields that the head does not have.
    pub(super) lacks: Vec<&'static str>,
}

/// What a caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The response as it was sent.
    Whole {
        line: String,
        length: Length,
        body: Body,
    },
    /// 502 from bondgate: this is no response.
    Refused,
    /// The head, and a body whose end is missing visibly.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The row's body.
    Row,
    /// No byte.
    Empty,
}

/// How a response says how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// By one `Content-Length` with the length of the row's body.
    OfBody,
    /// By `Content-Length: 0`.
    Zero,
    /// By chunks; in response to HEAD not at all.
    Chunks,
    /// Not at all, since there is never a body.
    Nothing,
}

/// The body of each row: what a token request must be responded to with.
pub(super) const BODY: &str =
    r#"{"access_token":"a.b.sweep","token_type":"Bearer","expires_in":3600,"scope":"odd"}"#;

impl Case {
    fn new(text: impl Into<String>, want: Want) -> Self {
        Self {
            text: text.into(),
            closes: false,
            want,
            head: None,
            token: None,
            has: Vec::new(),
            lacks: Vec::new(),
        }
    }

    /// The bytes of the response, and where its body begins.
    pub(super) fn bytes(&self) -> (Vec<u8>, usize) {
        let chunks = format!("{:x}\n{BODY}\n0\n\n", BODY.len());
        let text = self
            .text
            .replace("{C}", &chunks)
            .replace("{L}", &BODY.len().to_string())
            .replace("{B}", BODY);
        let mut bytes = Vec::new();
        for c in text.chars() {
            match c {
                '\n' => bytes.extend(b"\r\n"),
                '␊' => bytes.push(b'\n'),
                '␍' => bytes.push(b'\r'),
                c => bytes.push(u8::try_from(u32::from(c)).unwrap()),
            }
        }
        let last_head = bytes
            .windows(5)
            .rposition(|window| window == b"HTTP/")
            .unwrap_or(0);
        let ends: [&[u8]; 3] = [b"\r\n\r\n", b"\n\n", b"\n\r\n"];
        let end = ends
            .iter()
            .filter_map(|end| {
                let mut windows = bytes[last_head..].windows(end.len());
                windows.position(|window| window == *end).map(|at| at + end.len())
            })
            .min();
        let at = end.map_or(bytes.len(), |end| last_head + end);
        (bytes, at)
    }

    /// Lines that the head has.
    pub(super) fn has(&self) -> impl Iterator<Item = String> {
        let length = BODY.len().to_string();
        self.has.iter().map(move |line| line.replace("{L}", &length))
    }

    /// The upstream closes the connection behind it.
    fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The status line that a caller gets, where it is another than was sent.
    fn line(mut self, wanted: &str) -> Self {
        if let Want::Whole { line, .. } = &mut self.want {
            wanted.clone_into(line);
        }
        self
    }

    fn by(mut self, by: Length) -> Self {
        if let Want::Whole { length, body, .. } = &mut self.want {
            *length = by;
            if matches!(by, Length::Zero | Length::Nothing) {
                *body = Body::Empty;
            }
        }
        self
    }

    /// HEAD is responded to with the status line and this length.
    fn but_head_is(mut self, length: Length) -> Self {
        self.head = Some(Want::Whole {
            line: line_of(&self.text),
            length,
            body: Body::Empty,
        });
        self
    }

    fn but_head(mut self, want: Want) -> Self {
        self.head = Some(want);
        self
    }

    fn token(mut self, outcome: &'static str) -> Self {
        self.token = Some(outcome);
        self
    }

    fn with(mut self, line: &str) -> Self {
        self.has.push(line.to_owned());
        self
    }

    fn lacks(mut self, name: &'static str) -> Self {
        self.lacks.push(name);
        self
    }
}

/// The status line as it was sent, in HTTP/1.1.
fn line_of(text: &str) -> String {
    let at = text.rfind("HTTP/1.").unwrap_or(0);
    let line = text[at..].split(['\n', '␊']).next().unwrap_or_default();
    let rest = line.get("HTTP/1.1".len()..).unwrap_or_default();
    format!("HTTP/1.1{rest}")
}

/// A response that passes, and says its length.
fn whole(text: impl Into<String>) -> Case {
    let text = text.into();
    let want = Want::Whole {
        line: line_of(&text),
        length: Length::OfBody,
        body: Body::Row,
    };
    Case::new(text, want)
}

/// A response that passes, and does not say its length.
fn chunks(text: impl Into<String>) -> Case {
    whole(text).by(Length::Chunks)
}

/// A response that passes, and never has a body.
fn bodiless(text: impl Into<String>) -> Case {
    whole(text).by(Length::Nothing)
}

fn refused(text: impl Into<String>) -> Case {
    Case::new(text, Want::Refused).closes()
}

fn cut(text: impl Into<String>) -> Case {
    Case::new(text, Want::Cut).closes()
}

/// 200 with these fields before a body that one `Content-Length` tells the length of.
fn fields(lines: &str) -> Case {
    whole(format!("HTTP/1.1 200 OK\n{lines}Content-Length: {{L}}\n\n{{B}}"))
}

/// 200 with this line in the place of the length.
fn length(line: &str) -> Case {
    whole(format!("HTTP/1.1 200 OK\nServer: a\n{line}\n\n{{B}}"))
}

fn bad_length(line: &str) -> Case {
    let text = format!("HTTP/1.1 200 OK\nServer: a\n{line}\n\n{{B}}");
    refused(text).but_head_is(Length::Nothing)
}

fn status(line: &str) -> Case {
    whole(format!("HTTP/1.1 {line}\nContent-Length: {{L}}\n\n{{B}}"))
}

fn bad_coding(text: &str) -> Case {
    refused(format!("HTTP/1.1 200 OK\n{text}")).but_head(Want::Refused)
}

fn coding(line: &str) -> Case {
    chunks(format!("HTTP/1.1 200 OK\n{line}\n\n{{C}}"))
}

/// Every row.
pub(super) fn all() -> Vec<Case> {
    [
        lengths(),
        framings(),
        statuses(),
        reasons(),
        names(),
        values(),
        repeated(),
        counts(),
    ]
    .concat()
}

fn lengths() -> Vec<Case> {
    let many = format!("Content-Length: {}", ["{L}"; 30].join(", "));
    let mut cases = vec![
        length("Content-Length: {L}"),
        length("content-length: {L}").with("content-length: {L}"),
        length("CONTENT-LENGTH: {L}").with("CONTENT-LENGTH: {L}"),
        length("Content-length: {L}").with("Content-length: {L}"),
        length("Content-Length:{L}"),
        length("Content-Length:   {L}  "),
        length("Content-Length:\t{L}\t"),
        length("Content-Length : {L}"),
        length("Content-Length \t : {L}"),
        length("Content-Length: 000{L}"),
        length("Content-Length: {L}, {L}"),
        length("Content-Length: {L},{L},{L}"),
        length("Content-Length: {L} ,\t{L}"),
        length("Content-Length: {L}, 0{L}"),
        length(&many),
        length("Content-Length: {L}\nContent-Length: {L}"),
        length("Content-Length: {L}\nX: y\ncontent-length: {L}"),
        length("Content-Length: {L}, {L}\nContent-Length: {L}"),
        length("Content-Length: {L}\nContent-Length: {L}\nContent-Length: {L}"),
        length("Content-Length:\n {L}"),
        whole("HTTP/1.1 200 OK\nContent-Length: 0\n\n").by(Length::Zero),
        whole("HTTP/1.1 200 OK\nContent-Length: 0, 0\n\n").by(Length::Zero),
        whole("HTTP/1.1 200 OK\nContent-Length: 0\n\n{B}").by(Length::Zero),
        whole("HTTP/1.1 500 Oh\nContent-Length: {L}, {L}\n\n{B}"),
        whole("HTTP/1.1 404 No\nContent-Length: {L}\nContent-Length: {L}\n\n{B}"),
        bad_length("Content-Length: {L}, 9{L}"),
        bad_length("Content-Length: {L}\nContent-Length: 9{L}"),
        bad_length("Content-Length:"),
        bad_length("Content-Length: +{L}"),
        bad_length("Content-Length: -{L}"),
        bad_length("Content-Length: {L}x"),
        bad_length("Content-Length: {L},"),
        bad_length("Content-Length: , {L}"),
        bad_length("Content-Length: {L} {L}"),
        bad_length("Content-Length: {L}\n {L}"),
        bad_length("Content-Length: {L};{L}"),
        bad_length("Content-Length: {L}.0"),
        bad_length("Content-Length: 0x{L}"),
        bad_length("Content-Length: \"{L}\""),
        bad_length("Content-Length: \u{b2}"),
        bad_length("Content-Length: 18446744073709551616"),
        cut("HTTP/1.1 200 OK\nContent-Length: 1{L}\n\n{B}").but_head(Want::Cut),
        cut("HTTP/1.1 200 OK\nContent-Length: 1{L}, 1{L}\n\n{B}").but_head(Want::Cut),
    ];
    for status in ["204 No Content", "304 Not Modified"] {
        let kept = if status.starts_with("304") {
            Length::OfBody
        } else {
            Length::Nothing
        };
        let none =
            |line: &str| bodiless(format!("HTTP/1.1 {status}\nETag: \"a\"\n{line}\n")).with("ETag: \"a\"");
        let of = |line: &str| {
            let mut case = none(line);
            if let Want::Whole { length, .. } = &mut case.want {
                *length = kept;
            }
            case
        };
        cases.extend([
            none(""),
            of("Content-Length: {L}\n"),
            of("Content-Length: {L}, {L}\n"),
            of("Content-Length: {L}\nContent-Length: {L}\n"),
            none("Content-Length: {L}, 9{L}\n"),
            none("Content-Length: x\n"),
            none("Transfer-Encoding: chunked\n").lacks("transfer-encoding"),
        ]);
    }
    // A body that may not be there is no part of the response, and answers nobody.
    cases.push(bodiless("HTTP/1.1 204 No Content\nContent-Length: {L}\n\n{B}"));
    cases.push(bodiless("HTTP/1.1 204 No Content\n\n{B}").closes());
    cases.push(bodiless("HTTP/1.1 304 Not Modified\n\n{B}").closes());
    cases
}

fn framings() -> Vec<Case> {
    vec![
        chunks("HTTP/1.1 200 OK\n\n{B}").closes(),
        chunks("HTTP/1.1 200 OK\nConnection: close\n\n{B}").closes(),
        chunks("HTTP/1.0 200 OK\n\n{B}").closes(),
        chunks("HTTP/1.0 200 OK\nServer: old\n\n{B}").closes().with("Server: old"),
        whole("HTTP/1.0 200 OK\nContent-Length: {L}\n\n{B}").closes(),
        whole("HTTP/1.0 200 OK\nContent-Length: {L}\nConnection: keep-alive\n\n{B}"),
        whole("HTTP/1.0 200 OK\nContent-Length: {L}, {L}\n\n{B}").closes(),
        coding("Transfer-Encoding: chunked"),
        coding("transfer-encoding: chunked"),
        coding("Transfer-Encoding: Chunked"),
        coding("TRANSFER-ENCODING: CHUNKED"),
        coding("Transfer-Encoding:chunked"),
        coding("Transfer-Encoding : chunked"),
        coding("Transfer-Encoding: \t chunked \t"),
        coding("Transfer-Encoding:\n chunked"),
        coding("Transfer-Encoding: chunked\nContent-Length: 2"),
        coding("Content-Length: 2\nTransfer-Encoding: chunked"),
        coding("Content-Length: 2, 2\nTransfer-Encoding: chunked"),
        coding("Content-Length: x\nTransfer-Encoding: chunked"),
        coding("Content-Length: 2\nContent-Length: 3\nTransfer-Encoding: chunked"),
        bad_coding("Transfer-Encoding: gzip\n\n{B}").token("fresh"),
        bad_coding("Transfer-Encoding: gzip, chunked\n\n{C}").token("fresh"),
        bad_coding("Transfer-Encoding: chunked, chunked\n\n{C}").token("fresh"),
        bad_coding("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n{C}").token("fresh"),
        bad_coding("Transfer-Encoding: gzip\nTransfer-Encoding: chunked\n\n{C}").token("fresh"),
        bad_coding("Transfer-Encoding:\n\n{B}").token("fresh"),
        bad_coding("Transfer-Encoding: chunked, gzip\n\n{C}"),
        bad_coding("Transfer-Encoding: chunked;q=1\n\n{C}"),
        bad_coding("Transfer-Encoding: \"chunked\"\n\n{C}"),
        refused("HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n{C}").but_head_is(Length::Nothing),
        chunks("HTTP/1.1 200 OK\nTransfer-Encoding: identity\n\n{B}").closes(),
        // The body goes up to the end of the connection (RFC 9112 §6.3).
        chunks("HTTP/1.1 200 OK\nTransfer-Encoding: identity\nContent-Length: {L}\n\n{B}").closes(),
        chunks("HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: Identity\n\n{B}").closes(),
        chunks("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n00000052\n{B}\n000\n\n"),
        chunks("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n52;a=b;c=\"d e\"\n{B}\n0;last\n\n"),
        chunks("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n52 ; a\n{B}\n0\n\n"),
        chunks("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-T\n\n52\n{B}\n0\nX-T: 1\nContent-Length: 3\n\n")
            .lacks("trailer")
            .lacks("x-t"),
        chunks(format!(
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{}0\n\n",
            BODY.chars().fold(String::new(), |all, c| all + "1\n" + &c.to_string() + "\n")
        )),
        whole("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n\n").by(Length::Chunks).empty(),
        cut("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n52\n{B}\n").but_head(Want::Cut),
        cut("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n53\n{B}\n0\n\n").but_head(Want::Cut),
        cut("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nx\n{B}\n0\n\n").but_head(Want::Cut),
        cut("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{B}").but_head(Want::Cut),
    ]
}

fn statuses() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "201 Created",
        "202 Accepted",
        "203 Non-Authoritative Information",
        "205 Reset Content",
        "206 Partial Content",
        "207 Multi-Status",
        "218 This is fine",
        "226 IM Used",
        "299 Odd",
        "300 Multiple Choices",
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "305 Use Proxy",
        "306 Switch Proxy",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
        "399 Odd",
        "400 Bad Request",
        "402 Payment Required",
        "403 Forbidden",
        "404 Not Found",
        "405 Method Not Allowed",
        "407 Proxy Authentication Required",
        "408 Request Timeout",
        "411 Length Required",
        "417 Expectation Failed",
        "418 I'm a teapot",
        "421 Misdirected Request",
        "425 Too Early",
        "426 Upgrade Required",
        "429 Too Many Requests",
        "431 Request Header Fields Too Large",
        "451 Unavailable For Legal Reasons",
        "499 Client Closed Request",
        "500 Internal Server Error",
        "501 Not Implemented",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
        "505 HTTP Version Not Supported",
        "511 Network Authentication Required",
        "520 Web Server Returned an Unknown Error",
        "599 Network Connect Timeout",
        "600 Odd",
        "700 Odd",
        "999 Request denied",
    ]
    .map(status)
    .into();
    let ok = "HTTP/1.1 200 OK\nContent-Length: {L}\n\n{B}";
    cases.extend([
        whole(format!("HTTP/1.1 100 Continue\n\n{ok}")),
        whole(format!("HTTP/1.1 102 Processing\nX-A: 1\n\n{ok}")).lacks("x-a"),
        whole(format!(
            "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 103 Early Hints\n\n{ok}"
        ))
        .lacks("link"),
        whole(format!("HTTP/1.1 199 Odd\nContent-Length: 5\n\n{ok}")),
        whole(format!("HTTP/1.0 100 Continue\n\n{ok}")),
        refused("HTTP/1.1 101 Switching Protocols\nUpgrade: h2c\nConnection: upgrade\n\n")
            .but_head(Want::Refused),
        refused("HTTP/1.1 101 Switching Protocols\n\n").but_head(Want::Refused),
        refused("HTTP/1.1 100 Continue\n\n")
            .but_head(Want::Refused)
            .token("network"),
        refused("HTTP/1.1 103 Early Hints\n\n")
            .but_head(Want::Refused)
            .token("network"),
        refused("HTTP/1.1 000 Nothing\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1 099 Nothing\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1 20 OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1 2000 OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1 2OO OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1 -20 OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1 \nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
    ]);
    cases
}

fn reasons() -> Vec<Case> {
    let long = "x".repeat(2000);
    vec![
        status("200 Fine"),
        status("200 ok"),
        status("200 "),
        status("200").line("HTTP/1.1 200 "),
        status("200 OK "),
        status("200  OK"),
        status("200 O\tK"),
        status("200 200 OK"),
        status("200 \"quoted\" (and) {more};"),
        status(&format!("200 {long}")),
        status("404 OK"),
        status("500 Success"),
        status("299").line("HTTP/1.1 299 "),
        status("299 ").line("HTTP/1.1 299 "),
        // What is not ASCII in a reason is left out with the whole of it.
        status("200 Tr\u{e8}s bien").line("HTTP/1.1 200 "),
        status("500 \u{c3}\u{a9}chec").line("HTTP/1.1 500 "),
        bodiless("HTTP/1.1 204 Nothing here\n\n"),
        refused("HTTP/1.1 200 O\u{1}K\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1 200\tOK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1  200 OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.2 200 OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/2 200\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("http/1.1 200 OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("HTTP/1.1\t200 OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("ICY 200 OK\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
        refused("{B}").but_head(Want::Refused),
        whole("\n\nHTTP/1.1 200 OK\nContent-Length: {L}\n\n{B}"),
        whole("HTTP/1.1 200 OK␊Content-Length: {L}␊␊{B}"),
        whole("HTTP/1.1 200 OK␊X-A: 1␊Content-Length: {L}\n\n{B}").with("X-A: 1"),
    ]
}

fn names() -> Vec<Case> {
    let long = format!("X-{}", "a".repeat(300));
    let bad = |line: &str| {
        refused(format!(
            "HTTP/1.1 200 OK\nServer: a\n{line}\nContent-Length: {{L}}\n\n{{B}}"
        ))
        .but_head(Want::Refused)
    };
    vec![
        fields("x-lower: 1\n").with("x-lower: 1"),
        fields("X-UPPER: 1\n").with("X-UPPER: 1"),
        fields("x-MiXed-caSE: 1\n").with("x-MiXed-caSE: 1"),
        fields("SOAPAction: \"a\"\nETag: \"b\"\nWWW-Authenticate: Basic\n")
            .with("SOAPAction: \"a\"")
            .with("ETag: \"b\"")
            .with("WWW-Authenticate: Basic"),
        fields("X-Many: 1\nx-many: 2\nX-MANY: 3\n")
            .with("X-Many: 1")
            .with("x-many: 2")
            .with("X-MANY: 3"),
        fields("server: a\ndate: Thu, 01 Jan 1970 00:00:00 GMT\n")
            .with("server: a")
            .with("date: Thu, 01 Jan 1970 00:00:00 GMT"),
        fields("a: 1\nB: 2\n").with("a: 1").with("B: 2"),
        fields("!#$%&'*+-.^_`|~09: 1\n").with("!#$%&'*+-.^_`|~09: 1"),
        fields("123: 1\n").with("123: 1"),
        fields("Any_Name: 1\n").with("Any_Name: 1"),
        fields(&format!("{long}: 1\n")).with(&format!("{long}: 1")),
        fields("X-A : 1\n").with("X-A: 1"),
        fields("X-A \t  : 1\n").with("X-A: 1"),
        fields("Via: 1.0 fred\n")
            .with("Via: 1.0 fred")
            .with("Via: 1.1 bondgate"),
        fields("VIA: 1.0 fred\n")
            .with("VIA: 1.0 fred")
            .with("Via: 1.1 bondgate"),
        bad(": 1"),
        bad("X A: 1"),
        bad("X-A"),
        bad("X-A 1"),
        bad("(x): 1"),
        bad("X\u{e4}: 1"),
        bad("X\u{1}: 1"),
        bad("\"x\": 1"),
        refused("HTTP/1.1 200 OK\n X-A: 1\nContent-Length: {L}\n\n{B}").but_head(Want::Refused),
    ]
}

fn values() -> Vec<Case> {
    let (long, too_long) = ("v".repeat(60_000), "v".repeat(70_000));
    let bad = |line: &str| {
        refused(format!(
            "HTTP/1.1 200 OK\nServer: a\n{line}\nContent-Length: {{L}}\n\n{{B}}"
        ))
        .but_head(Want::Refused)
    };
    vec![
        fields("X-Empty:\n").with("X-Empty: "),
        fields("X-Empty: \t \nX-A: 1\n").with("X-Empty: ").with("X-A: 1"),
        fields("X-Tabs:\t\ta\tb\t\n").with("X-Tabs: a\tb"),
        fields("X-Spaces:   a  b   \n").with("X-Spaces: a  b"),
        fields("X-Latin: caf\u{e9}\n").with("X-Latin: caf\u{e9}"),
        fields("X-Utf8: caf\u{c3}\u{a9}\n").with("X-Utf8: caf\u{c3}\u{a9}"),
        fields("X-High: \u{80}\u{ff}\n").with("X-High: \u{80}\u{ff}"),
        fields("X-Quoted: \"a, \\\"b\\\"\", (c) {d}; e=<f>\n")
            .with("X-Quoted: \"a, \\\"b\\\"\", (c) {d}; e=<f>"),
        fields("X-Colons: a:b:c\n").with("X-Colons: a:b:c"),
        fields(&format!("X-Long: {long}\n")).with(&format!("X-Long: {long}")),
        // Obsolete line folding is read as a space (RFC 9112 §5.2).
        fields("X-Fold: a\n b\n").with("X-Fold: a b"),
        fields("X-Fold: a  \n\t  b\n").with("X-Fold: a b"),
        fields("X-Fold: a\n b\n\tc\n").with("X-Fold: a b c"),
        fields("X-Fold:\n a\n").with("X-Fold: a"),
        fields("X-Fold: a\n : b\n").with("X-Fold: a : b"),
        fields("Server: a\nX-Fold: a\n Transfer-Encoding: chunked\n")
            .with("X-Fold: a Transfer-Encoding: chunked"),
        bad(&format!("X-Long: {too_long}")),
        bad("X-A: a\u{0}b"),
        bad("X-A: a\u{1}b"),
        bad("X-A: a\u{7f}b"),
        bad("X-A: a\u{1b}[1m"),
        bad("X-A: a␍b"),
    ]
}

fn repeated() -> Vec<Case> {
    vec![
        fields("Date: Thu, 01 Jan 1970 00:00:00 GMT\nDate: Fri, 02 Jan 1970 00:00:00 GMT\n")
            .with("Date: Thu, 01 Jan 1970 00:00:00 GMT")
            .with("Date: Fri, 02 Jan 1970 00:00:00 GMT"),
        fields("Date: yesterday\n").with("Date: yesterday"),
        fields("Date:\n").with("Date: "),
        fields("Server: a\nServer: b\n")
            .with("Server: a")
            .with("Server: b"),
        fields("Content-Type: a/b\nContent-Type: c/d\n")
            .with("Content-Type: a/b")
            .with("Content-Type: c/d"),
        fields("Connection: keep-alive\n"),
        fields("Connection: keep-alive, close\nConnection: keep-alive\n"),
        fields("Connection:\n"),
        fields("Connection: , ,\nConnection: X-A\nX-A: 1\n").lacks("x-a"),
        fields("Connection: content-length, content-type\nContent-Type: a/b\n").with("Content-Type: a/b"),
        fields("Connection: upgrade\nUpgrade: h2c\n").lacks("upgrade"),
        fields("Keep-Alive: timeout=5, max=100\n").lacks("keep-alive"),
        fields("Trailer: X-T\nTE: trailers\nProxy-Connection: close\n")
            .lacks("trailer")
            .lacks("te")
            .lacks("proxy-connection"),
        fields("Retry-After: 1\nRetry-After: 2\n")
            .with("Retry-After: 1")
            .with("Retry-After: 2"),
        fields("Bondgate-Redelivered: forged\n").lacks("bondgate-redelivered"),
        fields("Content-Encoding: gzip\n").with("Content-Encoding: gzip"),
        fields("Content-Encoding: gzip, br\nContent-Encoding: \n").with("Content-Encoding: gzip, br"),
        fields("Location: /a\nLocation: /b\n")
            .with("Location: /a")
            .with("Location: /b"),
        fields("Set-Cookie: a=b\nset-cookie: c=d\n").lacks("set-cookie"),
    ]
}

/// A response as a gateway sends it while somebody debugs it.
pub(super) fn debugged() -> Case {
    let lines = (0..300).fold(String::new(), |all, n| all + &format!("X-Debug-{n} : {n}\n"));
    length(&format!("{lines}X-Fold: a\n b\nContent-Length: {{L}}, {{L}}"))
}

/// A response with more fields than anybody reads.
pub(super) fn too_many() -> Case {
    let lines = (0..5000).fold(String::new(), |all, n| all + &format!("X-A: {n}\n"));
    let text = format!("HTTP/1.1 200 OK\n{lines}Content-Length: {{L}}\n\n{{B}}");
    refused(text).but_head(Want::Refused)
}

fn counts() -> Vec<Case> {
    let lines = |count: usize| (0..count).fold(String::new(), |all, n| all + &format!("X-Debug-{n}: {n}\n"));
    let same = |count: usize| (0..count).fold(String::new(), |all, n| all + &format!("X-Debug: {n}\n"));
    let mut cases: Vec<Case> = [98, 99, 100, 101, 150, 500, 990]
        .into_iter()
        .flat_map(|count| {
            let last = count - 1;
            [
                fields(&lines(count)).with(&format!("X-Debug-{last}: {last}")),
                fields(&same(count)).with(&format!("X-Debug: {last}")),
            ]
        })
        .collect();
    cases.push(chunks(format!(
        "HTTP/1.1 200 OK\n{}Transfer-Encoding: chunked\n\n{{C}}",
        lines(300)
    )));
    cases.push(whole(format!(
        "HTTP/1.1 404 Gone\nContent-Length: {{L}}, {{L}}\n{}\n{{B}}",
        lines(300)
    )));
    cases.push(too_many());
    cases
}

impl Case {
    /// Its body has no byte.
    fn empty(mut self) -> Self {
        if let Want::Whole { body, .. } = &mut self.want {
            *body = Body::Empty;
        }
        self
    }
}
