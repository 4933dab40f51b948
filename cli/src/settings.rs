//! What is in force: policy set and main switch. Writes the settings item and nothing else: operators may not
//! write the ledger.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::state_table::{self, KEY, PolicySetName, Settings as InForce, StateKey, Switch};
use redress_common::names;
use serde::Serialize;

use crate::args::{PolicySet, Reason, Settings};
use crate::aws::Connection;
use crate::output::{Answer, Style};
use crate::problem::Problem;

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
        (Switch::On, PolicySetName::Custom) => "your own policies decide",
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

/// Writes one setting, and beside it who set it, when and why. The item's history is in CloudTrail's data events.
async fn change(
    name: &str,
    value: &str,
    reason: &Reason,
    connection: &Connection,
    style: Style,
) -> Result<Answer, Problem> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let identity = connection.identity().await?;
    aws_sdk_dynamodb::Client::new(&connection.config)
        .update_item()
        .table_name(names::STATE_TABLE)
        .key(KEY, text(&StateKey::Settings.to_string()))
        .update_expression("SET #name = :value, ChangedAt = :at, ChangedBy = :by, ChangeReason = :reason")
        .expression_attribute_names("#name", name)
        .expression_attribute_values(":value", text(value))
        .expression_attribute_values(":at", text(&Timestamp::now().to_string()))
        .expression_attribute_values(":by", text(identity.as_str()))
        .expression_attribute_values(":reason", text(&reason.reason))
        .send()
        .await
        .map_err(|error| {
            Problem::aws(&format!("set {name} to `{value}`"), &AwsFailure::of("dynamodb:UpdateItem", &error))
        })?;
    show(connection, style).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_line_offers_are_the_policy_sets_that_there_are() {
        use clap::ValueEnum as _;
        let offered: Vec<&str> = PolicySet::value_variants().iter().map(|set| set.name().as_str()).collect();
        assert_eq!(offered, PolicySetName::SHIPPED.map(PolicySetName::as_str));
    }

    #[test]
    fn the_text_says_what_the_settings_amount_to() {
        let text = |switch, policy_set| render(&InForce { switch, policy_set, ..InForce::default() }, Style::PLAIN);
        assert!(text(Switch::Off, PolicySetName::Standard).contains("nothing is started"));
        assert!(text(Switch::On, PolicySetName::Observe).contains("nothing is changed"));
        assert!(text(Switch::On, PolicySetName::Standard).contains("what is reversible is changed"));
    }
}
