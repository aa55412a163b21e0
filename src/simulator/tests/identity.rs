use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::AUTHORIZATION;

use super::*;

const GRANT: &str = "grant_type=client_credentials";

async fn error(response: Response) -> (u16, Value) {
    (response.status().as_u16(), json(response).await)
}

#[tokio::test]
async fn every_shape_of_token_request_is_accepted_and_recorded() {
    let fixture = Fixture::start().await;
    let credentials = "client_id=demo&client_secret=demo-secret";
    let basic = format!("Basic {}", STANDARD.encode("demo:demo-secret"));
    let replies = [
        fixture.login(&format!("?{GRANT}&{credentials}"), "").await,
        fixture.login("", &format!("{GRANT}&{credentials}")).await,
        fixture.login(&format!("?{GRANT}&{credentials}"), GRANT).await,
        fixture
            .login_request("", GRANT)
            .header(AUTHORIZATION, basic)
            .send()
            .await
            .unwrap(),
    ];
    for reply in replies {
        assert_eq!(reply.status(), 200);
        let reply = json(reply).await;
        assert_eq!(reply["token_type"], "Bearer");
        assert_eq!(reply["expires_in"], 3599);
        let token = reply["access_token"].as_str().unwrap();
        assert!(token.len().abs_diff(1100) < 8);
        assert_eq!(fixture.pull(token).await.status(), 200);
    }
    let seen = fixture.cisco.seen();
    let shapes: Vec<_> = seen.iter().filter_map(|seen| seen.client_auth).collect();
    assert_eq!(
        shapes,
        [
            ClientAuth::Query,
            ClientAuth::Form,
            ClientAuth::Mixed,
            ClientAuth::Basic
        ]
    );
}

#[tokio::test]
async fn a_secret_of_special_characters_is_accepted_in_each_shape() {
    let secret = "a+b%c&d=e/f g~ü€:;\"'";
    let fixture = Fixture::with(Options {
        clients: vec![client("ü:&=", secret)],
        ..Options::default()
    })
    .await;
    let encoded = |name: &str, value: &str| {
        form_urlencoded::Serializer::new(String::new())
            .append_pair(name, value)
            .finish()
    };
    let credentials = format!(
        "{}&{}",
        encoded("client_id", "ü:&="),
        encoded("client_secret", secret)
    );
    let word = |value| encoded("", value)[1..].to_owned();
    let basic = STANDARD.encode(format!("{}:{}", word("ü:&="), word(secret)));
    let query = fixture.login(&format!("?{GRANT}&{credentials}"), "").await;
    assert_eq!(query.status(), 200);
    let form = fixture.login("", &format!("{GRANT}&{credentials}")).await;
    assert_eq!(form.status(), 200);
    let request = fixture.login_request("", GRANT);
    let basic = request.header(AUTHORIZATION, format!("Basic {basic}"));
    assert_eq!(basic.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_unencoded_plus_is_a_wrong_secret_and_an_unencoded_percent_is_no_form() {
    let fixture = Fixture::with(Options {
        clients: vec![client("plus", "a+b"), client("percent", "50%")],
        ..Options::default()
    })
    .await;
    let plus = format!("{GRANT}&client_id=plus&client_secret=a+b");
    let (status, reply) = error(fixture.login("", &plus).await).await;
    assert_eq!((status, &reply["error"]), (401, &"invalid_client".into()));
    let percent = format!("{GRANT}&client_id=percent&client_secret=50%");
    let (status, reply) = error(fixture.login("", &percent).await).await;
    assert_eq!((status, &reply["error"]), (400, &"invalid_request".into()));
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_client_get_errors_of_two_shapes() {
    let fixture = Fixture::start().await;
    let wrong = format!("{GRANT}&client_id=demo&client_secret=wrong");
    let (status, reply) = error(fixture.login("", &wrong).await).await;
    assert_eq!(status, 401);
    assert_eq!(reply["error"], "invalid_client");
    assert!(reply["error_description"].is_string());

    let unknown = format!("{GRANT}&client_id=unknown&client_secret=demo-secret");
    let (status, reply) = error(fixture.login("", &unknown).await).await;
    assert_eq!(status, 400);
    assert_eq!(reply["errorCode"], "invalid_client");
    assert_eq!(reply["errorSummary"], "Invalid value for 'client_id' parameter.");
    assert_eq!(reply["errorCauses"], serde_json::json!([]));
    fixture.cisco.options().unknown_client = UnknownClient::Unauthorized;
    assert_eq!(fixture.login("", &unknown).await.status(), 401);
    assert!(
        fixture
            .cisco
            .seen()
            .iter()
            .all(|seen| seen.token_client.is_none())
    );
}

#[tokio::test]
async fn replaced_credentials_are_unknown() {
    let fixture = Fixture::start().await;
    fixture.cisco.options().clients = vec![client("other", "x")];
    let (status, reply) = error(fixture.login("", LOGIN).await).await;
    assert_eq!(status, 400);
    assert_eq!(reply["errorCode"], "invalid_client");
}

#[tokio::test]
async fn two_kinds_of_credentials_at_once_are_refused() {
    let fixture = Fixture::start().await;
    let query = "?client_id=demo&client_secret=demo-secret";
    let both = [
        fixture.login_request(query, LOGIN),
        fixture
            .login_request(query, GRANT)
            .basic_auth("demo", Some("demo-secret")),
        fixture
            .login_request("", LOGIN)
            .basic_auth("demo", Some("demo-secret")),
        fixture.login_request("?client_secret=demo-secret", LOGIN),
    ];
    for request in both {
        let (status, reply) = error(request.send().await.unwrap()).await;
        assert_eq!((status, &reply["error"]), (400, &"invalid_request".into()));
        let description = reply["error_description"].as_str().unwrap();
        assert!(description.starts_with("Cannot supply multiple client credentials"));
    }
}

#[tokio::test]
async fn an_invalid_token_request_gets_the_matching_error() {
    let fixture = Fixture::start().await;
    let credentials = "client_id=demo&client_secret=demo-secret";
    let json_body = r#"{"grant_type":"client_credentials"}"#;
    let post = |kind: &str, body: &str| {
        fixture
            .request(Method::POST, TOKEN_PATH)
            .header(CONTENT_TYPE, kind)
            .body(body.to_owned())
    };
    let cases = [
        (post("application/json", json_body), 415, "errorCode", "E0000021"),
        (post(FORM, json_body), 400, "error", "invalid_request"),
        (post(FORM, credentials), 400, "error", "unsupported_grant_type"),
        (
            post(FORM, &format!("grant_type=password&{credentials}")),
            400,
            "error",
            "unsupported_grant_type",
        ),
        (post(FORM, GRANT), 401, "error", "invalid_client"),
        (
            post(FORM, &format!("{LOGIN}&client_id=demo")),
            400,
            "error",
            "invalid_request",
        ),
        (
            post(FORM, LOGIN).bearer_auth("abc"),
            400,
            "error",
            "invalid_request",
        ),
        (
            post(FORM, GRANT).header(AUTHORIZATION, "Basic %%%"),
            400,
            "error",
            "invalid_request",
        ),
        (
            fixture.request(Method::GET, TOKEN_PATH),
            405,
            "errorCode",
            "E0000022",
        ),
    ];
    for (at, (request, wanted, member, code)) in cases.into_iter().enumerate() {
        let (status, reply) = error(request.send().await.unwrap()).await;
        assert_eq!((status, &reply[member]), (wanted, &code.into()), "{at}");
    }
}

#[tokio::test]
async fn expires_in_can_be_anything_or_missing() {
    let fixture = Fixture::start().await;
    for (given, sent) in [
        (ExpiresIn::Raw("\"3599\"".to_owned()), Some(Value::from("3599"))),
        (ExpiresIn::Raw("-1".to_owned()), Some(Value::from(-1))),
        (ExpiresIn::Missing, None),
    ] {
        fixture.cisco.options().expires_in = given;
        let reply = json(fixture.login("", LOGIN).await).await;
        assert_eq!(reply.get("expires_in").cloned(), sent);
    }
    fixture.cisco.options().expires_in = ExpiresIn::Raw("1e999".to_owned());
    let text = fixture.login("", LOGIN).await.text().await.unwrap();
    assert!(text.ends_with(r#","expires_in":1e999}"#), "{text}");
}

#[tokio::test]
async fn advancing_the_clock_expires_a_token() {
    let fixture = Fixture::start().await;
    fixture.cisco.options().token_lifetime = Duration::from_secs(60);
    let token = fixture.token().await;
    fixture.cisco.tokens.advance(Duration::from_secs(30));
    assert_eq!(fixture.pull(&token).await.status(), 200);
    fixture.cisco.tokens.advance(Duration::from_secs(31));
    assert_eq!(fixture.pull(&token).await.status(), 401);
}

#[tokio::test]
async fn a_new_token_leaves_the_old_one_valid_by_default() {
    let fixture = Fixture::start().await;
    let first = fixture.token().await;
    let second = fixture.token().await;
    assert_ne!(first, second);
    assert_eq!(fixture.pull(&first).await.status(), 200);
    fixture.cisco.options().older_tokens = OlderTokens::Revoked;
    let third = fixture.token().await;
    assert_eq!(fixture.pull(&second).await.status(), 401);
    assert_eq!(fixture.pull(&third).await.status(), 200);
}

#[tokio::test]
async fn concurrent_token_requests_are_counted() {
    let fixture = Fixture::start().await;
    fixture.cisco.script(Fault::on(On::Token, Kind::Hang).times(2));
    for _ in 0..2 {
        tokio::spawn(fixture.login_request("", LOGIN).send());
    }
    fixture.cisco.wait_for(|seen| seen.len() == 2).await;
    assert_eq!(fixture.cisco.tokens.max_concurrent(), 2);
}

#[tokio::test]
async fn a_reused_token_is_counted_down_to_0_and_refused_once_it_expires() {
    let fixture = Fixture::start().await;
    fixture.cisco.options().token_lifetime = Duration::from_secs(60);
    fixture.cisco.options().token_reuse = TokenReuse::UntilExpiry;
    let first = fixture.token().await;
    for (advance, least, most) in [(20, 38, 39), (20, 18, 19), (19, 0, 0)] {
        fixture.cisco.tokens.advance(Duration::from_secs(advance));
        let reply = json(fixture.login("", LOGIN).await).await;
        assert_eq!(reply["access_token"], first.as_str());
        let left = reply["expires_in"].as_u64().unwrap();
        assert!((least..=most).contains(&left), "{left}");
        assert_eq!(fixture.pull(&first).await.status(), 200);
    }
    fixture.cisco.options().expires_in = ExpiresIn::RoundedUp;
    let reply = json(fixture.login("", LOGIN).await).await;
    assert_eq!(
        (&reply["access_token"], &reply["expires_in"]),
        (&first.as_str().into(), &1.into())
    );

    fixture.cisco.tokens.advance(Duration::from_secs(1));
    assert_eq!(fixture.pull(&first).await.status(), 401);
    let second = json(fixture.login("", LOGIN).await).await;
    assert_ne!(second["access_token"], first.as_str());
    assert_eq!(
        (&second["expires_in"], fixture.cisco.tokens.count()),
        (&60.into(), 2)
    );

    // Reuse ignores revocation.
    fixture.cisco.tokens.revoke(None);
    assert_eq!(fixture.token().await, second["access_token"]);
}
