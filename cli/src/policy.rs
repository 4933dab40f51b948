//! `redress policy`: which set is in force, whether one is valid, what it says about findings.
//!
//! Nothing is decided here: the answers are [`redress_admin::policy`]'s own. What is to change is asked of the api.

mod diff;
mod input;
mod test;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use redress_admin::policy::{Fact, Policies, PolicyError, SourceProblem, Verdict};
use redress_common::aws::state_table::{self, Settings, Snapshot, StateKey};
use redress_common::items::exemption::Exemptions;
use redress_common::items::policy::PolicyItem;
use redress_common::names;
use redress_common::operate::Request;
use redress_common::time::seconds;
use serde_json::{Value, json};

use crate::api;
use crate::args::{Global, Policy, PolicySet};
use crate::aws::Connection;
use crate::output::{Answer, Style, Tone};
use crate::problem::{Exit, Problem};

pub(crate) async fn run(command: Policy, global: &Global, style: Style) -> Result<Answer, Problem> {
    match command {
        Policy::Show => show(&Connection::new(global).await?, style).await,
        Policy::Check { file, set } => check(&Given::read(file.as_deref(), set)?, style),
        Policy::Set { file, reason } => {
            let given = Given::read(Some(&file), None)?;
            if Policies::load(&given.source).is_err() {
                return check(&given, style);
            }
            let request = Request::PolicySet { source: given.source, reason: reason.reason };
            changed(&request, &Connection::new(global).await?, style).await
        }
        Policy::Rollback { to, reason } => {
            let request = Request::PolicyRollback { to, reason: reason.reason };
            changed(&request, &Connection::new(global).await?, style).await
        }
        Policy::Test(command) => test::run(*command, global, style).await,
        Policy::Diff { set, last, since, account } => {
            let new = Given::read(set.file.as_deref(), set.set)?.load()?;
            diff::run(&new, last, since, account.as_ref(), &Connection::new(global).await?, style).await
        }
    }
}

/// A policy set that the command line names.
struct Given {
    name: String,
    source: String,
}

impl Given {
    fn read(file: Option<&Path>, set: Option<PolicySet>) -> Result<Self, Problem> {
        match (file, set.map(PolicySet::name)) {
            (Some(file), _) => Ok(Self { name: file.display().to_string(), source: input::text(file)? }),
            (None, Some(set)) => {
                let source = redress_admin::policy::source(set).unwrap_or_default().to_owned();
                Ok(Self { name: set.as_str().to_owned(), source })
            }
            (None, None) => Err(Problem::failed("no policy set is given").help("give --file or --set")),
        }
    }

    fn load(&self) -> Result<Loaded, Problem> {
        let policies = Policies::load(&self.source).map_err(|error| {
            Problem::failed(format!("{}: {error}", self.name)).help("`redress policy check` shows it line by line")
        })?;
        Ok(Loaded { name: self.name.clone(), policies: Arc::new(policies) })
    }
}

/// A valid policy set and what it is called.
struct Loaded {
    name: String,
    policies: Arc<Policies>,
}

/// What is in force, as the state table has it.
struct InForce {
    settings: Settings,
    exemptions: Exemptions,
    own: Option<PolicyItem>,
    snapshot: Snapshot,
}

impl InForce {
    /// Reads it, and these items with it.
    async fn read(connection: &Connection, more: &[StateKey]) -> Result<Self, Problem> {
        let failed = |error: &dyn std::error::Error| Problem::aws("read what is in force", error);
        let client = aws_sdk_dynamodb::Client::new(&connection.config);
        let mut keys = vec![StateKey::Settings, StateKey::Exemptions, StateKey::Policy];
        keys.extend(more.iter().cloned());
        let snapshot = state_table::read(&client, names::STATE_TABLE, &keys).await.map_err(|error| failed(&error))?;
        Ok(Self {
            settings: snapshot.settings().map_err(|error| failed(&error))?,
            exemptions: snapshot.exemptions().map_err(|error| failed(&error))?,
            own: snapshot.policy().map_err(|error| failed(&error))?,
            snapshot,
        })
    }

    fn load(&self) -> Result<Loaded, Problem> {
        let name = self.settings.policy_set;
        let policies = Policies::in_force(name, self.own.as_ref()).map_err(|error| {
            Problem::failed(format!(
                "the policy set in force, `{}`, cannot be used, so nothing is changed: {error}",
                name.as_str()
            ))
        })?;
        Ok(Loaded { name: name.as_str().to_owned(), policies })
    }
}

async fn show(connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let in_force = InForce::read(connection, &[]).await?;
    let loaded = in_force.load()?;
    let own = in_force.own.filter(|own| own.sha256 == loaded.policies.sha256());
    let of = |field: fn(&PolicyItem) -> String| own.as_ref().map(field).unwrap_or_default();
    let data = json!({
        "PolicySet": loaded.name,
        "Version": own.as_ref().map(|own| own.version),
        "Sha256": loaded.policies.sha256(),
        "SetBy": own.as_ref().map(|own| &own.set_by),
        "SetAt": own.as_ref().map(|own| own.set_at),
        "Reason": own.as_ref().map(|own| &own.reason),
        "Exemptions": in_force.exemptions.exemptions.len(),
        "Source": loaded.policies.source(),
    });
    let fields = style.fields(&[
        ("Policy set", loaded.name.clone()),
        ("Version", of(|own| own.version.to_string())),
        ("SHA-256", style.hash(loaded.policies.sha256()).to_owned()),
        ("Set by", of(|own| own.set_by.clone())),
        ("Set at", of(|own| seconds(own.set_at))),
        ("Reason", of(|own| own.reason.clone())),
        ("Exemptions", in_force.exemptions.exemptions.len().to_string()),
    ]);
    Answer::new(&data, format!("{fields}\n{}", loaded.policies.source()))
}

/// Asks for a change, and says what is in force after it.
async fn changed(request: &Request, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let answer = api::call(connection, request).await?;
    let of = |part: &str, field: &str| match &answer[part][field] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let own = |field: &str| of("Policy", field);
    let head = if answer["Changed"] == true { "in force from now on" } else { "was in force already" };
    let fields = style.fields(&[
        ("Policy set", of("Settings", "PolicySet")),
        ("Version", own("Version")),
        ("SHA-256", style.hash(&own("Sha256")).to_owned()),
        ("Reason", own("Reason")),
        ("Ledger record", answer["RemediationId"].as_str().unwrap_or_default().to_owned()),
    ]);
    Answer::new(&answer, format!("{}\n{fields}", style.paint(Tone::Good, head)))
}

fn check(given: &Given, style: Style) -> Result<Answer, Problem> {
    match Policies::load(&given.source) {
        Ok(policies) => {
            let facts = policies.needs(&Exemptions::default());
            let data = json!({
                "Valid": true, "Sha256": policies.sha256(), "Policies": policies.ids().collect::<Vec<_>>(), "Needs": facts,
            });
            let count = policies.ids().count();
            let head = format!("{} is valid: {count} {}", given.name, if count == 1 { "policy" } else { "policies" });
            let fields = [
                ("SHA-256", style.hash(policies.sha256()).to_owned()),
                ("Speaks of", facts.iter().map(|fact| fact.as_str()).collect::<Vec<_>>().join(", ")),
            ];
            Answer::new(&data, format!("{}\n{}", style.paint(Tone::Good, &head), style.fields(&fields)))
        }
        Err(PolicyError::Refused(problems)) => {
            let mut text = String::new();
            for problem in &problems {
                line(&mut text, &given.name, problem, style);
            }
            let data = json!({ "Valid": false, "Problems": problems });
            Ok(Answer::new(&data, text)?.exit(Exit::Failed))
        }
        Err(other) => Err(Problem::failed(other.to_string())),
    }
}

/// As compilers write it, so that editors find the place.
fn line(text: &mut String, name: &str, problem: &SourceProblem, style: Style) {
    let place = match problem.line {
        0 => name.to_owned(),
        line => format!("{name}:{line}:{}", problem.column),
    };
    _ = writeln!(text, "{}: {}", style.paint(Tone::Strong, &place), style.paint(Tone::Bad, &problem.message));
    if let Some(help) = &problem.help {
        _ = writeln!(text, "  help: {help}");
    }
}

/// A verdict in a few words.
fn brief(verdict: &Verdict) -> String {
    let mut text = verdict.disposition.as_str().to_owned();
    if verdict.approvers > 1 {
        _ = write!(text, ", {} people", verdict.approvers);
    }
    if verdict.four_eyes {
        text.push_str(", not who asked");
    }
    if verdict.error.is_some() {
        text.push_str(", not sure");
    }
    text
}

const fn tone(verdict: &Verdict) -> Tone {
    use redress_admin::policy::Disposition;
    match verdict.disposition {
        _ if verdict.error.is_some() => Tone::Bad,
        Disposition::Act => Tone::Good,
        Disposition::Approve => Tone::Warning,
        Disposition::Notify | Disposition::Ignore => Tone::Strong,
    }
}

/// Whether the guard could tell what is missing.
fn is_for_guard(missing: &std::collections::BTreeSet<Fact>) -> bool {
    !missing.is_empty() && missing.iter().all(|fact| Fact::OF_GUARD.contains(fact))
}
