//! A made-up ledger, for `redress report --demo` and for tests: what real records look like, of nobody.
//!
//! The same records each time. A story is told as the functions of the administrator account would write it down.

use jiff::Timestamp;
use redress_admin::policy::{Asked, Asker, Calendar};
use redress_common::arn::{Arn, Partition};
use redress_common::catalogue::Risk;
use redress_common::contract::Mode;
use redress_common::finding::{Severity, SeverityLabel};
use redress_common::ids::{AccountId, ClaimKey, ControlId, Generation, Region, RemediationId};
use redress_common::ledger::{Record, RecordDraft, RemediationType, detail};
use redress_common::names;
use redress_common::state::State;

use super::period::Period;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// 2026-07-03T00:00:00Z.
const START: i64 = 1_783_036_800_000;
const DAYS: i64 = 90;
const ACCOUNTS: u64 = 50;

/// The period of the made-up ledger.
pub(crate) fn period() -> Option<Period> {
    let at = |ms| Timestamp::from_millisecond(ms).ok();
    Period::new(at(START)?, at(START + DAYS * DAY)?)
}

/// What a finding is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) control: ControlId,
    pub(crate) severity: SeverityLabel,
    pub(crate) arn: Arn,
    pub(crate) kind: &'static str,
    pub(crate) action: String,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Fixed so many milliseconds after the event.
    Fixed(i64),
    AlreadyCompliant,
    Unverified,
    Failed,
    Gone,
    /// The member account could not be looked at, so nothing was started.
    Undecided,
    Told,
    /// By an exemption.
    Exempt,
    /// Suppressed in Security Hub.
    Ignored,
    /// People said yes after so many milliseconds.
    Approved(i64),
    Denied,
    Expired,
    /// People are asked.
    Asked,
    /// It waits for a free place.
    Waiting,
    /// Its runbook runs.
    Running,
}

/// The remediation of a finding that an event brought at a time, and that was first seen so long before.
pub(crate) fn story(subject: &Subject, at: i64, before: i64, fate: Fate) -> (RemediationId, Vec<RecordDraft>) {
    let key = ClaimKey::new(&subject.account, &subject.region, &subject.control, &subject.arn);
    let id = RemediationId::of_finding(&key, Generation(at));
    let mut teller = Teller { subject, id, mode: Mode::Apply, seen: at - before, drafts: Vec::new() };
    let disposition = match fate {
        Fate::Told | Fate::Exempt | Fate::Ignored | Fate::Undecided => "notify",
        Fate::Approved(_) | Fate::Denied | Fate::Expired | Fate::Asked => "approve",
        _ => "act",
    };
    let planned = teller.say(at + 40, State::Planned, &[(detail::DISPOSITION, disposition), (detail::MODE, "Apply")]);
    planned.detail.extend(question_of(subject, at, before));
    match fate {
        Fate::Fixed(after) => teller.runs(at + 41, at + after, "Verified", &[State::Applied, State::Verified]),
        Fate::AlreadyCompliant => teller.runs(at + 41, at + 4 * SECOND, "AlreadyCompliant", &[State::Verified]),
        Fate::Unverified => teller.runs(at + 41, at + 30 * SECOND, "Unverified", &[State::Applied, State::Unverified]),
        Fate::Failed => teller.runs(at + 41, at + 20 * SECOND, "Failed", &[State::Failed]),
        Fate::Gone => teller.runs(at + 41, at + 5 * SECOND, "NotFound", &[State::Failed]),
        Fate::Undecided => {
            teller.ends(at + 41, State::Failed, "guard-unreadable", "what a change would touch cannot be found out")
        }
        Fate::Told => teller.ends(at + 41, State::Notified, "notify", "policy says to tell people, and no more"),
        Fate::Exempt => {
            teller.ends(at + 41, State::Notified, "exempt", "exemption `legacy` of team web until it moves");
            if let Some(last) = teller.drafts.last_mut() {
                last.detail.insert(detail::POLICIES.to_owned(), "exemption.legacy".to_owned());
            }
        }
        Fate::Ignored => teller.ends(at + 41, State::Ignored, "workflow", "the finding is suppressed in Security Hub"),
        Fate::Approved(after) => {
            teller.say(at + 9 * SECOND, State::AwaitingApproval, &[]);
            teller.runs(at + after, at + after + 9 * SECOND, "Verified", &[State::Applied, State::Verified]);
        }
        Fate::Denied => {
            teller.say(at + 9 * SECOND, State::AwaitingApproval, &[]);
            teller.ends(at + 2 * HOUR, State::Denied, "denied", "the partner's site needs it");
        }
        Fate::Expired => {
            teller.say(at + 9 * SECOND, State::AwaitingApproval, &[]);
            teller.ends(at + DAY, State::Expired, "expired", "nobody answered in time");
        }
        Fate::Asked => {
            teller.say(at + 9 * SECOND, State::AwaitingApproval, &[]);
        }
        Fate::Waiting => {
            teller.say(at + 41, State::Planned, &[(detail::CODE, "waiting")]);
        }
        Fate::Running => {
            teller.say(at + 41, State::Claimed, &[(detail::FENCE, "1"), (detail::MODE, "Apply")]);
        }
    }
    (id, teller.drafts)
}

/// The undo of a remediation; `drifted`: the resource was changed since, and nothing is put back.
pub(crate) fn undo(subject: &Subject, of: RemediationId, at: i64, drifted: bool) -> Vec<RecordDraft> {
    let key = ClaimKey::new(&subject.account, &subject.region, &subject.control, &subject.arn);
    let id = RemediationId::of_request(&key, &format!("undo:{of}:{at}"));
    let mut teller = Teller { subject, id, mode: Mode::Restore, seen: at, drafts: Vec::new() };
    teller.say(at + 40, State::Planned, &[(detail::MODE, "Restore"), (detail::DISPOSITION, "act")]);
    if drifted {
        teller.runs(at + 41, at + 6 * SECOND, "Drifted", &[State::Failed]);
    } else {
        teller.runs(at + 41, at + 8 * SECOND, "Restored", &[State::Applied, State::RolledBack]);
    }
    let undoes = of.to_string();
    for draft in teller.drafts.iter_mut().skip(1) {
        draft.detail.insert(detail::UNDOES.to_owned(), undoes.clone());
    }
    let mut drafts = teller.drafts;
    drafts.iter_mut().for_each(|draft| draft.remediation_type = RemediationType::Manual);
    if !drifted {
        let mut teller = Teller { subject, id: of, mode: Mode::Restore, seen: at, drafts: Vec::new() };
        teller.say(at + 8 * SECOND, State::RolledBack, &[(detail::UNDONE_BY, &id.to_string())]);
        drafts.extend(teller.drafts);
    }
    drafts
}

/// Every record of the made-up ledger, an account after the other. Nobody checks made-up records, so they are not chained.
pub(crate) fn ledger(each: impl FnMut(&Record)) {
    of_accounts(ACCOUNTS, each);
}

fn of_accounts(accounts: u64, mut each: impl FnMut(&Record)) {
    for nth in 0..accounts {
        let Ok(account) = format!("{:012}", 100_000_000_000 + nth * 17_171_717_171).parse::<AccountId>() else {
            continue;
        };
        for (seq, draft) in (1..).zip(quarter_of(&account, nth)) {
            each(&Record { draft, origin: account.clone(), seq, prev_hash: String::new(), hash: String::new() });
        }
    }
}

/// Controls, how often they fail, how bad that is, what they are about, and an ARN's end.
const CONTROLS: [(&str, u64, SeverityLabel, &str, &str); 16] = [
    ("S3.8", 14, SeverityLabel::High, "AWS::S3::Bucket", "s3:::"),
    ("EC2.13", 12, SeverityLabel::High, "AWS::EC2::SecurityGroup", "ec2:security-group/sg-"),
    ("EC2.19", 7, SeverityLabel::Critical, "AWS::EC2::SecurityGroup", "ec2:security-group/sg-"),
    ("RDS.2", 3, SeverityLabel::Critical, "AWS::RDS::DBInstance", "rds:db:"),
    ("Lambda.1", 3, SeverityLabel::Critical, "AWS::Lambda::Function", "lambda:function:"),
    ("EC2.8", 8, SeverityLabel::High, "AWS::EC2::Instance", "ec2:instance/i-"),
    ("S3.5", 11, SeverityLabel::Medium, "AWS::S3::Bucket", "s3:::"),
    ("KMS.4", 6, SeverityLabel::Medium, "AWS::KMS::Key", "kms:key/"),
    ("IAM.22", 4, SeverityLabel::Medium, "AWS::IAM::User", "iam:user/"),
    ("EC2.6", 5, SeverityLabel::Medium, "AWS::EC2::VPC", "ec2:vpc/vpc-"),
    ("SQS.1", 6, SeverityLabel::Medium, "AWS::SQS::Queue", "sqs:"),
    ("DynamoDB.2", 5, SeverityLabel::Medium, "AWS::DynamoDB::Table", "dynamodb:table/"),
    ("CloudTrail.4", 2, SeverityLabel::Low, "AWS::CloudTrail::Trail", "cloudtrail:trail/"),
    ("ECR.1", 5, SeverityLabel::High, "AWS::ECR::Repository", "ecr:repository/"),
    ("SecretsManager.1", 4, SeverityLabel::Medium, "AWS::SecretsManager::Secret", "secretsmanager:secret:"),
    ("RDS.13", 5, SeverityLabel::High, "AWS::RDS::DBInstance", "rds:db:"),
];

/// Numbers that look random, and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to just below.
    fn below(&mut self, end: i64) -> i64 {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        i64::try_from(self.roll() % end).unwrap_or_default()
    }

    /// Mostly small, at times up to the most.
    fn skewed(&mut self, most: i64) -> i64 {
        let shift = self.below(8);
        self.below((most >> shift).max(1))
    }
}

/// What happened in an account.
fn quarter_of(account: &AccountId, nth: u64) -> Vec<RecordDraft> {
    let mut dice = Dice(nth.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1);
    let (Ok(region), partition) = ("eu-central-1".parse::<Region>(), Partition::Aws.as_str()) else {
        return Vec::new();
    };
    let weights: u64 = CONTROLS.iter().map(|(_, weight, ..)| weight).sum();
    let many = 60 + dice.below(160);
    let mut drafts = Vec::new();
    for number in 0..many {
        let mut ball = dice.roll() % weights;
        let chosen = CONTROLS.iter().find(|(_, weight, ..)| {
            let here = ball < *weight;
            ball = ball.saturating_sub(*weight);
            here
        });
        let Some((control, _, severity, kind, end)) = chosen else { continue };
        let name = format!("{:08x}", dice.roll() >> 32);
        let (service, path) = end.split_once(':').unwrap_or((end, ""));
        let arn = match service {
            "s3" => format!("arn:{partition}:s3:::team-{}-{name}", nth % 7),
            "iam" => format!("arn:{partition}:iam::{account}:{path}{name}"),
            _ => format!("arn:{partition}:{service}:{region}:{account}:{path}{name}"),
        };
        let (Ok(control), Ok(arn)) = (control.parse(), arn.parse()) else { continue };
        let (account, region) = (account.clone(), region.clone());
        let action = "as the control says".to_owned();
        let subject = Subject { account, region, control, severity: *severity, arn, kind, action };
        let at = START + DAY / 4 + dice.below((DAYS - 1) * DAY);
        let fate = fate(&mut dice, at, number);
        let before = MINUTE + dice.skewed(if at < START + 25 * DAY { 12 * DAY } else { 30 * HOUR });
        let (id, told) = story(&subject, at, before, fate);
        let end = told.last().map_or(at, |last| last.timestamp);
        drafts.extend(told);
        if matches!(fate, Fate::Fixed(_)) {
            match dice.below(100) {
                0..2 => drafts.extend(undo(&subject, id, end + HOUR, false)),
                2 => drafts.extend(undo(&subject, id, end + HOUR, true)),
                3..8 => {
                    let again = end + 2 * DAY + dice.below(9 * DAY);
                    if again < START + DAYS * DAY - HOUR {
                        drafts.extend(story(&subject, again, 2 * MINUTE, Fate::Fixed(20 * SECOND)).1);
                    }
                }
                _ => {}
            }
        }
    }
    drafts.retain(|draft| draft.timestamp < START + DAYS * DAY);
    drafts
}

/// What becomes of a finding: in the first weeks most are only told.
fn fate(dice: &mut Dice, at: i64, number: i64) -> Fate {
    if at < START + 14 * DAY && number % 3 != 0 {
        return Fate::Told;
    }
    match dice.below(1_000) {
        0..18 => Fate::Failed,
        18..24 => Fate::Unverified,
        24..30 => Fate::Gone,
        30..36 => Fate::Undecided,
        36..70 => Fate::AlreadyCompliant,
        70..88 => Fate::Exempt,
        88..108 => Fate::Ignored,
        108..116 => Fate::Denied,
        116..122 => Fate::Expired,
        122..170 => Fate::Approved(5 * MINUTE + dice.skewed(20 * HOUR)),
        170..190 => Fate::Told,
        190..210 if at > START + 88 * DAY => Fate::Waiting,
        210..240 if at > START + 88 * DAY => Fate::Asked,
        240..250 if at > START + 88 * DAY => Fate::Running,
        _ => Fate::Fixed(4 * SECOND + dice.skewed(8 * MINUTE)),
    }
}

/// Writes down what happens to one subject.
struct Teller<'a> {
    subject: &'a Subject,
    id: RemediationId,
    mode: Mode,
    seen: i64,
    drafts: Vec<RecordDraft>,
}

impl Teller<'_> {
    fn say(&mut self, at: i64, state: State, details: &[(&str, &str)]) -> &mut RecordDraft {
        let subject = self.subject;
        let common = [
            (detail::CONTROL, subject.control.as_str()),
            (detail::REGION, subject.region.as_str()),
            (detail::SEVERITY, subject.severity.as_str()),
        ];
        let all = common.iter().chain(details);
        let index = self.drafts.len();
        self.drafts.push(RecordDraft {
            remediation_id: self.id,
            timestamp: at,
            finding_id: format!("finding-{}", self.seen),
            account_id: subject.account.clone(),
            resource_type: subject.kind.to_owned(),
            resource_id: subject.arn.to_string(),
            remediation_type: RemediationType::Automatic,
            remediation_action: subject.action.clone(),
            execution_status: state,
            executor_arn: "redress-orchestrator".to_owned(),
            error_message: String::new(),
            execution_duration: 0,
            notification_sent: false,
            detail: all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            expires_at: at / 1000 + 90 * 24 * 60 * 60,
        });
        &mut self.drafts[index]
    }

    /// A runbook is started and ends so.
    fn runs(&mut self, from: i64, until: i64, outcome: &str, states: &[State]) {
        let claimed = Timestamp::from_millisecond(from).unwrap_or_default();
        let bucket = names::evidence_bucket(&self.subject.account, &self.subject.region);
        let key = names::evidence_key(self.id, claimed);
        let mode = self.mode.as_str();
        let evidence = [(detail::EVIDENCE_BUCKET, bucket.as_str()), (detail::EVIDENCE_KEY, &key), (detail::MODE, mode)];
        let fence = [(detail::FENCE, "1")];
        self.say(from, State::Claimed, &[&evidence[..], &fence].concat());
        let ends = [(detail::OUTCOME, outcome), (detail::EXECUTION_ID, "execution")];
        for (nth, state) in (0..).zip(states) {
            let of_end = if nth + 1 == states.len() { &ends[..] } else { &ends[1..] };
            let draft =
                self.say(until + i64::try_from(nth).unwrap_or_default(), *state, &[&evidence[..], of_end].concat());
            draft.execution_duration = until - from;
            if matches!(state, State::Failed | State::Unverified) {
                draft.error_message = match outcome {
                    "NotFound" => "the resource does not exist any more; nothing was changed",
                    "Drifted" => "the resource was changed by somebody else since; nothing was put back",
                    "Unverified" => "the change was made, but the resource does not read back as it should",
                    _ => "the remediation failed: AccessDenied by a service control policy",
                }
                .to_owned();
            }
        }
    }

    fn ends(&mut self, at: i64, state: State, code: &str, reason: &str) {
        self.say(at, state, &[(detail::CODE, code), (detail::REASON, reason)]);
    }
}

/// What a decision writes down: when the event was made, and what policy was asked.
fn question_of(subject: &Subject, at: i64, before: i64) -> Vec<(String, String)> {
    let time = |ms| Timestamp::from_millisecond(ms).unwrap_or_default();
    let asked = Asked {
        by: Asker::Rule("Import".to_owned()),
        trigger: "Import".to_owned(),
        mode: Mode::Apply,
        pilot: false,
        account: subject.account.clone(),
        account_facts: None,
        region: subject.region.clone(),
        resource: subject.arn.to_string(),
        kind: subject.kind.to_owned(),
        control: subject.control.clone(),
        finding_type: subject.control.to_string(),
        severity: Severity::of_label(subject.severity),
        risk: Risk::Reversible,
        frameworks: std::collections::BTreeSet::new(),
        evidence: None,
        now: time(at),
        time_zone: None,
        first_seen: time(at - before),
        calendar: Calendar::None,
        breaker_open: false,
        sample: false,
    };
    let question = asked.text().map(|text| (detail::QUESTION.to_owned(), text));
    question.into_iter().chain([(detail::EVENT_TIME.to_owned(), time(at).to_string())]).collect()
}

/// The drafts of one account as its chain.
#[cfg(test)]
pub(crate) fn sealed(account: &AccountId, mut drafts: Vec<RecordDraft>) -> Vec<Record> {
    use redress_common::ledger::{Head, chain};
    drafts.sort_by_key(|draft| draft.timestamp);
    chain(account, &Head::default(), drafts).0
}

/// A chain of so many records.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn chain_of(length: usize) -> Vec<Record> {
    let subject = Subject {
        account: "222222222222".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        control: "S3.8".parse().unwrap(),
        severity: SeverityLabel::High,
        arn: "arn:aws:s3:::my-bucket".parse().unwrap(),
        kind: "AWS::S3::Bucket",
        action: "Block public access".to_owned(),
    };
    let drafts = (0..).flat_map(|nth| story(&subject, START + nth * HOUR, MINUTE, Fate::Fixed(20 * SECOND)).1);
    sealed(&subject.account, drafts.take(length).collect())
}

/// A part of the made-up ledger.
#[cfg(test)]
pub(crate) fn some(each: impl FnMut(&Record)) {
    of_accounts(3, each);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn its_controls_are_in_the_catalogue() {
        let catalogue = crate::controls::catalogue().unwrap();
        for (control, ..) in CONTROLS {
            assert!(catalogue.0.contains_key(&control.parse().unwrap()), "{control}");
        }
    }

    #[test]
    fn it_is_the_same_each_time() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        some(|record| one.push(record.clone()));
        some(|record| two.push(record.clone()));
        assert!(one.len() > 300, "{}", one.len());
        assert!(one == two);
    }
}
