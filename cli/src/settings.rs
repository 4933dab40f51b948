//! What is in force: policy set and main switch. A change and its ledger record are one transaction.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Dynamo, Store as _, encode_record};
use redress_common::aws::state_table::{self, KEY, PolicySetName, Settings as InForce, StateKey, Switch};
use redress_common::ids::RemediationId;
use redress_common::ledger::{RecordDraft, RemediationType, chain, detail};
use redress_common::names;
use redress_common::state::State;
use serde::Serialize;

use crate::args::{PolicySet, Reason, Settings};
use crate::aws::{Connection, Identity};
use crate::output::{Answer, Style};
use crate::problem::Problem;

/// As long as the functions keep theirs by default: a record that outlived its neighbours would look like a gap.
const RETENTION_SECONDS: i64 = 90 * 86_400;
const ATTEMPTS: usize = 5;

pub(crate) async fn run(command: Settings, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    match command {
        Settings::Show => show(connection, style).await,
        Settings::Set { policy_set, reason } => {
            change("PolicySet", policy_set.name().as_str(), &reason, connection, style).await
        }
    }
}

/// Sets the main switch.
pub(crate) async fn switch(
    to: &'static str,
    reason: &Reason,
    connection: &Connection,
    style: Style,
) -> Result<Answer, Problem> {
    change("Switch", to, reason, connection, style).await
}

impl PolicySet {
    const fn name(self) -> PolicySetName {
        match self {
            Self::Observe => PolicySetName::Observe,
            Self::Pilot => PolicySetName::Pilot,
            Self::Standard => PolicySetName::Standard,
        }
    }
}

fn reading(error: &dyn std::error::Error) -> Problem {
    Problem::aws("read the settings", error)
}

async fn show(connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let client = aws_sdk_dynamodb::Client::new(&connection.config);
    let snapshot = state_table::read(&client, names::STATE_TABLE, &[StateKey::Settings]).await;
    let settings = snapshot.map_err(|error| reading(&error))?.settings().map_err(|error| {
        reading(&error).help(
            "while the settings cannot be read, Redress changes nothing; set them again with `redress settings set`",
        )
    })?;
    Answer::new(&settings, render(&settings, style))
}

fn render(settings: &InForce, style: Style) -> String {
    let pilots = settings.pilot_accounts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let effect = match (settings.switch, settings.policy_set) {
        (Switch::Off, _) => "nothing is started",
        (Switch::Observe, _) | (Switch::On, PolicySetName::Observe) => "people are told; nothing is changed",
        (Switch::On, PolicySetName::Pilot) => "what is reversible is changed, in the pilot accounts",
        (Switch::On, PolicySetName::Standard) => "what is reversible is changed",
    };
    style.fields(&[
        ("Switch", word(&settings.switch)),
        ("Policy set", settings.policy_set.as_str().to_owned()),
        ("Pilot accounts", pilots),
        ("In effect", effect.to_owned()),
    ])
}

/// A setting as the table writes it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Writes one setting and the record of it, both or neither.
async fn change(
    name: &'static str,
    value: &str,
    reason: &Reason,
    connection: &Connection,
    style: Style,
) -> Result<Answer, Problem> {
    let doing = format!("set {name} to `{value}`");
    let failed = |error: &dyn std::error::Error| Problem::aws(&doing, error);
    let client = aws_sdk_dynamodb::Client::new(&connection.config);
    let store = Dynamo::new(client.clone(), names::STATE_TABLE, names::AUDIT_TABLE);
    let identity = connection.identity().await?;
    let key = StateKey::Chain(identity.account.clone());
    for attempt in 1.. {
        let from = store.read(std::slice::from_ref(&key)).await.map_err(|error| failed(&error))?;
        let from = from.head(&identity.account).map_err(|error| failed(&error))?;
        let draft = draft(name, value, &reason.reason, &identity, connection);
        let (records, to) = chain(&identity.account, &from, vec![draft]);
        let mut writes = vec![
            TransactWriteItem::builder()
                .update(update(name, value, &reason.reason, &identity).map_err(|error| failed(&error))?)
                .build(),
        ];
        let head = state_table::encode(&key, &to).map_err(|error| failed(&error))?;
        let condition = state_table::head_condition(&from);
        let head = Put::builder()
            .table_name(names::STATE_TABLE)
            .set_item(Some(head))
            .condition_expression(condition.text)
            .set_expression_attribute_names(Some(condition.names))
            .set_expression_attribute_values((!condition.values.is_empty()).then_some(condition.values));
        writes.push(TransactWriteItem::builder().put(head.build().map_err(|error| failed(&error))?).build());
        for record in &records {
            let put = Put::builder()
                .table_name(names::AUDIT_TABLE)
                .set_item(Some(encode_record(record).map_err(|error| failed(&error))?))
                .condition_expression("attribute_not_exists(RemediationId)");
            writes.push(TransactWriteItem::builder().put(put.build().map_err(|error| failed(&error))?).build());
        }
        match client.transact_write_items().set_transact_items(Some(writes)).send().await {
            Ok(_) => break,
            // Another writer appended to the chain meanwhile.
            Err(error)
                if attempt < ATTEMPTS
                    && error.as_service_error().is_some_and(|error| error.is_transaction_canceled_exception()) => {}
            Err(error) => return Err(failed(&AwsFailure::of("dynamodb:TransactWriteItems", &error))),
        }
    }
    show(connection, style).await
}

fn update(
    name: &str,
    value: &str,
    reason: &str,
    identity: &Identity,
) -> Result<Update, aws_sdk_dynamodb::error::BuildError> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    Update::builder()
        .table_name(names::STATE_TABLE)
        .key(KEY, text(&StateKey::Settings.to_string()))
        .update_expression("SET #name = :value, ChangedAt = :at, ChangedBy = :by, ChangeReason = :reason")
        .expression_attribute_names("#name", name)
        .expression_attribute_values(":value", text(value))
        .expression_attribute_values(":at", text(&Timestamp::now().to_string()))
        .expression_attribute_values(":by", text(identity.arn.as_str()))
        .expression_attribute_values(":reason", text(reason))
        .build()
}

fn draft(name: &str, value: &str, reason: &str, identity: &Identity, connection: &Connection) -> RecordDraft {
    let now = Timestamp::now();
    let table = format!("table/{}", names::STATE_TABLE);
    let resource =
        format!("arn:{}:dynamodb:{}:{}:{table}", connection.partition(), connection.region, identity.account);
    let request = uuid::Uuid::new_v4();
    RecordDraft {
        remediation_id: RemediationId::of_rejected(request.as_bytes()),
        timestamp: now.as_millisecond(),
        finding_id: format!("redress/{request}"),
        account_id: identity.account.clone(),
        resource_type: "AWS::DynamoDB::Table".to_owned(),
        resource_id: resource,
        remediation_type: RemediationType::Manual,
        remediation_action: format!("Set {name} to {value}"),
        execution_status: State::Verified,
        executor_arn: identity.arn.to_string(),
        error_message: String::new(),
        execution_duration: 0,
        notification_sent: false,
        detail: BTreeMap::from([
            (detail::REASON.to_owned(), reason.to_owned()),
            (detail::REQUESTED_BY.to_owned(), identity.arn.to_string()),
            (detail::EVENT_TIME.to_owned(), now.to_string()),
            (detail::TITLE.to_owned(), format!("Set {name} to {value}")),
        ]),
        expires_at: now.as_second() + RETENTION_SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_line_offers_are_the_policy_sets_that_there_are() {
        use clap::ValueEnum as _;
        let offered: Vec<&str> = PolicySet::value_variants().iter().map(|set| set.name().as_str()).collect();
        assert_eq!(offered, PolicySetName::ALL.map(PolicySetName::as_str));
    }

    #[test]
    fn the_text_says_what_the_settings_amount_to() {
        let text = |switch, policy_set| render(&InForce { switch, policy_set, ..InForce::default() }, Style::PLAIN);
        assert!(text(Switch::Off, PolicySetName::Standard).contains("nothing is started"));
        assert!(text(Switch::On, PolicySetName::Observe).contains("nothing is changed"));
        assert!(text(Switch::On, PolicySetName::Standard).contains("what is reversible is changed"));
    }
}
