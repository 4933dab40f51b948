//! `redress-guard`: what a change would touch, who owns it, how critical it is, and what a threat list says of it.
//!
//! Only reads, and decides nothing: policy does, in the administrator account. Questions are asked at the same
//! time, each with a limit; one that fails or is late is said to be unanswered and takes none of the others with it.
//! Never logs a tag or an indicator.

mod clients;
mod ec2;
mod exposure;
mod iam;
mod kms;
mod labels;
mod s3;
mod stacks;
mod subject;
mod tagging;
mod threat;
mod threat_list;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::future::pagination_stream::PaginationStream;
use aws_types::SdkConfig;
use redress_common::aws::evidence::s3_client;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Dependent, GuardEvidence, GuardRequest};
use redress_common::eks;
use redress_common::ids::{AccountId, Region};
use tokio::task::JoinSet;

use crate::place::{BindingError, Place};
use clients::{Clients, Here};
use labels::Labels;
use subject::Subject;
use threat_list::ThreatList;

/// No question takes longer; the whole is to be done in 5 s.
const LIMIT: Duration = Duration::from_millis(4_500);
/// So many dependents are listed; all are counted, as far as [`MAX_PAGES`] go.
const MAX_LISTED: usize = 50;
/// No answer of AWS is read further: 5,000 network interfaces.
const MAX_PAGES: usize = 5;
/// So many indicators are looked at.
const MAX_INDICATORS: usize = 200;
/// No domain name and no hash is longer.
const MAX_INDICATOR: usize = 255;
/// Of what AWS says when it refuses.
const MAX_REASON: usize = 300;

/// What a question answers: its part of the evidence.
type Answer = Result<GuardEvidence, AwsFailure>;

/// The guard: how it reaches AWS, and what its owner calls critical.
#[derive(Debug)]
pub struct Guard {
    config: SdkConfig,
    clients: Clients,
    labels: Labels,
    threats: Option<ThreatList>,
}

impl Guard {
    /// From the function's environment: `CRITICAL_TAGS` and `TERRAFORM_TAGS`, both `key=value,key,…`, and
    /// `THREAT_LIST_BUCKET` with `THREAT_LIST_OWNER`, its account, when there is such a list, and `THREAT_LIST_REGION` when it
    /// is in another Region than the function.
    #[must_use]
    pub fn new(config: SdkConfig, variable: impl Fn(&str) -> Option<String>) -> Self {
        let list = |name| variable(name).unwrap_or_default();
        let labels = Labels::new(&list("CRITICAL_TAGS"), &list("TERRAFORM_TAGS"));
        let home = variable("THREAT_LIST_REGION").or_else(|| config.region().map(ToString::to_string));
        let home = home.and_then(|region| region.parse::<Region>().ok());
        let threats = home.zip(variable("THREAT_LIST_BUCKET").zip(variable("THREAT_LIST_OWNER")));
        let threats = threats.map(|(home, (bucket, owner))| ThreatList::new(s3_client(&config, &home), bucket, owner));
        Self { clients: Clients::default(), config, labels, threats }
    }

    /// Looks at one resource.
    ///
    /// # Errors
    /// When the request is for another account, or names two Regions. What AWS does not answer is no error.
    pub async fn look(&self, place: &Place, request: GuardRequest) -> Result<GuardEvidence, BindingError> {
        bind(place, &request)?;
        let mut questions = Questions::new(LIMIT);
        self.ask(&mut questions, &place.account, request);
        let mut evidence = questions.answers().await;
        if evidence.owned_by.is_none() {
            evidence.owned_by = self.labels.owner(&evidence.tags);
        }
        evidence.critical = self.labels.critical(&evidence.tags);
        Ok(evidence)
    }

    /// Asks what there is to ask about this kind of resource.
    fn ask(&self, questions: &mut Questions, account: &AccountId, request: GuardRequest) {
        // What is in a cluster is as critical as that, and whoever manages the cluster manages it.
        let cluster = eks::cluster_of(&request.resource_arn);
        let arn = cluster.as_ref().unwrap_or(&request.resource_arn);
        let subject = Subject::of(arn);
        let here = self.clients.of(&self.config, &request.region);
        questions.told(subject.unknowable());
        if let Some(id) = subject.physical_id(arn) {
            questions.ask("owner", stacks::owner(here.cloudformation(), id, arn.service().to_owned()));
        }
        self.ask_threats(questions, &here, &subject, request.indicators);
        let (ec2, iam) = (|| here.ec2(), || here.iam());
        match subject {
            Subject::Bucket(name) => {
                let client = here.s3();
                let bucket = s3::Bucket { client, name, owner: account.to_string() };
                questions.ask("tags", bucket.clone().tags());
                questions.ask("website", bucket.clone().website());
                questions.ask("public access", bucket.clone().public());
                questions.ask("bucket policy", bucket.clone().policy());
                questions.ask("replication", bucket.replication());
            }
            Subject::SecurityGroup(id) => {
                questions.ask("tags", ec2::tags(ec2(), id.clone()));
                questions.ask("network interfaces", ec2::interfaces(ec2(), id.clone()));
                questions.ask("groups that refer to it", ec2::referring_groups(ec2(), id));
            }
            Subject::Volume(id) => {
                questions.ask("tags", ec2::tags(ec2(), id.clone()));
                questions.ask("instances", ec2::attachments(ec2(), id));
            }
            Subject::Snapshot(id) => {
                questions.ask("tags", ec2::tags(ec2(), id.clone()));
                questions.ask("images", ec2::images(ec2(), id));
            }
            Subject::Image(id) => {
                questions.ask("tags", ec2::tags(ec2(), id.clone()));
                questions.ask("instances", ec2::instances(ec2(), id));
            }
            Subject::Instance(id) => {
                questions.ask("tags", ec2::tags(ec2(), id.clone()));
                questions.ask("exposure", exposure::of_instance(ec2(), id));
            }
            Subject::Ec2(id) => questions.ask("tags", ec2::tags(ec2(), id)),
            Subject::Key(id) => {
                let client = here.kms();
                questions.ask("tags", kms::tags(client.clone(), id.clone()));
                questions.ask("aliases", kms::aliases(client.clone(), id.clone()));
                questions.ask("grants", kms::grants(client, id));
            }
            Subject::Role(name) => {
                questions.ask("tags and last use", iam::role(iam(), name.clone()));
                questions.ask("instance profiles", iam::profiles(iam(), name));
            }
            Subject::User(name) => {
                questions.ask("tags and last use of the password", iam::user(iam(), name.clone()));
                questions.ask("access keys and their last use", iam::keys(iam(), name));
            }
            Subject::Policy => {
                questions.ask("tags", iam::policy(iam(), arn.to_string()));
                questions.ask("attachments", iam::attachments(iam(), arn.to_string()));
            }
            Subject::Account if request.control.family() == "IAM" => questions.ask("users", iam::users(iam())),
            Subject::Account => {
                questions.told(&["dependents: what a setting of the whole account touches is not looked up"])
            }
            Subject::Other => {
                questions.ask("tags", tagging::tags(here.tagging(), arn.to_string()));
                if let Some(name) = arn.capture("arn:*:rds:*:*:db:{}") {
                    questions.ask("exposure", exposure::of_database(here.wire(), ec2(), name.to_owned()));
                }
                if let Some(name) = arn.capture("arn:*:lambda:*:*:function:{}") {
                    questions.ask("exposure", exposure::of_function(here.wire(), name.to_owned()));
                }
            }
        }
    }

    /// Asks the threat list, about the indicators and about a security group's own networks.
    fn ask_threats(&self, questions: &mut Questions, here: &Here, subject: &Subject, indicators: Vec<String>) {
        let Some(threats) = self.threats.clone() else { return };
        let group = match subject {
            Subject::SecurityGroup(id) => Some((here.ec2(), id.clone())),
            _ => None,
        };
        let (mut indicators, dropped) = within_bounds(indicators);
        if indicators.is_empty() && group.is_none() {
            questions.note(dropped);
            return;
        }
        questions.note(dropped);
        questions.ask("threats", async move {
            let list = threats.current().await?;
            let mut evidence = GuardEvidence::default();
            if list.malformed + list.dropped > 0 {
                let (malformed, dropped) = (list.malformed, list.dropped);
                evidence.unanswered.push(format!(
                    "lines of the threat list: {malformed} are malformed and {dropped} too many; the others hold"
                ));
            }
            if list.is_empty() {
                return Ok(evidence);
            }
            if let Some((client, id)) = group {
                indicators.extend(ec2::networks(client, id).await?);
            }
            evidence.threats = list.matches(indicators.iter().map(String::as_str), jiff::Timestamp::now());
            Ok(evidence)
        });
    }
}

/// Refuses a request for elsewhere. A global service's ARN has no Region, and this function may look from its own
/// into any; but a request that names two is not understood.
fn bind(place: &Place, request: &GuardRequest) -> Result<(), BindingError> {
    place.bind_account("the request", &request.account_id)?;
    let (account, region) = (request.resource_arn.account(), request.resource_arn.region());
    if let Some(account) = account {
        place.bind_account("the resource", account)?;
    }
    let asked = Place { region: request.region.clone(), ..place.clone() };
    region.map_or(Ok(()), |region| asked.bind_region("the resource", region))
}

/// Questions that are being asked.
struct Questions {
    limit: Duration,
    asked: JoinSet<GuardEvidence>,
    whole: GuardEvidence,
}

impl Questions {
    fn new(limit: Duration) -> Self {
        Self { limit, asked: JoinSet::new(), whole: GuardEvidence::default() }
    }

    /// Notes what cannot be asked.
    fn told(&mut self, unknowable: &[&str]) {
        self.whole.unanswered.extend(unknowable.iter().map(|text| (*text).to_owned()));
    }

    fn note(&mut self, text: Option<String>) {
        self.whole.unanswered.extend(text);
    }

    /// Asks, with a limit. `what` says what nobody knows when there is no answer.
    fn ask(&mut self, what: &'static str, question: impl Future<Output = Answer> + Send + 'static) {
        let limit = self.limit;
        self.asked.spawn(async move {
            match tokio::time::timeout(limit, question).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(failure)) => unanswered(what, &failure.to_string()),
                Err(_) => unanswered(what, "no answer in time"),
            }
        });
    }

    /// Every answer in one. In an order that does not depend on which came first.
    async fn answers(mut self) -> GuardEvidence {
        while let Some(answer) = self.asked.join_next().await {
            match answer {
                Ok(answer) => add(&mut self.whole, answer),
                Err(error) => self.whole.unanswered.push(format!("a question was cut off: {error}")),
            }
        }
        let mut whole = self.whole;
        whole.dependents.sort_by(|a, b| (&a.resource_type, &a.id).cmp(&(&b.resource_type, &b.id)));
        whole.dependents.truncate(MAX_LISTED);
        whole.unanswered.sort();
        whole
    }
}

/// Adds a part of the evidence to the whole.
fn add(whole: &mut GuardEvidence, part: GuardEvidence) {
    whole.tags.extend(part.tags);
    whole.owned_by = whole.owned_by.take().or(part.owned_by);
    whole.dependents.extend(part.dependents);
    whole.dependent_count = whole.dependent_count.saturating_add(part.dependent_count);
    // RFC 3339 in UTC sorts as time does.
    whole.last_used = whole.last_used.take().max(part.last_used);
    whole.threats.extend(part.threats);
    whole.exposure = match (whole.exposure.take(), part.exposure) {
        (Some(known), Some(more)) => Some([known, more].concat()),
        (known, more) => known.or(more),
    };
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

/// Evidence of what uses the resource; not `whole` when there may be more.
fn used_by(resource_type: &'static str, ids: impl IntoIterator<Item = String>, whole: bool) -> GuardEvidence {
    let dependent = |id| Dependent { resource_type: resource_type.to_owned(), id };
    let mut dependents: Vec<Dependent> = ids.into_iter().map(dependent).collect();
    let dependent_count = u32::try_from(dependents.len()).unwrap_or(u32::MAX);
    dependents.sort_by(|a, b| a.id.cmp(&b.id));
    dependents.truncate(MAX_LISTED);
    let cut = (!whole).then(|| format!("dependents: there are more of type {resource_type} than were counted"));
    GuardEvidence { dependents, dependent_count, unanswered: cut.into_iter().collect(), ..GuardEvidence::default() }
}

/// Every page of an answer, up to [`MAX_PAGES`]. Whether that was all.
async fn pages<T, E, R>(
    operation: &'static str,
    mut answer: PaginationStream<Result<T, SdkError<E, R>>>,
    mut each: impl FnMut(T),
) -> Result<bool, AwsFailure>
where
    E: Error + ProvideErrorMetadata + 'static,
    R: Debug,
{
    for _ in 0..MAX_PAGES {
        match answer.next().await {
            Some(page) => each(page.map_err(|error| AwsFailure::of(operation, &error))?),
            None => return Ok(true),
        }
    }
    Ok(answer.next().await.is_none())
}

/// The indicators that are looked at, and what is said of those that are not.
fn within_bounds(mut given: Vec<String>) -> (Vec<String>, Option<String>) {
    let all = given.len();
    given.truncate(MAX_INDICATORS);
    given.retain(|indicator| indicator.len() <= MAX_INDICATOR);
    let dropped = all - given.len();
    let told = (dropped > 0).then(|| format!("threats: {dropped} of {all} indicators were too many or too long"));
    (given, told)
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
