//! Who may use an SSM document.

use serde_json::{Value, json};

use super::{Ask, Setting, at};
use crate::wire::{Operation, Protocol, Service};

static SSM: Service = Service::of("ssm", Protocol::Json { target: "AmazonSSM", version: "1.1" });
static DESCRIBE: Operation = SSM.operation("DescribeDocumentPermission");
static MODIFY: Operation = SSM.operation("ModifyDocumentPermission");

/// Everybody, as SSM writes it.
const ALL: &str = "all";

/// A document is not shared with everybody. The accounts that it is shared with by name keep it.
pub(super) static DOCUMENT_SHARING: Setting = Setting {
    name: "ssm_document_sharing",
    missing: &["InvalidDocument"],
    changes: &[&MODIFY],
    next: |subject, answers| Ask::once(answers, &DESCRIBE, json!({ "Name": subject.name, "PermissionType": "Share" })),
    state: |_, answers| {
        let answer = answers.first()?;
        let mut accounts: Vec<&str> =
            at(answer, "/AccountIds").as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        accounts.sort_unstable();
        let shares = at(answer, "/AccountSharingInfoList").as_array().into_iter().flatten();
        let version =
            shares.into_iter().find(|share| share["AccountId"] == ALL).map(|share| &share["SharedDocumentVersion"]);
        Some(json!({ "AccountIds": accounts, "PublicVersion": version }))
    },
    fix: |subject, now| {
        let public = at(now, "/AccountIds").as_array().is_some_and(|ids| ids.iter().any(|id| id == ALL));
        let input = json!({ "Name": subject.name, "PermissionType": "Share", "AccountIdsToRemove": [ALL] });
        Ok(if public { vec![(&MODIFY, input)] } else { vec![] })
    },
    undo: |subject, _, before| {
        let mut input = json!({ "Name": subject.name, "PermissionType": "Share", "AccountIdsToAdd": [ALL] });
        if let Some(version) = before["PublicVersion"].as_str() {
            input["SharedDocumentVersion"] = json!(version);
        }
        Ok(vec![(&MODIFY, input)])
    },
};
