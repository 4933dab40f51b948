//! What operators do at their door, each so that it can be done again and again, and says whether all of it was done: for
//! the proof that each line of the api's policy is needed.

use redress_common::items::breaker::hour;
use redress_common::names;
use redress_lab::faults::{Action, Rule};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ask::Target;
use crate::raw::config_event;
use crate::world::World;

/// Something that an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Exempts something, and ends that.
    Exempt,
    /// Closes a breaker that is open.
    Close,
    /// Looks at the dead letters.
    Look,
    /// Brings a lost outcome again.
    Redrive,
    /// Brings a finding again so often that it is parked.
    Park,
    /// Plans a campaign.
    Plan,
    /// Plans one whose findings cannot all be put aside.
    FailToPlan,
}

impl World {
    /// Two open findings of S3.8 in an account, which nobody is told of: what campaigns are planned for.
    ///
    /// # Panics
    /// When the findings cannot be made.
    pub async fn old_findings(&self, account: &str) {
        let forward = json!({ "Name": "redress-forward-findings" });
        self.admin_call("events", "DisableRule", forward.clone()).await;
        for _ in 0..2 {
            let broken = self.break_only("public-bucket", account).await;
            let arn = broken.resource_arn.to_string();
            self.found_failed(&Target { account: account.to_owned(), control: broken.control.to_string(), arn }).await;
        }
        self.admin_call("events", "EnableRule", forward).await;
    }

    /// Does it, with the old findings of an account where it needs some; whether all of it was done.
    pub async fn does(&self, power: Power, account: &str) -> bool {
        match power {
            Power::Exempt => self.exempts().await,
            Power::Close => self.closes().await,
            Power::Look => {
                for queue in [names::FINDINGS_DLQ, names::COMPLETIONS_DLQ, names::PARKED_QUEUE] {
                    self.put_message(queue, &unique(json!({}))).await;
                }
                self.done(json!({ "Operation": "DlqList" })).await
            }
            Power::Redrive => {
                let outcome = json!({ "source": "aws.ssm", "account": account, "region": self.region(), "detail": {} });
                self.redrives(names::COMPLETIONS_DLQ, &unique(outcome)).await
            }
            Power::Park => {
                // A resource that complies: whoever takes it has nothing to do.
                let nothing = config_event(account, self.region(), "nothing", jiff::Timestamp::now());
                let text = nothing.to_string().replace("NON_COMPLIANT", "COMPLIANT");
                let body = unique(serde_json::from_str(&text).unwrap_or_default());
                for _ in 0..4 {
                    if !self.redrives(names::FINDINGS_DLQ, &body).await {
                        return false;
                    }
                }
                true
            }
            Power::Plan => self.plans(account).await.0 == 200,
            Power::FailToPlan => {
                let second = Action::Fail { status: 400, code: "ValidationException".to_owned() };
                let second = Rule::new(second).by(names::API_FUNCTION).on("dynamodb", "PutItem").nth(2);
                let second = self.bed.lab.faults().add(second);
                let (status, place) = self.plans(account).await;
                self.bed.lab.faults().remove(second);
                let all = self.admin_call("dynamodb", "Scan", json!({ "TableName": names::BACKLOG_TABLE })).await;
                let left = all["Items"].as_array().into_iter().flatten();
                let mut left = left.filter_map(|item| item["Place"]["S"].as_str());
                status == 503 && !left.any(|there| there.starts_with(&place))
            }
        }
    }

    async fn done(&self, request: Value) -> bool {
        self.asks(&request).await.0 == 200
    }

    async fn exempts(&self) -> bool {
        let id = format!("e-{}", Uuid::new_v4().simple());
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let add = json!({
            "Operation": "ExemptionAdd", "Id": id, "Resource": "arn:aws:s3:::nothing", "Owner": "a team",
            "Reason": "a test", "ExpiresAt": until,
        });
        let (status, answer) = self.asks(&add).await;
        let remove = json!({ "Operation": "ExemptionRemove", "Id": id, "Reason": "a test" });
        if status != 200 || !self.done(remove).await {
            return false;
        }
        let records = self.ledger(self.bed.organisation.administrator.id.as_str()).await;
        records
            .iter()
            .any(|record| record["RemediationId"] == answer["RemediationId"] && record["NotificationSent"] == true)
    }

    async fn closes(&self) -> bool {
        let scope = "control:Lambda.1";
        let hour = hour(jiff::Timestamp::now().as_millisecond());
        let count = format!("count#{scope}#{hour}");
        for item in [
            json!({
                "Key": { "S": format!("breaker#{scope}") }, "Version": { "N": "1" }, "OpenedAt": { "N": "1" },
                "Reason": { "S": "a test" }, "ProbeAt": { "N": "9000000000000" }, "ForgivenUntil": { "N": "0" },
            }),
            json!({ "Key": { "S": count } }),
        ] {
            self.admin_call("dynamodb", "PutItem", json!({ "TableName": names::STATE_TABLE, "Item": item })).await;
        }
        let close = json!({ "Operation": "BreakerClose", "Scope": scope, "Reason": "a test" });
        self.done(close).await && self.state_value(&count).await.is_none()
    }

    async fn redrives(&self, queue: &str, body: &str) -> bool {
        let id = self.put_message(queue, body).await;
        self.done(json!({ "Operation": "DlqRedrive", "MessageId": id, "Reason": "a test" })).await
    }

    /// Puts a message into a queue; its id.
    async fn put_message(&self, queue: &str, body: &str) -> Value {
        let url = self.queue_url(queue).await;
        let mut sent = self.admin_call("sqs", "SendMessage", json!({ "QueueUrl": url, "MessageBody": body })).await;
        sent["MessageId"].take()
    }

    /// HTTP status, and where the plan's findings are put aside.
    async fn plans(&self, account: &str) -> (u16, String) {
        let name = format!("c-{}", Uuid::new_v4().simple());
        let plan = json!({
            "Operation": "CampaignPlan", "Name": name, "Control": "S3.8", "Accounts": [account], "PerHour": 1,
            "Reason": "a test",
        });
        (self.asks(&plan).await.0, format!("campaign#{name}#"))
    }
}

/// A body that no other message has.
fn unique(mut event: Value) -> String {
    event["id"] = json!(Uuid::new_v4());
    event.to_string()
}
