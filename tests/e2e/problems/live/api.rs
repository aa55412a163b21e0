//! Failures that the API responds with.

use super::*;

#[tokio::test]
async fn each_failure_of_the_api_is_named_in_each_place() {
    let json = [("content-type", "application/json")];
    let mut all: Vec<(String, Injection)> = Vec::new();
    let mut add = |name: &str, kind: Kind, code: &'static str, has_response: bool, more: &'static str| {
        // The check asks for the TSP codes, a caller for something else.
        all.push((
            name.to_owned(),
            Box::pin(async move {
                let cisco = simulator(Options::default()).await;
                cisco.script(Fault::on(On::TspCodes, kind.clone()).forever());
                cisco.script(Fault::on(On::Path(ANY.to_owned()), kind).forever());
                let setup = Setup::open(&cisco, more);
                Injected {
                    setup,
                    call: Call::Api,
                    code,
                    has_response,
                    _alive: vec![cisco],
                }
            }) as Injection,
        ));
    };
    add(
        "limited",
        response(429, &json, "{}"),
        "api-rate-limited",
        false,
        "",
    );
    add("down", response(503, &json, "{}"), "api-unavailable", false, "");
    add("596", response(596, &json, "{}"), "api-unavailable", false, "");
    add("page", Kind::Html { status: 502 }, "api-page", false, "");
    add("page 200", Kind::Html { status: 200 }, "login-page", false, "");
    add(
        "refused token",
        response(401, &json, "{}"),
        "api-rejects-token",
        false,
        "",
    );
    add(
        "transparent proxy",
        response(407, &json, "{}"),
        "proxy-transparent",
        false,
        "",
    );
    add(
        "refused by Mashery",
        response(403, &[("x-mashery-error-code", "ERR_403_NOT_AUTHORIZED")], ""),
        "api-rejects-token",
        false,
        "",
    );
    add(
        "limited by Mashery",
        response(
            403,
            &[("x-mashery-error-code", "ERR_403_DEVELOPER_OVER_RATE")],
            "",
        ),
        "api-rate-limited",
        false,
        "",
    );
    add(
        "redirect",
        response(302, &[("location", "https://sso.corp/")], ""),
        "api-redirect",
        false,
        "",
    );
    add(
        "hang",
        Kind::Hang,
        "api-silent",
        true,
        "timeout = { head = \"1s\" }\nwait = \"500ms\"",
    );
    add("closed", Kind::Close, "api-response-cut", true, "");
    add(
        "no HTTP",
        Kind::Raw {
            bytes: "hello\r\n\r\n".into(),
        },
        "api-response-not-http",
        true,
        "",
    );
    assert_each_is_reported(all).await;
}

/// What a check alone can say: a caller's own request with such a response says nothing about the API.
#[tokio::test]
async fn the_check_names_what_the_api_says_of_its_request() {
    for (on, status, code, exit) in [
        (On::TspCodes, 401, "api-rejects-token", 7),
        (On::TspCodes, 403, "api-codes-forbidden", 0),
        (On::TspCodes, 404, "api-path-wrong", 7),
        (On::TspCodes, 418, "api-unexpected-status", 7),
        // It works again without a change, and does not work now.
        (On::TspCodes, 503, "api-unavailable", 7),
        (On::TspCodes, 429, "api-rate-limited", 7),
        (On::Token, 503, "token-unavailable", 6),
    ] {
        let cisco = simulator(Options::default()).await;
        cisco.script(Fault::on(on, response(status, &[], "")).forever());
        let setup = Setup::open(&cisco, "");
        assert_eq!(checked_codes(&setup).await, [code]);
        let mut command = bondgate();
        command
            .args(["check", "--live", "--config"])
            .arg(setup.config_file());
        assert_eq!(finished(command).await.code, Some(exit), "{code}");
    }
    let cisco = simulator(Options::default()).await;
    let more = "preset = \"none\"\nrules = \"any\"";
    let setup = Setup::new()
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, more)
        .listener("127.0.0.1:0", "");
    assert_eq!(checked_codes(&setup).await, ["api-not-checked"]);
}
