//! AWS, as the administrator account's functions reach it: [`crate::ports`] over the official SDK.
//!
//! One call each; what an answer means is decided elsewhere.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::operation::RequestId as _;
use aws_sdk_securityhub::types::{AwsSecurityFindingIdentifier, NoteUpdate, WorkflowStatus, WorkflowUpdate};
use aws_sdk_ssm::operation::start_automation_execution::StartAutomationExecutionError;
use redress_common::arn::Arn;
use redress_common::aws::config::{self, MissingVariable};
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Dynamo, Store, StoreError, TransactError, Transaction};
use redress_common::aws::member_session::{MemberSessions, SessionError};
use redress_common::aws::state_table::{Snapshot, StateKey};
use redress_common::ids::RemediationId;
use redress_common::ledger::Record;
use redress_common::names;
use redress_common::notification::Notification;

use crate::ports::{Attributes, Execution, FindingUpdate, Identity, Outside, Place, Start, StartError, Step};

/// The function's environment is not what the template sets.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A variable is missing.
    #[error(transparent)]
    Missing(#[from] MissingVariable),
    /// A variable does not hold what it should.
    #[error("environment variable `{name}`: {reason}; the stack's template sets it")]
    Malformed {
        /// Which.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// AWS.
#[derive(Debug)]
pub struct Aws {
    store: Dynamo,
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
    securityhub: aws_sdk_securityhub::Client,
    ssm: aws_sdk_ssm::Client,
    sessions: MemberSessions,
    topic: String,
    dead_letters: Option<String>,
}

impl Aws {
    /// AWS and who we are in it, from the function's environment. `function` is its name and that of its sessions.
    ///
    /// # Errors
    /// When the environment lacks something.
    pub fn from_environment() -> Result<(Self, Identity), SetupError> {
        let base = config::from_environment()?;
        let function = config::variable("AWS_LAMBDA_FUNCTION_NAME")?;
        let topic = config::variable("TOPIC_ARN")?;
        let store = Dynamo::new(
            aws_sdk_dynamodb::Client::new(&base),
            config::variable("STATE_TABLE")?,
            config::variable("AUDIT_TABLE")?,
        );
        let identity = identity(&topic, &function)?;
        let outside = Self {
            store,
            sns: aws_sdk_sns::Client::new(&base),
            sqs: aws_sdk_sqs::Client::new(&base),
            securityhub: aws_sdk_securityhub::Client::new(&base),
            ssm: aws_sdk_ssm::Client::new(&base),
            sessions: MemberSessions::new(&base, config::variable("EXTERNAL_ID")?, function),
            topic,
            dead_letters: std::env::var("FINDINGS_DLQ_URL").ok(),
        };
        Ok((outside, identity))
    }

    /// What makes a call of the SSM client one in a member account. A client of its own for each event would parse
    /// every root certificate anew: a millisecond.
    async fn within(&self, place: &Place) -> Result<aws_sdk_ssm::config::Builder, StartError> {
        let session = self.sessions.credentials(place.partition, &place.account).await;
        let credentials = session.map_err(|error: SessionError| StartError {
            transient: error.is_transient(),
            message: error.to_string(),
        })?;
        let region = aws_sdk_ssm::config::Region::new(place.region.as_str().to_owned());
        Ok(aws_sdk_ssm::config::Builder::new().region(region).credentials_provider(credentials))
    }
}

/// Who we are. The topic lies in our own account, so that its ARN says which that is.
fn identity(topic: &str, function: &str) -> Result<Identity, SetupError> {
    let malformed = |name, reason: &dyn std::fmt::Display| SetupError::Malformed { name, reason: reason.to_string() };
    let arn: Arn = topic.parse().map_err(|error| malformed("TOPIC_ARN", &error))?;
    let (Some(account), Some(region)) = (arn.account(), arn.region()) else {
        return Err(malformed("TOPIC_ARN", &"it names no account or Region"));
    };
    let executor = format!("arn:{}:lambda:{region}:{account}:function:{function}", arn.partition());
    let home = config::variable("HOME_REGION")?;
    let days = config::variable("RETENTION_DAYS")?;
    Ok(Identity {
        executor: executor.parse().map_err(|error| malformed("AWS_LAMBDA_FUNCTION_NAME", &error))?,
        account: account.clone(),
        home: home.parse().map_err(|error| malformed("HOME_REGION", &error))?,
        retention_days: days.parse().map_err(|error| malformed("RETENTION_DAYS", &error))?,
    })
}

impl Store for Aws {
    async fn read(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
        self.store.read(keys).await
    }
    async fn transact(&self, transaction: &Transaction) -> Result<(), TransactError> {
        self.store.transact(transaction).await
    }
    async fn records(&self, id: RemediationId) -> Result<Vec<Record>, StoreError> {
        self.store.records(id).await
    }
}

impl Outside for Aws {
    async fn publish(&self, message: &Notification, attributes: &Attributes) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sns:Publish";
        let text = serde_json::to_string(message).map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
        let mut request = self.sns.publish().topic_arn(&self.topic).message(text);
        for (name, value) in [
            ("Status", &attributes.status),
            ("AccountId", &attributes.account),
            ("Severity", &attributes.severity),
            ("Control", &attributes.control),
        ] {
            let attribute =
                aws_sdk_sns::types::MessageAttributeValue::builder().data_type("String").string_value(value);
            let attribute = attribute.build().map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
            request = request.message_attributes(name, attribute);
        }
        let answer = request.send().await.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        tracing::debug!(message = answer.message_id(), "told");
        Ok(())
    }

    async fn dead_letter(&self, body: &str, code: &str, reason: &str) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sqs:SendMessage";
        let Some(queue) = &self.dead_letters else {
            return Err(AwsFailure::partial(OPERATION, "environment variable `FINDINGS_DLQ_URL` is not set"));
        };
        let mut request = self.sqs.send_message().queue_url(queue).message_body(body);
        for (name, value) in [("Code", code), ("Reason", reason)] {
            let attribute =
                aws_sdk_sqs::types::MessageAttributeValue::builder().data_type("String").string_value(value);
            let attribute = attribute.build().map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
            request = request.message_attributes(name, attribute);
        }
        request.send().await.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        Ok(())
    }

    async fn start(&self, place: &Place, start: &Start) -> Result<(), StartError> {
        let within = self.within(place).await?;
        let parameters: HashMap<String, Vec<String>> =
            start.parameters.iter().map(|(name, value)| ((*name).to_owned(), vec![value.clone()])).collect();
        let answer = self
            .ssm
            .start_automation_execution()
            .document_name(names::CONTROL_DOCUMENT)
            .client_token(start.id.to_string())
            .set_parameters(Some(parameters))
            .customize()
            .config_override(within)
            .send()
            .await;
        match answer {
            Ok(answer) => {
                tracing::info!(remediation = %start.id, execution = answer.automation_execution_id(), "started");
                Ok(())
            }
            // Our token with another fence: an earlier holder of the claim started it, and its start stands.
            Err(error)
                if matches!(
                    error.as_service_error(),
                    Some(StartAutomationExecutionError::IdempotentParameterMismatch(_))
                ) =>
            {
                Ok(())
            }
            Err(error) => {
                let failure = AwsFailure::of("ssm:StartAutomationExecution", &error);
                tracing::warn!(remediation = %start.id, request = error.request_id(), %failure, "not started");
                let hint = match failure.code() {
                    Some("AutomationDefinitionNotFoundException") => "; deploy the member documents in this Region",
                    Some("AccessDeniedException") => "; the cross-account role may start the control runbook only",
                    _ => "",
                };
                Err(StartError { transient: failure.is_transient(), message: format!("{failure}{hint}") })
            }
        }
    }

    async fn execution(&self, place: &Place, id: &str) -> Result<Execution, StartError> {
        let within = self.within(place).await?;
        let request = self.ssm.get_automation_execution().automation_execution_id(id);
        let answer = request.customize().config_override(within).send().await.map_err(|error| {
            let failure = AwsFailure::of("ssm:GetAutomationExecution", &error);
            StartError { transient: failure.is_transient(), message: failure.to_string() }
        })?;
        let Some(found) = answer.automation_execution() else {
            return Err(StartError { transient: true, message: format!("SSM tells nothing of execution `{id}`") });
        };
        let joined = |values: Option<&HashMap<String, Vec<String>>>| -> BTreeMap<String, String> {
            values.into_iter().flatten().map(|(name, values)| (name.clone(), values.join(","))).collect()
        };
        let time = |time: Option<&aws_sdk_ssm::primitives::DateTime>| {
            time.and_then(|time| jiff::Timestamp::from_millisecond(time.to_millis().ok()?).ok())
                .map(|time| time.to_string())
                .unwrap_or_default()
        };
        Ok(Execution {
            status: found.automation_execution_status().map(|s| s.as_str().to_owned()).unwrap_or_default(),
            parameters: joined(found.parameters()),
            outputs: joined(found.outputs()),
            failure: found.failure_message().unwrap_or_default().to_owned(),
            steps: found
                .step_executions()
                .iter()
                .map(|step| Step {
                    name: step.step_name().unwrap_or_default().to_owned(),
                    status: step.step_status().map(|s| s.as_str().to_owned()).unwrap_or_default(),
                    start: time(step.execution_start_time()),
                    end: time(step.execution_end_time()),
                })
                .collect(),
        })
    }

    async fn update_finding(&self, update: &FindingUpdate) -> Result<(), AwsFailure> {
        const OPERATION: &str = "securityhub:BatchUpdateFindings";
        let finding = AwsSecurityFindingIdentifier::builder().id(&update.id).product_arn(update.product_arn.as_str());
        let status = if update.resolved { WorkflowStatus::Resolved } else { WorkflowStatus::Notified };
        let answer = self
            .securityhub
            .batch_update_findings()
            .finding_identifiers(finding.build())
            .workflow(WorkflowUpdate::builder().status(status).build())
            .note(NoteUpdate::builder().text(&update.note).updated_by(names::EVENT_SOURCE).build())
            .send()
            .await
            .map_err(|error| AwsFailure::of(OPERATION, &error))?;
        match answer.unprocessed_findings().first() {
            None => Ok(()),
            Some(left) => Err(AwsFailure::partial(
                OPERATION,
                format!("{}: {}", left.error_code().unwrap_or_default(), left.error_message().unwrap_or_default()),
            )),
        }
    }
}
