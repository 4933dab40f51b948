//! `redress approvals`: what waits for a person's yes, what exactly it would do, and the answer.
//!
//! The exact change is read where it is kept, in the member account, and its hash is worked out here once more: what is
//! shown is what the answer is bound to, or nothing is answered.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use redress_common::aws::state_table::{self, StateKey};
use redress_common::contract::{GuardEvidence, plan_sha256};
use redress_common::ids::RemediationId;
use redress_common::items::approval::{Approval, ApprovalStatus};
use redress_common::names;
use redress_common::operate::{Listing, Request};
use serde::Serialize;

use crate::api;
use crate::args::{Answering, Approvals as Command, Reader};
use crate::audit::indented;
use crate::aws::Connection;
use crate::evidence::{self, Opened};
use crate::ledger::{Ledger, unknown};
use crate::output::{Answer, Output, Style, Text, Tone};
use crate::problem::Problem;
use crate::{request, settings};

/// A part of a hash that names a plan.
const SHORTEST: usize = 8;

pub(crate) async fn run(command: Command, connection: &Connection, output: Output) -> Result<Answer, Problem> {
    let style = output.style();
    match command {
        Command::List { all } => list(all, connection, style).await,
        Command::Show { id, reader } => show(id, &reader, connection, style).await,
        Command::Approve(answering) => answer(true, answering, connection, output).await,
        Command::Deny(answering) => answer(false, answering, connection, output).await,
    }
}

async fn list(all: bool, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let mut found: Vec<Approval> = settings::listed(Listing::Approvals, connection).await?;
    let now = Timestamp::now();
    found.retain(|approval| all || waits(approval, now));
    found.sort_by_key(|approval| (!waits(approval, now), approval.expires_at_ms));
    Answer::new(&found, render_list(&found, all, now, style))
}

fn waits(approval: &Approval, now: Timestamp) -> bool {
    approval.status == ApprovalStatus::Pending && now.as_millisecond() < approval.expires_at_ms
}

fn render_list(found: &[Approval], all: bool, now: Timestamp, style: Style) -> String {
    if found.is_empty() {
        let what = if all { "nobody was asked lately" } else { "nothing waits for an approval" };
        return format!("{what}\n");
    }
    let rows = found.iter().map(|approval| {
        let subject = &approval.subject;
        [
            approval.remediation_id.to_string().into(),
            standing(approval, now),
            subject.control.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            subject.account.to_string().into(),
            subject.resource_id.clone().into(),
            subject.action.clone().into(),
            left(approval, now).into(),
        ]
    });
    let table = style.table(["RemediationId", "State", "Control", "Account", "Resource", "Would", "Time left"], rows);
    format!("{table}look before you answer: redress approvals show <RemediationId>\n")
}

fn standing(approval: &Approval, now: Timestamp) -> Text {
    let yes = approval.votes.iter().filter(|vote| vote.approve).count();
    match approval.status {
        ApprovalStatus::Pending if waits(approval, now) => {
            Text::toned(Tone::Warning, format!("{yes} of {} yes", approval.needed))
        }
        ApprovalStatus::Pending | ApprovalStatus::Expired => Text::toned(Tone::Faint, "Expired"),
        ApprovalStatus::Approved => Text::toned(Tone::Good, "Approved"),
        status @ (ApprovalStatus::Denied | ApprovalStatus::Void) => Text::toned(Tone::Bad, status.as_str()),
    }
}

fn left(approval: &Approval, now: Timestamp) -> String {
    if !waits(approval, now) {
        return String::new();
    }
    let minutes = (approval.expires_at_ms - now.as_millisecond()) / 60_000;
    match minutes {
        0 => "less than a minute".to_owned(),
        1..120 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// What there is to be seen of a question.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    approval: Approval,
    /// Whether the hash of the evidence is the one that is asked about.
    plan_is_this: bool,
    evidence: Opened,
}

async fn show(id: RemediationId, reader: &Reader, connection: &Connection, style: Style) -> Result<Answer, Problem> {
    let approval = question(id, connection).await?.ok_or_else(|| none(id))?;
    let ledger = Ledger::new(connection);
    let records = ledger.of_remediation(approval.plan_id).await?;
    let evidence = evidence::read(&records, reader, connection).await?;
    let plan_is_this = plan_sha256(&evidence.pre_image_sha256, &evidence.change_sha256) == approval.plan_sha256;
    let text = render(&approval, &evidence, plan_is_this, Timestamp::now(), style);
    if !plan_is_this {
        let message = format!("the evidence of the plan of `{id}` is not what people are asked about");
        return Err(Problem::refused(message)
            .help("do not approve it: deny it, and compare the evidence's versions in the account's bucket"));
    }
    Answer::new(&Shown { approval, plan_is_this, evidence }, text)
}

/// The question, if there is one yet.
pub(crate) async fn question(id: RemediationId, connection: &Connection) -> Result<Option<Approval>, Problem> {
    let doing = "read the approval";
    let client = aws_sdk_dynamodb::Client::new(&connection.config);
    let snapshot = state_table::read(&client, names::STATE_TABLE, &[StateKey::Approval(id)]).await;
    snapshot.map_err(|error| Problem::aws(doing, &error))?.approval(id).map_err(|error| Problem::aws(doing, &error))
}

pub(crate) fn none(id: RemediationId) -> Problem {
    Problem::not_found(format!("nobody is asked about remediation `{id}`"))
        .help(format!("`redress approvals list` shows what waits; `redress why {id}` says what policy decided"))
}

fn render(approval: &Approval, evidence: &Opened, same: bool, now: Timestamp, style: Style) -> String {
    let subject = &approval.subject;
    let region = subject.region.as_ref().map(ToString::to_string).unwrap_or_default();
    let control = subject.control.as_ref().map(ToString::to_string).unwrap_or_default();
    let state = match approval.status {
        ApprovalStatus::Pending if waits(approval, now) => format!("waits; {} left", left(approval, now)),
        ApprovalStatus::Pending => ApprovalStatus::Expired.to_string(),
        status => status.to_string(),
    };
    let needs = format!(
        "{} of {} people{}",
        approval.votes.iter().filter(|vote| vote.approve).count(),
        approval.needed,
        if approval.four_eyes { ", another than who asked" } else { "" }
    );
    let mut text = format!("{}  {}\n", style.paint(Tone::Strong, "Approval"), approval.remediation_id);
    text.push_str(&style.fields(&[
        ("state", state),
        ("would", subject.action.clone()),
        (
            "resource",
            format!("{} ({}, account {}, {region})", subject.resource_id, subject.resource_type, subject.account),
        ),
        ("because", format!("{control}, {}: {}", subject.severity.as_str(), subject.title)),
        ("asked by", subject.requested_by.clone()),
        ("policies", approval.policies.join(", ")),
        ("yes", needs),
    ]));
    for vote in &approval.votes {
        let said = if vote.approve { style.paint(Tone::Good, "yes") } else { style.paint(Tone::Bad, "no") };
        text.push_str(&format!("  {said}  {}  {}: {}\n", crate::audit::time(vote.at), vote.by, vote.reason));
    }
    text.push_str(&format!("\n{}\n{}", style.paint(Tone::Strong, "Impact"), impact(approval.impact.as_ref(), style)));
    let verdict = if same {
        style.paint(Tone::Good, "the evidence has this hash")
    } else {
        style.paint(Tone::Bad, "the evidence has ANOTHER hash")
    };
    text.push_str(&format!("\n{}  SHA-256 {}  {verdict}\n", style.paint(Tone::Strong, "Plan"), approval.plan_sha256));
    for call in &evidence.before.change.0 {
        text.push_str(&format!("  {}:{}\n{}", call.service, call.operation, indented(&call.parameters)));
    }
    if evidence.before.change.0.is_empty() {
        text.push_str(
            "  puts back what the remediation found that is to be undone; its own evidence shows that state\n",
        );
    }
    let image = &evidence.before.pre_image;
    let found = if image.present { indented(&image.state) } else { "    there is no such setting\n".to_owned() };
    text.push_str(&format!("  as it was found\n{found}"));
    if waits(approval, now) {
        let plan: String = approval.plan_sha256.chars().take(12).collect();
        text.push_str(&format!(
            "\nanswer: redress approvals approve {} --plan {plan} --reason \"…\"   (or deny)\n",
            approval.remediation_id
        ));
    }
    text
}

/// What the guard found out. What it could not is said first: no answer is not "no".
fn impact(evidence: Option<&GuardEvidence>, style: Style) -> String {
    let Some(evidence) = evidence else {
        return format!("  {}\n", style.paint(Tone::Warning, "the guard was not asked"));
    };
    let mut lines: Vec<String> = evidence
        .unanswered
        .iter()
        .map(|question| style.paint(Tone::Warning, &format!("not known: {question}")))
        .collect();
    if let Some(critical) = &evidence.critical {
        lines.push(style.paint(Tone::Bad, &format!("critical resource: {critical}")));
    }
    if let Some(owner) = &evidence.owned_by {
        lines.push(style.paint(Tone::Bad, &format!("managed by {} ({}): {}", owner.manager, owner.name, owner.hint)));
    }
    let ways = evidence.exposure.iter().flatten();
    lines.extend(ways.map(|way| style.paint(Tone::Bad, &format!("reachable from outside: {way}"))));
    lines.extend(evidence.threats.iter().map(|threat| style.paint(Tone::Bad, &format!("threat list: {threat}"))));
    if evidence.dependent_count > 0 {
        let some: Vec<&str> = evidence.dependents.iter().take(5).map(|dependent| dependent.id.as_str()).collect();
        lines.push(format!("used by {}: {}", evidence.dependent_count, some.join(", ")));
    }
    lines.extend(evidence.last_used.iter().map(|time| format!("last used {time}")));
    if lines.is_empty() {
        lines.push("nothing uses it that is known".to_owned());
    }
    lines.into_iter().map(|line| format!("  {line}\n")).collect()
}

async fn answer(
    approve: bool,
    answering: Answering,
    connection: &Connection,
    output: Output,
) -> Result<Answer, Problem> {
    let Answering { id, plan, reason, wait } = answering;
    let patience = Duration::from_secs(if wait.wait { wait.timeout } else { 0 });
    let approval = asked(id, patience, connection, output).await?;
    let asked_about = &approval.plan_sha256;
    if let Some(plan) = plan.as_deref().map(str::to_ascii_lowercase)
        && (plan.len() < SHORTEST || !asked_about.starts_with(&plan))
    {
        return Err(Problem::refused(format!(
            "the plan asked about is {}…, not {plan}",
            asked_about.chars().take(12).collect::<String>()
        ))
        .help(format!("look at it again: redress approvals show {id}; give at least {SHORTEST} characters")));
    }
    let now = answer_to(&approval, approve, &reason, connection).await?;
    let text = render_answer(&now, approve, output.style());
    if wait.wait && now.status == ApprovalStatus::Approved {
        output.say(&text);
        let what = format!("{} on {}", now.subject.action, now.subject.resource_id);
        return request::follow(id, what, now.subject.resource_id, &wait, connection, output).await;
    }
    Answer::new(&now, text)
}

/// Answers a question, as it stands, and says how it stands then.
pub(crate) async fn answer_to(
    approval: &Approval,
    approve: bool,
    reason: &str,
    connection: &Connection,
) -> Result<Approval, Problem> {
    let (remediation_id, plan_sha256) = (approval.remediation_id, approval.plan_sha256.clone());
    let request = Request::Answer { remediation_id, approve, plan_sha256, reason: reason.to_owned() };
    let answered = api::call(connection, &request).await?;
    serde_json::from_value(answered["Approval"].clone()).map_err(|error| Problem::aws("read the api's answer", &error))
}

/// The question; waits for it while the plan is being made.
async fn asked(
    id: RemediationId,
    patience: Duration,
    connection: &Connection,
    output: Output,
) -> Result<Approval, Problem> {
    let begun = Instant::now();
    loop {
        if let Some(approval) = question(id, connection).await? {
            return Ok(approval);
        }
        let records = Ledger::new(connection).find(id).await?;
        let last = records.last().ok_or_else(|| unknown(id))?;
        if last.draft.execution_status.is_terminal() {
            return Err(none(id));
        }
        if begun.elapsed() >= patience {
            return Err(Problem::not_found(format!(
                "remediation `{id}` is {}: nobody is asked yet",
                last.draft.execution_status
            ))
            .help("the plan is being made; answer again in a moment, or with --wait"));
        }
        output.progress("the plan is being made …");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn render_answer(approval: &Approval, approve: bool, style: Style) -> String {
    let id = approval.remediation_id;
    let (said, next) = match approval.status {
        ApprovalStatus::Approved => (
            style.paint(Tone::Good, "approved"),
            format!(
                "exactly this plan is being applied, unless the resource was changed since: redress audit show {id}"
            ),
        ),
        ApprovalStatus::Denied => (
            style.paint(Tone::Bad, "denied"),
            "nothing is changed; rules leave this resource alone until a person asks: redress remediate".to_owned(),
        ),
        _ => {
            let yes = approval.votes.iter().filter(|vote| vote.approve).count();
            let more = (approval.needed as usize).saturating_sub(yes);
            let said = if approve { "noted: yes" } else { "noted: no" };
            (said.to_owned(), format!("{more} more must say yes: redress approvals show {id}"))
        }
    };
    let by = approval.votes.last().map(|vote| vote.by.as_str()).unwrap_or_default();
    format!("{id} {said} by {by}\n{next}\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use redress_common::aws::state_table::Subject;
    use redress_common::contract::{Before, Call, Change, Dependent, Image, Outcome};
    use redress_common::finding::SeverityLabel;
    use redress_common::items::approval::Vote;
    use redress_common::ledger::RemediationType;
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-03-02T09:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn pending() -> Approval {
        let at = now().as_millisecond();
        Approval {
            version: 1,
            remediation_id: "3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968".parse().unwrap(),
            status: ApprovalStatus::Pending,
            subject: Subject {
                finding_id: "f".to_owned(),
                product_arn: None,
                title: "Security groups should not allow ingress from 0.0.0.0/0 to port 22".to_owned(),
                severity: SeverityLabel::High,
                account: "222222222222".parse().unwrap(),
                region: Some("eu-central-1".parse().unwrap()),
                control: Some("EC2.13".parse().unwrap()),
                resource_id: "arn:aws:ec2:eu-central-1:222222222222:security-group/sg-1".to_owned(),
                resource_type: "AWS::EC2::SecurityGroup".to_owned(),
                action: "Remove world-open rules of port 22".to_owned(),
                remediation_type: RemediationType::Automatic,
                requested_by: "Config".to_owned(),
                reported: None,
                sample: false,
            },
            plan_sha256: plan_sha256(&"a".repeat(64), &"b".repeat(64)),
            plan_id: "7b1c0f2e-9d3a-5c41-8f60-0123456789ab".parse().unwrap(),
            plan_evidence_key: "k".to_owned(),
            impact: Some(GuardEvidence {
                dependents: vec![Dependent { resource_type: "AWS::EC2::Instance".to_owned(), id: "i-1".to_owned() }],
                dependent_count: 1,
                last_used: Some("2026-03-01T08:00:00Z".to_owned()),
                unanswered: vec!["flow logs: there are none".to_owned()],
                ..GuardEvidence::default()
            }),
            needed: 2,
            four_eyes: true,
            policies: vec!["team.ask".to_owned()],
            votes: vec![Vote {
                by: "arn:aws:sts::999988887777:assumed-role/Redress-Operator/anna".to_owned(),
                approve: true,
                at: at - 60_000,
                reason: "seen with the team".to_owned(),
            }],
            asked_at: at - 3_600_000,
            expires_at_ms: at + 82_800_000,
            expires_at: 0,
        }
    }

    fn evidence() -> Opened {
        let call = Call {
            service: "ec2".to_owned(),
            operation: "RevokeSecurityGroupIngress".to_owned(),
            parameters: json!({ "GroupId": "sg-1", "SecurityGroupRuleIds": ["sgr-1"] }),
        };
        Opened {
            location: "s3://bucket/k".to_owned(),
            outcome: Some(Outcome::Planned),
            pre_image_sha256: "a".repeat(64),
            change_sha256: "b".repeat(64),
            post_image_sha256: None,
            before: Before {
                pre_image: Image { present: true, state: json!({ "Rules": ["sgr-1", "sgr-2"] }) },
                change: Change(vec![call]),
            },
            after: None,
        }
    }

    #[test]
    fn a_question_shows_what_where_why_who_and_the_exact_change() {
        insta::assert_snapshot!(render(&pending(), &evidence(), true, now(), Style::PLAIN));
    }

    #[test]
    fn the_list_says_what_waits_and_for_how_long() {
        let mut late = pending();
        late.expires_at_ms = now().as_millisecond();
        let denied = Approval { status: ApprovalStatus::Denied, ..pending() };
        insta::assert_snapshot!(render_list(&[pending(), late, denied], true, now(), Style::PLAIN));
        assert_eq!(render_list(&[], false, now(), Style::PLAIN), "nothing waits for an approval\n");
    }

    #[test]
    fn an_answer_says_who_gave_it_and_what_comes_next() {
        let approved = Approval { status: ApprovalStatus::Approved, ..pending() };
        let denied = Approval { status: ApprovalStatus::Denied, ..pending() };
        assert!(render_answer(&approved, true, Style::PLAIN).contains("approved by arn:aws:sts::999988887777"));
        assert!(render_answer(&denied, false, Style::PLAIN).contains("nothing is changed"));
        assert!(render_answer(&pending(), true, Style::PLAIN).contains("1 more must say yes"));
    }
}
