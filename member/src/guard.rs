//! `redress-guard`: what a change would touch, who owns it, how critical it is, and what a threat list says of it.
//!
//! Only reads, and decides nothing: policy does, in the administrator account. Questions are asked at the same
//! time, each with a limit; one that fails or is late is said to be unanswered and takes none of the others with it.
//! Never logs a tag or an indicator.

mod ec2;
mod iam;
mod kms;
mod labels;
mod s3;
mod subject;
mod tagging;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use aws_types::SdkConfig;
use aws_types::region::Region as SdkRegion;
use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Dependent, GuardEvidence, GuardRequest};
use redress_common::ids::Region;
use tokio::task::JoinSet;

use crate::place::{BindingError, Place};
use labels::Labels;
use subject::Subject;

/// No question takes longer; the whole is to be done in 5 s.
const LIMIT: Duration = Duration::from_millis(4_500);
/// So many dependents are listed; all are counted.
const MAX_LISTED: usize = 50;
/// So many indicators are looked at.
const MAX_INDICATORS: usize = 200;
/// No domain name and no hash is longer.
const MAX_INDICATOR: usize = 255;
/// Of what AWS says when it refuses.
const MAX_REASON: usize = 300;

/// What a question answers: its part of the evidence.
type Answer = Result<GuardEvidence, AwsFailure>;

/// The guard: how it reaches AWS, and what its owner calls critical.
#[derive(Debug, Clone)]
pub struct Guard {
    config: SdkConfig,
    labels: Labels,
}

impl Guard {
    /// From the function's environment: `CRITICAL_TAGS` and `TERRAFORM_TAGS`, both `key=value,key,…`.
    #[must_use]
    pub fn new(config: SdkConfig, variable: impl Fn(&str) -> Option<String>) -> Self {
        let list = |name| variable(name).unwrap_or_default();
        Self { config, labels: Labels::new(&list("CRITICAL_TAGS"), &list("TERRAFORM_TAGS")) }
    }

    /// Looks at one resource.
    ///
    /// # Errors
    /// When the request is for another account, or names two Regions. What AWS does not answer is no error.
    pub async fn look(&self, place: &Place, request: GuardRequest) -> Result<GuardEvidence, BindingError> {
        place.bind_account("the request", &request.account_id)?;
        if let Some(account) = request.resource_arn.account() {
            place.bind_account("the resource", account)?;
        }
        // A global service has no Region, and this function may look from its own into any.
        if let Some(region) = request.resource_arn.region() {
            Place { region: request.region.clone(), ..place.clone() }.bind_region("the resource", region)?;
        }
        let mut questions = Questions::default();
        Reach { config: &self.config, place, region: &request.region }.ask(&mut questions, &request);
        let mut evidence = questions.answers().await;
        if evidence.owned_by.is_none() {
            evidence.owned_by = self.labels.owner(&evidence.tags);
        }
        evidence.critical = self.labels.critical(&evidence.tags);
        Ok(evidence)
    }
}

/// Questions that are being asked.
#[derive(Default)]
struct Questions {
    asked: JoinSet<GuardEvidence>,
}

impl Questions {
    /// Asks, with a limit. `what` says what nobody knows when there is no answer.
    fn ask(&mut self, what: &'static str, question: impl Future<Output = Answer> + Send + 'static) {
        self.asked.spawn(async move {
            match tokio::time::timeout(LIMIT, question).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(failure)) => unanswered(what, &failure.to_string()),
                Err(_) => unanswered(what, "no answer in time"),
            }
        });
    }

    /// Every answer in one. In an order that does not depend on which came first.
    async fn answers(mut self) -> GuardEvidence {
        let mut whole = GuardEvidence::default();
        while let Some(answer) = self.asked.join_next().await {
            match answer {
                Ok(answer) => merge(&mut whole, answer),
                Err(error) => whole.unanswered.push(format!("a question was cut off: {error}")),
            }
        }
        whole.dependents.sort_by(|a, b| (&a.resource_type, &a.id).cmp(&(&b.resource_type, &b.id)));
        whole.dependents.truncate(MAX_LISTED);
        whole.threats.sort();
        whole.unanswered.sort();
        whole
    }
}

fn merge(whole: &mut GuardEvidence, part: GuardEvidence) {
    whole.tags.extend(part.tags);
    whole.owned_by = whole.owned_by.take().or(part.owned_by);
    whole.dependents.extend(part.dependents);
    whole.dependent_count = whole.dependent_count.saturating_add(part.dependent_count);
    // RFC 3339 in UTC sorts as time does.
    whole.last_used = whole.last_used.take().max(part.last_used);
    whole.threats.extend(part.threats);
    whole.unanswered.extend(part.unanswered);
}

fn unanswered(what: &str, why: &str) -> GuardEvidence {
    let why: String = why.chars().take(MAX_REASON).collect();
    GuardEvidence { unanswered: vec![format!("{what}: {why}")], ..GuardEvidence::default() }
}

/// Evidence of tags alone.
fn tagged<K: Into<String>, V: Into<String>>(tags: impl IntoIterator<Item = (K, V)>) -> GuardEvidence {
    let tags: BTreeMap<String, String> = tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    GuardEvidence { tags, ..GuardEvidence::default() }
}

/// Evidence of things that use the resource.
fn used_by(dependents: impl IntoIterator<Item = (&'static str, String)>) -> GuardEvidence {
    let dependents: Vec<Dependent> = dependents
        .into_iter()
        .map(|(resource_type, id)| Dependent { resource_type: resource_type.to_owned(), id })
        .collect();
    let dependent_count = u32::try_from(dependents.len()).unwrap_or(u32::MAX);
    GuardEvidence { dependents, dependent_count, ..GuardEvidence::default() }
}

/// From where, and how, AWS is asked about one resource.
struct Reach<'a> {
    config: &'a SdkConfig,
    place: &'a Place,
    region: &'a Region,
}

impl Reach<'_> {
    /// Asks what there is to ask about this kind of resource.
    fn ask(&self, questions: &mut Questions, request: &GuardRequest) {
        let arn = request.resource_arn.clone();
        let here = self.config.to_builder().region(SdkRegion::new(self.region.to_string())).build();
        let account = self.place.account.to_string();
        let (ec2, iam) = (aws_sdk_ec2::Client::new(&here), aws_sdk_iam::Client::new(&here));
        match Subject::of(&arn) {
            Subject::Bucket(bucket) => {
                let s3 = s3_client(self.config, self.region);
                questions.ask("tags", s3::tags(s3, bucket, account));
            }
            Subject::SecurityGroup(id) | Subject::Ec2(id) => questions.ask("tags", ec2::tags(ec2, id)),
            Subject::Key(id) => questions.ask("tags", kms::tags(aws_sdk_kms::Client::new(&here), id)),
            Subject::Role(name) => questions.ask("tags and last use", iam::role(iam, name)),
            Subject::User(name) => questions.ask("tags and last use", iam::user(iam, name)),
            Subject::Policy => questions.ask("tags", iam::policy(iam, arn.to_string())),
            Subject::Account => {}
            Subject::Other => {
                let client = aws_sdk_resourcegroupstagging::Client::new(&here);
                questions.ask("tags", tagging::tags(client, arn.to_string()));
            }
        }
    }
}

/// The indicators of a request that are looked at, and what is said of those that are not.
fn indicators(mut given: Vec<String>) -> (Vec<String>, Option<String>) {
    let all = given.len();
    given.truncate(MAX_INDICATORS);
    given.retain(|indicator| indicator.len() <= MAX_INDICATOR);
    let dropped = all - given.len();
    let told = (dropped > 0).then(|| format!("threats: {dropped} of {all} indicators were too many or too long"));
    (given, told)
}
