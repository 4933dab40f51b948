//! AWS, as the administrator account's functions reach it: [`crate::ports`] over the official SDK.
//!
//! One call each; what an answer means is decided elsewhere.

mod backlog;
pub mod checkpoint;
mod desk;
mod organization;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_dynamodb::operation::RequestId as _;
use aws_sdk_securityhub::types::{
    AwsSecurityFindingFilters, AwsSecurityFindingIdentifier, NoteUpdate, WorkflowStatus, WorkflowUpdate,
};
use aws_sdk_sfn::operation::send_task_success::SendTaskSuccessError;
use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use aws_sdk_ssm::operation::start_automation_execution::StartAutomationExecutionError;
use aws_sdk_ssm::operation::stop_automation_execution::StopAutomationExecutionError;
use aws_sdk_ssm::types::{AutomationExecutionFilter, AutomationExecutionFilterKey, StopType};
use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::config::{self, MissingVariable};
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::{Dynamo, Store, StoreError, TransactError, Transaction};
use redress_common::aws::member_session::{MemberSessions, SessionError};
use redress_common::aws::state_table::{Expect, Snapshot, StateKey};
use redress_common::catalogue::Direct;
use redress_common::contract::{ContainResponse, GuardEvidence, GuardRequest, parameter};
use redress_common::external_id::{ExternalIdPrefix, InvalidPrefix};
use redress_common::finding;
use redress_common::ids::{AccountId, Region, RemediationId};
use redress_common::items::account::AccountFacts;
use redress_common::items::approval::Task;
use redress_common::ledger::Record;
use redress_common::metrics;
use redress_common::names;
use redress_common::notification::Notification;
use redress_common::time::seconds;

use crate::claim::Times;
use crate::direct;
use crate::ports::{
    Attributes, Execution, FindingUpdate, Identity, Outside, Place, Start, StartError, Step, Waiting, WorkflowInput,
};
use crate::report;
use backlog::Backlog;

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

/// How long a member's function may take that runs a playbook: longer than its own time-out, and less than ours.
const CONTAINED: Duration = Duration::from_secs(45);

/// AWS.
#[derive(Debug)]
pub struct Aws {
    store: Dynamo,
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
    securityhub: aws_sdk_securityhub::Client,
    ssm: aws_sdk_ssm::Client,
    /// None for a function that has no business in member accounts.
    sessions: Option<MemberSessions>,
    /// Our own name.
    function: String,
    topic: String,
    /// Our own account and Region.
    home: (AccountId, Region),
    dead_letters: Option<String>,
    findings: Option<String>,
    completions: Option<String>,
    workflow: Option<String>,
    backlog: Backlog,
    /// For the clients that most events do not need.
    base: aws_types::SdkConfig,
    lambda: OnceLock<aws_sdk_lambda::Client>,
    config: OnceLock<aws_sdk_config::Client>,
    organizations: OnceLock<aws_sdk_organizations::Client>,
    workflows: OnceLock<aws_sdk_sfn::Client>,
    events: OnceLock<aws_sdk_eventbridge::Client>,
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
        let dynamodb = aws_sdk_dynamodb::Client::new(&base);
        let store = Dynamo::new(dynamodb.clone(), config::variable("STATE_TABLE")?, config::variable("AUDIT_TABLE")?);
        let identity = identity(&topic, &function)?;
        let sessions = match std::env::var("EXTERNAL_ID") {
            Ok(prefix) => Some(MemberSessions::new(&base, external_ids(&prefix)?, function.clone())),
            Err(_) => None,
        };
        let outside = Self {
            store,
            sns: aws_sdk_sns::Client::new(&base),
            sqs: aws_sdk_sqs::Client::new(&base),
            securityhub: aws_sdk_securityhub::Client::new(&base),
            ssm: aws_sdk_ssm::Client::new(&base),
            sessions,
            function,
            topic,
            home: (identity.account.clone(), identity.home.clone()),
            dead_letters: std::env::var("FINDINGS_DLQ_URL").ok(),
            findings: std::env::var("FINDINGS_QUEUE_URL").ok(),
            completions: std::env::var("COMPLETIONS_QUEUE_URL").ok(),
            workflow: std::env::var("WORKFLOW_ARN").ok(),
            backlog: Backlog::new(dynamodb, names::BACKLOG_TABLE.to_owned()),
            lambda: OnceLock::new(),
            config: OnceLock::new(),
            organizations: OnceLock::new(),
            workflows: OnceLock::new(),
            events: OnceLock::new(),
            base,
        };
        Ok((outside, identity))
    }

    /// What makes a call of the SSM client one in a member account. A client of its own for each event would parse
    /// every root certificate anew: a millisecond.
    async fn within(&self, place: &Place) -> Result<aws_sdk_ssm::config::Builder, StartError> {
        let region = aws_sdk_ssm::config::Region::new(place.region.as_str().to_owned());
        let session = self.session(place).await?;
        let within = aws_sdk_ssm::config::Builder::new().region(region).credentials_provider(session);
        // A session is at hand. Without this the SDK makes a cache for it, for each call.
        Ok(within.identity_cache(aws_sdk_ssm::config::IdentityCache::no_cache()))
    }

    /// The same of the Lambda client.
    async fn within_lambda(&self, place: &Place) -> Result<aws_sdk_lambda::config::Builder, StartError> {
        let region = aws_sdk_lambda::config::Region::new(place.region.as_str().to_owned());
        let session = self.session(place).await?;
        let within = aws_sdk_lambda::config::Builder::new().region(region).credentials_provider(session);
        Ok(within.identity_cache(aws_sdk_lambda::config::IdentityCache::no_cache()))
    }

    async fn session(&self, place: &Place) -> Result<aws_credential_types::Credentials, StartError> {
        let Some(sessions) = &self.sessions else {
            let message = "environment variable `EXTERNAL_ID` is not set; the stack's template sets it".to_owned();
            return Err(StartError::refused(false, message));
        };
        let session = sessions.credentials(place.partition, &place.account).await;
        session.map_err(|error: SessionError| {
            report::metric(&report::not_entered(&self.function, &place.account, &error, Timestamp::now()));
            StartError::refused(error.is_transient(), error.to_string())
        })
    }

    /// Has a member's function run a playbook, or only tell of it, and hands its end to the completion function. Whether it
    /// began.
    async fn contain(&self, place: &Place, start: &Start, direct: &Direct, recall: bool) -> Result<bool, StartError> {
        // What is not known for certain is found out by the same call again, after the lease.
        let unanswered = |message| StartError { transient: true, unanswered: true, message };
        let request = direct::request(place, start, direct, recall)?;
        let payload = serde_json::to_vec(&request).map_err(|error| StartError::refused(false, error.to_string()))?;
        // A second call while the first still runs would find it half done.
        let timeouts = aws_sdk_lambda::config::timeout::TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(CONTAINED)
            .operation_timeout(CONTAINED);
        let within = self
            .within_lambda(place)
            .await?
            .timeout_config(timeouts.build())
            .retry_config(aws_sdk_lambda::config::retry::RetryConfig::disabled());
        let client = self.lambda.get_or_init(|| aws_sdk_lambda::Client::new(&self.base));
        let began = Timestamp::now();
        let asked =
            client.invoke().function_name(&direct.function).payload(aws_sdk_lambda::primitives::Blob::new(payload));
        let answer = asked.customize().config_override(within).send().await.map_err(|error| {
            let failure = AwsFailure::of("lambda:Invoke", &error);
            let hint = match failure.code() {
                Some("ResourceNotFoundException") => "; deploy the member stack in this Region",
                Some("AccessDeniedException") => "; the cross-account role may invoke the functions that contain",
                _ => "",
            };
            StartError { message: format!("{failure}{hint}"), ..StartError::of(&failure) }
        })?;
        let text = answer.payload().map(|payload| payload.as_ref()).unwrap_or_default();
        if let Some(kind) = answer.function_error() {
            return Err(unanswered(format!("function {} failed ({kind}); its log says why", direct.function)));
        }
        let response: ContainResponse = serde_json::from_slice(text)
            .map_err(|error| unanswered(format!("the answer of {} is not readable: {error}", direct.function)))?;
        if response.outcome.is_none() {
            return Ok(false);
        }
        let now = Timestamp::now();
        let execution = direct::execution(start, direct, &response, (began, now));
        let event = direct::event((&self.home.0, &self.home.1), place, execution, now);
        self.tell_end(&event).await.map_err(|error| unanswered(error.to_string()))?;
        Ok(true)
    }

    fn config(&self) -> &aws_sdk_config::Client {
        self.config.get_or_init(|| aws_sdk_config::Client::new(&self.base))
    }

    fn unset(operation: &'static str, variable: &str) -> AwsFailure {
        AwsFailure::partial(operation, format!("environment variable `{variable}` is not set"))
    }
}

/// What the ExternalIds of the member accounts begin with.
fn external_ids(prefix: &str) -> Result<ExternalIdPrefix, SetupError> {
    let malformed = |error: InvalidPrefix| SetupError::Malformed { name: "EXTERNAL_ID", reason: error.to_string() };
    prefix.parse().map_err(malformed)
}

/// Whether a function's process died, or was never there, before it could answer: Lambda says so itself. What the function
/// says of its own, it says again.
fn died(error: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        error_type: Option<String>,
    }
    // Lambda's own word for a time-out has had no type.
    let told = serde_json::from_slice::<Told>(error);
    told.is_ok_and(|told| {
        told.error_type.is_none_or(|kind| kind.starts_with("Runtime.") || kind.starts_with("Sandbox."))
    })
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
        times: times()?,
    })
}

/// How long work may take: `LEASE_SECONDS` and `RUN_SECONDS`, where the template sets them.
fn times() -> Result<Times, SetupError> {
    let seconds = |name: &'static str, default_ms: i64| -> Result<i64, SetupError> {
        let Ok(text) = std::env::var(name) else { return Ok(default_ms / 1000) };
        text.parse().map_err(|_| SetupError::Malformed { name, reason: format!("`{text}` is no number of seconds") })
    };
    let default = Times::default();
    let (lease, run) = (seconds("LEASE_SECONDS", default.lease_ms)?, seconds("RUN_SECONDS", default.run_ms)?);
    Times::of_seconds(lease, run).ok_or_else(|| SetupError::Malformed {
        name: "LEASE_SECONDS",
        reason: format!("a lease of {lease} s and a run of {run} s: wanted are 1 to 3600, and no less up to 86400"),
    })
}

impl Store for Aws {
    async fn read(&self, keys: &[StateKey]) -> Result<Snapshot, StoreError> {
        self.store.read(keys).await
    }
    async fn transact(&self, transaction: &Transaction) -> Result<(), TransactError> {
        self.store.transact(transaction).await
    }
    async fn put_if<T: serde::Serialize + Sync>(
        &self,
        key: &StateKey,
        value: &T,
        expect: Expect,
    ) -> Result<(), TransactError> {
        self.store.put_if(key, value, expect).await
    }
    async fn records(&self, id: RemediationId) -> Result<Vec<Record>, StoreError> {
        self.store.records(id).await
    }
}

impl Outside for Aws {
    async fn account(&self, account: &AccountId, now: Timestamp) -> Result<AccountFacts, AwsFailure> {
        let client = self.organizations.get_or_init(|| aws_sdk_organizations::Client::new(&self.base));
        organization::account(client, account, now).await
    }

    async fn keep_account(&self, facts: &AccountFacts) -> Result<(), AwsFailure> {
        self.store.put(&StateKey::Account(facts.account.clone()), facts).await
    }

    async fn calendars_open(&self, calendars: &[Arn], at: Timestamp) -> Result<bool, AwsFailure> {
        const OPERATION: &str = "ssm:GetCalendarState";
        let names = calendars.iter().map(ToString::to_string).collect();
        let at = seconds(at);
        let answer = self.ssm.get_calendar_state().set_calendar_names(Some(names)).at_time(at).send().await;
        let answer = answer.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        match answer.state() {
            Some(aws_sdk_ssm::types::CalendarState::Open) => Ok(true),
            Some(aws_sdk_ssm::types::CalendarState::Closed) => Ok(false),
            other => {
                Err(AwsFailure::partial(OPERATION, format!("the calendars are neither open nor closed: {other:?}")))
            }
        }
    }

    async fn recent(&self, resource: &str, since: Timestamp, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.store.records_of_resource_since(resource, since.as_millisecond(), limit).await
    }

    async fn guard(&self, place: &Place, request: &GuardRequest) -> Result<GuardEvidence, StartError> {
        const OPERATION: &str = "lambda:Invoke";
        let failed = |transient, message: String| StartError::refused(transient, message);
        let within = self.within_lambda(place).await?;
        let payload = serde_json::to_vec(request).map_err(|error| failed(false, error.to_string()))?;
        let client = self.lambda.get_or_init(|| aws_sdk_lambda::Client::new(&self.base));
        let answer = client
            .invoke()
            .function_name(names::GUARD_FUNCTION)
            .payload(aws_sdk_lambda::primitives::Blob::new(payload))
            .customize()
            .config_override(within)
            .send()
            .await
            .map_err(|error| {
                let failure = AwsFailure::of(OPERATION, &error);
                failed(failure.is_transient(), failure.to_string())
            })?;
        let text = answer.payload().map(|payload| payload.as_ref()).unwrap_or_default();
        if let Some(kind) = answer.function_error() {
            let message = format!("function {} failed ({kind})", names::GUARD_FUNCTION);
            return Err(failed(died(text), message));
        }
        serde_json::from_slice(text)
            .map_err(|error| failed(false, format!("the guard's answer is not readable: {error}")))
    }

    async fn start_workflow(&self, input: &WorkflowInput) -> Result<(), StartError> {
        const OPERATION: &str = "states:StartExecution";
        let failed = |failure: AwsFailure| StartError::of(&failure);
        let Some(machine) = &self.workflow else { return Err(failed(Self::unset(OPERATION, "WORKFLOW_ARN"))) };
        let text = serde_json::to_string(input).map_err(|error| StartError::refused(false, error.to_string()))?;
        let client = self.workflows.get_or_init(|| aws_sdk_sfn::Client::new(&self.base));
        let started = client
            .start_execution()
            .state_machine_arn(machine)
            .name(input.remediation_id.to_string())
            .input(text)
            .send()
            .await;
        match started {
            Ok(_) => Ok(()),
            // The name is the remediation's: an earlier holder of the claim started it, with another fence.
            Err(error) if matches!(error.as_service_error(), Some(StartExecutionError::ExecutionAlreadyExists(_))) => {
                Ok(())
            }
            Err(error) => Err(failed(AwsFailure::of(OPERATION, &error))),
        }
    }

    async fn end_task(&self, task: &Task, result: &serde_json::Value) -> Result<(), AwsFailure> {
        let client = self.workflows.get_or_init(|| aws_sdk_sfn::Client::new(&self.base));
        let told = client.send_task_success().task_token(&task.token).output(result.to_string()).send().await;
        match told {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.as_service_error(),
                    Some(SendTaskSuccessError::TaskTimedOut(_) | SendTaskSuccessError::TaskDoesNotExist(_))
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(AwsFailure::of("states:SendTaskSuccess", &error)),
        }
    }

    async fn defer(&self, waiting: &Waiting) -> Result<(), AwsFailure> {
        self.backlog.put(waiting).await
    }

    async fn waiting(&self, place: &str, after: &str, limit: usize) -> Result<Vec<Waiting>, AwsFailure> {
        self.backlog.first(place, after, limit).await
    }

    async fn bring_back(&self, waiting: &Waiting) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sqs:SendMessage";
        let Some(queue) = &self.findings else { return Err(Self::unset(OPERATION, "FINDINGS_QUEUE_URL")) };
        let sent = self.sqs.send_message().queue_url(queue).message_body(&waiting.body).send().await;
        sent.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        self.backlog.forget(waiting).await
    }

    async fn publish(&self, message: &Notification, attributes: &Attributes) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sns:Publish";
        let text = serde_json::to_string(message).map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
        let mut request = self.sns.publish().topic_arn(&self.topic).message(text);
        let urgency = if attributes.urgent { "high" } else { "normal" };
        for (name, value) in [
            ("Status", attributes.status.as_str()),
            ("AccountId", &attributes.account),
            ("Severity", &attributes.severity),
            ("Control", &attributes.control),
            ("Urgency", urgency),
            ("Region", &attributes.region),
            ("Trigger", &attributes.trigger),
            ("Destination", attributes.destination.as_deref().unwrap_or_default()),
        ] {
            // SNS takes no empty value.
            if value.is_empty() {
                continue;
            }
            let attribute =
                aws_sdk_sns::types::MessageAttributeValue::builder().data_type("String").string_value(value);
            let attribute = attribute.build().map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
            request = request.message_attributes(name, attribute);
        }
        let answer = request.send().await.map_err(|error| {
            report::metric(&report::count(&metrics::PUBLISH_FAILURES, &self.function, Timestamp::now()));
            AwsFailure::of(OPERATION, &error)
        })?;
        tracing::debug!(message = answer.message_id(), "told");
        Ok(())
    }

    async fn dead_letter(&self, body: &str, code: &str, reason: &str) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sqs:SendMessage";
        let Some(queue) = &self.dead_letters else {
            return Err(Self::unset(OPERATION, "FINDINGS_DLQ_URL"));
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
        if let Some(direct) = &start.direct {
            return self.contain(place, start, direct, false).await.map(drop);
        }
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
                Err(StartError { message: format!("{failure}{hint}"), ..StartError::of(&failure) })
            }
        }
    }

    async fn recall(&self, place: &Place, start: &Start) -> Result<bool, StartError> {
        let Some(direct) = &start.direct else {
            return Err(StartError::refused(false, "only a playbook can be recalled".to_owned()));
        };
        self.contain(place, start, direct, true).await
    }

    async fn execution(&self, place: &Place, id: &str) -> Result<Execution, StartError> {
        let within = self.within(place).await?;
        let request = self.ssm.get_automation_execution().automation_execution_id(id);
        let answer = request.customize().config_override(within).send().await.map_err(|error| {
            let failure = AwsFailure::of("ssm:GetAutomationExecution", &error);
            StartError::of(&failure)
        })?;
        let Some(found) = answer.automation_execution() else {
            return Err(StartError::refused(true, format!("SSM tells nothing of execution `{id}`")));
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

    async fn find_execution(
        &self,
        place: &Place,
        id: RemediationId,
        since: Timestamp,
    ) -> Result<Option<String>, StartError> {
        const OPERATION: &str = "ssm:DescribeAutomationExecutions";
        let failed = |message: String| StartError::refused(false, message);
        let filter = |key: AutomationExecutionFilterKey, value: String| {
            let built = AutomationExecutionFilter::builder().key(key).values(value).build();
            built.map_err(|error| failed(error.to_string()))
        };
        let since = seconds(since);
        let filters = [
            filter(AutomationExecutionFilterKey::DocumentNamePrefix, names::CONTROL_DOCUMENT.to_owned())?,
            filter(AutomationExecutionFilterKey::StartTimeAfter, since)?,
        ];
        let mut next = None;
        loop {
            let within = self.within(place).await?;
            let request = self.ssm.describe_automation_executions().set_filters(Some(filters.to_vec()));
            let answer = request.set_next_token(next).customize().config_override(within).send().await;
            let answer = answer.map_err(|error| {
                let failure = AwsFailure::of(OPERATION, &error);
                StartError::of(&failure)
            })?;
            // The list says of none what it was started for.
            for found in answer.automation_execution_metadata_list() {
                let Some(execution) = found.automation_execution_id() else { continue };
                let parameters = self.execution(place, execution).await?.parameters;
                if parameters.get(parameter::REMEDIATION_ID).is_some_and(|given| *given == id.to_string()) {
                    return Ok(Some(execution.to_owned()));
                }
            }
            next = answer.next_token;
            if next.is_none() {
                return Ok(None);
            }
        }
    }

    async fn tell_end(&self, event: &serde_json::Value) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sqs:SendMessage";
        let Some(queue) = &self.completions else { return Err(Self::unset(OPERATION, "COMPLETIONS_QUEUE_URL")) };
        let sent = self.sqs.send_message().queue_url(queue).message_body(event.to_string()).send().await;
        sent.map(drop).map_err(|error| AwsFailure::of(OPERATION, &error))
    }

    async fn stop_execution(&self, place: &Place, id: &str) -> Result<(), StartError> {
        let within = self.within(place).await?;
        let request = self.ssm.stop_automation_execution().automation_execution_id(id).r#type(StopType::Cancel);
        match request.customize().config_override(within).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.as_service_error(),
                    Some(StopAutomationExecutionError::InvalidAutomationStatusUpdateException(_))
                ) =>
            {
                Ok(())
            }
            Err(error) => {
                let failure = AwsFailure::of("ssm:StopAutomationExecution", &error);
                Err(StartError::of(&failure))
            }
        }
    }

    async fn workflow_status(&self, id: &str, product_arn: &Arn) -> Result<finding::WorkflowStatus, AwsFailure> {
        const OPERATION: &str = "securityhub:GetFindings";
        let filters = AwsSecurityFindingFilters::builder().id(desk::equals(id));
        let filters = filters.product_arn(desk::equals(product_arn.as_str())).build();
        let answer = self.securityhub.get_findings().filters(filters).max_results(1).send().await;
        let answer = answer.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        let Some(found) = answer.findings().first() else {
            return Err(AwsFailure::partial(OPERATION, "Security Hub does not have the finding any more".to_owned()));
        };
        match found.workflow().and_then(|workflow| workflow.status()) {
            None | Some(WorkflowStatus::New) => Ok(finding::WorkflowStatus::New),
            Some(WorkflowStatus::Notified) => Ok(finding::WorkflowStatus::Notified),
            Some(WorkflowStatus::Resolved) => Ok(finding::WorkflowStatus::Resolved),
            Some(WorkflowStatus::Suppressed) => Ok(finding::WorkflowStatus::Suppressed),
            Some(other) => {
                Err(AwsFailure::partial(OPERATION, format!("workflow status `{}` is not known", other.as_str())))
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_died_is_told_from_a_function_that_says_no() {
        for (told, is_dead) in [
            (r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 1 Error: Runtime exited"}"#, true),
            (r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 1 Error: Task timed out"}"#, true),
            (r#"{"errorMessage":"2026-03-02T09:15:05.000Z 1 Task timed out after 10.00 seconds"}"#, true),
            (r#"{"errorType":"redress_member::guard::BindingError","errorMessage":"another account"}"#, false),
            ("", false),
        ] {
            assert_eq!(died(told.as_bytes()), is_dead, "{told}");
        }
    }
}
