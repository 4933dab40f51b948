//! Settings that need a bucket or a role of Redress's own, and load balancers, over answers of the form that AWS gives.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::tests::{Recorded, state, subject, written};
use super::*;

const ACCOUNT: &str = "arn:aws:iam::111122223333:root";
const BALANCER: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/app/shop/50dc6c495c0c9188";
const CLASSIC: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/shop";
const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener/app/shop/50dc6c495c0c9188/1";
const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:orders";
const TRAIL: &str = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/audit";
const OWN: &str = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/redress-management-events";
const LOGS: &str = "redress-access-logs-111122223333-eu-central-1";
const TRAIL_BUCKET: &str = "redress-trail-111122223333-eu-central-1";
const CONFIG_BUCKET: &str = "redress-config-111122223333-eu-central-1";
const CONFIG_ROLE: &str =
    "arn:aws:iam::111122223333:role/aws-service-role/config.amazonaws.com/AWSServiceRoleForConfig";

/// A bucket that is there, and whose policy lets in whom it should.
fn open(statements: &[Value]) -> Value {
    let texts: Vec<String> = statements.iter().map(Value::to_string).collect();
    json!({ "Exists": true, "Policy": super::super::policy_text::Policy::of(&texts.join(",")) })
}

fn house(make: fn(&str, &str, &str) -> super::super::log_bucket::LogBucket) -> super::super::log_bucket::LogBucket {
    make("111122223333", "eu-central-1", "aws")
}

fn logs() -> super::super::log_bucket::LogBucket {
    house(super::super::log_bucket::LogBucket::access_logs)
}

fn trail_bucket() -> Value {
    open(&house(super::super::log_bucket::LogBucket::trail).for_trail(OWN))
}

fn config_bucket() -> Value {
    open(&house(super::super::log_bucket::LogBucket::config).for_config())
}

fn attributes(enabled: &str, bucket: &str, prefix: &str) -> Value {
    json!({ "Attributes": [
        { "Key": "idle_timeout.timeout_seconds", "Value": "60" },
        { "Key": "access_logs.s3.enabled", "Value": enabled },
        { "Key": "access_logs.s3.bucket", "Value": bucket },
        { "Key": "access_logs.s3.prefix", "Value": prefix },
    ] })
}

fn set_logs(enabled: &str, bucket: Option<&str>, prefix: Option<&str>) -> Value {
    let pairs = [
        ("access_logs.s3.enabled", Some(enabled)),
        ("access_logs.s3.bucket", bucket),
        ("access_logs.s3.prefix", prefix),
    ];
    let given = pairs.into_iter().filter_map(|(key, value)| Some(json!({ "Key": key, "Value": value? })));
    json!(["ModifyLoadBalancerAttributes", { "LoadBalancerArn": BALANCER, "Attributes": given.collect::<Vec<_>>() }])
}

fn listeners(plain: Value) -> Value {
    json!([{ "Listeners": [
        { "ListenerArn": "arn:https", "Protocol": "HTTPS", "Port": "443", "DefaultActions": [{ "Type": "forward", "TargetGroupArn": "tg" }] },
        { "ListenerArn": LISTENER, "Protocol": "HTTP", "Port": "80", "Certificates": null, "DefaultActions": plain },
    ] }])
}

fn trail(arn: &str, more: Value) -> Value {
    let mut trail = json!({ "Name": "x", "TrailARN": arn, "HomeRegion": "eu-central-1", "IsMultiRegionTrail": true,
        "IsOrganizationTrail": false, "HasCustomEventSelectors": false });
    trail.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    trail
}

fn of_all_regions() -> Value {
    json!({ "Coverage": "AllRegions", "KmsKeyId": "alias/security-trail" })
}

fn recorder() -> Value {
    json!({ "name": "default", "roleARN": CONFIG_ROLE, "recordingGroup": { "allSupported": true, "includeGlobalResourceTypes": true } })
}

/// Where a recorded case is of a setting that is here.
#[allow(clippy::too_many_lines)]
pub(super) fn recorded() -> Vec<Recorded> {
    let feedback = |role: &str, rate: &str| {
        let protocols = ["Application", "Firehose", "HTTP", "Lambda", "SQS"];
        let all = protocols.iter().flat_map(|protocol| {
            [
                (format!("{protocol}SuccessFeedbackRoleArn"), json!(role)),
                (format!("{protocol}SuccessFeedbackSampleRate"), json!(rate)),
                (format!("{protocol}FailureFeedbackRoleArn"), json!(role)),
            ]
        });
        all.collect::<serde_json::Map<_, _>>()
    };
    let own_role = "arn:aws:iam::111122223333:role/redress-sns-logs";
    let all_but_sqs: serde_json::Map<_, _> =
        feedback("arn:r", "50").into_iter().filter(|(name, _)| !name.starts_with("SQS")).collect();
    let mut with_sqs = all_but_sqs.clone();
    with_sqs.extend(feedback(own_role, "10").into_iter().filter(|(name, _)| name.starts_with("SQS")));
    let set = |name: &str, value: &str| json!(["SetTopicAttributes", { "TopicArn": TOPIC, "AttributeName": name, "AttributeValue": value }]);
    vec![
        Recorded {
            setting: &balancer::ACCESS_LOGS,
            arn: BALANCER,
            name: "shop/50dc6c495c0c9188",
            parameters: json!({}),
            bad: json!([attributes("false", "", ""), open(&logs().for_balancers())]),
            fix: json!([set_logs("true", Some(LOGS), Some("load-balancers"))]),
            good: json!([attributes("true", LOGS, "load-balancers")]),
            // AWS takes no empty bucket: ours is left behind, and counts as none.
            undo: json!([set_logs("false", None, None)]),
        },
        Recorded {
            setting: &balancer::ACCESS_LOGS,
            arn: BALANCER,
            name: "shop/50dc6c495c0c9188",
            parameters: json!({}),
            bad: json!([attributes("false", "theirs", ""), { "Exists": true, "Policy": null }]),
            fix: json!([
                ["PutBucketPolicy", { "Bucket": LOGS, "ExpectedBucketOwner": "111122223333", "Policy": open(&logs().for_balancers())["Policy"] }],
                set_logs("true", Some(LOGS), Some("load-balancers"))
            ]),
            good: json!([attributes("true", "another", "")]),
            undo: json!([set_logs("false", Some("theirs"), Some(""))]),
        },
        Recorded {
            setting: &balancer::ACCESS_LOGS,
            arn: CLASSIC,
            name: "shop",
            parameters: json!({}),
            bad: json!([{ "LoadBalancerAttributes": { "AccessLog": { "Enabled": "false" }, "ConnectionDraining": { "Enabled": "true" } } }, open(&logs().for_balancers())]),
            fix: json!([["ModifyLoadBalancerAttributes", { "LoadBalancerName": "shop", "LoadBalancerAttributes": { "AccessLog": {
                "Enabled": "true", "S3BucketName": LOGS, "S3BucketPrefix": "load-balancers", "EmitInterval": "60" } } }]]),
            good: json!([{ "LoadBalancerAttributes": { "AccessLog": { "Enabled": "true", "S3BucketName": "another", "EmitInterval": "5" } } }]),
            undo: json!([["ModifyLoadBalancerAttributes", { "LoadBalancerName": "shop", "LoadBalancerAttributes": { "AccessLog": { "Enabled": "false" } } }]]),
        },
        Recorded {
            setting: &balancer::LISTENER_REDIRECT,
            arn: BALANCER,
            name: "shop/50dc6c495c0c9188",
            parameters: json!({}),
            bad: listeners(json!([{ "Type": "forward", "Order": "1", "TargetGroupArn": null, "ForwardConfig": {
                "TargetGroups": [{ "TargetGroupArn": "blue", "Weight": "90" }, { "TargetGroupArn": "green", "Weight": "10" }],
                "TargetGroupStickinessConfig": { "Enabled": "false" } } }])),
            fix: json!([["ModifyListener", { "ListenerArn": LISTENER, "DefaultActions": [{ "Type": "redirect", "RedirectConfig": {
                "Protocol": "HTTPS", "Port": "443", "Host": "#{host}", "Path": "/#{path}", "Query": "#{query}", "StatusCode": "HTTP_301" } }] }]]),
            good: listeners(
                json!([{ "Type": "redirect", "Order": "1", "RedirectConfig": { "Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_302" } }]),
            ),
            undo: json!([["ModifyListener", { "ListenerArn": LISTENER, "DefaultActions": [{ "Type": "forward", "Order": "1", "ForwardConfig": {
                "TargetGroups": [{ "TargetGroupArn": "blue", "Weight": "90" }, { "TargetGroupArn": "green", "Weight": "10" }],
                "TargetGroupStickinessConfig": { "Enabled": "false" } } }] }]]),
        },
        Recorded {
            setting: &recorder::CONFIG_RECORDER,
            arn: ACCOUNT,
            name: "root",
            parameters: json!({ "IncludeGlobalResourceTypes": true }),
            bad: json!([
                { "ConfigurationRecorders": [{ "name": "AWSConfigurationRecorderForX", "servicePrincipal": "x.amazonaws.com" }] },
                { "ConfigurationRecordersStatus": [{ "name": "AWSConfigurationRecorderForX", "recording": true }] },
                { "DeliveryChannels": [] }, config_bucket(), { "Role": { "Arn": CONFIG_ROLE } } ]),
            fix: json!([
                ["PutConfigurationRecorder", { "ConfigurationRecorder": recorder() }],
                ["PutDeliveryChannel", { "DeliveryChannel": { "name": "default", "s3BucketName": CONFIG_BUCKET } }],
                ["StartConfigurationRecorder", { "ConfigurationRecorderName": "default" }]
            ]),
            good: json!([
                { "ConfigurationRecorders": [recorder()] },
                { "ConfigurationRecordersStatus": [{ "name": "default", "recording": true, "lastStatus": "SUCCESS" }] },
                { "DeliveryChannels": [{ "name": "default", "s3BucketName": CONFIG_BUCKET }] } ]),
            undo: json!([
                ["StopConfigurationRecorder", { "ConfigurationRecorderName": "default" }],
                ["DeleteDeliveryChannel", { "DeliveryChannelName": "default" }],
                ["DeleteConfigurationRecorder", { "ConfigurationRecorderName": "default" }]
            ]),
        },
        Recorded {
            setting: &topic::DELIVERY_STATUS,
            arn: TOPIC,
            name: "orders",
            parameters: json!({ "SuccessSampleRate": 10, "RoleName": "redress-sns-logs" }),
            bad: json!([{ "Attributes": all_but_sqs }]),
            fix: json!([
                set("SQSSuccessFeedbackRoleArn", own_role),
                set("SQSSuccessFeedbackSampleRate", "10"),
                set("SQSFailureFeedbackRoleArn", own_role)
            ]),
            good: json!([{ "Attributes": with_sqs }]),
            undo: json!([
                set("SQSSuccessFeedbackRoleArn", ""),
                set("SQSSuccessFeedbackSampleRate", "0"),
                set("SQSFailureFeedbackRoleArn", "")
            ]),
        },
        Recorded {
            setting: &trail::ACCOUNT_TRAIL,
            arn: ACCOUNT,
            name: "root",
            parameters: of_all_regions(),
            bad: json!([{ "trailList": [] }, trail_bucket(), null]),
            fix: json!([
                ["CreateTrail", { "Name": "redress-management-events", "S3BucketName": TRAIL_BUCKET, "IsMultiRegionTrail": true,
                    "IncludeGlobalServiceEvents": true, "EnableLogFileValidation": true }],
                ["StartLogging", { "Name": OWN }]
            ]),
            good: json!([{ "trailList": [trail(OWN, json!({}))] }, { "IsLogging": true }]),
            undo: json!([["StopLogging", { "Name": OWN }], ["DeleteTrail", { "Name": OWN }]]),
        },
        Recorded {
            setting: &trail::ACCOUNT_TRAIL,
            arn: ACCOUNT,
            name: "root",
            parameters: of_all_regions(),
            bad: json!([{ "trailList": [trail(TRAIL, json!({}))] }, { "IsLogging": false }, trail_bucket(), null]),
            fix: json!([["StartLogging", { "Name": TRAIL }]]),
            good: json!([{ "trailList": [trail(TRAIL, json!({}))] }, { "IsLogging": true }]),
            undo: json!([["StopLogging", { "Name": TRAIL }]]),
        },
        Recorded {
            setting: &trail::TRAIL_LOG_GROUP,
            arn: TRAIL,
            name: "audit",
            parameters: json!({ "RetentionInDays": 365, "RoleName": "redress-cloudtrail-logs" }),
            bad: json!([{ "Trail": { "Name": "audit", "HomeRegion": "eu-central-1" } },
                { "logGroups": [{ "logGroupName": "/redress/cloudtrail/audit" }] }]),
            fix: json!([["UpdateTrail", { "Name": TRAIL,
                "CloudWatchLogsLogGroupArn": "arn:aws:logs:eu-central-1:111122223333:log-group:/redress/cloudtrail/audit:*",
                "CloudWatchLogsRoleArn": "arn:aws:iam::111122223333:role/redress-cloudtrail-logs" }]]),
            good: json!([{ "Trail": { "Name": "audit", "HomeRegion": "eu-central-1", "CloudWatchLogsLogGroupArn": "arn:g", "CloudWatchLogsRoleArn": "arn:r" } }]),
            undo: json!([["UpdateTrail", { "Name": TRAIL, "CloudWatchLogsLogGroupArn": "", "CloudWatchLogsRoleArn": "" }]]),
        },
    ]
}

fn fixed(setting: &'static Setting, parameters: Value, answers: Value) -> Planned {
    let case = recorded().into_iter().find(|case| case.setting.name == setting.name).unwrap();
    let case = Recorded { parameters, ..case };
    let subject = subject(&case);
    (setting.fix)(&subject, &state(setting, &subject, &answers).unwrap())
}

fn names(planned: Planned) -> Vec<&'static str> {
    planned.unwrap().into_iter().map(|(operation, _)| operation.name).collect()
}

fn refused(planned: Planned) -> String {
    planned.unwrap_err().to_string()
}

#[test]
fn plain_http_is_redirected_only_where_https_is_served() {
    let plain = |arn: &str| json!({ "ListenerArn": arn, "Protocol": "HTTP", "Port": "80", "DefaultActions": [{ "Type": "forward", "TargetGroupArn": "tg" }] });
    let only =
        json!([{ "Listeners": [plain("a")], "NextMarker": "more" }, { "Listeners": [plain("b")], "NextMarker": null }]);
    let said = refused(fixed(&balancer::LISTENER_REDIRECT, json!({}), only));
    assert!(said.contains("serves no HTTPS"), "{said}");
    let secure = json!({ "ListenerArn": "s", "Protocol": "HTTPS", "Port": "9443" });
    let both = json!([{ "Listeners": [plain("a"), secure], "NextMarker": "more" }, { "Listeners": [plain("b")], "NextMarker": null }]);
    let change = written(fixed(&balancer::LISTENER_REDIRECT, json!({}), both));
    assert_eq!(change.as_array().unwrap().len(), 2, "listeners of all pages: {change}");
    assert_eq!(change[0][1]["DefaultActions"][0]["RedirectConfig"]["Port"], "9443");
    let network = json!([{ "Listeners": [{ "ListenerArn": "t", "Protocol": "TCP", "Port": "80" }] }]);
    assert_eq!(names(fixed(&balancer::LISTENER_REDIRECT, json!({}), network)), [""; 0]);
    // To the protocol that it came with is no redirect to HTTPS.
    let same = json!([{ "Type": "redirect", "RedirectConfig": { "Protocol": "#{protocol}", "Port": "81" } }]);
    assert_eq!(names(fixed(&balancer::LISTENER_REDIRECT, json!({}), listeners(same))), ["ModifyListener"]);
}

#[test]
fn a_network_load_balancer_is_left_alone() {
    let network = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/shop/50dc6c495c0c9188";
    let case = Recorded { arn: network, ..recorded().remove(0) };
    let subject = subject(&case);
    let now = state(case.setting, &subject, &case.bad).unwrap();
    assert!(refused((case.setting.fix)(&subject, &now)).contains("only an Application"));
}

#[test]
fn a_recorder_that_is_there_is_never_replaced() {
    let with = |recorder: Value, recording: bool, channels: Value, beside: Value| {
        let name = recorder["name"].clone();
        let mut answers = json!([{ "ConfigurationRecorders": [recorder] },
            { "ConfigurationRecordersStatus": [{ "name": name, "recording": recording }] }, { "DeliveryChannels": channels }]);
        answers.as_array_mut().unwrap().extend(beside.as_array().unwrap().clone());
        fixed(&recorder::CONFIG_RECORDER, json!({ "IncludeGlobalResourceTypes": true }), answers)
    };
    let mut other = recorder();
    other["roleARN"] = json!("arn:aws:iam::111122223333:role/config");
    let said = refused(with(other, false, json!([{ "name": "theirs" }]), json!([])));
    assert!(said.contains("another role"), "{said}");
    let mut some = recorder();
    some["recordingGroup"] = json!({ "allSupported": false, "resourceTypes": ["AWS::S3::Bucket"] });
    let said = refused(with(some, true, json!([{ "name": "theirs" }]), json!([])));
    assert!(said.contains("some types of resources"), "{said}");
    let still = with(recorder(), false, json!([{ "name": "theirs" }]), json!([]));
    assert_eq!(names(still), ["StartConfigurationRecorder"]);
    let channelless = with(recorder(), true, json!([]), json!([{ "Exists": false, "Policy": null }, null]));
    assert_eq!(names(channelless), ["CreateBucket", "PutBucketPolicy", "PutDeliveryChannel"]);
}

#[test]
fn what_somebody_changed_of_config_is_not_undone() {
    let now = json!({ "Recorder": recorder(), "Recording": true, "Channel": { "name": "default" } });
    let case = recorded().into_iter().find(|case| case.setting.name == "config_recorder").unwrap();
    let mut before = now.clone();
    before["Channel"] = json!({ "name": "theirs" });
    assert!((case.setting.undo)(&subject(&case), &now, &before).is_err());
    before["Channel"] = Value::Null;
    assert_eq!(names((case.setting.undo)(&subject(&case), &now, &before)), ["DeleteDeliveryChannel"]);
}

#[test]
fn a_trail_that_covers_the_account_is_enough() {
    let organisation = "arn:aws:cloudtrail:eu-central-1:999999999999:trail/all";
    let of_organisation = trail(organisation, json!({ "IsOrganizationTrail": true, "HasCustomEventSelectors": true }));
    let plan = |answers: Value| fixed(&trail::ACCOUNT_TRAIL, of_all_regions(), answers);
    let covered = json!([{ "trailList": [of_organisation] }, { "IsLogging": true }, null]);
    assert_eq!(names(plan(covered)), [""; 0], "an organisation may keep its selectors to itself");
    let still = json!([{ "trailList": [of_organisation] }, { "IsLogging": false }, null, trail_bucket(), null]);
    let said = refused(plan(still));
    assert!(said.contains("organisation's trail") && said.contains("no second one"), "{said}");
    let elsewhere = trail(TRAIL, json!({ "HomeRegion": "us-east-1" }));
    let said = refused(plan(json!([{ "trailList": [elsewhere] }, { "IsLogging": false }, trail_bucket(), null])));
    assert!(said.contains("us-east-1"), "{said}");
    let taken = trail(OWN, json!({ "IsMultiRegionTrail": false }));
    let said = refused(plan(json!([{ "trailList": [taken] }, { "IsLogging": true }, trail_bucket(), null])));
    assert!(said.contains("not written over"), "{said}");

    let regional =
        json!([{ "trailList": [trail(TRAIL, json!({ "IsMultiRegionTrail": false }))] }, { "IsLogging": true }]);
    let any = json!({ "Coverage": "AnyTrail", "KmsKeyId": "alias/security-trail" });
    assert_eq!(names(fixed(&trail::ACCOUNT_TRAIL, any, regional)), [""; 0]);
}

#[test]
fn a_trail_must_log_every_management_event_to_be_enough() {
    let covers = |selectors: Value| {
        let list = json!({ "trailList": [trail(TRAIL, json!({ "HasCustomEventSelectors": true }))] });
        let answers = json!([list, { "IsLogging": true }, selectors]);
        let case = recorded().into_iter().find(|case| case.setting.name == "account_trail").unwrap();
        (case.setting.next)(&subject(&case), answers.as_array().unwrap()).is_none()
    };
    let basic = |kind: &str, excluded: Value| json!({ "EventSelectors": [{ "ReadWriteType": kind, "IncludeManagementEvents": true, "ExcludeManagementEventSources": excluded }] });
    assert!(covers(basic("All", json!([]))));
    assert!(!covers(basic("WriteOnly", json!([]))));
    assert!(!covers(basic("All", json!(["kms.amazonaws.com"]))));
    let field = |field: &str, value: &str| json!({ "Field": field, "Equals": [value] });
    let advanced = |fields: Value| json!({ "AdvancedEventSelectors": [{ "FieldSelectors": fields }] });
    assert!(covers(advanced(json!([field("eventCategory", "Management")]))));
    assert!(!covers(advanced(json!([field("eventCategory", "Data")]))));
    assert!(!covers(advanced(json!([field("eventCategory", "Management"), field("readOnly", "false")]))));
}

#[test]
fn a_key_is_used_only_when_cloudtrail_may_encrypt_with_it_for_this_trail() {
    let key = json!({ "KeyMetadata": { "KeyId": "1", "Arn": "arn:key", "KeyState": "Enabled" } });
    let used = |key: &Value, source: Option<&str>, action: &str| {
        let mut statement = json!({ "Effect": "Allow", "Principal": { "Service": "cloudtrail.amazonaws.com" }, "Action": action, "Resource": "*" });
        if let Some(source) = source {
            statement["Condition"] = json!({ "StringLike": { "aws:SourceArn": source } });
        }
        let policy = json!({ "Policy": json!({ "Statement": [statement] }).to_string() });
        let answers = json!([{ "trailList": [] }, trail_bucket(), key, policy]);
        written(fixed(&trail::ACCOUNT_TRAIL, of_all_regions(), answers))[0][1]["KmsKeyId"] == "arn:key"
    };
    assert!(used(&key, None, "kms:GenerateDataKey*"));
    assert!(used(&key, Some("arn:aws:cloudtrail:*:111122223333:trail/*"), "kms:*"));
    assert!(!used(&key, Some(TRAIL), "kms:GenerateDataKey*"), "for another trail");
    assert!(!used(&key, None, "kms:DescribeKey"));
    let off = json!({ "KeyMetadata": { "KeyId": "1", "Arn": "arn:key", "KeyState": "Disabled" } });
    assert!(!used(&off, None, "kms:GenerateDataKey*"));
}

#[test]
fn a_trail_is_changed_in_its_home_only_and_gets_what_is_not_there() {
    let plan = |home: &str| {
        let answers = json!([{ "Trail": { "HomeRegion": home } }, { "logGroups": [] }]);
        fixed(&trail::TRAIL_LOG_GROUP, json!({ "RetentionInDays": 365, "RoleName": "r" }), answers)
    };
    assert_eq!(names(plan("eu-central-1")), ["CreateLogGroup", "PutRetentionPolicy", "UpdateTrail"]);
    assert!(refused(plan("us-east-1")).contains("us-east-1"));
}

proptest! {
    /// What is set of a topic's logs stays, what is missing is set, and the undo puts back what there was.
    #[test]
    fn only_what_is_missing_of_a_topics_logs_is_set(
        held in prop::collection::btree_map(0_usize..15, "[a-z]{1,4}", 0..15), rate in 0_i64..=100,
    ) {
        let case = recorded().into_iter().find(|case| case.setting.name == "topic_delivery_status").unwrap();
        let case = Recorded { parameters: json!({ "SuccessSampleRate": rate, "RoleName": "r" }), ..case };
        let (setting, subject) = (case.setting, subject(&case));
        let all: Vec<String> = case.good[0]["Attributes"].as_object().unwrap().keys().cloned().collect();
        let before: serde_json::Map<String, Value> =
            held.iter().map(|(at, value)| (all[*at].clone(), json!(value))).collect();
        let state = |topic: &serde_json::Map<String, Value>| {
            (setting.state)(&subject, &[json!({ "Attributes": topic })]).unwrap()
        };
        let apply = |topic: &serde_json::Map<String, Value>, planned: Planned| {
            let mut topic = topic.clone();
            for (_, input) in planned.unwrap() {
                topic.insert(input["AttributeName"].as_str().unwrap().to_owned(), input["AttributeValue"].clone());
            }
            topic
        };
        let after = apply(&before, (setting.fix)(&subject, &state(&before)));
        prop_assert!(before.iter().all(|(name, value)| after[name] == *value));
        prop_assert_eq!(written((setting.fix)(&subject, &state(&after))), json!([]));
        let undone = apply(&after, (setting.undo)(&subject, &state(&after), &state(&before)));
        prop_assert_eq!(state(&undone), state(&before));
    }
}

#[tokio::test]
async fn what_is_beside_a_resource_is_in_no_image_and_in_every_plan() {
    let aws = crate::testing::FakeAws::default();
    let attributes =
        "<R><DescribeLoadBalancerAttributesResult><Attributes/></DescribeLoadBalancerAttributesResult></R>";
    aws.answer("DescribeLoadBalancerAttributes", 200, attributes);
    aws.answer("GET", 404, "<Error><Code>NoSuchBucket</Code></Error>");
    let request = RemediateRequest {
        job: crate::testing::job(BALANCER),
        native: "load_balancer_logs".to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: BTreeMap::new(),
        copy: None,
    };
    let native = OnResource::new(&balancer::ACCESS_LOGS, Wire::new(aws.config()), &request);
    let image = native.inspect().await.unwrap().unwrap();
    assert_eq!(image.state, json!({ "AccessLogs": { "Enabled": "false" } }));
    let calls: Vec<String> = native.plan(&image).unwrap().0.into_iter().map(|call| call.operation).collect();
    assert_eq!(calls, ["CreateBucket", "PutBucketPolicy", "ModifyLoadBalancerAttributes"]);
}

#[tokio::test]
async fn what_was_just_made_is_waited_for() {
    let aws = crate::testing::FakeAws::default();
    let refusal =
        r#"{"__type":"InvalidCloudWatchLogsLogGroupArnException","message":"Access denied. Check the log group"}"#;
    aws.answer("UpdateTrail", 400, refusal);
    aws.answer("UpdateTrail", 200, "{}");
    let request = RemediateRequest {
        job: crate::testing::job(TRAIL),
        native: "trail_log_group".to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: BTreeMap::new(),
        copy: None,
    };
    let mut native = OnResource::new(&trail::TRAIL_LOG_GROUP, Wire::new(aws.config()), &request);
    native.patience = [Duration::ZERO; 4];
    let update = Call { service: "cloudtrail".to_owned(), operation: "UpdateTrail".to_owned(), parameters: json!({}) };
    native.call(&update).await.unwrap();
    assert_eq!(aws.seen().len(), 2);
    for _ in 0..5 {
        aws.answer("UpdateTrail", 400, refusal);
    }
    assert!(native.call(&update).await.is_err(), "not for ever");
}
