//! The messages of the Smart Bonding queue: what a push leads to, and samples to pull.
//!
//! Shapes follow what is published; error codes, numbers and names are invented.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::calendar;

/// Attachments must stay under this size, decoded.
const ATTACHMENT_LIMIT: usize = 10_000_000;

const SAMPLES: [(&str, &str); 4] = [
    (
        "The engineer has taken the case and asks for the output of show tech-support.",
        "3",
    ),
    (
        "Replacement part shipped, expected on site the next business day.",
        "2",
    ),
    (
        "The crash matches a known defect; an upgrade to the suggested release is advised.",
        "3",
    ),
    (
        "Waiting for the customer: please confirm that the workaround holds.",
        "4",
    ),
];

/// What the queue says of a push, later: an update with the provider's number, or what was wrong with it.
pub(super) fn outcome(client: &str, push: &Value, now: SystemTime) -> Value {
    let faults = faults(push);
    let id = push.pointer("/Calls/CustCallID");
    if !faults.is_empty() {
        let remarks: Vec<_> = faults
            .iter()
            .map(|(code, text)| json!({"errorMessage": text, "errorCode": code}))
            .collect();
        return json!({
            "Calls": {"CustCallID": id, "SPCallID": null, "Remarks": remarks},
            "CallStates": {"ShortName": "Update"},
            "ExtTableValues": {},
        });
    }
    let id = id.and_then(Value::as_str).unwrap_or_default();
    let state = text(push, "/CallStates/ShortName").unwrap_or_default();
    let said = match state {
        "New" => "Your ticket was received and a case was opened.",
        "Resolved" => "Your resolution was received; the case will be closed.",
        "Closed" => "Your ticket was closed and so is the case.",
        _ => "Your update was received and added to the case.",
    };
    let severity = text(push, "/Severities/ShortName").unwrap_or("3");
    update(client, id, said, severity, now)
}

/// An update as an engineer would cause it, for queues that nobody has pushed to; `number` chooses which.
pub(super) fn sample(client: &str, number: usize, now: SystemTime) -> Value {
    let (remarks, severity) = SAMPLES[number % SAMPLES.len()];
    let ticket = format!("INC{:07}", 10_001 + number);
    update(client, &ticket, remarks, severity, now)
}

fn update(client: &str, ticket: &str, remarks: &str, severity: &str, now: SystemTime) -> Value {
    let case = case_number(client, ticket);
    json!({
        "Calls": {
            "CustCallID": ticket,
            "SPCallID": case.to_string(),
            "SDCallID": case,
            "Remarks": remarks,
            "UpdatedDate": calendar::date(now),
        },
        "CallStates": {"ShortName": "Update"},
        "Severities": {"ShortName": severity},
        "ExtTableValues": {
            "Field1": "Simulated case",
            "Field2": "engineer@example.com",
            "Field81": password(),
        },
    })
}

/// What is wrong with a push, as code and text; nothing if it is fit.
fn faults(push: &Value) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let id = push.pointer("/Calls/CustCallID");
    if id.and_then(Value::as_str).is_none_or(|id| id.trim().is_empty()) {
        faults.push((
            "SIM-1001",
            "Calls.CustCallID is missing or is no string: send your ticket's number".to_owned(),
        ));
    }
    let mut one_of = |code, path: &str, allowed: &[&str], required: bool| {
        let value = push.pointer(path);
        let fits = match value {
            None | Some(Value::Null) => !required,
            Some(value) => value.as_str().is_some_and(|value| allowed.contains(&value)),
        };
        if !fits {
            let name = path[1..].replace('/', ".");
            let given = value.map_or("missing".to_owned(), Value::to_string);
            let allowed = allowed.join(", ");
            faults.push((code, format!("{name} is {given}: send one of {allowed}")));
        }
    };
    let states = ["New", "Update", "Resolved", "Closed"];
    one_of("SIM-1002", "/CallStates/ShortName", &states, true);
    let priorities = ["Shadow", "Escalated"];
    one_of("SIM-1003", "/Priorities/ShortName", &priorities, false);
    let severities = ["1", "2", "3", "4"];
    one_of("SIM-1004", "/Severities/ShortName", &severities, false);
    if text(push, "/CallStates/ShortName") == Some("New")
        && text(push, "/Calls/ShortDescription").is_none_or(|text| text.trim().is_empty())
    {
        faults.push((
            "SIM-1005",
            "Calls.ShortDescription is missing: a new ticket needs one".to_owned(),
        ));
    }
    for path in ["/Calls/Description", "/Calls/Remarks"] {
        if !matches!(push.pointer(path), None | Some(Value::Null | Value::String(_))) {
            let name = path[1..].replace('/', ".");
            faults.push(("SIM-1006", format!("{name} is no string")));
        }
    }
    for (path, code) in [
        ("/Calls/Caller", "SIM-1007"),
        ("/Contracts", "SIM-1008"),
        ("/ContractElements", "SIM-1009"),
        ("/ExtTableValues", "SIM-1010"),
    ] {
        if !matches!(push.pointer(path), None | Some(Value::Null | Value::Object(_))) {
            let name = path[1..].replace('/', ".");
            faults.push((code, format!("{name} is no object")));
        }
    }
    faults.extend(attachment_faults(push));
    faults
}

fn attachment_faults(push: &Value) -> Vec<(&'static str, String)> {
    let Some(attachments) = push.get("Attachments").filter(|value| !value.is_null()) else {
        return Vec::new();
    };
    let Some(attachments) = attachments.as_array() else {
        return vec![("SIM-1011", "Attachments is no array".to_owned())];
    };
    let judged = attachments.iter().enumerate().filter_map(|(at, file)| {
        let what = if text(file, "/FileName").is_none_or(str::is_empty) {
            "has no FileName"
        } else {
            match STANDARD.decode(text(file, "/DataBase64").unwrap_or("-")) {
                Err(_) => "has no DataBase64 that is base64",
                Ok(data) if data.len() >= ATTACHMENT_LIMIT => "is 10 MB or larger",
                Ok(_) => return None,
            }
        };
        Some(("SIM-1012", format!("Attachments[{at}] {what}")))
    });
    judged.collect()
}

fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path)?.as_str()
}

/// The same ticket of the same client always has the same case (FNV-1a).
fn case_number(client: &str, ticket: &str) -> u64 {
    let hash = [client, "\n", ticket]
        .into_iter()
        .flat_map(str::bytes)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    690_000_000 + hash % 10_000_000
}

/// A case's upload password.
fn password() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(16).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn codes(push: &Value) -> Vec<&'static str> {
        faults(push).into_iter().map(|(code, _)| code).collect()
    }

    #[test]
    fn a_fit_push_is_acknowledged_with_its_own_number_and_a_lasting_case_number() {
        let push = json!({
            "Calls": {"CustCallID": "INC1", "ShortDescription": "down", "Caller": {}},
            "CallStates": {"ShortName": "New"},
            "Severities": {"ShortName": "2"},
            "Attachments": [{"FileName": "a.txt", "DataBase64": "aGVsbG8=", "NR": 1}],
        });
        let first = outcome("demo", &push, UNIX_EPOCH);
        let second = outcome("demo", &push, UNIX_EPOCH);
        assert_eq!(first["Calls"]["CustCallID"], "INC1");
        assert_eq!(first["Calls"]["SPCallID"], second["Calls"]["SPCallID"]);
        assert_eq!(first["Severities"]["ShortName"], "2");
        assert!(first["ExtTableValues"]["Field81"].is_string());
    }

    #[test]
    fn everything_wrong_is_told_at_once_as_an_array_of_remarks() {
        let push = json!({
            "Calls": {"CustCallID": 7, "Description": 1, "Caller": "me"},
            "CallStates": {"ShortName": "Open"},
            "Priorities": {"ShortName": "High"},
            "Severities": {"ShortName": 1},
            "Contracts": [],
            "Attachments": [{"FileName": "a"}, {"DataBase64": ""}],
        });
        let message = outcome("demo", &push, UNIX_EPOCH);
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
}
