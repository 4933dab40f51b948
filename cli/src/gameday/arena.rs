//! The lab that a game is played in: a running one, on this machine. Its accounts' roots break things and look at them; what
//! Redress has to say is asked as its operator.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use redress_common::arn::{Arn, Partition};
use redress_common::aws::state_table::{self, Snapshot, StateKey};
use redress_common::ids::{AccountId, Region};
use redress_common::ledger::Record;
use redress_common::names;
use redress_common::operate::Listing;
use redress_lab::scenario;
use redress_lab::service::{Aws, AwsError, Credentials};
use serde_json::{Value, json};

use super::book::{Game, Thing};
use super::judge::{Facts, Fault, Listener};
use super::scenario::{Holds, Scenario};
use super::stage;
use crate::args::Global;
use crate::aws::Connection;
use crate::deploy::doctor::{self, CheckId, Place, Severity};
use crate::ledger::Ledger;
use crate::problem::Problem;
use crate::running::Running;
use crate::{host, lab, settings};

/// A running lab, and its operator.
pub(crate) struct Arena {
    pub(crate) lab: Arc<Running>,
    operator: Connection,
}

impl Arena {
    /// The lab that runs on this machine; refused when the command is pointed at anything else.
    pub(crate) async fn enter(global: &Global) -> Result<Self, Problem> {
        let lab = Running::find()?;
        refuse_elsewhere(&lab, global.endpoint_url.as_deref())?;
        // One that was ended without cleaning up says so here.
        lab.scenarios().await?;
        let credentials = lab::operator(&lab).await.map_err(|problem| {
            problem.help("is Redress deployed in this lab? In one of `redress lab up` it is, in one of `redress lab up --empty` after `redress deploy apply`")
        })?;
        let config = host::config(&lab.endpoint, &lab.region, credentials).await;
        let operator = Connection { config, region: lab.region.clone(), api_url: None };
        Ok(Self { lab: Arc::new(lab), operator })
    }

    pub(crate) fn region(&self) -> &Region {
        &self.lab.region
    }

    pub(crate) fn partition(&self) -> Partition {
        Partition::of_region(&self.lab.region)
    }

    /// What the lab's scenarios work with.
    pub(crate) fn aws(&self) -> Arc<dyn Aws> {
        self.lab.clone()
    }

    /// The account that a scenario is played in.
    pub(crate) fn member(&self, scenario: &Scenario, given: Option<AccountId>) -> Result<AccountId, Problem> {
        let members = &self.lab.members;
        match given {
            Some(account) if members.contains(&account) => Ok(account),
            Some(account) => Err(Problem::not_found(format!("the lab has no member account `{account}`"))
                .help("`redress lab status` shows its accounts")),
            None => members.get(scenario.member % members.len().max(1)).cloned().ok_or_else(|| {
                Problem::not_found("the lab has no member account").help("start one that has: redress lab up")
            }),
        }
    }

    /// One AWS call as an account's root.
    pub(crate) async fn call(
        &self,
        account: &AccountId,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        let root = Credentials::root(account.as_str());
        self.lab.call(&root, self.lab.region.as_str(), service, operation, parameters).await
    }

    /// The same, where nothing but success will do.
    pub(crate) async fn must(
        &self,
        account: &AccountId,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, Problem> {
        let answer = self.call(account, service, operation, parameters).await;
        answer.map_err(|error| Problem::aws(&format!("do {service}:{operation} in account {account}"), &error))
    }

    /// Who is subscribed to the topic.
    pub(crate) async fn subscriptions(&self) -> Result<Vec<Value>, Problem> {
        let Running { administrator, region, .. } = &*self.lab;
        let topic = format!("arn:{}:sns:{region}:{administrator}:{}", self.partition(), names::NOTIFICATIONS_TOPIC);
        let asked = json!({ "TopicArn": topic });
        let mut listed = self.must(administrator, "sns", "ListSubscriptionsByTopic", asked).await?;
        Ok(match listed["Subscriptions"].take() {
            Value::Array(subscriptions) => subscriptions,
            _ => Vec::new(),
        })
    }

    /// The ledger since a game began, oldest first.
    pub(crate) async fn records(&self, game: &Game) -> Result<Vec<Record>, Problem> {
        let mut records = Ledger::new(&self.operator).of_all(game.started).await?;
        records.sort_by_key(|record| (record.draft.timestamp, record.seq));
        Ok(records)
    }

    /// What the points of a scenario ask for.
    pub(crate) async fn facts(&self, scenario: &Scenario, game: &Game) -> Result<Facts, Problem> {
        let records = self.records(game).await?;
        let mut facts = Facts { at: Timestamp::now(), records, ..Facts::default() };
        for point in scenario.done {
            match point.holds {
                Holds::Healthy(check) => {
                    facts.doctor.insert(check, self.examined(check, &game.account).await);
                }
                Holds::AsItWas => facts.states = self.states(&game.things).await?,
                Holds::Exempt => {
                    let read = self.read(StateKey::Exemptions).await?.exemptions();
                    facts.exemptions = read.map_err(|error| Problem::aws("read the exemptions", &error))?.exemptions;
                }
                Holds::Acts => {
                    let read = self.read(StateKey::Settings).await?.settings();
                    facts.settings = read.map_err(|error| Problem::aws("read the settings", &error))?;
                }
                Holds::Campaign => facts.campaigns = settings::listed(Listing::Campaigns, &self.operator).await?,
                Holds::Heard => facts.listeners = self.listeners().await?,
                // The ledger says it.
                Holds::Ended(_) | Holds::Contained | Holds::Stopped | Holds::Quiet | Holds::PutBack => {}
            }
        }
        Ok(facts)
    }

    /// What the doctor finds wrong, but for notes: in the administrator account, or in the member account.
    async fn examined(&self, check: CheckId, member: &AccountId) -> Result<Vec<Fault>, String> {
        let Running { endpoint, region, administrator, external_id, .. } = &*self.lab;
        let account = if doctor::is_of_administrator(check) { administrator } else { member };
        let place = Place {
            account: account.clone(),
            region: region.clone(),
            administrator: administrator.clone(),
            home: region.clone(),
        };
        let root = host::config(endpoint, region, Credentials::root(account.as_str())).await;
        let found = doctor::look_at(check, place, root, external_id).await.map_err(|blind| blind.to_string())?;
        let wrong = found.into_iter().filter(|finding| finding.severity != Severity::Note);
        Ok(wrong.map(|finding| Fault { what: finding.what, todo: finding.todo }).collect())
    }

    async fn states(&self, things: &[Thing]) -> Result<Vec<Value>, Problem> {
        let mut states = Vec::new();
        for Thing { broken, resource, .. } in things {
            let state = match resource {
                Some(resource) => stage::state(*resource, broken, self).await,
                None => {
                    let state = scenario::read_state(self.aws(), broken).await;
                    state.map_err(|error| Problem::aws("look at what was broken", &error))
                }
            };
            states.push(state?);
        }
        Ok(states)
    }

    async fn read(&self, key: StateKey) -> Result<Snapshot, Problem> {
        let client = aws_sdk_dynamodb::Client::new(&self.operator.config);
        let read = state_table::read(&client, names::STATE_TABLE, &[key]).await;
        read.map_err(|error| Problem::aws("read the state table", &error))
    }

    async fn listeners(&self) -> Result<Vec<Listener>, Problem> {
        let mut listeners = Vec::new();
        for subscription in self.subscriptions().await? {
            let endpoint = subscription["Endpoint"].as_str().unwrap_or_default().to_owned();
            let queue: Option<Arn> = endpoint.parse().ok().filter(|_| subscription["Protocol"] == "sqs");
            let messages = match &queue {
                Some(queue) => Some(self.messages(queue).await?),
                None => None,
            };
            listeners.push(Listener { endpoint, messages });
        }
        Ok(listeners)
    }

    /// How many messages lie in a queue.
    async fn messages(&self, queue: &Arn) -> Result<u64, Problem> {
        let owner = queue.account().unwrap_or(&self.lab.administrator);
        let named = json!({ "QueueName": queue.resource() });
        let url = self.must(owner, "sqs", "GetQueueUrl", named).await?["QueueUrl"].clone();
        let asked = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
        let found = self.must(owner, "sqs", "GetQueueAttributes", asked).await?;
        let of = |name: &str| found["Attributes"][name].as_str().and_then(|text| text.parse::<u64>().ok());
        let counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        Ok(counts.into_iter().filter_map(of).sum())
    }
}

/// A game day takes away what protects an account: it is played in the lab of this machine, and nowhere else, whatever
/// `.lab/lab.json` says. Somebody who is pointed elsewhere may not know it.
fn refuse_elsewhere(lab: &Running, given: Option<&str>) -> Result<(), Problem> {
    let start = "start a lab in another terminal: redress lab up";
    if let Some(url) = [&lab.endpoint, &lab.control].into_iter().find(|url| !is_loopback(url)) {
        let why = "a game day takes away what protects an account";
        return Err(Problem::refused(format!("{url} is no lab on this machine: {why}")).help(start));
    }
    match given {
        Some(url) if url.trim_end_matches('/') != lab.endpoint => {
            let problem = Problem::refused(format!("this command is pointed at {url}, the lab is at {}", lab.endpoint));
            Err(problem.help(format!("point it at the lab: eval \"$(redress lab env)\"; or {start}")))
        }
        _ => Ok(()),
    }
}

/// Whether a URL leads to this machine.
fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::problem::Exit;

    fn lab(endpoint: &str) -> Running {
        Running {
            endpoint: endpoint.to_owned(),
            control: "http://127.0.0.1:40000".to_owned(),
            token: "t".to_owned(),
            region: "us-east-1".parse().unwrap(),
            administrator: "111111111111".parse().unwrap(),
            members: vec!["222222222222".parse().unwrap()],
            external_id: "0123456789abcdef".to_owned(),
        }
    }

    #[test]
    fn only_this_machine_is_a_lab() {
        for url in ["http://127.0.0.1:4566", "http://127.0.0.2:4566/", "http://[::1]:4566"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://sts.amazonaws.com",
            "http://192.0.2.7:4566",
            "http://127.0.0.1.example.org",
            "http://127.0.0.1@example.org/",
            "http://localhost.example.org",
            "",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn a_game_day_is_refused_anywhere_but_in_the_lab_and_says_how_to_have_one() {
        let here = "http://127.0.0.1:4566";
        assert!(refuse_elsewhere(&lab(here), None).is_ok());
        assert!(refuse_elsewhere(&lab(here), Some("http://127.0.0.1:4566/")).is_ok());
        for (lab, given) in [
            (lab("https://sts.amazonaws.com"), None),
            (lab(here), Some("https://sts.amazonaws.com")),
            (lab(here), Some("http://127.0.0.1:4570")),
        ] {
            let problem = refuse_elsewhere(&lab, given).unwrap_err();
            assert_eq!(problem.exit(), Exit::Refused, "{given:?}");
            assert!(problem.plain().contains("redress lab up"), "{}", problem.plain());
        }
    }
}
