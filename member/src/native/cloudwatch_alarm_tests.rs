#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::testing::{FakeAws, job};

const ACCOUNT: &str = "111122223333";
const NAME: &str = "Redress-CloudWatch-1";
const PATTERN: &str = r#"{ ($.errorCode = "a b") || ($.errorCode = "Access*") }"#;

fn native(aws: &FakeAws) -> EventAlarm {
    let mut job = job("arn:aws:iam::111122223333:root");
    job.control = "CloudWatch.1".parse().unwrap();
    let parameters = json!({ "FilterPattern": PATTERN, "Namespace": "LogMetrics", "MetricName": "Denied" });
    let request = RemediateRequest {
        job,
        native: DECLARED.name.to_owned(),
        account_id: ACCOUNT.parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: serde_json::from_value(parameters).unwrap(),
        copy: None,
    };
    EventAlarm::new(&Clients::new(&aws.config()), &request).unwrap()
}

fn wanted() -> Wanted {
    native(&FakeAws::default()).wanted
}

fn metric(name: &str) -> Metric {
    Metric { namespace: "LogMetrics".to_owned(), metric_name: name.to_owned() }
}

fn filter(name: &str, pattern: &str, counts: &str) -> Filter {
    Filter { name: name.to_owned(), pattern: pattern.to_owned(), metrics: vec![metric(counts)] }
}

fn alarm(name: &str, of: &str, actions: &[&str]) -> Alarm {
    let actions: Vec<&str> = actions.to_vec();
    let alarm = json!({ "AlarmName": name, "Namespace": "LogMetrics", "MetricName": of, "ActionsEnabled": true,
        "AlarmActions": actions, "Threshold": 1.0, "StateValue": "OK" });
    serde_json::from_value(alarm).unwrap()
}

const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:audit";

fn nothing() -> State {
    State { log_group: Some("trail".to_owned()), ..State::default() }
}

fn operations(change: &Change) -> Vec<&str> {
    change.0.iter().map(|call| call.operation.as_str()).collect()
}

/// The account after the calls, as AWS would have it.
fn after(now: &State, change: &Change) -> State {
    change.0.iter().fold(now.clone(), |mut state, call| {
        let given = |name: &str| call.parameters[name].as_str().unwrap().to_owned();
        match call.operation.as_str() {
            "CreateTopic" => state.topic = true,
            "DeleteTopic" => state.topic = false,
            "PutMetricFilter" => {
                let counts = call.parameters["metricTransformations"][0]["metricName"].as_str().unwrap();
                assert!(!state.filters.iter().any(|filter| filter.name == given("filterName")), "written over");
                state.filters.push(filter(&given("filterName"), &given("filterPattern"), counts));
            }
            "DeleteMetricFilter" => state.filters.retain(|filter| filter.name != given("filterName")),
            "PutMetricAlarm" => {
                assert!(!state.alarms.iter().any(|alarm| alarm.alarm_name == given("AlarmName")), "written over");
                let topic = call.parameters["AlarmActions"][0].as_str().unwrap();
                state.alarms.push(alarm(&given("AlarmName"), &given("MetricName"), &[topic]));
            }
            "DeleteAlarms" => state.alarms.retain(|alarm| json!([alarm.alarm_name]) != call.parameters["AlarmNames"]),
            other => panic!("{other}"),
        }
        state.filters.sort_by(|one, other| one.name.cmp(&other.name));
        state.alarms.sort_by(|one, other| one.alarm_name.cmp(&other.alarm_name));
        state
    })
}

#[test]
fn an_alarm_on_a_filter_of_ones_own_is_enough_whatever_they_are_called() {
    let state = State {
        filters: vec![filter("own", r#"{($.errorCode="a b")||($.errorCode="Access*")}"#, "Own")],
        alarms: vec![alarm("own", "Own", &[TOPIC])],
        ..nothing()
    };
    assert_eq!(wanted().plan(&state).unwrap(), Change::default());
    let other_text = State { filters: vec![filter("own", &PATTERN.replace("a b", "ab"), "Own")], ..state.clone() };
    assert_eq!(operations(&wanted().plan(&other_text).unwrap()).len(), 3, "a space within quotes means something");
}

#[test]
fn an_alarm_that_tells_nobody_is_not_enough_and_is_not_touched() {
    let silent = alarm("own", "Own", &[]);
    let off = Alarm { actions_enabled: false, ..alarm("own", "Own", &[TOPIC]) };
    let scales = alarm("own", "Own", &["arn:aws:autoscaling:eu-central-1:111122223333:scalingPolicy:1"]);
    let elsewhere = alarm("own", "Another", &[TOPIC]);
    for own in [silent, off, scales, elsewhere] {
        let state = State { filters: vec![filter("own", PATTERN, "Own")], alarms: vec![own], ..nothing() };
        let change = wanted().plan(&state).unwrap();
        assert_eq!(operations(&change), ["CreateTopic", "PutMetricAlarm"]);
        assert_eq!(change.0[1].parameters["MetricName"], "Own", "the filter that is there is used");
        assert_eq!(wanted().plan(&after(&state, &change)).unwrap(), Change::default());
    }
}

#[test]
fn a_topic_with_our_name_is_used_and_outlives_the_undo() {
    let before = State { topic: true, ..nothing() };
    let change = wanted().plan(&before).unwrap();
    assert_eq!(operations(&change), ["PutMetricFilter", "PutMetricAlarm"]);
    let undo = wanted().plan_restore(after(&before, &change), &before).unwrap();
    assert_eq!(operations(&undo), ["DeleteAlarms", "DeleteMetricFilter"]);
}

#[test]
fn what_has_our_name_and_does_something_else_is_never_written_over() {
    let filter = State { filters: vec![filter(NAME, "{ $.a = 1 }", "Denied")], ..nothing() };
    let alarm = State { alarms: vec![alarm(NAME, "Another", &[TOPIC])], ..nothing() };
    for (what, state) in [("metric filter", filter), ("alarm", alarm)] {
        let error = wanted().plan(&state).unwrap_err().to_string();
        assert!(error.contains(&format!("a {what} `{NAME}`")), "{error}");
    }
}

#[test]
fn an_undo_is_refused_when_something_else_has_changed() {
    let before = nothing();
    let change = wanted().plan(&before).unwrap();
    let mut now = after(&before, &change);
    now.filters.push(filter("zzz", PATTERN, "Z"));
    assert!(wanted().plan_restore(now, &before).unwrap_err().to_string().contains("nothing was changed"));
}

#[test]
fn without_a_log_to_watch_the_steps_are_told() {
    for (lack, says) in [
        (Lack::NoTrail, "no CloudTrail trail of all Regions"),
        (Lack::OtherAccount { account: "9".to_owned() }, "Remediate this control in account 9"),
        (Lack::OtherRegion { region: "eu-west-1".to_owned() }, "Remediate this control in eu-west-1"),
        (Lack::NoLogGroup { trail: "t".to_owned() }, "trail `t` sends nothing to CloudWatch Logs"),
        (Lack::NotLogging { trail: "t".to_owned() }, "trail `t` is turned off"),
        (Lack::TooFewEvents { trail: "t".to_owned() }, "trail `t` does not log all the management events"),
        (Lack::GroupGone { log_group: "g".to_owned() }, "log group `g`"),
    ] {
        let state = State { lack: Some(lack), ..State::default() };
        let error = wanted().plan(&state).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

fn trail(arn: &str, home: &str, group: Option<&str>) -> Trail {
    Trail::builder()
        .name("t")
        .trail_arn(arn)
        .home_region(home)
        .is_multi_region_trail(true)
        .set_cloud_watch_logs_log_group_arn(group.map(str::to_owned))
        .build()
}

#[test]
fn only_the_log_group_of_this_account_and_region_can_be_watched_here() {
    let arn = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/t";
    let group = "arn:aws:logs:eu-central-1:111122223333:log-group:/aws/trail:*";
    let of = |trail: &Trail| wanted().log_group_of(trail);
    assert_eq!(of(&trail(arn, "eu-central-1", Some(group))), Ok("/aws/trail".to_owned()));
    let one_region = Trail::builder().trail_arn(arn).is_multi_region_trail(false).build();
    assert_eq!(of(&one_region), Err(Lack::NoTrail));
    let foreign = arn.replace(ACCOUNT, "999999999999");
    let foreign = of(&trail(&foreign, "eu-central-1", Some(group)));
    assert_eq!(foreign, Err(Lack::OtherAccount { account: "999999999999".to_owned() }));
    let shadow = of(&trail(arn, "eu-west-1", Some(group)));
    assert_eq!(shadow, Err(Lack::OtherRegion { region: "eu-west-1".to_owned() }));
    assert_eq!(of(&trail(arn, "eu-central-1", None)), Err(Lack::NoLogGroup { trail: "t".to_owned() }));
}

#[test]
fn a_trail_must_log_all_management_events_but_for_services_that_are_not_watched() {
    let pattern = "{($.eventSource=kms.amazonaws.com) && ($.eventName=DisableKey)}".to_owned();
    let wanted = Wanted { pattern, ..wanted() };
    let basic = |kind: &str, management: bool, excluded: &[&str]| {
        let excluded = excluded.iter().map(|source| (*source).to_owned()).collect();
        let selector = EventSelector::builder().read_write_type(kind.into()).include_management_events(management);
        wanted.is_let_through(&[selector.set_exclude_management_event_sources(Some(excluded)).build()], &[])
    };
    assert!(basic("All", true, &[]));
    assert!(basic("All", true, &["rdsdata.amazonaws.com"]));
    assert!(!basic("All", true, &["kms.amazonaws.com"]));
    assert!(!basic("ReadOnly", true, &[]));
    assert!(!basic("All", false, &[]));
    let field = |name: &str| AdvancedFieldSelector::builder().field(name);
    let advanced = |more: Option<AdvancedFieldSelector>| {
        let category = field("eventCategory").equals("Management").build().unwrap();
        let fields = [category].into_iter().chain(more).collect();
        let selector = AdvancedEventSelector::builder().set_field_selectors(Some(fields)).build().unwrap();
        wanted.is_let_through(&[], &[selector])
    };
    assert!(advanced(None));
    assert!(advanced(field("eventSource").not_equals("rdsdata.amazonaws.com").build().ok()));
    assert!(!advanced(field("eventSource").not_equals("kms.amazonaws.com").build().ok()));
    assert!(!advanced(field("eventSource").equals("ec2.amazonaws.com").build().ok()));
    assert!(!advanced(field("readOnly").equals("true").build().ok()));
    let data = AdvancedFieldSelector::builder().field("eventCategory").equals("Data").build().unwrap();
    let data = AdvancedEventSelector::builder().field_selectors(data).build().unwrap();
    assert!(!wanted.is_let_through(&[], &[data]));
}

#[tokio::test]
async fn a_trail_that_leaves_out_what_is_watched_is_told() {
    for (excluded, lack) in
        [("[]", None), (r#"["kms.amazonaws.com"]"#, Some(Lack::TooFewEvents { trail: "all".to_owned() }))]
    {
        let aws = FakeAws::default();
        let trails = json!({ "trailList": [{
            "Name": "all", "TrailARN": "arn:aws:cloudtrail:eu-central-1:111122223333:trail/all", "IsMultiRegionTrail": true,
            "HomeRegion": "eu-central-1", "HasCustomEventSelectors": true,
            "CloudWatchLogsLogGroupArn": "arn:aws:logs:eu-central-1:111122223333:log-group:trail:*",
        }] });
        aws.answer("DescribeTrails", 200, &trails.to_string());
        aws.answer("GetTrailStatus", 200, r#"{"IsLogging":true}"#);
        let selectors = format!(
            r#"{{"EventSelectors":[{{"ReadWriteType":"All","IncludeManagementEvents":true,"ExcludeManagementEventSources":{excluded}}}]}}"#
        );
        aws.answer("GetEventSelectors", 200, &selectors);
        let mut native = native(&aws);
        native.wanted.pattern = "{($.eventSource=kms.amazonaws.com)}".to_owned();
        assert_eq!(native.log_group().await.unwrap().err(), lack);
    }
}

#[tokio::test]
async fn aws_answers_become_the_state() {
    let aws = FakeAws::default();
    let topic = "<ErrorResponse><Error><Type>Sender</Type><Code>NotFound</Code></Error></ErrorResponse>";
    aws.answer("GetTopicAttributes", 404, topic);
    let trails = json!({ "trailList": [{
        "Name": "all", "TrailARN": "arn:aws:cloudtrail:eu-central-1:111122223333:trail/all", "IsMultiRegionTrail": true,
        "HomeRegion": "eu-central-1",
        "CloudWatchLogsLogGroupArn": "arn:aws:logs:eu-central-1:111122223333:log-group:trail:*",
    }] });
    aws.answer("DescribeTrails", 200, &trails.to_string());
    aws.answer("GetTrailStatus", 200, r#"{"IsLogging":true}"#);
    let counted = |name: &str| json!([{ "metricName": name, "metricNamespace": "LogMetrics", "metricValue": "1" }]);
    let mut by_user = counted("ByUser");
    by_user[0]["dimensions"] = json!({ "User": "$.userName" });
    let first = json!({ "nextToken": "2", "metricFilters": [
        { "filterName": "own", "filterPattern": PATTERN, "metricTransformations": counted("Own") },
        { "filterName": "other", "filterPattern": "x", "metricTransformations": counted("Other") },
    ] });
    let second = json!({ "metricFilters": [
        { "filterName": "by-user", "filterPattern": PATTERN, "metricTransformations": by_user },
    ] });
    aws.answer("DescribeMetricFilters", 200, &first.to_string());
    aws.answer("DescribeMetricFilters", 200, &second.to_string());
    aws.answer("DescribeAlarms", 200, r#"{"MetricAlarms":[]}"#);
    let alarms = json!({ "MetricAlarms": [{ "AlarmName": "own", "Namespace": "LogMetrics", "MetricName": "Own",
        "ActionsEnabled": true, "AlarmActions": [TOPIC], "Threshold": 1.0, "StateValue": "OK", "StateUpdatedTimestamp": 1.5 }] });
    aws.answer("DescribeAlarmsForMetric", 200, &alarms.to_string());
    let image = native(&aws).inspect().await.unwrap().unwrap();
    let expected = State {
        filters: vec![filter("own", PATTERN, "Own")],
        alarms: vec![alarm("own", "Own", &[TOPIC])],
        ..nothing()
    };
    assert_eq!(State::of(&image).unwrap(), expected);
    assert!(native(&aws).compliant(&image));
}

#[tokio::test]
async fn a_trail_that_is_turned_off_is_no_trail_and_what_cannot_be_read_is_an_error() {
    let aws = FakeAws::default();
    let topic = "<GetTopicAttributesResponse><GetTopicAttributesResult/></GetTopicAttributesResponse>";
    let trails = json!({ "trailList": [{
        "Name": "all", "TrailARN": "arn:aws:cloudtrail:eu-central-1:111122223333:trail/all", "IsMultiRegionTrail": true,
        "HomeRegion": "eu-central-1",
        "CloudWatchLogsLogGroupArn": "arn:aws:logs:eu-central-1:111122223333:log-group:trail:*",
    }] });
    aws.answer("GetTopicAttributes", 200, topic);
    aws.answer("DescribeTrails", 200, &trails.to_string());
    aws.answer("GetTrailStatus", 200, r#"{"IsLogging":false}"#);
    let image = native(&aws).inspect().await.unwrap().unwrap();
    let expected = State { lack: Some(Lack::NotLogging { trail: "all".to_owned() }), topic: true, ..State::default() };
    assert_eq!(State::of(&image).unwrap(), expected);
    aws.answer("GetTopicAttributes", 200, topic);
    aws.answer("DescribeTrails", 400, r#"{"__type":"AccessDeniedException","message":"no"}"#);
    assert!(native(&aws).inspect().await.is_err());
}

#[tokio::test]
async fn a_filter_counts_one_for_each_event_and_none_otherwise() {
    let aws = FakeAws::default();
    let native = native(&aws);
    let change = native.wanted.plan(&nothing()).unwrap();
    aws.answer("PutMetricFilter", 200, "{}");
    native.call(&change.0[1]).await.unwrap();
    let sent: Value = serde_json::from_slice(&aws.seen()[0].body).unwrap();
    assert_eq!(
        sent,
        json!({
            "logGroupName": "trail", "filterName": NAME, "filterPattern": PATTERN,
            "metricTransformations": [
                { "metricName": "Denied", "metricNamespace": "LogMetrics", "metricValue": "1", "defaultValue": 0.0 }
            ],
        })
    );
}

#[test]
fn parameters_out_of_cloudwatchs_bounds_are_refused() {
    let good = json!({ "FilterPattern": "x", "Namespace": "n", "MetricName": "m" });
    let with = |name: &str, value: Value| {
        let mut parameters = good.clone();
        parameters[name] = value;
        asked(&serde_json::from_value(parameters).unwrap())
    };
    assert!(with("FilterPattern", json!("y")).is_ok());
    for (name, value) in [
        ("FilterPattern", json!(" ")),
        ("FilterPattern", json!("p".repeat(1025))),
        ("Namespace", json!("a:b")),
        ("MetricName", json!("")),
        ("MetricName", json!(["m"])),
    ] {
        assert!(with(name, value.clone()).is_err(), "{name} {value}");
    }
}

prop_compose! {
    /// Anything that others may have made.
    fn any_state()(
        filters in prop::collection::btree_map("[a-z]{1,3}", ("[xyz]", any::<bool>()), 0..4),
        alarms in prop::collection::btree_map("[a-z]{1,3}", ("[xyz]", any::<bool>(), any::<bool>()), 0..4),
        topic: bool,
    ) -> State {
        let filters = filters.iter().map(|(name, (counts, fits))| filter(name, if *fits { PATTERN } else { "other" }, counts));
        let alarms = alarms.iter().map(|(name, (of, tells, on))| {
            Alarm { actions_enabled: *on, ..alarm(name, of, if *tells { &[TOPIC] } else { &[] }) }
        });
        let wanted = wanted();
        State { filters: filters.filter(|filter| wanted.looks_for_it(filter)).collect(), alarms: alarms.collect(), topic, ..nothing() }
    }
}

proptest! {
    #[test]
    fn applied_it_holds_and_undone_everything_is_as_it_was(before in any_state()) {
        let wanted = wanted();
        let now = after(&before, &wanted.plan(&before).unwrap());
        prop_assert_eq!(wanted.plan(&now).unwrap(), Change::default());
        prop_assert!(before.filters.iter().all(|filter| now.filters.contains(filter)));
        prop_assert!(before.alarms.iter().all(|alarm| now.alarms.contains(alarm)));
        let undo = wanted.plan_restore(now.clone(), &before).unwrap();
        prop_assert_eq!(after(&now, &undo), before);
    }
}
