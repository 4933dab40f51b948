//! The health gate between two waves: is every account of the wave in working order, and does nothing ring?
//!
//! The proof is a dry run in each account and Region: the way there (role, ExternalId), the runbook, the functions and
//! the way back have to work for its outcome to be in the ledger. It changes nothing.

use std::time::Duration;

use aws_types::SdkConfig;
use redress_common::arn::{Arn, Partition};
use redress_common::contract::{Mode, Outcome};
use redress_common::ids::{AccountId, ControlId, Region};
use redress_common::names;
use redress_member::wire::{Operation, Protocol, Service, Wire};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::settings::Settings;
use crate::aws::{Connection, assume};
use crate::ledger::Ledger;
use crate::problem::Problem;
use crate::request::{self, Target};

/// What is asked for: a setting of the whole account and Region, which every one has.
const CONTROL: &str = "EC2.7";
/// How many accounts are asked at a time.
const AT_ONCE: usize = 8;
/// New roles take some seconds until STS knows them; a gate tries again until then.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);
/// A dry run takes seconds.
const PATIENCE: Duration = Duration::from_secs(180);
/// The alarm over all alarms.
const HEALTH: &str = "redress-health";

static CLOUDWATCH: Service = Service {
    name: "cloudwatch",
    signing: "monitoring",
    host: "monitoring",
    protocol: Protocol::Query { version: "2010-08-01", item: ".member" },
};
static DESCRIBE_ALARMS: Operation = CLOUDWATCH.operation("DescribeAlarms");

/// Looks at every account and Region of a wave.
pub(crate) async fn pass(
    config: &SdkConfig,
    settings: &Settings,
    wave: &'static str,
    pairs: Vec<(AccountId, Region)>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), Problem> {
    let operator = operator(config, settings).await?;
    let control: ControlId = CONTROL.parse().map_err(|error| Problem::aws("choose a control", &error))?;
    let all = pairs.len();
    let (mut waiting, mut asked, mut healthy) = (pairs.into_iter(), JoinSet::new(), 0_usize);
    let mut failed = Vec::new();
    loop {
        while asked.len() < AT_ONCE {
            let Some((account, region)) = waiting.next() else { break };
            let (operator, control) = (operator.clone(), control.clone());
            asked.spawn(async move {
                let probed = probe(&operator, &control, &account, &region, wave).await;
                (account, region, probed)
            });
        }
        let Some(done) = asked.join_next().await else { break };
        let (account, region, probed) = done.map_err(|error| Problem::aws("look at an account", &error))?;
        match probed {
            Ok(()) => {
                healthy += 1;
                progress(&format!("gate of wave {wave}: {healthy} of {all} are in working order"));
            }
            Err(why) => failed.push(format!("  {account} {region}: {why}")),
        }
    }
    if !failed.is_empty() {
        failed.sort();
        return Err(Problem::failed(format!("wave {wave} is not in working order:\n{}", failed.join("\n"))).help(
            "nothing was done in the waves after it. `redress deploy doctor` says what is wrong; mend it, then `redress deploy apply` again",
        ));
    }
    let state = health(config).await?;
    if state.as_deref() == Some("ALARM") {
        return Err(Problem::failed(format!("alarm {HEALTH} rings")).help(
            "nothing was done in the waves after this one. docs/monitoring.md says what each alarm means; when it is quiet, `redress deploy apply` again",
        ));
    }
    Ok(())
}

/// The session that operators have.
async fn operator(config: &SdkConfig, settings: &Settings) -> Result<Connection, Problem> {
    let partition = Partition::of_region(&settings.home_region);
    let role = names::role_arn(partition, &settings.administrator, names::OPERATOR_ROLE);
    let credentials = assume(config, &role, "redress-deploy", None).await?;
    let provider = aws_sdk_sts::config::SharedCredentialsProvider::new(credentials);
    let config = config.to_builder().credentials_provider(provider).build();
    Ok(Connection { config, region: settings.home_region.clone(), api_url: None })
}

/// A dry run in an account and Region. What went wrong, otherwise.
async fn probe(
    operator: &Connection,
    control: &ControlId,
    account: &AccountId,
    region: &Region,
    wave: &str,
) -> Result<(), String> {
    let resource = Arn::account_root(operator.partition(), account);
    let target = Target { control: control.clone(), account: account.clone(), region: region.clone(), resource };
    let mut why = String::new();
    for attempt in 0..TRIES {
        tokio::time::sleep(PAUSE * attempt).await;
        let reason = format!("redress deploy: gate of wave {wave}");
        let asked = request::ask_remediation(&target, Mode::DryRun, &reason, operator).await;
        let asked = asked.map_err(|problem| problem.plain())?;
        let records = request::outcome(&asked, &Ledger::new(operator), PATIENCE).await;
        let records = records.map_err(|problem| problem.plain())?;
        let said = request::said(&records).unwrap_or_default();
        if [Outcome::Planned, Outcome::AlreadyCompliant].iter().any(|good| good.as_str() == said) {
            return Ok(());
        }
        why = records.last().map_or_else(String::new, |last| {
            let message = &last.draft.error_message;
            format!("the dry run of {control} ended as {} {said}: {message}", last.draft.execution_status)
        });
    }
    Err(why)
}

/// The state of the alarm over all alarms, if it is there.
async fn health(config: &SdkConfig) -> Result<Option<String>, Problem> {
    let asked = json!({ "AlarmNames": [HEALTH], "AlarmTypes": ["CompositeAlarm"] });
    let answer = Wire::new(config.clone()).call(&DESCRIBE_ALARMS, &asked).await;
    let answer = answer.map_err(|failure| Problem::aws(&format!("look at alarm {HEALTH}"), &failure))?;
    Ok(state(&answer))
}

/// `StateValue` of the one alarm that was asked for, wherever the answer has it.
fn state(answer: &Value) -> Option<String> {
    match answer {
        Value::Object(map) => match map.get("StateValue").and_then(Value::as_str) {
            Some(state) => Some(state.to_owned()),
            None => map.values().find_map(state),
        },
        Value::Array(items) => items.iter().find_map(state),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_alarm_is_found_in_aws_answer() {
        let answer = json!({ "DescribeAlarmsResult": { "CompositeAlarms": { "member": { "AlarmName": HEALTH, "StateValue": "ALARM" } } } });
        assert_eq!(state(&answer).as_deref(), Some("ALARM"));
        assert_eq!(state(&json!({ "DescribeAlarmsResult": { "CompositeAlarms": null } })), None);
    }
}
