//! `redress policy test`: what a set says about a finding, and by which facts.

use redress_admin::intake::Case;
use redress_admin::policy::{self, Asked, Calendar, Explanation, Question, Said};
use redress_common::aws::state_table::StateKey;
use redress_common::contract::GuardEvidence;
use redress_common::items::exemption::Exemptions;
use redress_common::ledger::{Record, detail};
use serde::Serialize;

use super::{Given, InForce, Loaded, brief, input, is_for_guard, tone};
use crate::args::{CalendarIs, Facts, Global, PolicyTest};
use crate::aws::Connection;
use crate::ledger::Ledger;
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::Problem;

/// A finding, and what the set says about it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tested {
    policy_set: String,
    policy_set_sha256: String,
    #[serde(flatten)]
    explanation: Explanation,
    /// What it would be when the guard is asked and finds nothing; only where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    if_guard_finds_nothing: Option<policy::Verdict>,
    question: Asked,
}

pub(super) async fn run(command: PolicyTest, global: &Global, style: Style) -> Result<Answer, Problem> {
    let given = command.set.is_some() || command.file.is_some();
    let given = if given { Some(Given::read(command.file.as_deref(), command.set)?.load()?) } else { None };
    let questions = match (&command.finding, command.remediation) {
        (Some(file), _) => Questions::Cases(input::cases(file)?),
        (None, Some(id)) => {
            let connection = Connection::new(global).await?;
            Questions::Asked(Box::new(recorded(&Ledger::new(&connection).of_remediation(id).await?)?))
        }
        (None, None) => return Err(Problem::failed("no finding is given")),
    };
    let tables = given.is_none() || command.remediation.is_some();
    let in_force = if tables {
        let connection = Connection::new(global).await?;
        Some(InForce::read(&connection, &questions.accounts()).await?)
    } else {
        None
    };
    let loaded = match (given, &in_force) {
        (Some(given), _) => given,
        (None, Some(in_force)) => in_force.load()?,
        (None, None) => return Err(Problem::failed("no policy set is given").help("give --file or --set")),
    };
    let exemptions = in_force.as_ref().map(|in_force| in_force.exemptions.clone()).unwrap_or_default();
    let mut tested = Vec::new();
    for question in questions.asked(in_force.as_ref(), &command.facts)? {
        tested.push(Tested::of(&loaded, question, &exemptions)?);
    }
    let text: Vec<String> = tested.iter().map(|tested| tested.render(style)).collect();
    Answer::new(&tested, text.join("\n"))
}

/// What is asked, before facts of the command line replace what is known.
enum Questions {
    Cases(Vec<(Case, Option<String>)>),
    Asked(Box<Asked>),
}

impl Questions {
    fn accounts(&self) -> Vec<StateKey> {
        match self {
            Self::Cases(cases) => cases.iter().map(|(case, _)| StateKey::Account(case.account.clone())).collect(),
            Self::Asked(_) => Vec::new(),
        }
    }

    fn asked(self, in_force: Option<&InForce>, facts: &Facts) -> Result<Vec<Asked>, Problem> {
        match self {
            Self::Cases(cases) => {
                cases.iter().map(|(case, campaign)| of_case(case, campaign.as_deref(), in_force, facts)).collect()
            }
            Self::Asked(asked) => Ok(vec![replaced(*asked, facts)?]),
        }
    }
}

/// The question of a remediation, as the ledger has it.
fn recorded(records: &[Record]) -> Result<Asked, Problem> {
    let text = records.iter().rev().find_map(|record| record.detail(detail::QUESTION)).ok_or_else(|| {
        Problem::not_found("the ledger does not say what policy was asked about this remediation")
            .help("it was not asked, or a release before this one asked it; give the finding as a file")
    })?;
    Asked::of_text(text).map_err(|error| Problem::aws("read what policy was asked", &error))
}

fn of_case(case: &Case, campaign: Option<&str>, in_force: Option<&InForce>, facts: &Facts) -> Result<Asked, Problem> {
    let settings = in_force.map(|in_force| in_force.settings.clone()).unwrap_or_default();
    let now = facts.at.unwrap_or_else(jiff::Timestamp::now);
    let known = match in_force {
        Some(in_force) => in_force
            .snapshot
            .account(&case.account)
            .map_err(|error| Problem::aws("read the facts of the account", &error))?
            .filter(|facts| facts.is_fresh(now)),
        None => None,
    };
    // Only Redress may ask Systems Manager; say it with --calendar.
    let asked = Question { campaign, account_facts: known.as_ref(), ..case.question(&settings, now) };
    replaced(Asked::from(&asked), facts)
}

fn replaced(mut asked: Asked, facts: &Facts) -> Result<Asked, Problem> {
    if let Some(at) = facts.at {
        asked.now = at;
    }
    if let Some(zone) = &facts.time_zone {
        policy::time_zone(zone).map_err(|error| Problem::failed(error.to_string()))?;
        asked.time_zone = Some(zone.clone());
    }
    if let Some(by) = &facts.by {
        asked.by = policy::Asker::Analyst(by.clone());
        asked.trigger = "Operator".to_owned();
    }
    if let Some(campaign) = &facts.campaign {
        asked.by = policy::Asker::Schedule(campaign.clone());
    }
    asked.pilot |= facts.pilot;
    if let Some(file) = &facts.account_facts {
        asked.account_facts = Some(input::account_facts(file, &asked.account)?);
    }
    if let Some(file) = &facts.evidence {
        asked.evidence = Some(input::evidence(file)?);
    }
    match facts.calendar {
        None => {}
        Some(CalendarIs::None) => asked.calendar = Calendar::None,
        Some(CalendarIs::Open) => asked.calendar = Calendar::Open,
        Some(CalendarIs::Closed) => asked.calendar = Calendar::Closed,
        Some(CalendarIs::Unreadable) => asked.calendar = Calendar::Unreadable,
    }
    Ok(asked)
}

impl Tested {
    fn of(set: &Loaded, question: Asked, exemptions: &Exemptions) -> Result<Self, Problem> {
        let failed = |error: policy::PolicyError| Problem::failed(error.to_string());
        let explanation = set.policies.explain(&question, exemptions).map_err(failed)?;
        let if_guard_finds_nothing = if question.evidence.is_none() && is_for_guard(&explanation.verdict.missing) {
            let clean = Asked { evidence: Some(GuardEvidence::default()), ..question.clone() };
            Some(set.policies.ask_again(&clean, exemptions).map_err(failed)?)
        } else {
            None
        };
        Ok(Self {
            policy_set: set.name.clone(),
            policy_set_sha256: set.policies.sha256().to_owned(),
            explanation,
            if_guard_finds_nothing,
            question,
        })
    }

    fn render(&self, style: Style) -> String {
        let Self { explanation, question, .. } = self;
        let verdict = &explanation.verdict;
        let head = format!("{}: {} on {}", brief(verdict), question.control, question.resource);
        let mut decided = vec![
            ("Policy set", format!("{} {}", self.policy_set, style.hash(&self.policy_set_sha256))),
            ("Decided by", verdict.policies.iter().cloned().collect::<Vec<_>>().join(", ")),
            ("Exemption", verdict.exemption.clone().unwrap_or_default()),
            ("Not sure", verdict.error.clone().unwrap_or_default()),
            ("If the guard finds nothing", self.if_guard_finds_nothing.as_ref().map(brief).unwrap_or_default()),
        ];
        decided.retain(|(_, value)| !value.is_empty());
        let decided = style.fields(&decided);
        let row = |action: &str, said: &Said| -> [Text; 3] {
            let word = match (said.permitted, said.error.is_some(), said.policies.is_empty()) {
                (true, _, _) => Text::toned(Tone::Good, "permitted"),
                (_, true, _) => Text::toned(Tone::Bad, "not known"),
                (_, _, true) => "no policy permits it".into(),
                _ => Text::toned(Tone::Warning, "forbidden"),
            };
            [action.into(), word, said.policies.iter().cloned().collect::<Vec<_>>().join(", ").into()]
        };
        let rows =
            [row("Act", &explanation.act), row("Approve", &explanation.approve), row("Notify", &explanation.notify)];
        let actions = style.table(["Action", "Said", "Policies"], rows);
        format!("{}\n{decided}\n{actions}\n{}", style.paint(tone(verdict), &head), facts(question, style))
    }
}

/// What was known.
fn facts(asked: &Asked, style: Style) -> String {
    let unknown = || "not known".to_owned();
    let zone = asked.time_zone.as_deref().unwrap_or("UTC");
    let local = policy::time_zone(zone)
        .map_or_else(|_| unknown(), |zone| asked.now.to_zoned(zone).strftime("%a %Y-%m-%d %H:%M").to_string());
    let tags = |tags: &std::collections::BTreeMap<String, String>| -> String {
        tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    let account = asked.account_facts.as_ref().map_or_else(unknown, |facts| {
        let path = facts.ou_path.join(" > ");
        [facts.name.clone(), path, tags(&facts.tags)]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    });
    let guard = asked.evidence.as_ref().map_or_else(
        || "not asked".to_owned(),
        |found| {
            let owner = found.owned_by.as_ref().map(|owner| format!("owned by {} {}", owner.manager, owner.name));
            let said = [
                Some(format!("{} dependents", found.dependent_count)),
                owner,
                found.critical.as_ref().map(|tag| format!("critical by {tag}")),
                (!found.threats.is_empty()).then(|| format!("on the threat list: {}", found.threats.join(", "))),
                found.last_used.as_ref().map(|time| format!("last used {time}")),
                (!found.tags.is_empty()).then(|| tags(&found.tags)),
                (!found.unanswered.is_empty()).then(|| format!("unanswered: {}", found.unanswered.join("; "))),
            ];
            said.into_iter().flatten().collect::<Vec<_>>().join("; ")
        },
    );
    let calendar = match asked.calendar {
        Calendar::None => "none",
        Calendar::Open => "open",
        Calendar::Closed => "closed",
        Calendar::Unreadable => "not known",
    };
    style.fields(&[
        ("Asked by", format!("{} {} for {}", asked.by.kind(), asked.by.id(), asked.mode.as_str())),
        ("Account", format!("{}{}", asked.account, if asked.pilot { ", a pilot account" } else { "" })),
        ("Of the account", account),
        ("Control", format!("{}, {}, severity {}", asked.control, asked.risk.as_str(), asked.severity.label.as_str())),
        ("Local time", format!("{local} ({zone})")),
        ("Calendar", calendar.to_owned()),
        ("Guard", guard),
    ])
}
