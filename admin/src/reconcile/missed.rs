//! Events that never came: what Security Hub and the Config aggregator hold against what Redress knows of.
//!
//! EventBridge delivers what it is given; Security Hub and Config do not give it everything. A finding that no claim knows
//! of goes onto the findings queue as the event that should have come, and is decided about there like any other: by the
//! policy, the switch, the backlog rule. Each state of a finding is brought at most once: what was looked at is not looked
//! at again ([`Progress`]).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use redress_common::aws::state_table::{Claim, ClaimStatus, StateKey};
use redress_common::catalogue::Catalogue;
use redress_common::finding::{Check, Finding, Inbound, parse};
use redress_common::ids::{AccountId, ControlId, Region};
use redress_common::items::reconciler::Progress;
use serde_json::{Value, json};

use super::ports::{FailedRule, Queue, Search, Watch};
use super::{Broken, Counts, Reconciler};
use crate::claim::{self, Times, WINDOW_MS};
use crate::intake;

/// How far back the reconciler looks.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// Findings that one run looks at, of each 20 controls.
const FINDINGS: usize = 500;
/// Messages that one run sends, of findings and of results each.
const SENT: usize = 100;
/// `GetFindings` takes so many values of a filter.
const VALUES: usize = 20;
/// Failing rules that one run looks at.
const RULES: usize = 100;
/// Pages of their resources that one run looks at, and results that it takes from them.
const PAGES: usize = 200;
const RESULTS: usize = 1_000;

/// A finding, and the event that should have brought it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The event.
    pub body: String,
    /// Where its claim would lie.
    pub key: StateKey,
    /// The finding.
    pub finding: Finding,
}

/// Between which times what is new lies. What is younger than a lease may be on its way.
#[must_use]
pub fn window(looked_until_ms: i64, times: Times, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let until = now.checked_sub(SignedDuration::from_millis(times.lease_ms)).ok()?;
    let from = now.checked_sub(WINDOW).ok()?;
    let from = Timestamp::from_millisecond(looked_until_ms).map_or(from, |looked| looked.max(from));
    (from < until).then_some((from, until))
}

/// Whether nobody knows of a finding: no claim, or one that has dealt with an older state of the world and is nobody's work.
/// Of what people were told lately they are not told again, and nothing is written of it: such a claim stays behind its
/// finding, and knows it all the same.
#[must_use]
pub fn is_missed(finding: &Finding, claim: Option<&Claim>, times: Times, now: Timestamp) -> bool {
    claim.is_none_or(|claim| {
        let now = now.as_millisecond();
        let busy = claim.status == ClaimStatus::Leased && now < claim::busy_until(claim, times);
        let told = claim.notice.as_ref().is_some_and(|notice| now - notice.at < WINDOW_MS);
        claim.generation < finding.generation && !busy && !told
    })
}

/// The event that Security Hub sends of a finding.
#[must_use]
pub fn imported_event(finding: &Value, administrator: &AccountId, home: &Region, now: Timestamp) -> String {
    json!({
        "version": "0", "id": uuid::Uuid::new_v4().to_string(), "detail-type": "Security Hub Findings - Imported",
        "source": "aws.securityhub", "account": administrator, "time": now.to_string(), "region": home,
        "resources": [finding["Id"]], "detail": { "findings": [finding] },
    })
    .to_string()
}

/// The event that Config sends of a result, from the aggregator's account of it.
#[must_use]
pub fn config_event(rule: &FailedRule, result: &Value, now: Timestamp) -> String {
    let qualifier = &result["EvaluationResultIdentifier"]["EvaluationResultQualifier"];
    let (recorded, invoked) = (&result["ResultRecordedTime"], &result["ConfigRuleInvokedTime"]);
    json!({
        "version": "0", "id": uuid::Uuid::new_v4().to_string(), "detail-type": "Config Rules Compliance Change",
        "source": "aws.config", "account": rule.account, "time": now.to_string(), "region": rule.region, "resources": [],
        "detail": {
            "resourceId": qualifier["ResourceId"], "resourceType": qualifier["ResourceType"],
            "awsRegion": rule.region, "awsAccountId": rule.account, "configRuleName": rule.name,
            "recordVersion": "1.0", "messageType": "ComplianceChangeNotification",
            "newEvaluationResult": {
                "evaluationResultIdentifier": {
                    "evaluationResultQualifier": {
                        "configRuleName": rule.name, "resourceType": qualifier["ResourceType"],
                        "resourceId": qualifier["ResourceId"],
                    },
                    "orderingTimestamp": result["EvaluationResultIdentifier"]["OrderingTimestamp"],
                },
                "complianceType": "NON_COMPLIANT", "resultRecordedTime": recorded, "configRuleInvokedTime": invoked,
            },
            "notificationCreationTime": now.to_string(),
        },
    })
    .to_string()
}

/// The finding of an event of one finding, and where its claim would lie. `None` for what the orchestrator would not act on.
fn candidate(body: String, catalogue: &Catalogue) -> Option<Candidate> {
    let Ok(Inbound::Findings(findings)) = parse(body.as_bytes()) else { return None };
    let finding = findings.into_iter().next()?.ok()?;
    let key = intake::case_of(&finding, catalogue).ok()?.claim_key();
    Some(Candidate { body, key, finding })
}

/// When Config recorded a result.
fn recorded(result: &Value) -> Option<Timestamp> {
    result["ResultRecordedTime"].as_str()?.parse().ok()
}

fn name_of(rule: &FailedRule) -> String {
    format!("{}/{}/{}", rule.account, rule.region, rule.name)
}

/// When a finding of Security Hub's was updated.
fn updated(finding: &Value) -> Option<Timestamp> {
    finding["UpdatedAt"].as_str()?.parse().ok()
}

impl<W: Watch> Reconciler<W> {
    /// Brings the findings of Security Hub's that nobody knows of.
    pub(super) async fn missed_findings(&self, progress: &mut Progress, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        let Some((from, until)) = window(progress.findings_until, self.me.times, now) else { return Ok(counts) };
        let catalogue = self.catalogue().await?;
        let controls: Vec<ControlId> = catalogue.0.keys().cloned().collect();
        let mut reached = until;
        let mut found = Vec::new();
        for controls in controls.chunks(VALUES) {
            let search = Search { controls: controls.to_vec(), from, until };
            let part = self.outside.updated_findings(&search, FINDINGS).await?;
            if !part.whole {
                reached = reached.min(part.items.last().and_then(updated).unwrap_or(from));
            }
            found.extend(part.items.iter().filter_map(|finding| {
                let body = imported_event(finding, &self.me.account, &self.me.home, now);
                Some((updated(finding)?, candidate(body, &catalogue)?))
            }));
        }
        found.sort_by_key(|(updated, _)| *updated);
        let mut sent = 0;
        let candidates: Vec<Candidate> =
            found.into_iter().filter(|(updated, _)| *updated <= reached).map(|(_, candidate)| candidate).collect();
        for missed in self.unknown(candidates, now).await? {
            if sent == SENT {
                let at = Timestamp::from_millisecond(missed.finding.generation.0).unwrap_or(from);
                reached = reached.min(at);
                break;
            }
            self.outside.send(Queue::Findings, &missed.body, &BTreeMap::new()).await?;
            tracing::warn!(finding = missed.finding.id, account = %missed.finding.account, "its event never came");
            counts.done("missed-finding");
            sent += 1;
        }
        // A millisecond on, or a thousand findings of one moment would be looked at for ever.
        let past = if reached < until && sent == 0 { 1 } else { 0 };
        progress.findings_until = reached.as_millisecond() + past;
        Ok(counts)
    }

    /// Brings the results of Config's rules that nobody knows of.
    pub(super) async fn missed_results(&self, progress: &mut Progress, now: Timestamp) -> Result<Counts, Broken> {
        let mut counts = Counts::default();
        if !self.outside.has_aggregator() {
            return Ok(counts);
        }
        let Some((from, until)) = window(progress.results_until, self.me.times, now) else { return Ok(counts) };
        let catalogue = self.catalogue().await?;
        // What is recorded while the list is walked, in several runs, is for the next walk.
        let began = Timestamp::from_millisecond(progress.walk_until).ok();
        let until = began.filter(|began| from < *began && *began < until).unwrap_or(until);
        progress.walk_until = until.as_millisecond();
        let first = self.outside.failed_rules(&progress.rules_from, RULES).await;
        let (rules, next) = match first {
            Err(error) if !progress.rules_from.is_empty() && !error.is_transient() => {
                tracing::warn!(%error, "the list of failing rules is begun anew");
                for position in [&mut progress.rules_from, &mut progress.rule, &mut progress.resources_from] {
                    position.clear();
                }
                self.outside.failed_rules("", RULES).await?
            }
            first => first?,
        };
        let rules: Vec<FailedRule> = rules
            .into_iter()
            .filter(|rule| catalogue.resolve(&Check::ConfigRule(rule.name.clone())).is_some())
            .collect();
        let within = |at: Timestamp| from <= at && at < until;
        let (results, stopped) = self.results(&rules, progress, within).await?;
        let events = results.iter().map(|(rule, result)| config_event(rule, result, now));
        let candidates = events.filter_map(|event| candidate(event, &catalogue)).collect();
        let missed = self.unknown(candidates, now).await?;
        let all = missed.len() <= SENT;
        for missed in missed.into_iter().take(SENT) {
            self.outside.send(Queue::Findings, &missed.body, &BTreeMap::new()).await?;
            tracing::warn!(finding = missed.finding.id, account = %missed.finding.account, "its event never came");
            counts.done("missed-result");
        }
        if all {
            (progress.rule, progress.resources_from) = stopped.clone().unwrap_or_default();
        }
        // The window moves on only when the list was walked to its end within it.
        match (all && stopped.is_none(), next.is_empty()) {
            (true, true) => {
                progress.rules_from.clear();
                (progress.walk_until, progress.results_until) = (0, until.as_millisecond());
            }
            (true, false) => progress.rules_from = next,
            (false, _) => {}
        }
        Ok(counts)
    }

    /// The results of these rules from where the last run stopped, and where this one does when there are more.
    async fn results<'a>(
        &self,
        rules: &'a [FailedRule],
        progress: &Progress,
        within: impl Fn(Timestamp) -> bool,
    ) -> Result<(Vec<(&'a FailedRule, Value)>, Option<(String, String)>), Broken> {
        let mut results = Vec::new();
        let mut pages = 0;
        // A rule that is not in the list any more is where nothing is left to do: all of them once more.
        let first = rules.iter().position(|rule| name_of(rule) == progress.rule);
        let mut from = if first.is_some() { progress.resources_from.clone() } else { String::new() };
        for rule in &rules[first.unwrap_or(0)..] {
            loop {
                if pages == PAGES || results.len() >= RESULTS {
                    return Ok((results, Some((name_of(rule), from))));
                }
                pages += 1;
                let (found, next) = match self.outside.failed_resources(rule, &from).await {
                    Err(error) if !from.is_empty() && !error.is_transient() => {
                        tracing::warn!(rule = rule.name, %error, "the list of its resources is begun anew");
                        self.outside.failed_resources(rule, "").await?
                    }
                    page => page?,
                };
                results.extend(
                    found.into_iter().filter(|result| recorded(result).is_some_and(&within)).map(|r| (rule, r)),
                );
                from = next;
                if from.is_empty() {
                    break;
                }
            }
        }
        Ok((results, None))
    }

    async fn unknown(&self, candidates: Vec<Candidate>, now: Timestamp) -> Result<Vec<Candidate>, Broken> {
        let keys: Vec<StateKey> = candidates.iter().map(|candidate| candidate.key.clone()).collect();
        let claims = self.read_claims(&keys).await?;
        let mut missed = Vec::new();
        for (candidate, claim) in candidates.into_iter().zip(claims) {
            if is_missed(&candidate.finding, claim?.as_ref(), self.me.times, now) {
                missed.push(candidate);
            }
        }
        Ok(missed)
    }

    async fn catalogue(&self) -> Result<Catalogue, Broken> {
        Ok(self.outside.read(&[StateKey::Catalogue]).await?.catalogue()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture;
    use redress_common::aws::state_table::Notice;
    use redress_common::ids::Generation;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_window_begins_where_the_last_run_stopped_and_ends_before_what_may_be_on_its_way() {
        let now = at("2026-03-02T12:00:00Z");
        let (from, until) = window(0, Times::default(), now).unwrap();
        assert_eq!((from, until), (at("2026-03-01T12:00:00Z"), at("2026-03-02T11:55:00Z")));
        let looked = at("2026-03-02T11:40:00Z");
        assert_eq!(window(looked.as_millisecond(), Times::default(), now).unwrap().0, looked);
        assert_eq!(window(until.as_millisecond(), Times::default(), now), None);
    }

    fn result() -> (FailedRule, Value) {
        let rule = FailedRule {
            name: "securityhub-s3-bucket-level-public-access-prohibited-5c2f0a91".to_owned(),
            account: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
        };
        let result = json!({
            "EvaluationResultIdentifier": {
                "EvaluationResultQualifier": {
                    "ConfigRuleName": rule.name, "ResourceType": "AWS::S3::Bucket", "ResourceId": "b",
                },
                "OrderingTimestamp": fixture::T0,
            },
            "ComplianceType": "NON_COMPLIANT", "ResultRecordedTime": fixture::T0, "ConfigRuleInvokedTime": fixture::T0,
            "AccountId": rule.account, "AwsRegion": rule.region,
        });
        (rule, result)
    }

    #[test]
    fn what_the_aggregator_says_reads_as_the_event_that_config_would_have_sent() {
        let catalogue: Catalogue = serde_json::from_str(include_str!("../../../ssm-documents/catalogue.json")).unwrap();
        let (rule, result) = result();
        let found = candidate(config_event(&rule, &result, at("2026-03-02T12:00:00Z")), &catalogue).unwrap();
        assert_eq!(found.finding.resource.arn.as_str(), "arn:aws:s3:::b");
        assert_eq!(found.finding.generation, Generation(at(fixture::T0).as_millisecond()));
        let unknown = FailedRule { name: "their-own-rule".to_owned(), ..rule };
        assert!(candidate(config_event(&unknown, &result, at("2026-03-02T12:00:00Z")), &catalogue).is_none());
    }

    #[test]
    fn a_finding_is_missed_when_no_claim_knows_this_state_of_it() {
        let catalogue: Catalogue = serde_json::from_str(include_str!("../../../ssm-documents/catalogue.json")).unwrap();
        let (rule, result) = result();
        let now = at("2026-03-02T12:00:00Z");
        let finding = candidate(config_event(&rule, &result, now), &catalogue).unwrap().finding;
        let claim = |generation: i64, status, lease_until| Claim {
            generation: Generation(generation),
            status,
            lease_until,
            ..fixture::claim()
        };
        let (known, older) = (finding.generation.0, finding.generation.0 - 1);
        let soon = now.as_millisecond() + 1;
        for (claim, missed) in [
            (None, true),
            (Some(claim(known, ClaimStatus::Done, 0)), false),
            (Some(claim(older, ClaimStatus::Done, 0)), true),
            (Some(claim(older, ClaimStatus::Leased, soon)), false),
            (Some(claim(older, ClaimStatus::Leased, 0)), true),
            (Some(claim(known, ClaimStatus::Leased, 0)), false),
        ] {
            assert_eq!(is_missed(&finding, claim.as_ref(), Times::default(), now), missed, "{claim:?}");
        }
        let told = |at: i64| {
            let notice = Some(Notice { code: "notify".to_owned(), at });
            Some(Claim { notice, ..claim(older, ClaimStatus::Done, 0) })
        };
        let day = now.as_millisecond() - WINDOW_MS;
        for (claim, missed) in [(told(day + 1), false), (told(day), true)] {
            assert_eq!(is_missed(&finding, claim.as_ref(), Times::default(), now), missed, "{claim:?}");
        }
    }
}
