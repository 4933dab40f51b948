//! AWS Config in a Region of a member account: without it no rule is evaluated, and most findings never come.

use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, DESCRIBE_CHANNELS, DESCRIBE_RECORDER_STATUS, DESCRIBE_RECORDERS, Site, is_true, items};

static MISSING: Fault = Fault {
    code: "config-missing",
    severity: Severity::Error,
    about: "AWS Config has no recorder",
    why: "no rule is evaluated in the Region: nothing that fails there is ever found",
    todo: "turn AWS Config on in {account}, {region}, for all resource types: `aws configservice put-configuration-recorder --configuration-recorder name=default,roleARN=arn:{partition}:iam::{account}:role/aws-service-role/config.amazonaws.com/AWSServiceRoleForConfig --recording-group allSupported=true --region {region}`, then a delivery channel and start-configuration-recorder",
};

static OFF: Fault = Fault {
    code: "config-off",
    severity: Severity::Error,
    about: "AWS Config's recorder is stopped",
    why: "what changes in the Region is not seen, so no rule finds that it fails",
    todo: "in {account}: `aws configservice start-configuration-recorder --configuration-recorder-name {thing} --region {region}`",
};

static NO_DELIVERY: Fault = Fault {
    code: "config-without-delivery",
    severity: Severity::Error,
    about: "AWS Config has no delivery channel",
    why: "the recorder cannot be started without one",
    todo: "in {account}: `aws configservice put-delivery-channel --delivery-channel name=default,s3BucketName=<bucket> --region {region}`, then `aws configservice start-configuration-recorder --configuration-recorder-name {thing} --region {region}`",
};

static FAILING: Fault = Fault {
    code: "config-failing",
    severity: Severity::Warning,
    about: "AWS Config's recorder says that its last run failed",
    why: "what changes in the Region may not be seen",
    todo: "in {account}: `aws configservice describe-configuration-recorder-status --region {region}` says why; most often its role or bucket",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Config,
    at: Where::Regions,
    about: "AWS Config: a recorder that records, and a delivery channel",
    faults: &[&MISSING, &OFF, &NO_DELIVERY, &FAILING],
    rights: &[
        "config:DescribeConfigurationRecorders",
        "config:DescribeConfigurationRecorderStatus",
        "config:DescribeDeliveryChannels",
    ],
};

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let recorders = site.ask(&DESCRIBE_RECORDERS, json!({})).await?.unwrap_or_default();
    let status = site.ask(&DESCRIBE_RECORDER_STATUS, json!({})).await?.unwrap_or_default();
    let channels = site.ask(&DESCRIBE_CHANNELS, json!({})).await?.unwrap_or_default();
    Ok(judge(&site.place, &recorders, &status, &channels))
}

fn judge(place: &Place, recorders: &Value, status: &Value, channels: &Value) -> Vec<Finding> {
    let Some(recorder) = items(&recorders["ConfigurationRecorders"]).first() else {
        return vec![place.finding(&MISSING, "", "AWS Config has no recorder here")];
    };
    let name = recorder["name"].as_str().unwrap_or("default");
    if items(&channels["DeliveryChannels"]).is_empty() {
        return vec![place.finding(&NO_DELIVERY, name, "AWS Config has no delivery channel here")];
    }
    let all = items(&status["ConfigurationRecordersStatus"]);
    let Some(running) = all.iter().find(|one| is_true(&one["recording"])) else {
        return vec![place.finding(&OFF, name, format!("AWS Config's recorder `{name}` is stopped"))];
    };
    let failed = running["lastStatus"].as_str().is_some_and(|last| last.eq_ignore_ascii_case("failure"));
    let code = running["lastErrorCode"].as_str().unwrap_or("no code");
    let what = || format!("AWS Config's recorder `{name}` failed last time: {code}");
    failed.then(|| place.finding(&FAILING, name, what())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{codes, member};
    use super::*;

    #[test]
    fn a_recorder_that_records_and_delivers_is_what_is_meant() {
        let recorders = json!({ "ConfigurationRecorders": [{ "name": "default", "roleARN": "r" }] });
        let on = json!({ "ConfigurationRecordersStatus": [{ "name": "default", "recording": true, "lastStatus": "SUCCESS" }] });
        let channels = json!({ "DeliveryChannels": [{ "name": "default", "s3BucketName": "b" }] });
        let told =
            |recorders: &Value, status: &Value, channels: &Value| codes(&judge(&member(), recorders, status, channels));
        assert!(told(&recorders, &on, &channels).is_empty());
        assert_eq!(told(&json!({ "ConfigurationRecorders": [] }), &on, &channels), ["config-missing"]);
        assert_eq!(told(&recorders, &on, &json!({ "DeliveryChannels": [] })), ["config-without-delivery"]);
        let off = json!({ "ConfigurationRecordersStatus": [{ "name": "default", "recording": false }] });
        assert_eq!(told(&recorders, &off, &channels), ["config-off"]);
        assert_eq!(told(&recorders, &json!({}), &channels), ["config-off"]);
        let failing = json!({ "ConfigurationRecordersStatus": [{ "name": "default", "recording": true, "lastStatus": "FAILURE" }] });
        assert_eq!(told(&recorders, &failing, &channels), ["config-failing"]);
    }
}
