//! The administrator account's stacks: made, updated and deleted by CloudFormation, and waited for.
//!
//! A stack carries the digest of what it was made of as a tag, so that nothing is asked of CloudFormation when nothing
//! changed. Of what the settings say nothing, an update keeps what the stack has.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{Capability, Parameter, Tag};
use redress_common::aws::failure::AwsFailure;

use super::blueprint::{CONTENT, RULES, Stack};
use super::remains;
use crate::problem::Problem;

/// CloudFormation makes the administrator stack in a few minutes.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A stack as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) digest: Option<String>,
    /// Whether it has Security Hub's automation rules.
    pub(crate) has_rules: bool,
    /// All of them, at their defaults or not; of a secret there are asterisks.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// What is to be done about a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Create,
    /// It was never whole: deleted, and made again.
    Replace,
    Update,
    /// CloudFormation is at it.
    Await,
    Nothing,
}

/// Pure: what a stack needs.
pub(crate) fn need(wanted: &Stack, found: Option<&Found>) -> Need {
    let Some(found) = found else { return Need::Create };
    match found.status.as_str() {
        "CREATE_FAILED" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "DELETE_FAILED" => Need::Replace,
        status if status.ends_with("_IN_PROGRESS") => Need::Await,
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" if found.digest.as_ref() == Some(&wanted.digest) => Need::Nothing,
        _ => Need::Update,
    }
}

/// CloudFormation in the administrator account's home Region.
#[derive(Debug, Clone)]
pub(crate) struct Stacks {
    client: Client,
}

impl Stacks {
    pub(crate) fn new(config: &aws_types::SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// The stack of a name, if there is one.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Found>, Problem> {
        let described = match self.client.describe_stacks().stack_name(name).send().await {
            Ok(described) => described,
            Err(error) => {
                let failure = AwsFailure::of("cloudformation:DescribeStacks", &error);
                // CloudFormation has no other code for a stack that is not there.
                if failure.code() == Some("ValidationError") {
                    return Ok(None);
                }
                return Err(Problem::aws(&format!("look at stack {name}"), &failure));
            }
        };
        let found = described.stacks().first().map(|stack| Found {
            id: stack.stack_id().unwrap_or(name).to_owned(),
            status: stack.stack_status().map_or_else(String::new, |status| status.as_str().to_owned()),
            digest: stack.tags().iter().find(|tag| tag.key() == Some(CONTENT)).and_then(Tag::value).map(str::to_owned),
            has_rules: stack.parameters().iter().any(|one| (one.parameter_key(), one.parameter_value()) == RULES),
            parameters: values(stack.parameters()),
        });
        Ok(found.filter(|stack| stack.status != "DELETE_COMPLETE"))
    }

    /// Brings a stack about. Whether something had to be done.
    pub(crate) async fn apply(&self, wanted: &Stack, progress: &dyn Fn(&str)) -> Result<bool, Problem> {
        let mut found = self.find(wanted.name).await?;
        if let Some(stack) = found.as_ref().filter(|_| need(wanted, found.as_ref()) == Need::Await) {
            progress(&format!("stack {}: waiting for what CloudFormation is at", wanted.name));
            self.settled(wanted.name, &stack.id).await?;
            found = self.find(wanted.name).await?;
        }
        let need = need(wanted, found.as_ref());
        if need == Need::Nothing {
            return Ok(false);
        }
        if let (Need::Replace, Some(stack)) = (need, &found) {
            progress(&format!("stack {}: was never whole ({}), deleted", wanted.name, stack.status));
            self.delete(wanted.name).await?;
        }
        let deployed = found.as_ref().filter(|_| need == Need::Update).map(|stack| &stack.parameters);
        for one in deployed.map(|deployed| wanted.kept(deployed)).unwrap_or_default() {
            progress(&format!("kept: {one}"));
        }
        let keeps = deployed.map(|deployed| wanted.keeps(deployed)).unwrap_or_default();
        let parameters = Some(parameters(&wanted.parameters, keeps));
        let tags = Some(vec![Tag::builder().key(CONTENT).value(&wanted.digest).build()]);
        let capabilities = Some(vec![Capability::CapabilityNamedIam]);
        let failed = |failure: AwsFailure| Problem::aws(&format!("make stack {}", wanted.name), &failure);
        let id = if need == Need::Update {
            progress(&format!("stack {}: updating", wanted.name));
            let update = self.client.update_stack().stack_name(wanted.name).template_url(&wanted.url);
            let update = update.set_parameters(parameters).set_tags(tags).set_capabilities(capabilities).send().await;
            let update = update.map_err(|error| failed(AwsFailure::of("cloudformation:UpdateStack", &error)))?;
            update.stack_id().map(str::to_owned)
        } else {
            progress(&format!("stack {}: creating", wanted.name));
            let create = self.client.create_stack().stack_name(wanted.name).template_url(&wanted.url);
            let create = create.set_parameters(parameters).set_tags(tags).set_capabilities(capabilities).send().await;
            let create = create.map_err(|error| failed(AwsFailure::of("cloudformation:CreateStack", &error)))?;
            create.stack_id().map(str::to_owned)
        };
        let status = self.settled(wanted.name, &id.unwrap_or_else(|| wanted.name.to_owned())).await?;
        if status == "CREATE_COMPLETE" || status == "UPDATE_COMPLETE" {
            return Ok(true);
        }
        let reasons = self.reasons(wanted.name).await;
        Err(Problem::failed(format!("stack {} ended as {status}: {reasons}", wanted.name))
            .help(remains::hint(&reasons)))
    }

    /// Deletes a stack, and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, Problem> {
        let Some(found) = self.find(name).await? else { return Ok(false) };
        self.client.delete_stack().stack_name(&found.id).send().await.map_err(|error| {
            Problem::aws(&format!("delete stack {name}"), &AwsFailure::of("cloudformation:DeleteStack", &error))
        })?;
        match self.settled(name, &found.id).await?.as_str() {
            "DELETE_COMPLETE" => Ok(true),
            status => {
                let reasons = self.reasons(&found.id).await;
                Err(Problem::failed(format!("stack {name} was not deleted ({status}): {reasons}"))
                    .help("mend that, and ask again"))
            }
        }
    }

    /// Waits until CloudFormation is done with a stack. Its status then.
    async fn settled(&self, name: &str, id: &str) -> Result<String, Problem> {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            // By its id a stack is found after its end, too; not in every emulator.
            let status = match self.client.describe_stacks().stack_name(id).send().await {
                Ok(described) => described
                    .stacks()
                    .first()
                    .and_then(|one| one.stack_status())
                    .map(|status| status.as_str().to_owned()),
                Err(error) => {
                    let failure = AwsFailure::of("cloudformation:DescribeStacks", &error);
                    if failure.code() != Some("ValidationError") {
                        return Err(Problem::aws(&format!("look at stack {name}"), &failure));
                    }
                    None
                }
            };
            let status = status.unwrap_or_else(|| "DELETE_COMPLETE".to_owned());
            if !status.ends_with("_IN_PROGRESS") {
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                return Err(Problem::timed_out(format!("stack {name} is still {status} after an hour"))
                    .help("look at its events in CloudFormation, then ask again"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    async fn reasons(&self, name: &str) -> String {
        let Ok(events) = self.client.describe_stack_events().stack_name(name).send().await else {
            return String::new();
        };
        let failed = events
            .stack_events()
            .iter()
            .filter(|event| event.resource_status().is_some_and(|status| status.as_str().ends_with("_FAILED")));
        let told = failed
            .filter_map(|event| Some(format!("{}: {}", event.logical_resource_id()?, event.resource_status_reason()?)));
        // The newest come first; the cause is the oldest.
        let mut told: Vec<String> = told.collect();
        told.reverse();
        told.truncate(5);
        told.join("; ")
    }
}

/// The parameters of a request: what is given, and what keeps its value.
pub(crate) fn parameters<'a>(
    given: &BTreeMap<String, String>,
    keeps: impl IntoIterator<Item = &'a str>,
) -> Vec<Parameter> {
    let given =
        given.iter().map(|(name, value)| Parameter::builder().parameter_key(name).parameter_value(value).build());
    let keeps = keeps.into_iter().map(|name| Parameter::builder().parameter_key(name).use_previous_value(true).build());
    given.chain(keeps).collect()
}

/// The parameters of an answer.
pub(crate) fn values(parameters: &[Parameter]) -> BTreeMap<String, String> {
    let read = parameters.iter().filter_map(|one| {
        Some((one.parameter_key()?.to_owned(), one.parameter_value().unwrap_or_default().to_owned()))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_touched_only_when_it_is_not_what_it_should_be() {
        let wanted = Stack {
            name: "s",
            url: String::new(),
            parameters: BTreeMap::new(),
            declared: BTreeMap::new(),
            digest: "new".to_owned(),
        };
        let found = |status: &str, digest: &str| Found {
            id: "id".to_owned(),
            status: status.to_owned(),
            digest: Some(digest.to_owned()),
            has_rules: true,
            parameters: BTreeMap::new(),
        };
        for (status, digest, expected) in [
            ("CREATE_COMPLETE", "new", Need::Nothing),
            ("UPDATE_COMPLETE", "new", Need::Nothing),
            ("UPDATE_COMPLETE", "old", Need::Update),
            // A failed update was rolled back: the tag too, but nobody should rely on it.
            ("UPDATE_ROLLBACK_COMPLETE", "new", Need::Update),
            ("ROLLBACK_COMPLETE", "new", Need::Replace),
            ("CREATE_IN_PROGRESS", "new", Need::Await),
        ] {
            assert_eq!(need(&wanted, Some(&found(status, digest))), expected, "{status} {digest}");
        }
        assert_eq!(need(&wanted, None), Need::Create);
    }

    #[test]
    fn a_request_gives_values_and_names_what_keeps_its_own() {
        let given = BTreeMap::from([("LogRetentionDays".to_owned(), "90".to_owned())]);
        let asked = parameters(&given, ["OperatorsApprove"]);
        let said: Vec<_> =
            asked.iter().map(|one| (one.parameter_key(), one.parameter_value(), one.use_previous_value())).collect();
        assert_eq!(said, [(Some("LogRetentionDays"), Some("90"), None), (Some("OperatorsApprove"), None, Some(true))]);
        assert_eq!(values(&asked)["LogRetentionDays"], "90");
    }
}
