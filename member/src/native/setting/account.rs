//! Detection services of an account in one Region: on or off.

use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::wire::{Operation, Protocol, Service};

static GUARDDUTY: Service = Service::of("guardduty", Protocol::Rest);
static LIST_DETECTORS: Operation = GUARDDUTY.at("ListDetectors", "GET", "/detector");
static GET_DETECTOR: Operation = GUARDDUTY.at("GetDetector", "GET", "/detector/{DetectorId}");
static CREATE_DETECTOR: Operation = GUARDDUTY.at("CreateDetector", "POST", "/detector");
static UPDATE_DETECTOR: Operation = GUARDDUTY.at("UpdateDetector", "POST", "/detector/{DetectorId}");
static DELETE_DETECTOR: Operation = GUARDDUTY.at("DeleteDetector", "DELETE", "/detector/{DetectorId}");

/// GuardDuty is on. A suspended detector is resumed, with all of its settings; only where there is none is one made.
pub(super) static GUARDDUTY_DETECTOR: Setting = Setting {
    name: "guardduty_detector",
    missing: &[],
    changes: &[&CREATE_DETECTOR, &UPDATE_DETECTOR, &DELETE_DETECTOR],
    next: |_, answers| match answers {
        [] => Some(Ask::of(&LIST_DETECTORS, json!({}))),
        [list] => {
            let detector = at(list, "/detectorIds/0").as_str()?;
            Some(Ask::of(&GET_DETECTOR, json!({ "DetectorId": detector })))
        }
        _ => None,
    },
    state: |_, answers| match answers {
        [list, detector] => {
            Some(json!({ "DetectorId": at(list, "/detectorIds/0"), "Status": at(detector, "/status") }))
        }
        _ => Some(json!({ "Status": null })),
    },
    fix: |_, now| {
        Ok(match now["Status"].as_str() {
            Some("ENABLED") => vec![],
            Some(_) => vec![(&UPDATE_DETECTOR, json!({ "DetectorId": now["DetectorId"], "Enable": true }))],
            None => vec![(&CREATE_DETECTOR, json!({ "Enable": true }))],
        })
    },
    undo: |_, now, before| {
        let detector = &now["DetectorId"];
        Ok(match before["Status"].as_str() {
            Some(status) => {
                vec![(&UPDATE_DETECTOR, json!({ "DetectorId": detector, "Enable": status == "ENABLED" }))]
            }
            None => vec![(&DELETE_DETECTOR, json!({ "DetectorId": detector }))],
        })
    },
};

static MACIE: Service = Service::of("macie2", Protocol::Rest);
static GET_SESSION: Operation = MACIE.at("GetMacieSession", "GET", "/macie");
static ENABLE: Operation = MACIE.at("EnableMacie", "POST", "/macie");
static UPDATE_SESSION: Operation = MACIE.at("UpdateMacieSession", "PATCH", "/macie");
static DISABLE: Operation = MACIE.at("DisableMacie", "DELETE", "/macie");

/// Macie is on.
pub(super) static MACIE_SESSION: Setting = Setting {
    name: "macie_session",
    missing: &[],
    changes: &[&ENABLE, &UPDATE_SESSION, &DISABLE],
    // Macie denies access where it is off: only the message tells that from a missing permission.
    next: |_, answers| {
        let none = Some(("AccessDeniedException", "Macie is not enabled"));
        answers.is_empty().then(|| Ask { operation: &GET_SESSION, input: json!({}), none })
    },
    state: |_, answers| Some(json!({ "Status": answers.first().map_or(&Value::Null, |answer| &answer["status"]) })),
    fix: |_, now| {
        Ok(match now["Status"].as_str() {
            Some("ENABLED") => vec![],
            Some(_) => vec![(&UPDATE_SESSION, json!({ "status": "ENABLED" }))],
            None => vec![(&ENABLE, json!({ "status": "ENABLED" }))],
        })
    },
    undo: |_: &Subject, _, before| -> Planned {
        Ok(match &before["Status"] {
            Value::Null => vec![(&DISABLE, json!({}))],
            status => vec![(&UPDATE_SESSION, json!({ "status": status }))],
        })
    },
};
