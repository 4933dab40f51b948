//! `contain_rds_snapshot`: nobody but the account restores a snapshot of a database.
//!
//! Takes back from everybody, and from every account, what lets them restore it; the undo gives exactly that back. What was
//! restored or copied meanwhile is theirs, and nobody can take it back.

use async_trait::async_trait;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::native::rds::{self, each};
use crate::native::{Declared, Native, NativeError, planned, typed, untyped};
use crate::wire::{Operation, Wire};

/// What this playbook is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "contain_rds_snapshot",
    reads: &["rds:DescribeDBClusterSnapshotAttributes", "rds:DescribeDBSnapshotAttributes"],
    changes: &["rds:ModifyDBClusterSnapshotAttribute", "rds:ModifyDBSnapshotAttribute"],
    make: |clients, request| Ok(Box::new(ContainSnapshot::new(clients.wire.clone(), request)?)),
};

static DESCRIBE: Operation = rds::operation("DescribeDBSnapshotAttributes");
static MODIFY: Operation = rds::operation("ModifyDBSnapshotAttribute");
static DESCRIBE_OF_CLUSTER: Operation = rds::operation("DescribeDBClusterSnapshotAttributes");
static MODIFY_OF_CLUSTER: Operation = rds::operation("ModifyDBClusterSnapshotAttribute");

/// The attribute that lets others restore.
const RESTORE: &str = "restore";
/// The error codes of one that is not there: the API reference and its model do not agree.
const MISSING: [&str; 4] =
    ["DBSnapshotNotFound", "DBSnapshotNotFoundFault", "DBClusterSnapshotNotFound", "DBClusterSnapshotNotFoundFault"];

/// Snapshots of instances and of clusters are the same under other names.
#[derive(Debug)]
struct Kind {
    /// What stands in an ARN.
    arn: &'static str,
    /// What its members' names begin with.
    of: &'static str,
    describe: &'static Operation,
    modify: &'static Operation,
}

static KINDS: [Kind; 2] = [
    Kind { arn: "snapshot:", of: "DBSnapshot", describe: &DESCRIBE, modify: &MODIFY },
    Kind {
        arn: "cluster-snapshot:",
        of: "DBClusterSnapshot",
        describe: &DESCRIBE_OF_CLUSTER,
        modify: &MODIFY_OF_CLUSTER,
    },
];

/// The playbook on one snapshot.
#[derive(Debug)]
struct ContainSnapshot {
    wire: Wire,
    kind: &'static Kind,
    /// Its whole id: that of an automated one has a colon.
    id: String,
}

impl ContainSnapshot {
    fn new(wire: Wire, request: &RemediateRequest) -> Result<Self, NativeError> {
        let resource = request.job.resource_arn.resource();
        let found = KINDS.iter().find_map(|kind| Some((kind, resource.strip_prefix(kind.arn)?)));
        let (kind, id) = found.ok_or(NativeError::Refused("the ARN names no snapshot of RDS"))?;
        Ok(Self { wire, kind, id: id.to_owned() })
    }

    fn id_of(&self) -> String {
        format!("{}Identifier", self.kind.of)
    }

    /// A call that gives these accounts the right to restore, or takes it from them.
    fn modify(&self, how: &str, accounts: &[&str]) -> Result<Option<Call>, NativeError> {
        if accounts.is_empty() {
            return Ok(None);
        }
        let with = json!({
            self.id_of(): self.id, "AttributeName": RESTORE, how: { "AttributeValue": accounts },
        });
        planned(&DECLARED, "rds", self.kind.modify.name, &with).map(Some)
    }
}

#[async_trait]
impl Native for ContainSnapshot {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let input = json!({ self.id_of(): self.id });
        let answer = match rds::call(&self.wire, self.kind.describe, &input).await {
            Err(failure) if failure.code().is_some_and(|code| MISSING.contains(&code)) => return Ok(None),
            answer => answer?,
        };
        let of = self.kind.of;
        let attributes = &answer[format!("{of}AttributesResult")][format!("{of}Attributes")];
        let restore = each(attributes, &format!("{of}Attribute"));
        let restore = restore.into_iter().filter(|attribute| attribute["AttributeName"] == RESTORE);
        let values = restore.flat_map(|attribute| each(&attribute["AttributeValues"], "AttributeValue"));
        let mut shared_with: Vec<String> = values.filter_map(Value::as_str).map(str::to_owned).collect();
        shared_with.sort();
        let state = State { shared_with };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let all: Vec<&str> = state.shared_with.iter().map(String::as_str).collect();
        Ok(Change(self.modify("ValuesToRemove", &all)?.into_iter().collect()))
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "the state", DECLARED.name)?;
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let lost = self.modify("ValuesToAdd", &without(&before, &now))?;
        let new = self.modify("ValuesToRemove", &without(&now, &before))?;
        Ok(Change(lost.into_iter().chain(new).collect()))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        if call.operation != self.kind.modify.name {
            return Err(NativeError::Form { what: "a call", native: DECLARED.name });
        }
        Ok(rds::call(&self.wire, self.kind.modify, &call.parameters).await.map(drop)?)
    }
}

/// Whom the one is shared with and the other is not.
fn without<'a>(one: &'a State, other: &State) -> Vec<&'a str> {
    one.shared_with.iter().filter(|account| !other.shared_with.contains(account)).map(String::as_str).collect()
}

/// The image's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    /// Accounts, and `all` for everybody.
    shared_with: Vec<String>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{FakeAws, request};

    const OF_INSTANCE: &str = "arn:aws:rds:eu-central-1:111122223333:snapshot:rds:orders-2026-03-02-04-15";
    const OF_CLUSTER: &str = "arn:aws:rds:eu-central-1:111122223333:cluster-snapshot:orders-final";

    fn native(aws: &FakeAws, arn: &str) -> Result<ContainSnapshot, NativeError> {
        ContainSnapshot::new(Wire::new(aws.config()), &request(DECLARED.name, arn, json!({})))
    }

    fn attributes(aws: &FakeAws, of: &str, accounts: &[&str]) {
        let values: String =
            accounts.iter().map(|account| format!("<AttributeValue>{account}</AttributeValue>")).collect();
        aws.answer(
            &format!("Describe{of}Attributes"),
            200,
            &format!(
                "<Describe{of}AttributesResponse><Describe{of}AttributesResult><{of}AttributesResult>\
                 <{of}Identifier>x</{of}Identifier><{of}Attributes><{of}Attribute><AttributeName>restore</AttributeName>\
                 <AttributeValues>{values}</AttributeValues></{of}Attribute></{of}Attributes></{of}AttributesResult>\
                 </Describe{of}AttributesResult></Describe{of}AttributesResponse>"
            ),
        );
    }

    fn image(accounts: &[&str]) -> Image {
        Image { present: true, state: json!({ "SharedWith": accounts }) }
    }

    /// What RDS does with the calls.
    fn applied(image: &Image, change: &Change) -> Image {
        let named = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap_or_default() };
        let mut accounts = named(&image.state["SharedWith"]);
        for call in &change.0 {
            let removed = named(&call.parameters["ValuesToRemove"]["AttributeValue"]);
            accounts.retain(|account| !removed.contains(account));
            accounts.extend(named(&call.parameters["ValuesToAdd"]["AttributeValue"]));
        }
        accounts.sort();
        Image { present: true, state: json!({ "SharedWith": accounts }) }
    }

    #[tokio::test]
    async fn nobody_else_restores_it_until_it_is_let_go() {
        for (arn, of, id) in [
            (OF_INSTANCE, "DBSnapshot", "rds:orders-2026-03-02-04-15"),
            (OF_CLUSTER, "DBClusterSnapshot", "orders-final"),
        ] {
            let aws = FakeAws::default();
            attributes(&aws, of, &["all", "444455556666"]);
            let native = native(&aws, arn).unwrap();
            let before = native.inspect().await.unwrap().unwrap();
            assert_eq!(before, image(&["444455556666", "all"]));
            let change = native.plan(&before).unwrap();
            assert_eq!(change.0.len(), 1);
            let name = format!("Modify{of}Attribute");
            aws.answer(&name, 200, &format!("<{name}Response/>"));
            native.call(&change.0[0]).await.unwrap();
            let sent = String::from_utf8(aws.seen().pop().unwrap().body).unwrap();
            assert!(sent.contains(&format!("{of}Identifier={}", id.replace(':', "%3A"))), "{sent}");
            assert!(sent.contains("ValuesToRemove.AttributeValue.1=444455556666"), "{sent}");
            assert!(sent.contains("ValuesToRemove.AttributeValue.2=all"), "{sent}");
        }
    }

    #[tokio::test]
    async fn a_private_or_a_missing_one_is_left_alone() {
        let aws = FakeAws::default();
        attributes(&aws, "DBSnapshot", &[]);
        let native = native(&aws, OF_INSTANCE).unwrap();
        assert!(native.compliant(&native.inspect().await.unwrap().unwrap()));
        aws.answer(
            "DescribeDBSnapshotAttributes",
            404,
            "<ErrorResponse><Error><Code>DBSnapshotNotFound</Code></Error></ErrorResponse>",
        );
        assert_eq!(native.inspect().await.unwrap(), None);
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        assert!(native(&FakeAws::default(), "arn:aws:rds:eu-central-1:111122223333:db:orders").is_err());
    }

    proptest! {
        #[test]
        fn contained_twice_is_once_and_let_go_is_as_before(
            accounts in proptest::collection::btree_set(prop_oneof![Just("all".to_owned()), "[0-9]{12}"], 0..5),
        ) {
            let native = native(&FakeAws::default(), OF_INSTANCE).unwrap();
            let before = image(&accounts.iter().map(String::as_str).collect::<Vec<_>>());
            let after = applied(&before, &native.plan(&before).unwrap());
            prop_assert!(native.compliant(&after));
            prop_assert_eq!(applied(&after, &native.plan_restore(&after, &before).unwrap()), before);
        }
    }
}
