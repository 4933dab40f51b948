//! People are told where they are: the topic, its queue, `redress-notifier`, and servers that look at what comes as Slack,
//! Teams, PagerDuty, ServiceNow and Jira do. One lab, one story, since a chat does not forget.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use base64::Engine as _;
use redress_common::names;
use redress_lab::bed::Bed;
use redress_lab::organisation::Plan;
use redress_runbooks::load_controls;
use redress_runbooks::write::CONTROLS;
use redress_tests::grants::{Used, grants, unused};
use redress_tests::inbox::Inbox;
use redress_tests::world::{World, options, root};
use serde_json::{Value, json};

const MEMBER: &str = "payments";
const SYS_ID: &str = "0123456789abcdef0123456789abcdef";
/// What nobody may ever see again.
const SECRETS: [&str; 6] = [
    "hooksecret0001",
    "flowsecret0002",
    "0123456789abcdef0123456789routekey",
    "passwordsecret0004",
    "tokensecret0005",
    "brokensecret0006",
];

/// A request that came.
#[derive(Debug, Clone)]
struct Came {
    method: String,
    path: String,
    body: Value,
}

/// The other side: it checks who asks and what is sent, and answers as the product would.
#[derive(Default)]
struct Products {
    came: Mutex<Vec<Came>>,
    /// Statuses for the next requests whose path begins so.
    next: Mutex<BTreeMap<&'static str, Vec<u16>>>,
    /// What was wrong with a request.
    wrong: Mutex<Vec<String>>,
}

impl Products {
    async fn start() -> (Arc<Self>, String) {
        let products = Arc::new(Self::default());
        let app = Router::new().fallback(answer).with_state(products.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (products, format!("http://{address}"))
    }

    fn to(&self, path: &str) -> Vec<Came> {
        self.came.lock().unwrap().iter().filter(|came| came.path.starts_with(path)).cloned().collect()
    }

    /// The bodies that speak of something.
    fn about(&self, path: &str, what: &str) -> Vec<Value> {
        self.to(path).into_iter().map(|came| came.body).filter(|body| body.to_string().contains(what)).collect()
    }

    fn fails(&self, path: &'static str, statuses: &[u16]) {
        self.next.lock().unwrap().insert(path, statuses.to_vec());
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

async fn answer(
    State(products): State<Arc<Products>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let path = uri.path_and_query().unwrap().to_string();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let said = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let prepared = {
        let mut next = products.next.lock().unwrap();
        let found = next.iter_mut().find(|(start, left)| path.starts_with(**start) && !left.is_empty());
        found.map(|(_, left)| left.remove(0))
    };
    let is = |expected: &str| (said == expected).then_some(()).ok_or(401_u16);
    let judged: Result<(u16, Value), u16> = match (method.as_str(), path.as_str()) {
        ("POST", "/services/T0/B0/hooksecret0001" | "/services/T0/B1/brokensecret0006") => {
            let good =
                body["blocks"].as_array().is_some_and(|blocks| blocks.iter().all(|block| block["type"] == "rich_text"))
                    && body["text"].is_string();
            if good { Ok((200, json!("ok"))) } else { Err(400) }
        }
        ("POST", "/workflows/1?sig=flowsecret0002") => {
            let card = &body["attachments"][0];
            let good = body["type"] == "message"
                && card["contentType"] == "application/vnd.microsoft.card.adaptive"
                && card["content"]["type"] == "AdaptiveCard"
                && card["content"]["body"].as_array().is_some_and(|blocks| !blocks.is_empty());
            if good { Ok((202, Value::Null)) } else { Err(400) }
        }
        ("POST", "/v2/enqueue") => {
            let key = body["routing_key"] == SECRETS[2];
            let payload = ["summary", "source", "severity"].iter().all(|name| body["payload"][name].is_string());
            let good = body["dedup_key"].is_string() && (body["event_action"] == "resolve" || payload);
            if key && good {
                Ok((202, json!({ "status": "success", "dedup_key": body["dedup_key"] })))
            } else {
                Err(400)
            }
        }
        (method, path) if path.starts_with("/api/now/table/incident") => {
            is(&basic("redress", SECRETS[3])).map(|()| match method {
                "GET" => (200, json!({ "result": [] })),
                "POST" if body["short_description"].is_string() => {
                    (201, json!({ "result": { "sys_id": SYS_ID, "number": "INC1" } }))
                }
                "PATCH" if body["work_notes"].is_string() => (200, json!({ "result": { "sys_id": SYS_ID } })),
                _ => (400, Value::Null),
            })
        }
        ("POST", path) if path.starts_with("/rest/api/3/") => is(&basic("redress@example.com", SECRETS[4])).map(|()| {
            let document = |document: &Value| document["type"] == "doc" && document["version"] == 1;
            match path {
                "/rest/api/3/search/jql" => (200, json!({ "issues": [] })),
                "/rest/api/3/issue"
                    if document(&body["fields"]["description"]) && body["fields"]["project"]["key"] == "SEC" =>
                {
                    (201, json!({ "id": "1", "key": "SEC-12" }))
                }
                "/rest/api/3/issue/SEC-12/comment" if document(&body["body"]) => (201, json!({ "id": "2" })),
                _ => (400, Value::Null),
            }
        }),
        _ => Err(404),
    };
    let (status, told) = match (prepared, judged) {
        // A server may say again what it was sent.
        (Some(status), _) => (status, json!({ "error": format!("{path} {said} {body}") })),
        (None, Ok(answer)) => answer,
        (None, Err(status)) => {
            products.wrong.lock().unwrap().push(format!("{method} {path}: {status}"));
            (status, Value::Null)
        }
    };
    products.came.lock().unwrap().push(Came { method: method.to_string(), path, body });
    (StatusCode::from_u16(status).unwrap(), told.to_string())
}

/// A JSON value as DynamoDB writes it.
fn attribute(value: &Value) -> Value {
    match value {
        Value::Array(values) => json!({ "L": values.iter().map(attribute).collect::<Vec<_>>() }),
        Value::Object(map) => {
            json!({ "M": map.iter().map(|(name, value)| (name.clone(), attribute(value))).collect::<serde_json::Map<_, _>>() })
        }
        Value::String(text) => json!({ "S": text }),
        Value::Bool(value) => json!({ "BOOL": value }),
        other => json!({ "N": other.to_string() }),
    }
}

async fn secret(world: &World, name: &str, text: &str) -> Value {
    let asked = json!({ "Name": format!("redress/notify/{name}"), "SecretString": text });
    world.admin_call("secretsmanager", "CreateSecret", asked).await["ARN"].clone()
}

/// Sets up every destination, on this machine.
async fn set_up(world: &World, at: &str) {
    let list = json!([
        { "Name": "soc", "Kind": "slack", "Secret": secret(world, "soc", &format!("{at}/services/T0/B0/{}", SECRETS[0])).await },
        { "Name": "elsewhere", "Kind": "slack", "Filter": { "Accounts": ["999999999999"] },
          "Secret": secret(world, "elsewhere", &format!("{at}/services/T0/B9/none")).await },
        { "Name": "refusing", "Kind": "slack", "Filter": { "Statuses": ["Expired"] },
          "Secret": secret(world, "refusing", &format!("{at}/services/T0/B1/{}", SECRETS[5])).await },
        { "Name": "team", "Kind": "teams",
          "Secret": secret(world, "team", &json!({ "Url": format!("{at}/workflows/1?sig={}", SECRETS[1]) }).to_string()).await },
        { "Name": "pager", "Kind": "pagerduty", "Endpoint": at, "Secret": secret(world, "pager", SECRETS[2]).await },
        { "Name": "desk", "Kind": "servicenow", "Endpoint": at,
          "Secret": secret(world, "desk", &json!({ "User": "redress", "Password": SECRETS[3] }).to_string()).await },
        { "Name": "board", "Kind": "jira", "Endpoint": at, "Project": "SEC",
          "Secret": secret(world, "board", &json!({ "Email": "redress@example.com", "ApiToken": SECRETS[4] }).to_string()).await },
    ]);
    let item = json!({ "Key": { "S": "destinations" }, "Version": { "N": "1" }, "List": attribute(&list) });
    world.admin_call("dynamodb", "PutItem", json!({ "TableName": names::STATE_TABLE, "Item": item })).await;
    let asked = json!({ "FunctionName": names::NOTIFIER_FUNCTION });
    let found = world.admin_call("lambda", "GetFunctionConfiguration", asked).await;
    let mut environment = found["Environment"].clone();
    environment["Variables"]["REDRESS_NOTIFY_LOOPBACK"] = json!("1");
    let asked =
        json!({ "FunctionName": names::NOTIFIER_FUNCTION, "Environment": { "Variables": environment["Variables"] } });
    world.admin_call("lambda", "UpdateFunctionConfiguration", asked).await;
}

/// Says something on the topic, as the functions do.
async fn publish(world: &World, id: &str, status: &str, resource: &str) {
    let account = world.member(MEMBER);
    let message = json!({
        "RemediationId": id, "Status": status, "Account": account, "Resource": resource, "Action": "Block public access",
        "ExecutedAt": "2026-03-01T12:00:00Z", "Finding": "S3 <buckets> should & must block *public* access",
    });
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let attributes = json!({
        "Status": text(status), "AccountId": text(&account), "Severity": text("CRITICAL"), "Control": text("S3.8"),
        "Urgency": text("normal"), "Region": text(world.region()), "Trigger": text("Config"),
    });
    let asked = json!({ "TopicArn": world.bed.organisation.topic_arn(), "Message": message.to_string(), "MessageAttributes": attributes });
    world.admin_call("sns", "Publish", asked).await;
}

fn start() -> World {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let options = options(&[MEMBER]);
    let mut controls = load_controls(&root().join(CONTROLS)).unwrap();
    controls.retain(|control| control.id.as_str() == "S3.8");
    let mut plan =
        Plan::of(&options.root, &[MEMBER], options.progress.clone()).unwrap().with_controls(&controls).unwrap();
    for (name, value) in [("NotificationDestinations", "Enabled"), ("OperatorsApprove", "false")] {
        plan.administrator_parameters.insert(name.to_owned(), value.to_owned());
    }
    let bed = runtime.block_on(Bed::start_planned(options, plan)).expect("the lab did not start");
    World::of(runtime, bed)
}

async fn comes(world: &World, products: &Products, path: &str, what: &str, times: usize) -> Vec<Value> {
    let told = format!("{what} comes to {path} {times} times");
    world
        .eventually(&told, async || {
            let found = products.about(path, what);
            (found.len() >= times).then_some(found)
        })
        .await
}

const SLACK: &str = "/services/T0/B0";
const TEAMS: &str = "/workflows";
const PAGER: &str = "/v2/enqueue";
const DESK: &str = "/api/now/table/incident";
const BOARD: &str = "/rest/api/3/issue";

#[test]
fn people_are_told_where_they_are() {
    let world = start();
    let world = &world;
    world.run(async {
        let (products, at) = Products::start().await;
        set_up(world, &at).await;
        a_remediation_is_told(world, &products).await;
        a_problem_is_one_case_told_once(world, &products).await;
        what_fails_is_tried_again_and_what_is_refused_is_kept(world, &products).await;
        the_door_changes_and_tries_out(world, &products).await;
        only_approvers_answer(world).await;

        assert!(products.wrong.lock().unwrap().is_empty(), "{:?}", products.wrong.lock().unwrap());
        assert!(products.to("/services/T0/B9").is_empty(), "what is filtered comes nowhere");
        no_secret_is_seen(world, &products).await;
        least_privilege(world).await;
    });
}

async fn a_remediation_is_told(world: &World, products: &Products) {
    let account = world.member(MEMBER);
    let broken = world.break_it("public-bucket", &account).await;
    let arn = broken.resource_arn.as_str();
    for path in [SLACK, TEAMS] {
        let told = comes(world, products, path, arn, 1).await;
        assert!(told[0].to_string().contains("Redress: Success: S3.8"), "{}", told[0]);
    }
    let slack = products.about(SLACK, arn)[0].to_string();
    assert!(
        slack.contains("securityhub/home?region=us-east-1#/findings?search=ResourceId")
            && slack.contains("redress why "),
        "{slack}"
    );
    for path in [PAGER, DESK, BOARD] {
        assert!(products.about(path, arn).is_empty(), "what was repaired is no case: {path}");
    }
}

async fn a_problem_is_one_case_told_once(world: &World, products: &Products) {
    let resource = "arn:aws:s3:::case-bucket";
    let id = "11111111-7c6e-5c53-9d35-7f3f6c1f6a43";
    for _ in 0..3 {
        publish(world, id, "Failed", resource).await;
    }
    for path in [SLACK, TEAMS, PAGER, DESK, BOARD] {
        comes(world, products, path, "case-bucket", 1).await;
    }
    world.drained(names::NOTIFICATIONS_QUEUE).await;
    for path in [SLACK, TEAMS, PAGER, DESK, BOARD] {
        assert_eq!(products.about(path, "case-bucket").len(), 1, "{path} heard of it once");
    }
    let rung = products.about(PAGER, "case-bucket").remove(0);
    assert_eq!((&rung["event_action"], &rung["payload"]["severity"]), (&json!("trigger"), &json!("critical")));

    publish(world, "22222222-7c6e-5c53-9d35-7f3f6c1f6a43", "Success", resource).await;
    let key = rung["dedup_key"].as_str().unwrap();
    let events = comes(world, products, PAGER, key, 2).await;
    assert_eq!(events[1]["event_action"], "resolve");
    for (path, method) in [(DESK, "PATCH"), (BOARD, "POST")] {
        comes(world, products, path, "The problem has ended", 1).await;
        let last = products.to(path).pop().unwrap();
        assert_eq!(last.method, method, "{}", last.path);
    }
    assert!(products.to(BOARD).pop().unwrap().path.ends_with("/SEC-12/comment"));
    world.drained(names::NOTIFICATIONS_QUEUE).await;
}

async fn what_fails_is_tried_again_and_what_is_refused_is_kept(world: &World, products: &Products) {
    static DEAD: Inbox = Inbox::new(names::NOTIFICATIONS_DLQ);
    products.fails(TEAMS, &[500]);
    products.fails("/services/T0/B1", &[400]);
    publish(world, "33333333-7c6e-5c53-9d35-7f3f6c1f6a43", "Expired", "arn:aws:s3:::late-bucket").await;
    let dead = DEAD.when(world, "what was refused is kept", |_| true).await;
    let attribute =
        |name: &str| dead[0]["MessageAttributes"][name]["StringValue"].as_str().unwrap_or_default().to_owned();
    assert_eq!((attribute("Destination").as_str(), attribute("Code").as_str()), ("refusing", "refused"));
    assert!(attribute("Reason").contains("(HTTP 400)"), "{}", attribute("Reason"));
    assert_eq!((attribute("Severity").as_str(), attribute("Region").as_str()), ("CRITICAL", "us-east-1"));
    comes(world, products, TEAMS, "late-bucket", 2).await;
    world.drained(names::NOTIFICATIONS_QUEUE).await;
    assert_eq!(products.about(TEAMS, "late-bucket").len(), 2);
    assert_eq!(
        products.about(SLACK, "late-bucket").len(),
        1,
        "a neighbour that fails does not make others hear it twice"
    );
    let written = |metric: &str, destination: &str| {
        let lines = world.bed.lab.logs(names::NOTIFIER_FUNCTION);
        lines.iter().any(|line| {
            line.contains(&format!("\"{metric}\":1")) && line.contains(&format!("\"Destination\":\"{destination}\""))
        })
    };
    assert!(
        written("DeliveryFailures", "refusing") && written("DeliveryFailures", "team") && written("Deliveries", "team")
    );

    // Brought again by hand, as SQS does it: only where it was refused.
    let url = world.queue_url(names::NOTIFICATIONS_QUEUE).await;
    let attributes: serde_json::Map<String, Value> = dead[0]["MessageAttributes"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), json!({ "DataType": "String", "StringValue": value["StringValue"] })))
        .collect();
    let again = json!({ "QueueUrl": url, "MessageBody": dead[0]["Body"], "MessageAttributes": attributes });
    world.admin_call("sqs", "SendMessage", again).await;
    comes(world, products, "/services/T0/B1", "late-bucket", 2).await;
    world.drained(names::NOTIFICATIONS_QUEUE).await;
    assert_eq!(products.about(TEAMS, "late-bucket").len(), 2);
}

async fn the_door_changes_and_tries_out(world: &World, products: &Products) {
    let test = json!({ "Operation": "NotifyTest", "Destination": "soc", "Reason": "is it there?" });
    let answer = world.operate(test).await;
    let before = products.to(TEAMS).len();
    comes(world, products, SLACK, "this is a test", 1).await;
    world.drained(names::NOTIFICATIONS_QUEUE).await;
    assert_eq!(products.to(TEAMS).len(), before, "nobody else hears of it");
    let id = answer["RemediationId"].clone();
    let admin = world.administrator();
    world
        .ledger_when(&admin, "the test is in the ledger", |record| {
            record["RemediationId"] == id
                && record["NotificationSent"] == true
                && record["Detail"]["Code"] == "notify-test"
        })
        .await;
    let (status, refused) =
        world.asks(&json!({ "Operation": "NotifyTest", "Destination": "nobody", "Reason": "x" })).await;
    assert_eq!((status, &refused["Code"]), (404, &json!("no-such-destination")));
    let list = |kind: &str| json!([{ "Name": "pager", "Kind": kind, "Secret": "arn:aws:secretsmanager:us-east-1:111111111111:secret:redress/notify/pager-AbCdEf" }]);
    let (status, refused) =
        world.asks(&json!({ "Operation": "Destinations", "List": list("pigeon"), "Reason": "x" })).await;
    assert_eq!(status, 400);
    assert!(refused["Message"].as_str().unwrap().starts_with("entry 1 (pager), field Kind"), "{refused}");
    let set = world
        .operate(json!({ "Operation": "Destinations", "List": list("pagerduty"), "Reason": "only the pager" }))
        .await;
    assert_eq!(set["Destinations"]["Version"], 2);
    world
        .ledger_when(&admin, "who changed it is in the ledger", |record| {
            record["ResourceId"] == "redress:destinations" && record["Detail"]["After"] == "pager (pagerduty)"
        })
        .await;
}

/// Of a stack with `OperatorsApprove=false`: this lab is one at hand. Nobody is asked anything here, which only who may answer is
/// told.
async fn only_approvers_answer(world: &World) {
    let answer = json!({
        "Operation": "Answer", "RemediationId": "7b1c0f2e-9d3a-5c41-8f60-0123456789ab", "Approve": true,
        "PlanSha256": "a".repeat(64), "Reason": "a test",
    });
    for (role, status, code) in [
        (names::OPERATOR_ROLE, 403, "another-duty"),
        (names::AUDITOR_ROLE, 403, "another-duty"),
        (names::APPROVER_ROLE, 404, "not-found"),
    ] {
        let who = world.person("pat", role).await;
        let url = world.api_url(&who).await;
        let (given, said) = world.asks_as(&who, &url, &answer).await;
        assert_eq!((given, &said["Code"]), (status, &json!(code)), "{role}: {said}");
    }
}

async fn no_secret_is_seen(world: &World, products: &Products) {
    let mut seen = world.bed.lab.logs(names::NOTIFIER_FUNCTION);
    assert!(seen.iter().any(|line| line.contains("not told")), "the log says what failed");
    seen.extend(world.bed.lab.logs(names::API_FUNCTION));
    let group = json!({ "logGroupName": format!("/aws/lambda/{}", names::NOTIFIER_FUNCTION) });
    seen.push(world.admin_call("logs", "FilterLogEvents", group).await.to_string());
    seen.extend(world.ledger(&world.administrator()).await.iter().map(ToString::to_string));
    let table = json!({ "TableName": names::STATE_TABLE });
    seen.push(world.admin_call("dynamodb", "Scan", table).await.to_string());
    let dead = world.queue_url(names::NOTIFICATIONS_DLQ).await;
    seen.push(
        world
            .admin_call("sqs", "ReceiveMessage", json!({ "QueueUrl": dead, "MessageAttributeNames": ["All"] }))
            .await
            .to_string(),
    );
    // The pager's key is in its body, where PagerDuty wants it.
    seen.extend(
        products.came.lock().unwrap().iter().filter(|came| came.path != PAGER).map(|came| came.body.to_string()),
    );
    for secret in SECRETS {
        let found = seen.iter().find(|line| line.contains(secret));
        assert!(found.is_none(), "{secret} is in: {found:?}");
    }
}

async fn least_privilege(world: &World) {
    let admin = world.administrator();
    let denied: Vec<Used> =
        world.checks(0, false).into_iter().filter(|used| used.role == names::NOTIFIER_ROLE).collect();
    assert!(denied.is_empty(), "refused although nothing is missing: {denied:#?}");
    let whole = world.role_policy(&admin, names::NOTIFIER_ROLE, "notify").await;
    let lines = grants(&admin, names::NOTIFIER_ROLE, "notify", &whole);
    world
        .eventually("every line of the role is used", async || {
            let used: BTreeSet<Used> =
                world.checks(0, true).into_iter().filter(|used| used.role == names::NOTIFIER_ROLE).collect();
            unused(&lines, &used).is_empty().then_some(())
        })
        .await;
}
