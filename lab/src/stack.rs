//! One CloudFormation stack in one account and Region: created, updated or deleted by the emulator's CloudFormation,
//! and completed with what that leaves out ([`complete`]).
//!
//! Who acts there, and with which credentials, is the caller's business: the lab's deployment, or a stack set.

mod complete;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redress_common::arn::Partition;
use redress_common::ids::Region;
use serde_json::{Value, json};

use crate::organisation::Source;
use crate::service::{Aws, AwsError, Credentials};
use crate::services::ssm::Ssm;
use crate::template::{Stack, Template, TemplateError};
use complete::Call;

/// Stacks are given this long; the emulator needs a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a stack.
const PAUSE: Duration = Duration::from_millis(25);
/// A stack that was never whole: CloudFormation deletes it and updates it no more.
const NEVER_WHOLE: [&str; 4] = ["CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"];

/// A stack is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// An AWS call failed.
    #[error("{operation}: {source}")]
    Call {
        /// `service:Operation`.
        operation: String,
        /// AWS's answer.
        source: AwsError,
    },
    /// CloudFormation could not do it.
    #[error("the stack ended as {status}: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Failed {
        /// `ROLLBACK_COMPLETE` and the like.
        status: String,
        /// What CloudFormation says of each failed resource.
        reasons: Vec<Reason>,
    },
    /// The template cannot be resolved.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// CloudFormation did it; what it leaves out of the stack is not done.
    #[error("the stack is there, but {0}")]
    Incomplete(Box<StackError>),
    /// A document is not what SSM takes.
    #[error("document {name}: {source}")]
    Document {
        /// Its name.
        name: String,
        /// SSM's answer.
        source: AwsError,
    },
}

/// Why one resource of a stack failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The resource's logical id.
    pub logical_id: String,
    /// Its type.
    pub kind: String,
    /// CloudFormation's words.
    pub reason: String,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.logical_id, self.reason)
    }
}

/// What a stack shall be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) source: Arc<Source>,
    /// Where CloudFormation finds the text of the template, which may be longer than a request takes.
    pub(crate) template_url: Option<String>,
    /// Other than the template's defaults.
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Wanted {
    /// Whether both make the same stack.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.source.text == other.source.text
            && self.parameters == other.parameters
            && self.capabilities == other.capabilities
            && self.tags == other.tags
    }
}

/// What was done to complete a stack.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done(Vec<Call>);

/// An account and a Region, and who acts there.
pub(crate) struct Place<'a> {
    pub(crate) aws: &'a dyn Aws,
    pub(crate) credentials: Credentials,
    pub(crate) account: &'a str,
    pub(crate) region: &'a str,
    /// Takes a stack's runbooks at once, which one call each would not. Without it they are created by calls.
    pub(crate) documents: Option<&'a Ssm>,
}

impl Place<'_> {
    async fn call(&self, service: &str, operation: &str, parameters: Value) -> Result<Value, StackError> {
        let answer = self.aws.call(&self.credentials, self.region, service, operation, parameters).await;
        answer.map_err(|source| StackError::Call { operation: format!("{service}:{operation}"), source })
    }

    /// Creates the stack. Its id, once it is whole.
    pub(crate) async fn create(&self, wanted: &Wanted) -> Result<String, StackError> {
        self.bring_about("CreateStack", wanted, &[]).await
    }

    /// Creates the stack, or updates the one that was made of `before`. Its id, once it is whole.
    pub(crate) async fn apply(&self, wanted: &Wanted, before: Option<&Wanted>) -> Result<String, StackError> {
        match self.status(&wanted.name).await? {
            None => self.create(wanted).await,
            Some((id, status)) if NEVER_WHOLE.contains(&status.as_str()) => {
                self.call("cloudformation", "DeleteStack", json!({ "StackName": id })).await?;
                self.settled(&id, &["DELETE_COMPLETE"]).await?;
                self.create(wanted).await
            }
            Some(_) => {
                // Read before the update, which removes what only the old template has.
                let done = match before {
                    Some(before) => complete::calls(&before.source.template, &self.references(before).await?)?,
                    None => Vec::new(),
                };
                self.bring_about("UpdateStack", wanted, &done).await
            }
        }
    }

    async fn bring_about(&self, operation: &str, wanted: &Wanted, done: &[Call]) -> Result<String, StackError> {
        let answer = self.call("cloudformation", operation, request(wanted)).await?;
        let id = answer["StackId"].as_str().unwrap_or(&wanted.name).to_owned();
        self.settled(&id, &["CREATE_COMPLETE", "UPDATE_COMPLETE"]).await?;
        self.finish(wanted, done).await.map_err(|error| StackError::Incomplete(Box::new(error)))?;
        Ok(id)
    }

    /// Does once more what CloudFormation leaves out of a stack that is there.
    pub(crate) async fn complete_again(&self, wanted: &Wanted) -> Result<String, StackError> {
        self.finish(wanted, &[]).await.map_err(|error| StackError::Incomplete(Box::new(error)))?;
        Ok(self.status(&wanted.name).await?.map_or_else(|| wanted.name.clone(), |(id, _)| id))
    }

    async fn finish(&self, wanted: &Wanted, done: &[Call]) -> Result<(), StackError> {
        let (template, stack) = (&wanted.source.template, self.references(wanted).await?);
        self.complete(done, &complete::calls(template, &stack)?).await?;
        // One whose condition does not hold is not there.
        let nested = template.resources().filter(|(_, kind, _)| *kind == NESTED);
        for nested in nested.filter_map(|(id, _, _)| stack.resources.get(id)) {
            let described = self.call("cloudformation", "DescribeStacks", json!({ "StackName": nested })).await?;
            let nested = self.made(&described["Stacks"][0]).await?;
            let calls = complete::calls(&nested.source.template, &self.references(&nested).await?)?;
            self.complete(&[], &calls).await?;
        }
        Ok(())
    }

    /// What a stack that is there was made of, as far as CloudFormation tells.
    pub(crate) async fn made(&self, described: &Value) -> Result<Wanted, StackError> {
        let name = described["StackName"].as_str().unwrap_or_default().to_owned();
        let asked = json!({ "StackName": name, "TemplateStage": "Original" });
        let got = self.call("cloudformation", "GetTemplate", asked).await?;
        let text = got["TemplateBody"].as_str().map_or_else(|| got["TemplateBody"].to_string(), str::to_owned);
        let parameters = described["Parameters"].as_array().into_iter().flatten().filter_map(|parameter| {
            let text = |field: &str| parameter[field].as_str().map(str::to_owned);
            Some((text("ParameterKey")?, text("ParameterValue")?))
        });
        Ok(Wanted {
            name,
            source: Arc::new(Source { template: Template::parse(&text)?, text }),
            template_url: None,
            parameters: parameters.collect(),
            capabilities: Vec::new(),
            tags: BTreeMap::new(),
        })
    }

    /// Does what CloudFormation leaves out of a stack that somebody else makes, once it is whole; what was `done` before
    /// is left out. What is done then.
    pub(crate) async fn complete_theirs(&self, wanted: &Wanted, done: &Done) -> Result<Done, StackError> {
        self.settled(&wanted.name, &["CREATE_COMPLETE", "UPDATE_COMPLETE"]).await?;
        let calls = complete::calls(&wanted.source.template, &self.references(wanted).await?)?;
        self.complete(&done.0, &calls).await?;
        Ok(Done(calls))
    }

    /// Deletes the stack that was made of `before`, if there is one.
    pub(crate) async fn delete(&self, id: &str, before: &Wanted) -> Result<(), StackError> {
        let Some((id, _)) = self.status(id).await? else { return Ok(()) };
        let documents = match self.references(before).await {
            Ok(stack) => complete::calls(&before.source.template, &stack).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        self.call("cloudformation", "DeleteStack", json!({ "StackName": id })).await?;
        self.settled(&id, &["DELETE_COMPLETE"]).await?;
        self.complete(&documents, &[]).await
    }

    /// A stack's id and status, if there is one.
    async fn status(&self, name: &str) -> Result<Option<(String, String)>, StackError> {
        let described = match self.call("cloudformation", "DescribeStacks", json!({ "StackName": name })).await {
            Ok(described) => described,
            // CloudFormation has no other code for a stack that is not there.
            Err(StackError::Call { source, .. }) if source.code == "ValidationError" => return Ok(None),
            Err(error) => return Err(error),
        };
        let stack = &described["Stacks"][0];
        let (id, status) = (stack["StackId"].as_str().unwrap_or(name), stack["StackStatus"].as_str());
        Ok(status.map(|status| (id.to_owned(), status.to_owned())))
    }

    /// Waits until the stack is in one of these states.
    async fn settled(&self, name: &str, good: &[&str]) -> Result<(), StackError> {
        let begun = Instant::now();
        loop {
            let described = self.call("cloudformation", "DescribeStacks", json!({ "StackName": name })).await?;
            match described["Stacks"][0]["StackStatus"].as_str().unwrap_or_default() {
                status if good.contains(&status) => return Ok(()),
                status if status.ends_with("_IN_PROGRESS") && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                status => {
                    return Err(StackError::Failed { status: status.to_owned(), reasons: self.reasons(name).await });
                }
            }
        }
    }

    async fn reasons(&self, name: &str) -> Vec<Reason> {
        let events = self.call("cloudformation", "DescribeStackEvents", json!({ "StackName": name })).await;
        let events = events.unwrap_or_default();
        let failed = events["StackEvents"].as_array().into_iter().flatten().filter_map(|event| {
            let text = |field: &str| event[field].as_str();
            let (logical_id, reason) = (text("LogicalResourceId")?, text("ResourceStatusReason")?);
            let kind = text("ResourceType").unwrap_or_default();
            text("ResourceStatus").is_some_and(|status| status.ends_with("_FAILED")).then(|| Reason {
                logical_id: logical_id.to_owned(),
                kind: kind.to_owned(),
                reason: reason.to_owned(),
            })
        });
        failed.collect()
    }

    /// What `Ref` and `GetAtt` give in a stack that was created.
    async fn references(&self, wanted: &Wanted) -> Result<Stack, StackError> {
        let (region, account) = (self.region, self.account);
        let partition = region.parse::<Region>().map_or(Partition::Aws, |region| Partition::of_region(&region));
        let suffix = if partition == Partition::China { "amazonaws.com.cn" } else { "amazonaws.com" };
        let defaults = wanted.source.template.defaults().map(|(key, value)| (key.to_owned(), value));
        let mut parameters: BTreeMap<String, String> = defaults.collect();
        parameters.extend(wanted.parameters.clone());
        parameters.extend(
            [
                ("AWS::AccountId", account.to_owned()),
                ("AWS::Partition", partition.to_string()),
                ("AWS::Region", region.to_owned()),
                ("AWS::URLSuffix", suffix.to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        let asked = json!({ "StackName": wanted.name });
        let described = self.call("cloudformation", "DescribeStackResources", asked).await?;
        let mut stack = Stack { parameters, ..Stack::default() };
        for resource in described["StackResources"].as_array().into_iter().flatten() {
            let text = |field: &str| resource[field].as_str().unwrap_or_default();
            let (logical, physical) = (text("LogicalResourceId").to_owned(), text("PhysicalResourceId").to_owned());
            let place =
                |service: &str, resource: &str| format!("arn:{partition}:{service}:{region}:{account}:{resource}");
            let arn = match text("ResourceType") {
                "AWS::KMS::Key" => Some(place("kms", &format!("key/{physical}"))),
                "AWS::S3::Bucket" => Some(format!("arn:{partition}:s3:::{physical}")),
                "AWS::DynamoDB::Table" => Some(place("dynamodb", &format!("table/{physical}"))),
                _ => None,
            };
            if let Some(arn) = arn {
                stack.arns.insert(logical.clone(), arn);
            }
            stack.resources.insert(logical, physical);
        }
        Ok(stack)
    }

    /// Makes the calls that were not made before, and deletes the documents that are no more.
    async fn complete(&self, done: &[Call], calls: &[Call]) -> Result<(), StackError> {
        for call in calls.iter().filter(|call| !done.contains(call)) {
            if call.operation == CREATE_DOCUMENT {
                self.document(call, done.iter().any(|one| is_of(one, call))).await?;
            } else {
                self.call(call.service, call.operation, call.parameters.clone()).await?;
            }
        }
        let documents = |calls: &[Call]| {
            let named = calls.iter().filter(|call| call.operation == CREATE_DOCUMENT);
            named.map(|call| call.parameters["Name"].as_str().unwrap_or_default().to_owned()).collect::<BTreeSet<_>>()
        };
        for name in documents(done).difference(&documents(calls)) {
            self.call("ssm", "DeleteDocument", json!({ "Name": name })).await?;
        }
        Ok(())
    }

    async fn document(&self, call: &Call, exists: bool) -> Result<(), StackError> {
        let text = |field: &str| call.parameters[field].as_str().unwrap_or_default();
        let name = text("Name");
        match self.documents {
            Some(ssm) if text("DocumentType") == "Automation" => {
                let put = ssm.put_document(self.account, self.region, name, text("Content"));
                put.map_err(|source| StackError::Document { name: name.to_owned(), source })
            }
            _ if exists => {
                let update = json!({ "Name": name, "Content": text("Content"), "DocumentVersion": "$LATEST",
                    "DocumentFormat": text("DocumentFormat") });
                let updated = self.call("ssm", "UpdateDocument", update).await?;
                let version = &updated["DocumentDescription"]["DocumentVersion"];
                let default = json!({ "Name": name, "DocumentVersion": version });
                self.call("ssm", "UpdateDocumentDefaultVersion", default).await.map(|_| ())
            }
            _ => self.call(call.service, call.operation, call.parameters.clone()).await.map(|_| ()),
        }
    }
}

const CREATE_DOCUMENT: &str = "CreateDocument";
const NESTED: &str = "AWS::CloudFormation::Stack";

/// Whether both create the document of one name.
fn is_of(one: &Call, other: &Call) -> bool {
    one.operation == other.operation && one.parameters["Name"] == other.parameters["Name"]
}

fn request(wanted: &Wanted) -> Value {
    let pairs = |pairs: &BTreeMap<String, String>, (key, value): (&str, &str)| {
        pairs.iter().map(|(name, given)| json!({ key: name, value: given })).collect::<Vec<_>>()
    };
    let mut request = json!({
        "StackName": wanted.name,
        "Parameters": pairs(&wanted.parameters, ("ParameterKey", "ParameterValue")),
        "Capabilities": wanted.capabilities,
    });
    if !wanted.tags.is_empty() {
        request["Tags"] = json!(pairs(&wanted.tags, ("Key", "Value")));
    }
    match &wanted.template_url {
        Some(url) => request["TemplateURL"] = url.clone().into(),
        None => request["TemplateBody"] = wanted.source.text.clone().into(),
    }
    request
}

#[cfg(test)]
mod tests;
