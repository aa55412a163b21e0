//! Failures of the TLS handshake.

use super::*;

#[tokio::test]
async fn each_failure_of_tls_is_named_in_each_place() {
    type Row = (&'static str, &'static str, fn() -> Made);
    let mut all = Vec::new();
    let certificates: [Row; 8] = [
        ("expired", "certificate-expired", || {
            let mut params = leaf(&["localhost"]);
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
            trusted(&params)
        }),
        ("not yet valid", "certificate-not-yet-valid", || {
            let mut params = leaf(&["localhost"]);
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2090, 1, 1), rcgen::date_time_ymd(2091, 1, 1));
            trusted(&params)
        }),
        ("wrong name", "certificate-wrong-name", || {
            trusted(&leaf(&["api.example", "2001:db8::1"]))
        }),
        ("self-signed", "certificate-self-signed", || self_signed(false)),
        ("an authority's", "certificate-is-ca", || {
            let (chain, key, _) = self_signed(true);
            let pem = bondgate_pem(&chain[0]);
            (chain, key, pem)
        }),
        ("unknown authority", "unknown-ca", || {
            issued("Example Corp Root CA", &leaf(&["localhost"])).0
        }),
        ("Zscaler", "tls-intercepted", || {
            issued("Zscaler Root CA", &leaf(&["localhost"])).0
        }),
        ("Fortinet", "tls-intercepted", || {
            issued("FG100F FortiGate CA", &leaf(&["localhost"])).0
        }),
    ];
    for (name, code, make) in certificates {
        both(&mut all, name, code, "", move || Box::pin(tls_server(make())));
    }
    for (name, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
        let name = format!("client certificate, {name}");
        both(&mut all, &name, "tls-client-certificate-wanted", "", move || {
            Box::pin(server_for_clients(version))
        });
    }
    let bytes: [(&str, &'static str, &'static [u8]); 4] = [
        (
            "plain HTTP",
            "tls-not-spoken",
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        ),
        ("old version", "tls-version-old", &[0x15, 3, 1, 0, 2, 2, 70]),
        (
            "no common cipher",
            "tls-no-common-cipher",
            &[0x15, 3, 3, 0, 2, 2, 40],
        ),
        ("unknown name", "tls-alert", &[0x15, 3, 3, 0, 2, 2, 112]),
    ];
    for (name, code, bytes) in bytes {
        both(&mut all, name, code, "", move || Box::pin(says(bytes)));
    }
    both(&mut all, "silent", "tls-silent", NO_WAIT, || Box::pin(says(b"")));
    assert_each_is_reported(all).await;
}

fn bondgate_pem(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
