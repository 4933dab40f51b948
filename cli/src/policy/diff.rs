//! `redress policy diff`: what the ledger's last findings would come to under another set.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use redress_admin::policy::{Asked, Policies, Verdict};
use redress_common::aws::state_table::StateKey;
use redress_common::ids::AccountId;
use redress_common::items::account::AccountFacts;
use redress_common::items::exemption::Exemptions;
use redress_common::ledger::{Record, detail};
use serde::Serialize;

use super::{InForce, Loaded, brief, tone};
use crate::aws::Connection;
use crate::ledger::Ledger;
use crate::output::{Answer, Style, Text};
use crate::problem::Problem;

/// So many accounts are read at a time; DynamoDB takes 100 keys.
const KEYS: usize = 90;

/// What would change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Diff {
    in_force: String,
    new: String,
    /// How many findings both sets were asked about.
    compared: usize,
    /// How many have no question in the ledger, or one that a set cannot be asked.
    not_comparable: usize,
    changes: Vec<Change>,
}

/// A finding that would be treated otherwise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    remediation_id: String,
    decided_at: Timestamp,
    account_id: String,
    control: String,
    resource: String,
    /// What the ledger says was decided.
    was: String,
    in_force: Verdict,
    new: Verdict,
}

pub(super) async fn run(
    new: &Loaded,
    last: u16,
    since: Timestamp,
    account: Option<&AccountId>,
    connection: &Connection,
    style: Style,
) -> Result<Answer, Problem> {
    let in_force = InForce::read(connection, &[]).await?;
    let old = in_force.load()?;
    let ledger = Ledger::new(connection);
    let records = match account {
        Some(account) => ledger.of_account(account, since, u16::MAX).await?,
        None => ledger.of_all(since).await?,
    };
    let records = decided(records, usize::from(last));
    let places = places(&records, connection).await?;
    let diff = Diff::of(&old, new, &records, &places, &in_force.exemptions);
    let text = diff.render(style);
    Answer::new(&diff, text)
}

/// What the state table knows of the accounts: a set that did not speak of them left it out of its questions.
async fn places(records: &[Record], connection: &Connection) -> Result<BTreeMap<AccountId, AccountFacts>, Problem> {
    let accounts: BTreeSet<AccountId> = records.iter().map(|record| record.draft.account_id.clone()).collect();
    let accounts: Vec<AccountId> = accounts.into_iter().collect();
    let mut places = BTreeMap::new();
    for some in accounts.chunks(KEYS) {
        let keys: Vec<StateKey> = some.iter().cloned().map(StateKey::Account).collect();
        let snapshot = InForce::read(connection, &keys).await?.snapshot;
        let known = some.iter().filter_map(|account| snapshot.account(account).ok().flatten());
        places.extend(known.map(|facts| (facts.account.clone(), facts)));
    }
    Ok(places)
}

/// The newest record of each finding that was decided, newest first.
fn decided(mut records: Vec<Record>, last: usize) -> Vec<Record> {
    records.retain(|record| record.detail(detail::DISPOSITION).is_some());
    records.sort_by_key(|record| std::cmp::Reverse((record.draft.timestamp, record.seq)));
    let mut seen = BTreeSet::new();
    records.retain(|record| seen.insert(record.draft.remediation_id.to_string()));
    records.truncate(last);
    records
}

impl Diff {
    fn of(
        old: &Loaded,
        new: &Loaded,
        records: &[Record],
        places: &BTreeMap<AccountId, AccountFacts>,
        exemptions: &Exemptions,
    ) -> Self {
        let mut diff = Self {
            in_force: old.name.clone(),
            new: new.name.clone(),
            compared: 0,
            not_comparable: 0,
            changes: Vec::new(),
        };
        for record in records {
            let mut asked = record.detail(detail::QUESTION).and_then(|text| Asked::of_text(text).ok());
            if let Some(asked) = asked.as_mut().filter(|asked| asked.account_facts.is_none()) {
                asked.account_facts = places.get(&asked.account).cloned();
            }
            let say = |policies: &Policies| policies.ask_again(asked.as_ref()?, exemptions).ok();
            let (Some(before), Some(after), Some(asked)) = (say(&old.policies), say(&new.policies), &asked) else {
                diff.not_comparable += 1;
                continue;
            };
            diff.compared += 1;
            if treatment(&before) != treatment(&after) {
                diff.changes.push(Change {
                    remediation_id: record.draft.remediation_id.to_string(),
                    decided_at: asked.now,
                    account_id: asked.account.to_string(),
                    control: asked.control.to_string(),
                    resource: asked.resource.clone(),
                    was: record.detail(detail::DISPOSITION).unwrap_or_default().to_owned(),
                    in_force: before,
                    new: after,
                });
            }
        }
        diff
    }

    fn render(&self, style: Style) -> String {
        let Self { compared, not_comparable, changes, .. } = self;
        let mut text = format!(
            "{} of {compared} findings would be treated otherwise by {} than by {}.\n",
            changes.len(),
            self.new,
            self.in_force
        );
        if *not_comparable > 0 {
            text.push_str(&format!(
                "{not_comparable} more cannot be compared: the ledger has no question of theirs that both understand.\n"
            ));
        }
        if changes.iter().any(|change| change.new.error.is_some()) {
            text.push_str("\"not sure\": the set speaks of facts that were not asked for then; `redress policy test --remediation` names them.\n");
        }
        if changes.is_empty() {
            return text;
        }
        let rows = changes.iter().map(|change| {
            let policies = change.new.policies.iter().cloned().collect::<Vec<_>>().join(", ");
            [
                change.decided_at.strftime("%Y-%m-%d %H:%M").to_string().into(),
                change.account_id.as_str().into(),
                change.control.as_str().into(),
                change.resource.as_str().into(),
                change.was.as_str().into(),
                brief(&change.in_force).into(),
                Text::toned(tone(&change.new), brief(&change.new)),
                policies.into(),
            ]
        });
        let heads = ["Decided (UTC)", "Account", "Control", "Resource", "Was", "In force", "New", "By"];
        text.push('\n');
        text.push_str(&style.table(heads, rows));
        text
    }
}

/// What is done with a finding.
fn treatment(verdict: &Verdict) -> (redress_admin::policy::Disposition, u32, bool) {
    (verdict.disposition, verdict.approvers, verdict.four_eyes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fixture;

    const QUESTION: &str = r#"{"By":{"Rule":"Config"},"Trigger":"Config","Mode":"Apply","Account":"222222222222",
        "Region":"eu-central-1","Resource":"arn:aws:s3:::my-bucket","Type":"AWS::S3::Bucket","Control":"S3.8",
        "Severity":{"score":70,"label":"HIGH"},"Risk":"reversible","Evidence":{},"Now":"2026-03-01T09:00:00Z",
        "FirstSeen":"2026-03-01T08:00:00Z"}"#;

    fn set(name: &str) -> Loaded {
        let source = match name {
            "observe" => redress_admin::policy::source(redress_common::aws::state_table::PolicySetName::Observe),
            _ => redress_admin::policy::source(redress_common::aws::state_table::PolicySetName::Standard),
        };
        Loaded { name: name.to_owned(), policies: Arc::new(Policies::load(source.unwrap()).unwrap()) }
    }

    fn records() -> Vec<Record> {
        let mut records = fixture::verified();
        records[0].draft.detail.insert(detail::QUESTION.to_owned(), QUESTION.to_owned());
        records.extend(fixture::failed());
        records
    }

    #[test]
    fn what_another_set_would_do_is_compared_with_what_is_in_force() {
        let mut records = decided(records(), 10);
        records.truncate(1);
        records[0].draft.detail.insert(detail::QUESTION.to_owned(), QUESTION.to_owned());
        let diff = Diff::of(&set("standard"), &set("observe"), &records, &BTreeMap::new(), &Exemptions::default());
        assert_eq!((diff.compared, diff.not_comparable, diff.changes.len()), (1, 0, 1));
        insta::assert_snapshot!(diff.render(Style::PLAIN));
        let same = Diff::of(&set("standard"), &set("standard"), &records, &BTreeMap::new(), &Exemptions::default());
        assert_eq!((same.compared, same.changes.len()), (1, 0));
    }

    #[test]
    fn a_set_that_speaks_of_units_is_asked_with_what_the_table_knows_of_the_account() {
        let unit = r#"@id("tell") permit (principal, action == Redress::Action::"Notify", resource);
            @id("act") permit (principal, action == Redress::Action::"Act", resource);
            @id("not-there") forbid (principal, action == Redress::Action::"Act",
                resource in Redress::OrganizationalUnit::"ou-there");"#;
        let new = Loaded { name: "mine".to_owned(), policies: Arc::new(Policies::load(unit).unwrap()) };
        let mut records = fixture::verified();
        records.truncate(1);
        records[0].draft.detail.insert(detail::QUESTION.to_owned(), QUESTION.to_owned());
        let changes = |path: Option<&str>| {
            let facts = |unit: &str| AccountFacts {
                account: fixture::account(),
                name: String::new(),
                ou_path: vec!["r-1".to_owned(), unit.to_owned()],
                tags: BTreeMap::new(),
                read_at: 0,
            };
            let places = path.map(|unit| (fixture::account(), facts(unit))).into_iter().collect();
            let mut changes = Diff::of(&set("standard"), &new, &records, &places, &Exemptions::default()).changes;
            changes.pop().map(|change| change.new)
        };
        assert!(changes(None).unwrap().error.is_some());
        assert_eq!(changes(Some("ou-there")).unwrap().error, None);
        assert_eq!(changes(Some("ou-elsewhere")), None);
    }

    #[test]
    fn a_finding_is_compared_once_and_one_without_a_question_is_counted() {
        let mut twice = records();
        twice.extend(records());
        let decided = decided(twice, 10);
        let ids: BTreeSet<_> = decided.iter().map(|record| record.draft.remediation_id.to_string()).collect();
        assert_eq!(ids.len(), decided.len());
        let mut without = decided;
        without.iter_mut().for_each(|record| drop(record.draft.detail.remove(detail::QUESTION)));
        let diff = Diff::of(&set("standard"), &set("observe"), &without, &BTreeMap::new(), &Exemptions::default());
        assert_eq!((diff.compared, diff.not_comparable), (0, without.len()));
    }
}
