//! Where the body ends.

use super::{Case, Then, case, malformed};

const POST: &str = "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = both();
    cases.extend(encodings());
    cases.extend(lengths());
    cases.extend(chunks());
    cases
}

/// Content-Length and Transfer-Encoding.
fn both() -> Vec<Case> {
    let mut cases = Vec::new();
    for encoding in [
        "Transfer-Encoding: chunked",
        "transfer-encoding:chunked",
        "TRANSFER-ENCODING: CHUNKED",
        "Transfer-Encoding:  \t Chunked \t",
        "Transfer-Encoding: identity",
    ] {
        for length in [
            "Content-Length: 0",
            "content-length:5",
            "CONTENT-LENGTH:  5  ",
            "Content-Length: 10",
        ] {
            for between in ["", "X: y\r\n"] {
                let rest = "\r\n\r\n0\r\n\r\n";
                cases.push(malformed(format!("{POST}{length}\r\n{between}{encoding}{rest}")));
                cases.push(malformed(format!("{POST}{encoding}\r\n{between}{length}{rest}")));
            }
        }
    }
    cases
}

fn encodings() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "gzip, chunked",
        "chunked, chunked",
        "chunked,chunked",
        "CHUNKED, chunked",
        "identity",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "'chunked'",
        "chunked;q=1",
        "chunked;",
        "chunked,",
        ",chunked",
        ", chunked",
        ",",
        "",
        "gzip",
        "chunked gzip",
        "chunked\tx",
        "chunked\tchunked",
        "gzip,\tchunked",
        "chunked, identity",
        "identity, chunked",
        "deflate, gzip, chunked",
        "chun ked",
        "chun\tked",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\0",
        "\0chunked",
        "\u{a0}chunked",
        "chun\u{212a}ed",
        "\u{feff}chunked",
        "chunked=1",
        "trailers",
    ] {
        for name in ["Transfer-Encoding", "transfer-encoding", "TRANSFER-Encoding"] {
            cases.push(malformed(format!("{POST}{name}: {value}\r\n\r\n0\r\n\r\n")));
        }
    }
    for (first, second) in [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("gzip", "chunked"),
        ("chunked", "gzip"),
        ("chunked", ""),
        ("", "chunked"),
        ("Chunked", "CHUNKED"),
    ] {
        for between in ["", "X: y\r\n"] {
            cases.push(malformed(format!(
                "{POST}Transfer-Encoding: {first}\r\n{between}transfer-encoding: {second}\r\n\r\n0\r\n\r\n"
            )));
        }
    }
    for fields in [
        "",
        "Host: localhost\r\n",
        "Connection: keep-alive\r\n",
        "Content-Length: 5\r\n",
        "Host: localhost\r\nTE: trailers\r\n",
    ] {
        for value in ["chunked", "CHUNKED", "identity", "gzip, chunked"] {
            cases.push(malformed(format!(
                "POST /simulator/sink HTTP/1.0\r\n{fields}Transfer-Encoding: {value}\r\n\r\n0\r\n\r\n"
            )));
        }
    }
    for line in [
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\n , gzip",
    ] {
        cases.push(malformed(format!("{POST}{line}\r\n\r\n0\r\n\r\n")));
    }
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "+3",
        "-1",
        "-0",
        "3,3",
        "3, 3",
        "3,4",
        "3 3",
        "0 3",
        "0x3",
        "3h",
        "",
        "3.0",
        "3e0",
        "\"3\"",
        "three",
        "3;",
        "3,",
        ",3",
        "\u{663}",
        "\u{ff13}",
        "3\u{b}",
        "\u{b}3",
        "3\0",
        "\0",
        "\u{a0}3",
        "3_0",
        "99999999999999999999",
        "18446744073709551616",
        "18446744073709551619",
        "340282366920938463463374607431768211459",
        "NaN",
        "inf",
    ] {
        for name in ["Content-Length", "content-length"] {
            cases.push(malformed(format!("{POST}{name}: {value}\r\n\r\nabc")));
        }
    }
    for (first, second) in [
        ("3", "3"),
        ("3", "4"),
        ("4", "3"),
        ("0", "3"),
        ("3", "0"),
        ("3", "03"),
        ("3", ""),
    ] {
        for between in ["", "X: y\r\n"] {
            cases.push(malformed(format!(
                "{POST}Content-Length: {first}\r\n{between}content-length: {second}\r\n\r\nabc"
            )));
        }
    }
    for value in ["1025", "001025", "100000", "4294967299", "999999999999999999"] {
        cases.push(case(
            &[413],
            Then::Closed,
            format!("{POST}Content-Length: {value}\r\n\r\nabc"),
        ));
    }
    // A number that fits, but more than anybody has.
    for value in ["9223372036854775808", "18446744073709551615"] {
        cases.push(case(
            &[400, 413],
            Then::Closed,
            format!("{POST}Content-Length: {value}\r\n\r\nabc"),
        ));
    }
    cases
}

fn chunks() -> Vec<Case> {
    let chunked = |statuses, body: String| {
        let text = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{body}");
        case(statuses, Then::Cut, text)
    };
    let mut cases = Vec::new();
    for size in [
        "zz",
        "g",
        "-1",
        "-5",
        "+5",
        "0x5",
        "x5",
        " 5",
        "\t5",
        "5 ",
        "5\t",
        "",
        ";",
        ";a=b",
        "5,",
        "5:",
        "5 5",
        "5.0",
        "\"5\"",
        "\u{ff15}",
        "5\0",
        "\u{b}5",
        "5\u{b}",
        "5\r",
        "5;\0",
        "5;a\u{7f}",
        "5;a\nb",
        "5;a\rb",
        "5;a=\"\n\"",
        "5 ;a",
        "ffffffffffffffff",
        "10000000000000005",
        "fffffffffffffffff5",
        "0000000000000005",
    ] {
        cases.push(chunked(&[400], format!("{size}\r\nhello\r\n0\r\n\r\n")));
        cases.push(chunked(
            &[400],
            format!("2\r\nhi\r\n{size}\r\nhello\r\n0\r\n\r\n"),
        ));
    }
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhello\n\r0\r\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
        "0\n\n",
        "0\r\n\rX",
        "0\r\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: a\0b\r\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n: no name\r\n\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "-0\r\n\r\n",
        "00x\r\n\r\n",
    ] {
        cases.push(chunked(&[400], body.to_owned()));
    }
    let long = "a".repeat(9000);
    cases.push(chunked(&[400], format!("5;{long}\r\nhello\r\n0\r\n\r\n")));
    cases.push(chunked(&[400], format!("0\r\nX: {long}\r\n\r\n")));
    cases.push(chunked(&[400], format!("0\r\n{}\r\n", "a:\r\n".repeat(200))));
    for size in ["401", "10000", "fffffffffffffff", "7fffffff"] {
        cases.push(chunked(&[413], format!("{size}\r\nhello\r\n0\r\n\r\n")));
    }
    cases
}
