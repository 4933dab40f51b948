//! What is in force: policy set, switches, limits. Shows the settings item; the api changes it.

use std::fmt::Display;

use redress_common::aws::state_table::{self, StateKey};
use redress_common::ids::AccountId;
use redress_common::items::settings::{Limits, PolicySetName, Settings as InForce, Switch};
use redress_common::names;
use redress_common::operate::{Listing, Request, SwitchScope};
use redress_common::time::seconds;
use serde_json::json;

use crate::api;
use crate::args::{PolicySet, Settings, SettingsSet, Switching};
use crate::aws::Connection;
use crate::breaker::{self, Listed};
use crate::output::{Answer, Style};
use crate::problem::Problem;

pub(crate) async fn run(command: Settings, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    match command {
        Settings::Show => show(connection, style).await,
        Settings::Set(set) => change(set, connection, style).await,
    }
}

/// Sets the main switch, or that of a scope.
pub(crate) async fn switch(
    to: Switch,
    what: Switching,
    connection: &Connection,
    style: Style,
) -> Result<Answer, Problem> {
    let scope = SwitchScope { account: what.account, ou: what.ou, control: what.control };
    changed(&Request::Switch { to, scope, reason: what.reason.reason }, connection, style).await
}

async fn change(set: SettingsSet, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let nothing = set.policy_set.is_none()
        && set.pilot_accounts.is_none()
        && set.time_zone.is_none()
        && set.change_calendars.is_none()
        && set.limits.is_empty();
    if nothing {
        return Err(Problem::failed("no setting is given").help("`redress settings set --help` lists them"));
    }
    let pilot_accounts: Option<Vec<AccountId>> = set.pilot_accounts.as_deref().map(list).transpose()?;
    let request = Request::Settings {
        policy_set: set.policy_set.map(PolicySet::name),
        pilot_accounts,
        time_zone: set.time_zone,
        change_calendars: set.change_calendars.as_deref().map(list).transpose()?,
        limits: set.limits.into_iter().collect(),
        reason: set.reason.reason,
    };
    changed(&request, connection, style).await
}

/// The values of a list with commas.
fn list<T>(text: &str) -> Result<Vec<T>, Problem>
where
    T: std::str::FromStr,
    T::Err: Display,
{
    let values = text.split(',').map(str::trim).filter(|value| !value.is_empty());
    values.map(|value| value.parse().map_err(|error: T::Err| Problem::failed(error.to_string()))).collect()
}

/// Asks for a change, and shows what is in force then.
async fn changed(request: &Request, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let answer = api::call(connection, request).await?;
    let settings: InForce = serde_json::from_value(answer["Settings"].clone())
        .map_err(|error| Problem::aws("read the api's answer", &error))?;
    let id = answer["RemediationId"].as_str().unwrap_or_default().to_owned();
    let written = if answer["Changed"] == false { "nothing had to be changed".to_owned() } else { id };
    let text = render(&settings, &[], style) + &style.fields(&[("Ledger record", written)]);
    Answer::new(&answer, text)
}

impl PolicySet {
    pub(crate) const fn name(self) -> PolicySetName {
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
            "while the settings cannot be read, Redress changes nothing; docs/operate.md, \"Break glass\", mends them",
        )
    })?;
    // What is in force can be told without the api, too: it may be what is broken.
    let open = match breaker::all(connection).await {
        Ok(breakers) => breakers.into_iter().filter(Listed::is_open).collect(),
        Err(problem) => {
            tracing::warn!("the breakers are not known: {}", problem.plain());
            Vec::new()
        }
    };
    let mut data = json!(settings);
    data["OpenBreakers"] = json!(open);
    Answer::new(&data, render(&settings, &open, style))
}

fn render(settings: &InForce, open: &[Listed], style: Style) -> String {
    let effect = match (settings.switch, settings.policy_set) {
        (Switch::Off, _) => "nothing is started",
        (Switch::Observe, _) | (Switch::On, PolicySetName::Observe) => "people are told; nothing is changed",
        (Switch::On, PolicySetName::Pilot) => "what is reversible is changed, in the pilot accounts",
        (Switch::On, PolicySetName::Standard) => "what is reversible is changed",
        (Switch::On, PolicySetName::Custom) => "your own policies decide",
    };
    let joined = |values: Vec<String>| values.join(", ");
    let changed = match &settings.changed_at {
        Some(at) => {
            let why =
                if settings.change_reason.is_empty() { String::new() } else { format!(": {}", settings.change_reason) };
            format!("{} by {}{why}", seconds(*at), settings.changed_by)
        }
        None => String::new(),
    };
    style.fields(&[
        ("Switch", settings.switch.as_str().to_owned()),
        ("Scoped switches", joined(scoped(settings))),
        ("Policy set", settings.policy_set.as_str().to_owned()),
        ("Pilot accounts", joined(settings.pilot_accounts.iter().map(ToString::to_string).collect())),
        ("In effect", effect.to_owned()),
        ("Acts on what failed since", settings.acting_since.map(seconds).unwrap_or_default()),
        ("Time zone", settings.time_zone.clone().unwrap_or_else(|| "UTC".to_owned())),
        ("Change calendars", joined(settings.change_calendars.iter().map(ToString::to_string).collect())),
        ("Limits", limits(&settings.limits)),
        ("Open breakers", joined(open.iter().map(|breaker| breaker.scope.clone()).collect())),
        ("Changed", changed),
    ])
}

fn scoped(settings: &InForce) -> Vec<String> {
    let line = |kind: &str, name: &dyn Display, switch: &Switch| format!("{} for {kind} {name}", switch.as_str());
    let accounts = settings.accounts.iter().map(|(account, switch)| line("account", account, switch));
    let ous = settings.ous.iter().map(|(ou, switch)| line("unit", ou, switch));
    let controls = settings.controls.iter().map(|(control, switch)| line("control", control, switch));
    accounts.chain(ous).chain(controls).collect()
}

fn limits(limits: &Limits) -> String {
    format!(
        "{} at a time in an account and Region; {} an hour in an account, {} in all; a control stops at {} % of at least {} failing, for {} s; an approval waits {} s",
        limits.in_flight,
        limits.account_per_hour,
        limits.organisation_per_hour,
        limits.control_failure_percent,
        limits.control_minimum,
        limits.cool_down_seconds,
        limits.approval_seconds
    )
}

/// What the api lists, as the items of their type.
pub(crate) async fn listed<T: serde::de::DeserializeOwned>(
    what: Listing,
    connection: &Connection,
) -> Result<Vec<T>, Problem> {
    let answer = api::call(connection, &Request::List { what }).await?;
    serde_json::from_value(answer["Items"].clone()).map_err(|error| Problem::aws("read the api's answer", &error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
        let text =
            |switch, policy_set| render(&InForce { switch, policy_set, ..InForce::default() }, &[], Style::PLAIN);
        assert!(text(Switch::Off, PolicySetName::Standard).contains("nothing is started"));
        assert!(text(Switch::On, PolicySetName::Observe).contains("nothing is changed"));
        assert!(text(Switch::On, PolicySetName::Standard).contains("what is reversible is changed"));
    }

    #[test]
    fn the_text_shows_scoped_switches_limits_and_open_breakers() {
        let settings = InForce {
            accounts: [("111122223333".parse().unwrap(), Switch::Off)].into(),
            ous: [("ou-ab12-cd34ef56".to_owned(), Switch::Observe)].into(),
            changed_at: Some("2026-03-01T12:00:00Z".parse().unwrap()),
            changed_by: "arn:aws:sts::999999999999:assumed-role/Redress-Operator/jo".to_owned(),
            change_reason: "they migrate".to_owned(),
            ..InForce::default()
        };
        let open = Listed { scope: "control:S3.8".to_owned(), breaker: Default::default() };
        insta::assert_snapshot!(render(&settings, &[open], Style::PLAIN));
    }

    #[test]
    fn lists_are_separated_by_commas() {
        assert_eq!(list::<AccountId>("111122223333, 444455556666").unwrap().len(), 2);
        assert!(list::<AccountId>("").unwrap().is_empty());
        assert!(list::<AccountId>("x").is_err());
    }
}
