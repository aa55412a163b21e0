//! The messages of the Smart Bonding queue: the result of a push, and samples to pull.
//!
//! Shapes follow what is published; error codes, numbers and names are invented.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::tokens;

/// The limit for the size of a decoded attachment.
const ATTACHMENT_LIMIT: usize = 10_000_000;

/// Remarks of an engineer.
const REMARKS: [&str; 4] = [
    "The engineer has taken the case and asks for the output of show tech-support.",
    "Replacement part shipped, expected on site the next business day.",
    "The crash matches a known defect; an upgrade to the suggested release is advised.",
    "Waiting for the customer: please confirm that the workaround holds.",
];

/// The rules for a push: an error code, the path of a member, and the kinds and values that it may have. A missing
/// member is null, and "text" is a string that is not blank.
const RULES: [(&str, &str, &str); 10] = [
    ("SIM-1001", "/Calls/CustCallID", "text"),
    ("SIM-1002", "/CallStates/ShortName", "New|Update|Resolved|Closed"),
    ("SIM-1003", "/Priorities/ShortName", "null|Shadow|Escalated"),
    ("SIM-1004", "/Severities/ShortName", "null|1|2|3|4"),
    ("SIM-1006", "/Calls/Description", "null|string"),
    ("SIM-1006", "/Calls/Remarks", "null|string"),
    ("SIM-1007", "/Calls/Caller", "null|object"),
    ("SIM-1008", "/Contracts", "null|object"),
    ("SIM-1009", "/ContractElements", "null|object"),
    ("SIM-1010", "/ExtTableValues", "null|object"),
];

/// The queue's reply to a push: an update with the provider's number, or the list of everything wrong with the push.
pub(super) fn reply(client: &str, push: &Value, now: SystemTime) -> Value {
    let errors = errors(push).into_iter();
    let errors = errors.map(|(code, text)| json!({"errorMessage": text, "errorCode": code}));
    let errors: Vec<_> = errors.collect();
    if !errors.is_empty() {
        let id = push.pointer("/Calls/CustCallID");
        return json!({
            "Calls": {"CustCallID": id, "SPCallID": null, "Remarks": errors},
            "CallStates": {"ShortName": "Update"},
            "ExtTableValues": {},
        });
    }
    let remarks = match text(push, "/CallStates/ShortName") {
        Some("New") => "Your ticket was received and a case was opened.",
        Some("Resolved") => "Your resolution was received; the case will be closed.",
        Some("Closed") => "Your ticket was closed and so is the case.",
        _ => "Your update was received and added to the case.",
    };
    let id = text(push, "/Calls/CustCallID").unwrap_or_default();
    let severity = text(push, "/Severities/ShortName").unwrap_or("3");
    update(client, id, remarks, severity, now)
}

/// An update like an engineer's, for a queue without pushes; `number` selects one.
pub(crate) fn sample(client: &str, number: usize, now: SystemTime) -> Value {
    let ticket = format!("INC{:07}", 10_001 + number);
    update(client, &ticket, REMARKS[number % REMARKS.len()], "3", now)
}

fn update(client: &str, ticket: &str, remarks: &str, severity: &str, now: SystemTime) -> Value {
    let case = case_number(client, ticket);
    let date = humantime::format_rfc3339_millis(now).to_string();
    json!({
        "Calls": {
            "CustCallID": ticket,
            "SPCallID": case.to_string(),
            "SDCallID": case,
            "Remarks": remarks,
            "UpdatedDate": date.replace('Z', "+0000"),
        },
        "CallStates": {"ShortName": "Update"},
        "Severities": {"ShortName": severity},
        "ExtTableValues": {
            "Field1": "Simulated case",
            "Field2": "engineer@example.com",
            // The case's upload password.
            "Field81": tokens::random(16),
        },
    })
}

/// Everything wrong with a push, as code and text.
fn errors(push: &Value) -> Vec<(&'static str, String)> {
    let mut errors = Vec::new();
    for (code, path, expected) in RULES {
        if !is_one_of(push, path, expected) {
            let name = path[1..].replace('/', ".");
            errors.push((code, format!("{name} must be {expected}")));
        }
    }
    if is_one_of(push, "/CallStates/ShortName", "New") && !is_one_of(push, "/Calls/ShortDescription", "text")
    {
        let text = "Calls.ShortDescription is missing: a new ticket needs one";
        errors.push(("SIM-1005", text.to_owned()));
    }
    match push.pointer("/Attachments") {
        None | Some(Value::Null) => {}
        Some(Value::Array(attachments)) => {
            let texts = attachments.iter().map(attachment_error).enumerate();
            errors.extend(
                texts.filter_map(|(at, text)| Some(("SIM-1012", format!("Attachments[{at}] {}", text?)))),
            );
        }
        Some(_) => errors.push(("SIM-1011", "Attachments must be an array".to_owned())),
    }
    errors
}

fn is_one_of(push: &Value, path: &str, expected: &str) -> bool {
    let value = push.pointer(path).unwrap_or(&Value::Null);
    expected.split('|').any(|expected| match (expected, value) {
        ("null", Value::Null) | ("string", Value::String(_)) | ("object", Value::Object(_)) => true,
        ("text", Value::String(text)) => !text.trim().is_empty(),
        _ => value == expected,
    })
}

fn attachment_error(file: &Value) -> Option<&'static str> {
    if !is_one_of(file, "/FileName", "text") {
        return Some("has no FileName");
    }
    match STANDARD.decode(text(file, "/DataBase64").unwrap_or("-")) {
        Err(_) => Some("has no DataBase64 that is base64"),
        Ok(data) if data.len() >= ATTACHMENT_LIMIT => Some("is 10 MB or larger"),
        Ok(_) => None,
    }
}

fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path)?.as_str()
}

/// The same ticket of the same client always has the same case.
fn case_number(client: &str, ticket: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (client, ticket).hash(&mut hasher);
    690_000_000 + hasher.finish() % 10_000_000
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn codes(push: &Value) -> Vec<&'static str> {
        errors(push).into_iter().map(|(code, _)| code).collect()
    }

    #[test]
    fn a_valid_push_is_acknowledged_with_its_own_number_and_a_lasting_case_number() {
        let push = json!({
            "Calls": {"CustCallID": "INC1", "ShortDescription": "down", "Caller": {}},
            "CallStates": {"ShortName": "New"},
            "Severities": {"ShortName": "2"},
            "Attachments": [{"FileName": "a.txt", "DataBase64": "aGVsbG8=", "NR": 1}],
        });
        let first = reply("demo", &push, UNIX_EPOCH);
        let second = reply("demo", &push, UNIX_EPOCH);
        assert_eq!(first["Calls"]["CustCallID"], "INC1");
        assert_eq!(first["Calls"]["SPCallID"], second["Calls"]["SPCallID"]);
        assert_eq!(first["Severities"]["ShortName"], "2");
        assert!(first["ExtTableValues"]["Field81"].is_string());
    }

    #[test]
    fn every_error_of_a_push_is_reported_in_one_array_of_remarks() {
        let push = json!({
            "Calls": {"CustCallID": 7, "Description": 1, "Caller": "me"},
            "CallStates": {"ShortName": "Open"},
            "Priorities": {"ShortName": "High"},
            "Severities": {"ShortName": 1},
            "Contracts": [],
            "Attachments": [{"FileName": "a"}, {"DataBase64": ""}],
        });
        let message = reply("demo", &push, UNIX_EPOCH);
        let remarks = message["Calls"]["Remarks"].as_array().unwrap();
        assert_eq!(remarks.len(), 9, "{remarks:#?}");
        assert!(remarks.iter().all(|remark| remark["errorCode"].is_string()));
        assert_eq!(message["Calls"]["CustCallID"], 7);
    }

    #[test]
    fn only_a_new_ticket_needs_a_short_description() {
        let push = |state| json!({"Calls": {"CustCallID": "1"}, "CallStates": {"ShortName": state}});
        assert_eq!(codes(&push("New")), ["SIM-1005"]);
        assert_eq!(codes(&push("Update")), [""; 0]);
        assert_eq!(codes(&json!({})), ["SIM-1001", "SIM-1002"]);
        assert_eq!(codes(&json!(null)), ["SIM-1001", "SIM-1002"]);
    }

    #[test]
    fn dates_have_the_format_of_the_api() {
        let message = sample("demo", 0, UNIX_EPOCH + Duration::from_millis(1_556_821_243_007));
        assert_eq!(message["Calls"]["UpdatedDate"], "2019-05-02T18:20:43.007+0000");
    }
}
