//! GuardDuty's sample findings: made on request, told as GuardDuty tells a finding, listed and archived.
//!
//! It finds nothing by itself. Detectors are moto's; the findings of one are kept here. What a sample looks like is in
//! [`sample`], which types there are in [`types`].

mod sample;
mod types;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::arn::Partition;
use redress_common::ids::Region;
use serde_json::{Value, json};

use crate::service::{Aws, AwsError, Credentials, Request, Service};

pub use types::{Kind, TYPES};

const OPERATIONS: &[&str] = &["ArchiveFindings", "CreateSampleFindings", "GetFindings", "ListFindings"];

/// The service.
#[derive(Default)]
pub struct GuardDuty {
    /// By the ARN of its detector, and by its id.
    findings: Mutex<BTreeMap<String, BTreeMap<String, Value>>>,
}

/// A detector, and so where it is.
struct Place<'a> {
    account: &'a str,
    region: &'a str,
    detector: &'a str,
}

impl<'a> Place<'a> {
    /// Every operation that is answered here is one of a detector: `/detector/<id>/findings…`.
    fn of(request: &'a Request) -> Self {
        let detector = request.path.strip_prefix("/detector/").and_then(|rest| rest.split('/').next());
        Self { account: &request.caller.account, region: &request.region, detector: detector.unwrap_or_default() }
    }

    fn partition(&self) -> Partition {
        self.region.parse::<Region>().map_or(Partition::Aws, |region| Partition::of_region(&region))
    }

    fn arn(&self) -> String {
        let Self { account, region, detector } = self;
        format!("arn:{}:guardduty:{region}:{account}:detector/{detector}", self.partition())
    }
}

impl GuardDuty {
    fn findings(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Value>>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sample of each type, of all when none is named. One that there was is updated, as GuardDuty does it.
    async fn create(&self, place: &Place<'_>, body: &Value, aws: &dyn Aws) -> Result<Value, AwsError> {
        let named = texts(body, "findingTypes");
        let unknown = named.iter().find(|name| TYPES.iter().all(|known| known.name != **name));
        if let Some(unknown) = unknown {
            return Err(invalid(format!(
                "the lab knows no finding type {unknown}; see lab/src/services/guardduty/types.rs"
            )));
        }
        let now = Timestamp::now();
        for kind in TYPES.iter().filter(|kind| named.is_empty() || named.contains(&kind.name)) {
            let finding = {
                let mut findings = self.findings();
                let of_detector = findings.entry(place.arn()).or_default();
                let fresh = sample::finding(place, kind, now);
                let id = fresh["id"].as_str().unwrap_or_default().to_owned();
                let kept = of_detector.entry(id).and_modify(|before| sample::seen_again(before, now)).or_insert(fresh);
                kept.clone()
            };
            aws.emit(place.account, place.region, "aws.guardduty", "GuardDuty Finding", Vec::new(), finding).await;
        }
        Ok(json!({}))
    }

    fn get(&self, place: &Place<'_>, body: &Value) -> Value {
        let findings = self.findings();
        let of_detector = findings.get(&place.arn());
        let found: Vec<&Value> = texts(body, "findingIds").iter().filter_map(|id| of_detector?.get(*id)).collect();
        json!({ "findings": found })
    }

    fn list(&self, place: &Place<'_>) -> Value {
        let findings = self.findings();
        let ids: Vec<&String> = findings.get(&place.arn()).into_iter().flat_map(BTreeMap::keys).collect();
        json!({ "findingIds": ids, "nextToken": "" })
    }

    fn archive(&self, place: &Place<'_>, body: &Value) -> Value {
        let mut findings = self.findings();
        for id in texts(body, "findingIds") {
            if let Some(finding) = findings.get_mut(&place.arn()).and_then(|of_detector| of_detector.get_mut(id)) {
                finding["service"]["archived"] = json!(true);
            }
        }
        json!({})
    }
}

#[async_trait]
impl Service for GuardDuty {
    fn name(&self) -> &'static str {
        "guardduty"
    }

    fn answers(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn resources(&self, request: &Request) -> Vec<String> {
        vec![Place::of(request).arn()]
    }

    async fn handle(&self, request: Request, aws: Arc<dyn Aws>) -> Result<Value, AwsError> {
        let (place, body) = (Place::of(&request), &request.body);
        // moto holds the detectors, and says so when there is none.
        let detector = json!({ "DetectorId": place.detector });
        aws.call(&Credentials::root(place.account), place.region, "guardduty", "GetDetector", detector).await?;
        match request.operation.as_str() {
            "ArchiveFindings" => Ok(self.archive(&place, body)),
            "CreateSampleFindings" => self.create(&place, body, &*aws).await,
            "GetFindings" => Ok(self.get(&place, body)),
            "ListFindings" => Ok(self.list(&place)),
            other => Err(AwsError::new("UnknownOperationException", format!("the lab's GuardDuty has no {other}"))),
        }
    }
}

fn texts<'b>(body: &'b Value, name: &str) -> Vec<&'b str> {
    body[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn invalid(message: String) -> AwsError {
    AwsError::new("BadRequestException", message)
}

#[cfg(test)]
mod tests;
