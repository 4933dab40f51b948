//! An outcome that comes again over a state table changed by hand: what happens seldom, made to happen.

use redress_common::ids::ClaimKey;
use redress_common::names;
use serde_json::{Value, json};

use crate::ask::{Ended, Target};
use crate::world::World;

/// What an outcome meets when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// It is the probe of its control's open breaker, and a finding waits for its slot.
    Waiting,
    /// Another remediation has its claim.
    Successor,
}

impl World {
    /// Makes the outcome of a remediation that ended well one that was never recorded, and brings it again.
    ///
    /// # Panics
    /// When the remediation left no claim.
    #[expect(clippy::panic, reason = "the tests' own housekeeping")]
    pub async fn comes_again(&self, target: &Target, done: &Ended, met: Met) {
        let mut claim = self.state_item(&claim_key(self.region(), target)).await;
        if claim["RemediationId"]["S"] != *done.id {
            panic!("{target:?} is not claimed by {}: {claim}", done.id);
        }
        claim["Status"] = json!({ "S": "Leased" });
        claim["State"] = json!({ "S": "Claimed" });
        claim["Ended"] = json!({ "L": [] });
        match met {
            Met::Successor => claim["RemediationId"] = json!({ "S": uuid::Uuid::new_v4().to_string() }),
            Met::Waiting => self.let_wait(target, done).await,
        }
        self.put_item(names::STATE_TABLE, claim).await;
        let event = json!({
            "version": "0", "id": uuid::Uuid::new_v4().to_string(), "source": "aws.ssm",
            "detail-type": "EC2 Automation Execution Status-change Notification", "account": target.account,
            "region": self.region(), "resources": [],
            "detail": {
                "ExecutionId": done.last()["Detail"]["ExecutionId"], "Definition": names::CONTROL_DOCUMENT,
                "Status": "Success",
            },
        });
        let url = self.queue_url(names::COMPLETIONS_QUEUE).await;
        self.admin_call("sqs", "SendMessage", json!({ "QueueUrl": url, "MessageBody": event.to_string() })).await;
    }

    async fn let_wait(&self, target: &Target, done: &Ended) {
        let breaker = json!({
            "Key": { "S": format!("breaker#control:{}", target.control) }, "Version": { "N": "1" },
            "OpenedAt": { "N": "1" }, "Reason": { "S": "a test" }, "ProbeAt": { "N": "9000000000000" },
            "Probe": { "S": done.id }, "ForgivenUntil": { "N": "0" },
        });
        self.put_item(names::STATE_TABLE, breaker).await;
        self.somebody_waits(&target.account).await;
    }

    /// A finding that needs nothing waits for a place in an account; where it waits.
    pub async fn somebody_waits(&self, account: &str) -> String {
        let place = format!("flight#{account}#{}", self.region());
        let mut flight = self.state_item(&place).await;
        if flight.is_null() {
            flight = json!({ "Key": { "S": place }, "Version": { "N": "1" }, "Running": { "M": {} } });
        }
        flight["Waiting"] = json!({ "BOOL": true });
        self.put_item(names::STATE_TABLE, flight).await;
        // A resource that complies: whoever takes it from the queue has nothing to do.
        let body = crate::raw::config_event(account, self.region(), "nothing", jiff::Timestamp::now());
        let body = body.to_string().replace("NON_COMPLIANT", "COMPLIANT");
        let waiting = json!({
            "Place": { "S": place }, "Order": { "S": "000#1" }, "Body": { "S": body },
            "ExpiresAt": { "N": "9000000000" },
        });
        self.put_item(names::BACKLOG_TABLE, waiting).await;
        place
    }

    /// No place is free in an account; which.
    pub async fn no_place(&self, account: &str) -> String {
        let place = format!("flight#{account}#{}", self.region());
        let until = json!({ "N": "9000000000000" });
        let running: serde_json::Map<String, Value> =
            (0..80).map(|_| (uuid::Uuid::new_v4().to_string(), until.clone())).collect();
        let full = json!({ "Key": { "S": place }, "Version": { "N": "1" }, "Running": { "M": running } });
        self.put_item(names::STATE_TABLE, full).await;
        place
    }

    /// Every place is free again, and nothing waits.
    pub async fn free_places(&self, place: &str) {
        self.delete_item(names::STATE_TABLE, json!({ "Key": { "S": place } })).await;
        for order in self.turns(place).await {
            let key = json!({ "Place": { "S": place }, "Order": { "S": order } });
            self.delete_item(names::BACKLOG_TABLE, key).await;
        }
    }

    /// The turns of what waits for a place.
    pub async fn turns(&self, place: &str) -> Vec<String> {
        let order = |item: &Value| item["Order"]["S"].as_str().map(str::to_owned);
        self.waiting(place).await.iter().filter_map(order).collect()
    }

    /// What waits for a place, in its turn.
    pub async fn waiting(&self, place: &str) -> Vec<Value> {
        let asked = json!({
            "TableName": names::BACKLOG_TABLE, "KeyConditionExpression": "Place = :p",
            "ExpressionAttributeValues": { ":p": { "S": place } }, "ConsistentRead": true,
        });
        let mut found = self.admin_call("dynamodb", "Query", asked).await;
        serde_json::from_value(found["Items"].take()).unwrap_or_default()
    }

    /// Writes an attribute of the settings past the api; what was there, null for nothing.
    pub async fn set_setting(&self, name: &str, value: Value) -> Value {
        let mut settings = self.state_item("settings").await;
        let before = settings[name].take();
        settings[name] = value;
        if let Some(item) = settings.as_object_mut() {
            item.retain(|_, value| !value.is_null());
        }
        self.put_item(names::STATE_TABLE, settings).await;
        before
    }

    /// What is known of an account is forgotten.
    pub async fn forget_account(&self, account: &str) {
        self.delete_item(names::STATE_TABLE, json!({ "Key": { "S": format!("account#{account}") } })).await;
    }

    async fn delete_item(&self, table: &str, key: Value) {
        self.admin_call("dynamodb", "DeleteItem", json!({ "TableName": table, "Key": key })).await;
    }

    /// An item of the state table as DynamoDB writes it; null when there is none.
    async fn state_item(&self, key: &str) -> Value {
        let asked = json!({
            "TableName": names::STATE_TABLE, "Key": { "Key": { "S": key } }, "ConsistentRead": true,
        });
        self.admin_call("dynamodb", "GetItem", asked).await["Item"].clone()
    }

    async fn put_item(&self, table: &str, item: Value) {
        self.admin_call("dynamodb", "PutItem", json!({ "TableName": table, "Item": item })).await;
    }
}

/// The key of the claim on a resource.
///
/// # Panics
/// When it is none.
#[must_use]
#[expect(clippy::panic, reason = "the tests' own housekeeping")]
pub fn claim_key(region: &str, target: &Target) -> String {
    match (target.account.parse(), region.parse(), target.control.parse(), target.arn.parse()) {
        (Ok(account), Ok(region), Ok(control), Ok(arn)) => {
            format!("claim#{}", ClaimKey::new(&account, &region, &control, &arn).hex())
        }
        _ => panic!("{target:?} in {region} has no claim"),
    }
}
