//! Whom AWS tells of security matters of the account.

use serde_json::{Map, Value, json};

use super::{Ask, Planned, Setting, Subject};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static ACCOUNT: Service = Service::of("account", Protocol::RestCapital);
static GET: Operation = ACCOUNT.at("GetAlternateContact", "POST", "/getAlternateContact");
static PUT: Operation = ACCOUNT.at("PutAlternateContact", "POST", "/putAlternateContact");
static DELETE: Operation = ACCOUNT.at("DeleteAlternateContact", "POST", "/deleteAlternateContact");

static SSM: Service = Service::of("ssm", Protocol::Json { target: "AmazonSSM", version: "1.1" });
static GET_PARAMETER: Operation = SSM.operation("GetParameter");

/// What a contact consists of.
const FIELDS: [&str; 4] = ["EmailAddress", "Name", "PhoneNumber", "Title"];

/// A whole contact, and nothing but one.
fn contact(text: &str) -> Option<Map<String, Value>> {
    let Value::Object(map) = serde_json::from_str(text).ok()? else { return None };
    let is_whole =
        FIELDS.iter().all(|field| map.get(*field).and_then(Value::as_str).is_some_and(|text| !text.is_empty()));
    (is_whole && map.len() == FIELDS.len()).then_some(map)
}

fn of_security(mut input: Map<String, Value>) -> Value {
    input.insert("AlternateContactType".to_owned(), json!("SECURITY"));
    Value::Object(input)
}

/// The account has a security contact. One that it has is never changed.
pub(super) static SECURITY_CONTACT: Setting = Setting {
    name: "security_contact",
    missing: &[],
    changes: &[&PUT, &DELETE],
    // The contact to be is asked for only where there is none.
    next: |subject, answers| match answers {
        [] => {
            let none = Some(("ResourceNotFoundException", ""));
            Some(Ask { operation: &GET, input: of_security(Map::new()), none })
        }
        [Value::Null] => {
            let none = Some(("ParameterNotFound", ""));
            let name = subject.text("ContactParameter").unwrap_or_default();
            Some(Ask { operation: &GET_PARAMETER, input: json!({ "Name": name }), none })
        }
        _ => None,
    },
    state: |_, answers| match answers {
        [Value::Null, given] => {
            let given = given.pointer("/Parameter/Value").and_then(Value::as_str).and_then(contact);
            Some(json!({ "SecurityContact": null, "Given": given }))
        }
        [there] => Some(json!({ "SecurityContact": there["AlternateContact"] })),
        _ => None,
    },
    fix: |_, now| {
        if !now["SecurityContact"].is_null() {
            return Ok(vec![]);
        }
        let Some(given) = now["Given"].as_object() else {
            return Err(NativeError::Refused(
                "nobody has said who the security contact is; store Name, Title, EmailAddress and PhoneNumber as JSON in \
                 the parameter of Systems Manager that the control names",
            ));
        };
        Ok(vec![(&PUT, of_security(given.clone()))])
    },
    undo: |_: &Subject, _, _| -> Planned { Ok(vec![(&DELETE, of_security(Map::new()))]) },
};
