#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use proptest::prelude::*;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::item::Item;
use redress_common::aws::ledger_store::{StoreError, TransactError};
use redress_common::aws::state_table::{self, Expect, Snapshot, StateKey};
use redress_common::items::destination::{Destinations, Hosts, read_list};
use serde_json::{Value, json};

use super::http::{AccessError, DeliveryError, HttpAnswer, Secret, judge};
use super::run::{Incoming, Notifier, Post};
use super::*;

const NOW: &str = "2026-03-01T12:00:00Z";
const ID: &str = "5f0d0c1e-7c6e-5c53-9d35-7f3f6c1f6a43";
const SYS_ID: &str = "0123456789abcdef0123456789abcdef";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn home() -> Region {
    "us-east-1".parse().unwrap()
}

fn body(status: &str) -> String {
    let message = Notification {
        remediation_id: ID.to_owned(),
        status: status.to_owned(),
        account: "222222222222".to_owned(),
        resource: "arn:aws:s3:::bucket-1".to_owned(),
        action: "Block public access".to_owned(),
        executed_at: NOW.to_owned(),
        finding: "S3 buckets should block public access".to_owned(),
        next_step: (status == "Failed").then(|| format!("`redress audit show {ID}` says how far it came.")),
        triage: None,
        sample: false,
    };
    serde_json::to_string(&message).unwrap()
}

#[test]
fn what_is_known_of_an_incident_besides_is_told_and_of_anything_else_nothing() {
    let facts = |told: &Told| told.facts().into_iter().skip_while(|(name, _)| *name != "Remediation").skip(1).collect();
    let mut told = told("Success");
    let said: Vec<(&str, String)> = facts(&told);
    assert_eq!(said, []);
    told.triage = Some(Triage { case_id: ID.to_owned(), exposure: Some(Vec::new()), ..Triage::default() });
    let said: Vec<(&str, String)> = facts(&told);
    let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, [ID, "no other finding of the resource or its principal", "nothing found that lets anybody in"]);
    told.triage = Some(Triage {
        related: 2,
        types: vec!["Recon:IAMUser/TorIPCaller".to_owned()],
        uncontained: vec!["arn:aws:iam::222222222222:role/web".to_owned()],
        exposure: Some(vec!["a policy that lets anybody in".to_owned()]),
        ..Triage::default()
    });
    let said: Vec<(&str, String)> = facts(&told);
    let expected = "2 other findings of the resource or its principal (Recon:IAMUser/TorIPCaller); \
                    not contained: arn:aws:iam::222222222222:role/web";
    let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, [expected, "a policy that lets anybody in"]);
}

fn attributes(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let usual = [("Severity", "CRITICAL"), ("Control", "S3.8"), ("Region", "eu-central-1"), ("Urgency", "normal")];
    let all = usual.iter().chain(&[("Trigger", "Config")]).chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn told(status: &str) -> Told {
    Told::read(&body(status), &attributes(&[])).unwrap()
}

pub(super) fn alarm(state: &str) -> Told {
    let body = json!({
        "AlarmName": "redress-publish-failed", "AlarmDescription": "SNS did not take a message. See docs/monitoring.md",
        "AWSAccountId": "111111111111", "NewStateValue": state, "NewStateReason": "Threshold Crossed: 1 datapoint",
        "StateChangeTime": "2026-03-01T11:59:00.000+0000", "Region": "US East (N. Virginia)",
        "AlarmArn": "arn:aws:cloudwatch:us-east-1:111111111111:alarm:redress-publish-failed", "OldStateValue": "OK",
    });
    Told::read(&body.to_string(), &BTreeMap::new()).unwrap()
}

fn entry(kind: Kind) -> Value {
    let mut entry = json!({
        "Name": format!("my-{kind}"), "Kind": kind,
        "Secret": format!("arn:aws:secretsmanager:us-east-1:111111111111:secret:redress/notify/{kind}-AbCdEf"),
    });
    match kind {
        Kind::ServiceNow => entry["Endpoint"] = json!("https://example.service-now.com"),
        Kind::Jira => {
            entry["Endpoint"] = json!("https://example.atlassian.net");
            entry["Project"] = json!("SEC");
        }
        Kind::Slack | Kind::Teams | Kind::PagerDuty => {}
    }
    entry
}

fn destination(kind: Kind) -> Destination {
    read_list(&[entry(kind)], Hosts::default()).unwrap().remove(0)
}

fn secret(kind: Kind) -> Secret {
    Secret::new(match kind {
        Kind::Slack => "https://hooks.slack.com/services/T0/B0/webhook-secret".to_owned(),
        Kind::Teams => {
            json!({ "Url": "https://prod-1.westeurope.logic.azure.com:443/workflows/1?sig=workflow-secret" })
                .to_string()
        }
        Kind::PagerDuty => "routing-secret-0123456789abcdef01".to_owned(),
        Kind::ServiceNow => json!({ "User": "redress", "Password": "password-secret" }).to_string(),
        Kind::Jira => json!({ "Email": "redress@example.com", "ApiToken": "token-secret" }).to_string(),
    })
}

fn access(kind: Kind) -> Access {
    Access::of(&destination(kind), &secret(kind), Hosts::default()).unwrap()
}

/// What is sent, as a reader of the documents of the product would look at it.
fn shown(request: &HttpRequest) -> String {
    let authorization =
        request.authorization.as_ref().map_or("none", |header| header.expose().split(' ').next().unwrap());
    let body = request.body.as_ref().map(|body| serde_json::to_string_pretty(body).unwrap()).unwrap_or_default();
    format!("{} {}\nauthorization: {authorization}\n{body}", request.method, request.url.expose())
}

fn made(kind: Kind, told: &Told, step: &Step) -> HttpRequest {
    request(&destination(kind), &access(kind), told, step, &home())
}

#[test]
fn each_destination_gets_what_its_product_wants() {
    for kind in Kind::ALL {
        let step = if kind.keeps_cases() { Step::Open } else { Step::Say };
        insta::assert_snapshot!(format!("{kind}"), shown(&made(kind, &told("Failed"), &step)));
    }
}

#[test]
fn what_follows_is_added_to_the_case_and_its_end_is_said_there() {
    let case = |kind| match kind {
        Kind::PagerDuty => told("Failed").problem,
        Kind::ServiceNow => SYS_ID.to_owned(),
        _ => "SEC-12".to_owned(),
    };
    for kind in [Kind::PagerDuty, Kind::ServiceNow, Kind::Jira] {
        insta::assert_snapshot!(format!("{kind}_ends"), shown(&made(kind, &told("Success"), &Step::End(case(kind)))));
    }
    let searches = [Kind::ServiceNow, Kind::Jira]
        .map(|kind| shown(&search(&destination(kind), &access(kind), &told("Failed")).unwrap()));
    insta::assert_snapshot!("searches", searches.join("\n\n"));
}

#[test]
fn a_bot_of_slack_writes_to_its_channel() {
    let mut entry = entry(Kind::Slack);
    entry["Channel"] = json!("C0123456789");
    let bot = read_list(&[entry], Hosts::default()).unwrap().remove(0);
    let access = Access::of(&bot, &Secret::new("xoxb-secret"), Hosts::default()).unwrap();
    let request = request(&bot, &access, &told("Failed"), &Step::Say, &home());
    assert_eq!(request.url.expose(), "https://slack.com/api/chat.postMessage");
    assert_eq!(request.authorization.as_ref().unwrap().expose(), "Bearer xoxb-secret");
    assert_eq!(request.body.as_ref().unwrap()["channel"], "C0123456789");
    let answer = |body: &str| {
        judge(Kind::Slack, &request, &access, &HttpAnswer { status: 200, retry_after: None, body: body.into() })
    };
    assert_eq!(answer(r#"{"ok":true}"#), Ok(()));
    assert!(answer(r#"{"ok":false,"error":"ratelimited"}"#).unwrap_err().passes());
    let refused = answer(r#"{"ok":false,"error":"channel_not_found xoxb-secret"}"#).unwrap_err();
    assert!(!refused.passes() && refused.to_string().contains("channel_not_found …"), "{refused}");
}

#[test]
fn an_alarm_and_a_test_are_told_as_what_they_are() {
    let test = Told { about: About::Test, status: "Test".to_owned(), ..told("Test") };
    let said = [alarm("ALARM"), alarm("OK"), test].map(|told| shown(&made(Kind::Slack, &told, &Step::Say)));
    insta::assert_snapshot!(said.join("\n\n"));
}

#[test]
fn no_debug_form_shows_a_secret_or_the_path_of_a_url() {
    for kind in Kind::ALL {
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            destination(kind),
            secret(kind),
            access(kind),
            made(kind, &told("Failed"), &Step::Open)
        );
        assert!(!shown.contains("-secret") && !shown.contains("/services/") && !shown.contains("routing"), "{shown}");
    }
}

#[test]
fn a_secret_that_does_not_fit_is_refused_without_being_shown() {
    let wrong = |kind, text: &str| Access::of(&destination(kind), &Secret::new(text), Hosts::default()).unwrap_err();
    assert!(matches!(wrong(Kind::Slack, "https://evil.example/services/hidden"), AccessError::Url(_)));
    assert!(matches!(wrong(Kind::Slack, "http://hooks.slack.com/services/hidden"), AccessError::Url(_)));
    assert!(matches!(wrong(Kind::Teams, "{\"Link\":\"hidden\"}"), AccessError::Lacks("Url")));
    assert!(matches!(wrong(Kind::PagerDuty, ""), AccessError::Lacks(_)));
    assert!(matches!(wrong(Kind::PagerDuty, "a\r\nhidden"), AccessError::Lacks(_)));
    assert!(matches!(wrong(Kind::Jira, "hidden"), AccessError::Lacks("Email")));
    for kind in Kind::ALL {
        assert!(!wrong(kind, "{\"x\":\"hidden\"}").to_string().contains("hidden"));
    }
}

#[test]
fn what_a_server_says_again_of_a_secret_is_left_out() {
    for (kind, secrets) in [
        (Kind::Slack, vec!["/services/T0/B0/webhook-secret", "webhook-secret"]),
        (Kind::Teams, vec!["workflow-secret"]),
        (Kind::PagerDuty, vec!["routing-secret-0123456789abcdef01"]),
        (Kind::ServiceNow, vec!["password-secret", "cmVkcmVzczpwYXNzd29yZC1zZWNyZXQ="]),
        (Kind::Jira, vec!["token-secret"]),
    ] {
        for secret in secrets {
            let answer = HttpAnswer { status: 400, retry_after: None, body: format!("bad: {secret}!").into_bytes() };
            let error = judge(kind, &made(kind, &told("Failed"), &Step::Open), &access(kind), &answer).unwrap_err();
            assert!(!error.to_string().contains(secret), "{error}");
        }
    }
}

#[test]
fn what_may_pass_is_told_from_what_is_refused_for_good() {
    let request = made(Kind::Teams, &told("Failed"), &Step::Say);
    let judged = |status, retry_after| {
        judge(Kind::Teams, &request, &access(Kind::Teams), &HttpAnswer { status, retry_after, body: vec![] })
    };
    assert_eq!(judged(202, None), Ok(()));
    for (status, code, passes) in [
        (429, "too-many", true),
        (500, "trouble", true),
        (503, "trouble", true),
        (408, "trouble", true),
        (400, "refused", false),
        (401, "refused", false),
        (404, "refused", false),
        (413, "refused", false),
        // Not followed.
        (302, "refused", false),
    ] {
        let error = judged(status, None).unwrap_err();
        assert_eq!((error.code(), error.passes()), (code, passes), "{status}");
    }
    assert_eq!(judged(429, Some(77)).unwrap_err().asks_for(), Some(77));
    assert_eq!(judged(503, Some(9)).unwrap_err().asks_for(), Some(9));
}

#[test]
fn a_filter_says_who_hears_of_what() {
    let filtered = |filter: Value| {
        let mut entry = entry(Kind::Slack);
        entry["Filter"] = filter;
        let to = read_list(&[entry], Hosts::default()).unwrap().remove(0);
        move |told: &Told| wants(&to.filter, told)
    };
    let high = Told { severity: SeverityLabel::High, ..told("Failed") };
    let critical = filtered(json!({ "MinimumSeverity": "CRITICAL" }));
    assert!(critical(&told("Failed")) && !critical(&high));
    assert!(critical(&Told { urgent: true, ..high.clone() }), "what a threat list names passes");
    assert!(!filtered(json!({ "Accounts": ["333333333333"] }))(&high));
    assert!(filtered(json!({ "Accounts": ["222222222222"] }))(&high));
    assert!(!filtered(json!({ "Controls": ["EC2.7"] }))(&high) && filtered(json!({ "Controls": ["S3.8"] }))(&high));
    assert!(!filtered(json!({ "Controls": ["S3.8"] }))(&Told { control: None, ..high.clone() }));
    assert!(!filtered(json!({ "Statuses": ["Success"] }))(&high));
    assert!(filtered(json!({}))(&alarm("ALARM")) && !filtered(json!({ "Alarms": false }))(&alarm("ALARM")));
    let unknown = Told::read(&body("Failed"), &BTreeMap::new()).unwrap();
    assert!(critical(&unknown), "what does not say how bad it is, is told");
}

#[test]
fn of_a_sample_chats_hear_and_nobody_is_woken() {
    for kind in [Kind::Slack, Kind::Teams, Kind::PagerDuty, Kind::ServiceNow, Kind::Jira] {
        let to = read_list(&[entry(kind)], Hosts::default()).unwrap().remove(0);
        let now = NOW.parse().unwrap();
        let planned = |sample| plan(&to, &Told { sample, ..told("Failed") }, None, now);
        let expected = if kind.keeps_cases() { Plan::Nothing } else { Plan::Send(Step::Say) };
        assert_eq!(planned(true), expected, "{kind:?}");
        assert_ne!(planned(false), Plan::Nothing, "{kind:?}");
    }
}

#[test]
fn what_belongs_together_has_one_problem() {
    let other = |more: &[(&str, &str)]| Told::read(&body("Failed"), &attributes(more)).unwrap().problem;
    assert_eq!(told("Failed").problem, told("Success").problem);
    assert_ne!(told("Failed").problem, other(&[("Control", "S3.1")]));
    assert_ne!(told("Failed").problem, other(&[("Region", "eu-west-1")]));
    assert_eq!(other(&[("Control", "unknown")]), ID, "without a control, a remediation stands for itself");
    assert_eq!(alarm("ALARM").problem, alarm("OK").problem);
    assert!(!alarm("ALARM").ends() && alarm("OK").ends());
}

#[test]
fn a_case_is_opened_once_added_to_and_ended() {
    let case = |status, until| Case { version: 2, status, reference: "SEC-1".to_owned(), until, expires_at: 0 };
    let jira = destination(Kind::Jira);
    let plans = |status: &str, case: Option<&Case>| plan(&jira, &told(status), case, now());
    let open = case(CaseStatus::Open, 0);
    assert_eq!(plans("AwaitingApproval", None), Plan::Send(Step::Open));
    assert_eq!(plans("Success", None), Plan::Nothing);
    assert_eq!(plans("Applied", None), Plan::Nothing);
    assert_eq!(plans("Denied", Some(&open)), Plan::Send(Step::Add("SEC-1".to_owned())));
    assert_eq!(plans("Notified", Some(&open)), Plan::Send(Step::Add("SEC-1".to_owned())));
    assert_eq!(plans("Success", Some(&open)), Plan::Send(Step::End("SEC-1".to_owned())));
    assert_eq!(plans("Failed", Some(&case(CaseStatus::Closed, 0))), Plan::Send(Step::Open));
    assert_eq!(plans("Failed", Some(&case(CaseStatus::Opening, i64::MAX))), Plan::Wait);
    assert_eq!(plans("Failed", Some(&case(CaseStatus::Opening, 0))), Plan::Send(Step::Open));
    let pager = destination(Kind::PagerDuty);
    assert_eq!(plan(&pager, &told("Applied"), Some(&open), now()), Plan::Nothing, "nobody is woken for that");
    assert_eq!(plan(&pager, &told("RolledBack"), Some(&open), now()), Plan::Send(Step::End("SEC-1".to_owned())));
}

#[test]
fn the_id_of_a_case_is_only_what_can_be_one() {
    let id = |kind, answer: Value| reference(kind, &told("Failed"), answer.to_string().as_bytes());
    assert_eq!(
        id(Kind::ServiceNow, json!({ "result": { "sys_id": SYS_ID, "number": "INC1" } })),
        Some(SYS_ID.to_owned())
    );
    assert_eq!(id(Kind::ServiceNow, json!({ "result": [{ "sys_id": SYS_ID }] })), Some(SYS_ID.to_owned()));
    assert_eq!(id(Kind::ServiceNow, json!({ "result": [] })), None);
    assert_eq!(id(Kind::ServiceNow, json!({ "result": { "sys_id": "../sys_user" } })), None);
    assert_eq!(id(Kind::Jira, json!({ "id": "1", "key": "SEC-12" })), Some("SEC-12".to_owned()));
    assert_eq!(id(Kind::Jira, json!({ "issues": [{ "key": "SEC-9" }] })), Some("SEC-9".to_owned()));
    assert_eq!(id(Kind::Jira, json!({ "issues": [] })), None);
    assert_eq!(id(Kind::Jira, json!({ "key": "SEC-1/../x" })), None);
}

proptest! {
    #[test]
    fn no_text_of_others_is_markup_or_too_long_anywhere(
        text in prop_oneof!["\\PC{0,60}", "(<!channel>|<@U1>|\\[x\\]\\(https://evil.example\\)|\\*\\*b\\*\\*|\\[code\\]<a>|&lt;|\"|\\\\|x){0,9}", "[x<&*é]{0,4000}"]
    ) {
        let mut told = told("Failed");
        told.title.clone_from(&text);
        told.resource.clone_from(&text);
        told.action.clone_from(&text);
        told.next_step = Some(text.clone());
        told.triage = Some(Triage {
            related: 2, types: vec![text.clone(); 5], uncontained: vec![text.clone()], exposure: Some(vec![text.clone()]),
            ..Triage::default()
        });
        let body = |kind, step| made(kind, &told, &step).body.unwrap();

        let slack = body(Kind::Slack, Step::Say);
        prop_assert!(!slack["text"].as_str().unwrap().contains(['<', '>']));
        for block in slack["blocks"].as_array().unwrap() {
            prop_assert_eq!(&block["type"], "rich_text");
            let elements = block["elements"][0]["elements"].as_array().unwrap();
            let length: usize = elements.iter().map(|one| one["text"].as_str().unwrap().chars().count()).sum();
            prop_assert!(length <= 3000 && !elements.is_empty());
            let links = elements.iter().filter_map(|one| one["url"].as_str());
            prop_assert!(links.clone().all(|url| url.contains(".console.aws.amazon.com/") || url.starts_with("https://console.aws.amazon.com/")));
        }

        let teams = body(Kind::Teams, Step::Say);
        prop_assert!(teams.to_string().len() < 21_000);
        let card = &teams["attachments"][0]["content"];
        for block in card["body"].as_array().unwrap() {
            prop_assert_eq!(&block["type"], "RichTextBlock");
            prop_assert!(block["inlines"].as_array().unwrap().iter().all(|run| run["type"] == "TextRun"));
        }

        let event = body(Kind::PagerDuty, Step::Open);
        prop_assert!(event["payload"]["summary"].as_str().unwrap().chars().count() <= 1024);
        prop_assert!(event["dedup_key"].as_str().unwrap().len() <= 255 && event.to_string().len() < 512_000);
        prop_assert!(!event["payload"]["source"].is_null());

        let incident = body(Kind::ServiceNow, Step::Open);
        prop_assert!(incident["short_description"].as_str().unwrap().chars().count() <= 160);
        prop_assert!(incident["description"].as_str().unwrap().chars().count() <= 4000);
        let note = body(Kind::ServiceNow, Step::Add(SYS_ID.to_owned()));
        prop_assert!(!note["work_notes"].as_str().unwrap().contains('['));

        let issue = body(Kind::Jira, Step::Open);
        prop_assert!(issue["fields"]["summary"].as_str().unwrap().chars().count() <= 255);
        prop_assert!(!issue["fields"]["summary"].as_str().unwrap().contains('\n'));
        prop_assert!(adf_is_text(&issue["fields"]["description"]));
    }
}

/// Whether a document of ADF holds only the nodes that we write, and no empty text, which Jira refuses.
fn adf_is_text(node: &Value) -> bool {
    let known = ["doc", "paragraph", "bulletList", "listItem", "text"];
    let good =
        known.contains(&node["type"].as_str().unwrap()) && node["text"].as_str().is_none_or(|text| !text.is_empty());
    let marks = node["marks"].as_array().into_iter().flatten();
    let links =
        marks.filter_map(|mark| mark["attrs"]["href"].as_str()).all(|href| href.contains("console.aws.amazon.com/"));
    good && links && node["content"].as_array().into_iter().flatten().all(adf_is_text)
}

// --- The engine ---------------------------------------------------------------------------------------------------

#[derive(Default)]
struct Stage {
    items: HashMap<String, Item>,
    answers: HashMap<&'static str, VecDeque<Result<HttpAnswer, DeliveryError>>>,
    sent: Vec<HttpRequest>,
    dead: Vec<BTreeMap<String, String>>,
    hidden: Vec<u32>,
    secrets_read: usize,
    writes_fail_after: Option<usize>,
}

struct Desk(Mutex<Stage>);

impl Post for Desk {
    async fn read(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
        let stage = self.0.lock().unwrap();
        Ok(Snapshot::new(keys, keys.iter().filter_map(|key| stage.items.get(&key.to_string()).cloned()).collect()))
    }

    async fn put_if<T: serde::Serialize + Sync>(
        &self,
        key: &StateKey,
        value: &T,
        expect: Expect,
    ) -> Result<(), TransactError> {
        let mut stage = self.0.lock().unwrap();
        if let Some(left) = &mut stage.writes_fail_after {
            if *left == 0 {
                return Err(StoreError::from(AwsFailure::partial("dynamodb:PutItem", "dead")).into());
            }
            *left -= 1;
        }
        if !expect.holds(stage.items.get(&key.to_string())) {
            return Err(TransactError::AlsoLost(key.clone()));
        }
        stage.items.insert(key.to_string(), state_table::encode(key, value).unwrap());
        Ok(())
    }

    async fn secret(&self, arn: &str) -> Result<Secret, AwsFailure> {
        self.0.lock().unwrap().secrets_read += 1;
        let kind = Kind::ALL.into_iter().find(|kind| arn.contains(kind.as_str()));
        kind.map(secret)
            .ok_or_else(|| AwsFailure::refused("secretsmanager:GetSecretValue", "ResourceNotFoundException", "none"))
    }

    async fn send(&self, request: &HttpRequest) -> Result<HttpAnswer, DeliveryError> {
        let mut stage = self.0.lock().unwrap();
        stage.sent.push(request.clone());
        let host = request.host().to_owned();
        let prepared = stage.answers.iter_mut().find(|(part, answers)| host.contains(**part) && !answers.is_empty());
        if let Some((_, answers)) = prepared {
            return answers.pop_front().unwrap();
        }
        let body = match host.as_str() {
            "example.service-now.com" if request.method == "GET" => json!({ "result": [] }),
            "example.service-now.com" => json!({ "result": { "sys_id": SYS_ID } }),
            _ if request.url.expose().ends_with("search/jql") => json!({ "issues": [] }),
            _ => json!({ "key": "SEC-12" }),
        };
        Ok(HttpAnswer { status: 201, retry_after: None, body: body.to_string().into_bytes() })
    }

    async fn hide(&self, _: &str, seconds: u32) -> Result<(), AwsFailure> {
        self.0.lock().unwrap().hidden.push(seconds);
        Ok(())
    }

    async fn dead_letter(&self, _: &str, attributes: &BTreeMap<String, String>) -> Result<(), AwsFailure> {
        self.0.lock().unwrap().dead.push(attributes.clone());
        Ok(())
    }
}

/// A notifier over these kinds.
struct Play(Notifier<Desk>);

impl Play {
    fn new(kinds: &[Kind]) -> Self {
        let list = Destinations { list: kinds.iter().map(|kind| entry(*kind)).collect(), ..Destinations::default() };
        let mut stage = Stage::default();
        let item = state_table::encode(&StateKey::Destinations, &list).unwrap();
        stage.items.insert(StateKey::Destinations.to_string(), item);
        Self(Notifier::new(Desk(Mutex::new(stage)), "redress-notifier".to_owned(), home(), Hosts::default()))
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.0.post().0.lock().unwrap()
    }

    fn answers(&self, host: &'static str, answers: impl IntoIterator<Item = Result<HttpAnswer, DeliveryError>>) {
        self.stage().answers.insert(host, answers.into_iter().collect());
    }

    /// Brings a message, some seconds after the first.
    async fn brings(&self, status: &str, receives: u32, after: i64) -> Option<u32> {
        self.brings_with(status, receives, after, &[]).await
    }

    async fn brings_with(&self, status: &str, receives: u32, after: i64, more: &[(&str, &str)]) -> Option<u32> {
        let message = Incoming { body: body(status), attributes: attributes(more), receives };
        let now = now() + jiff::SignedDuration::from_secs(after);
        self.0.message(&message, 60_000, now).await
    }

    fn sent(&self, host: &str) -> usize {
        self.stage().sent.iter().filter(|request| request.host().contains(host)).count()
    }
}

fn status(status: u16) -> Result<HttpAnswer, DeliveryError> {
    Ok(HttpAnswer { status, retry_after: None, body: b"words".to_vec() })
}

#[tokio::test]
async fn a_message_that_comes_again_is_told_once() {
    let play = Play::new(&Kind::ALL);
    for receives in 1..4 {
        assert_eq!(play.brings("Failed", receives, i64::from(receives)).await, None);
    }
    for host in ["hooks.slack.com", "logic.azure.com", "pagerduty.com", "service-now.com", "atlassian.net"] {
        assert_eq!(play.sent(host), 1, "{host}");
    }
    assert_eq!(play.stage().secrets_read, 5);
}

#[tokio::test]
async fn a_destination_that_fails_is_tried_again_and_its_neighbours_are_not() {
    let play = Play::new(&[Kind::Slack, Kind::Teams, Kind::Jira]);
    play.answers("logic.azure.com", [status(500), Err(DeliveryError::NoAnswer { host: String::new() })]);
    play.answers("atlassian.net", [status(503)]);
    assert_eq!(play.brings("Failed", 1, 0).await, Some(5));
    assert_eq!(play.brings("Failed", 2, 6).await, Some(15));
    assert_eq!(play.brings("Failed", 3, 25).await, None);
    assert_eq!((play.sent("slack"), play.sent("logic.azure.com")), (1, 3));
    let jira: Vec<String> = play
        .stage()
        .sent
        .iter()
        .filter(|request| request.host().contains("atlassian"))
        .map(|request| request.url.expose().to_owned())
        .collect();
    assert_eq!(jira.len(), 3, "it is looked for what a failed call may have opened: {jira:?}");
    assert!(jira[1].ends_with("/rest/api/3/search/jql") && jira[2].ends_with("/rest/api/3/issue"));
    assert!(play.stage().dead.is_empty());
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it() {
    let play = Play::new(&[Kind::Slack]);
    let answer = |after| Ok(HttpAnswer { status: 429, retry_after: Some(after), body: vec![] });
    play.answers("slack", [answer(90), answer(1), answer(86_400)]);
    assert_eq!(play.brings("Failed", 1, 0).await, Some(90));
    assert_eq!(play.brings("Failed", 2, 100).await, Some(15), "never faster than usual");
    assert_eq!(play.brings("Failed", 3, 200).await, Some(3600));
}

#[tokio::test]
async fn what_is_refused_lies_in_the_dead_letter_queue_with_the_reason_and_can_be_brought_again() {
    let play = Play::new(&[Kind::Slack, Kind::Teams]);
    play.answers("slack", [status(400)]);
    play.answers("logic.azure.com", [status(500)]);
    assert_eq!(play.brings("Failed", 1, 0).await, Some(5), "for the other one");
    assert_eq!(play.brings("Failed", 2, 6).await, None);
    assert_eq!(play.sent("slack"), 1, "what was refused is not asked again by itself");
    let dead = play.stage().dead.clone();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0]["Destination"].as_str(), dead[0]["Code"].as_str()), ("my-slack", "refused"));
    assert_eq!(dead[0]["Reason"], "hooks.slack.com refused it (HTTP 400): words");
    assert!(dead[0].len() <= 10, "SQS takes ten attributes");
    let again: Vec<(&str, &str)> =
        ["Destination", "Code", "Reason"].iter().map(|name| (*name, dead[0][*name].as_str())).collect();
    assert_eq!(play.brings_with("Failed", 1, 600, &again).await, None);
    assert_eq!((play.sent("slack"), play.sent("logic.azure.com")), (2, 2), "only where it was refused");
}

#[tokio::test]
async fn what_fails_for_too_long_is_given_up_with_the_reason() {
    let play = Play::new(&[Kind::Slack]);
    play.answers("slack", (0..9).map(|_| status(502)));
    for receives in 1..8 {
        assert!(play.brings("Failed", receives, i64::from(receives) * 1000).await.is_some());
    }
    assert_eq!(play.brings("Failed", 8, 9000).await, None);
    assert_eq!(play.stage().dead[0]["Code"], "trouble");
}

#[tokio::test]
async fn one_problem_is_one_ticket_and_its_end_is_said_in_it() {
    let play = Play::new(&[Kind::Jira, Kind::ServiceNow, Kind::PagerDuty]);
    for (after, state) in ["AwaitingApproval", "Failed", "Success", "Failed"].into_iter().enumerate() {
        let id = format!("5f0d0c1e-7c6e-5c53-9d35-7f3f6c1f6a4{after}");
        let message = Incoming { body: body(state).replace(ID, &id), attributes: attributes(&[]), receives: 1 };
        assert_eq!(play.0.message(&message, 60_000, now()).await, None, "{state}");
    }
    let calls = |host: &str| -> Vec<String> {
        let stage = play.stage();
        let of = stage.sent.iter().filter(|request| request.host().contains(host));
        of.map(|request| {
            let path = request.url.expose().split(".net").last().unwrap().split(".com").last().unwrap().to_owned();
            let action =
                request.body.as_ref().and_then(|body| body["event_action"].as_str()).unwrap_or_default().to_owned();
            format!("{} {path} {action}", request.method).trim().to_owned()
        })
        .collect()
    };
    let comment = "POST /rest/api/3/issue/SEC-12/comment";
    assert_eq!(calls("atlassian"), ["POST /rest/api/3/issue", comment, comment, "POST /rest/api/3/issue"]);
    let (table, fields) = ("/api/now/table/incident", "?sysparm_fields=sys_id,number");
    let (create, note) = (format!("POST {table}{fields}"), format!("PATCH {table}/{SYS_ID}{fields}"));
    assert_eq!(calls("service-now"), [create.as_str(), &note, &note, &create]);
    let event = |action: &str| format!("POST /v2/enqueue {action}");
    assert_eq!(calls("pagerduty"), [event("trigger"), event("trigger"), event("resolve"), event("trigger")]);
}

#[tokio::test]
async fn a_worker_that_died_after_it_opened_a_ticket_leaves_one_ticket() {
    let play = Play::new(&[Kind::Jira]);
    // It notes the delivery and the case, sends, and dies.
    play.stage().writes_fail_after = Some(2);
    assert!(play.brings("Failed", 1, 0).await.is_some());
    play.stage().writes_fail_after = None;
    assert_eq!(play.brings("Failed", 2, 10).await, Some(5), "its lease holds");
    let found = json!({ "issues": [{ "key": "SEC-12" }] });
    play.answers(
        "atlassian",
        [Ok(HttpAnswer { status: 200, retry_after: None, body: found.to_string().into_bytes() })],
    );
    assert_eq!(play.brings("Failed", 3, 200).await, None);
    let opened = play.stage().sent.iter().filter(|request| request.url.expose().ends_with("/issue")).count();
    assert_eq!(opened, 1);
}

#[tokio::test]
async fn a_ticket_that_somebody_deleted_is_opened_anew() {
    let play = Play::new(&[Kind::Jira]);
    assert_eq!(play.brings("AwaitingApproval", 1, 0).await, None);
    play.answers("atlassian", [status(404)]);
    assert!(play.brings("Failed", 1, 10).await.is_some());
    assert_eq!(play.brings("Failed", 2, 20).await, None);
    let opened = play.stage().sent.iter().filter(|request| request.url.expose().ends_with("/issue")).count();
    assert_eq!(opened, 2);
}

#[tokio::test]
async fn a_secret_that_was_rotated_is_read_again_once() {
    let play = Play::new(&[Kind::Slack]);
    assert_eq!(play.brings("Failed", 1, 0).await, None);
    play.answers("slack", [status(403)]);
    assert_eq!(play.brings("Unverified", 1, 10).await, None, "the second try has the new secret");
    assert_eq!((play.sent("slack"), play.stage().secrets_read), (3, 2));
    play.answers("slack", [status(403), status(403)]);
    assert_eq!(play.brings("Expired", 1, 20).await, None);
    assert_eq!(play.stage().dead.len(), 1);
    assert_eq!(play.brings("Denied", 1, 400).await, None);
    assert_eq!(play.stage().secrets_read, 4, "and after five minutes in any case");
}

#[tokio::test]
async fn a_test_goes_to_one_destination_whatever_it_filters_and_rings_no_longer_than_it_must() {
    let play = Play::new(&Kind::ALL);
    let only = |name| [("Destination", name), ("Severity", "INFORMATIONAL")];
    assert_eq!(play.brings_with("Test", 1, 0, &only("my-pagerduty")).await, None);
    let actions: Vec<Value> =
        play.stage().sent.iter().map(|request| request.body.as_ref().unwrap()["event_action"].clone()).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert_eq!(play.brings_with("Test", 1, 0, &only("my-jira")).await, None);
    assert_eq!((play.sent("atlassian"), play.sent("slack"), play.sent("azure")), (1, 0, 0));
    assert_eq!(play.brings_with("Test", 1, 0, &only("nobody")).await, None);
    assert_eq!(play.stage().dead[0]["Code"], "no-such-destination");
}

#[tokio::test]
async fn what_nobody_can_read_is_kept_and_a_wrong_list_waits_to_be_mended() {
    let play = Play::new(&[Kind::Slack]);
    let message = Incoming { body: "hello".to_owned(), receives: 1, ..Incoming::default() };
    assert_eq!(play.0.message(&message, 60_000, now()).await, None);
    assert_eq!(play.stage().dead[0]["Code"], "unreadable");
    let wrong = Destinations { list: vec![json!({ "Name": "x" })], ..Destinations::default() };
    let item = state_table::encode(&StateKey::Destinations, &wrong).unwrap();
    play.stage().items.insert(StateKey::Destinations.to_string(), item);
    assert_eq!(play.brings("Failed", 2, 0).await, Some(15));
}

#[tokio::test]
async fn a_batch_names_what_comes_again_and_hides_it_for_as_long() {
    let play = Play::new(&[Kind::Slack]);
    play.answers("slack", [status(500)]);
    let record = |id: &str, status: &str| {
        let values: HashMap<String, Value> = attributes(&[])
            .into_iter()
            .map(|(name, value)| (name, json!({ "dataType": "String", "stringValue": value })))
            .collect();
        json!({ "messageId": id, "receiptHandle": id, "body": body(status), "messageAttributes": values, "attributes": { "ApproximateReceiveCount": "2" } })
    };
    let event = serde_json::from_value(json!({ "Records": [record("a", "Failed"), record("b", "Success")] })).unwrap();
    let answer = play.0.batch(event, i64::MAX, now).await;
    assert_eq!(answer.batch_item_failures.len(), 1);
    assert_eq!(answer.batch_item_failures[0].item_identifier, "a");
    assert_eq!(play.stage().hidden, [15]);
    // Nothing is begun that could not be ended.
    let event = serde_json::from_value(json!({ "Records": [record("c", "Expired")] })).unwrap();
    assert_eq!(play.0.batch(event, now().as_millisecond() + 1000, now).await.batch_item_failures.len(), 1);
    assert_eq!(play.sent("slack"), 2);
}
