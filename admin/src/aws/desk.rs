//! What the api needs of AWS beside the rest: [`crate::api::ports`] over the official SDK.

use std::collections::BTreeMap;

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_securityhub::types::builders::AwsSecurityFindingFiltersBuilder;
use aws_sdk_securityhub::types::{
    AwsSecurityFinding, AwsSecurityFindingFilters, SortCriterion, SortOrder, StringFilter, StringFilterComparison,
};
use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeName};
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::{AccountId, ControlId};
use redress_common::names;
use serde_json::{Value, json};

use super::Aws;
use crate::api::ports::{Desk, Letter, Queue};
use crate::ports::Waiting;

/// SQS gives no more at a time.
const BATCH: usize = 10;
/// Security Hub gives no more at a time.
const PAGE: usize = 100;

impl Queue {
    /// The environment variable with its URL.
    const fn variable(self) -> &'static str {
        match self {
            Self::Findings => "FINDINGS_QUEUE_URL",
            Self::FindingsDeadLetters => "FINDINGS_DLQ_URL",
            Self::Completions => "COMPLETIONS_QUEUE_URL",
            Self::CompletionsDeadLetters => "COMPLETIONS_DLQ_URL",
            Self::Parked => "PARKED_QUEUE_URL",
        }
    }

    fn url(self, operation: &'static str) -> Result<String, AwsFailure> {
        std::env::var(self.variable()).map_err(|_| Aws::unset(operation, self.variable()))
    }
}

impl Desk for Aws {
    async fn put_event(&self, detail_type: &str, detail: &Value) -> Result<(), AwsFailure> {
        const OPERATION: &str = "events:PutEvents";
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(names::HUB_BUS)
            .source(names::EVENT_SOURCE)
            .detail_type(detail_type)
            .detail(detail.to_string())
            .build();
        let client = self.events.get_or_init(|| aws_sdk_eventbridge::Client::new(&self.base));
        let answer = client.put_events().entries(entry).send().await;
        let answer = answer.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        match answer.entries().first() {
            Some(entry) if entry.event_id().is_some() => Ok(()),
            entry => {
                let code = entry.and_then(|entry| entry.error_code()).unwrap_or("no event id");
                let message = entry.and_then(|entry| entry.error_message()).unwrap_or("EventBridge took no event");
                Err(AwsFailure::partial(OPERATION, format!("{code}: {message}")))
            }
        }
    }

    async fn items(&self, prefix: &str) -> Result<Vec<Value>, AwsFailure> {
        self.store.items(prefix).await
    }

    async fn take(&self, queue: Queue, limit: usize, seconds: i32) -> Result<Vec<Letter>, AwsFailure> {
        const OPERATION: &str = "sqs:ReceiveMessage";
        let url = queue.url(OPERATION)?;
        let mut letters: Vec<Letter> = Vec::new();
        while letters.len() < limit {
            let answer = self
                .sqs
                .receive_message()
                .queue_url(&url)
                .max_number_of_messages(i32::try_from(BATCH.min(limit - letters.len())).unwrap_or(1))
                .visibility_timeout(seconds)
                // A short poll asks some of the servers, and an empty answer of theirs says nothing.
                .wait_time_seconds(1)
                .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
                .message_attribute_names("All")
                .send()
                .await
                .map_err(|error| AwsFailure::of(OPERATION, &error))?;
            let messages = answer.messages.unwrap_or_default();
            if messages.is_empty() {
                break;
            }
            letters.extend(messages.into_iter().map(|message| letter(queue, message)));
        }
        Ok(letters)
    }

    async fn leave(&self, letter: &Letter) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sqs:ChangeMessageVisibility";
        let url = letter.queue.url(OPERATION)?;
        let request = self.sqs.change_message_visibility().queue_url(url).receipt_handle(&letter.receipt);
        let left = request.visibility_timeout(0).send().await;
        left.map(drop).map_err(|error| AwsFailure::of(OPERATION, &error))
    }

    async fn send(&self, queue: Queue, body: &str, attributes: &BTreeMap<String, String>) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sqs:SendMessage";
        let mut request = self.sqs.send_message().queue_url(queue.url(OPERATION)?).message_body(body);
        for (name, value) in attributes {
            let attribute = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            let attribute = attribute.map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
            request = request.message_attributes(name, attribute);
        }
        request.send().await.map(drop).map_err(|error| AwsFailure::of(OPERATION, &error))
    }

    async fn discard(&self, letter: &Letter) -> Result<(), AwsFailure> {
        const OPERATION: &str = "sqs:DeleteMessage";
        let url = letter.queue.url(OPERATION)?;
        let gone = self.sqs.delete_message().queue_url(url).receipt_handle(&letter.receipt).send().await;
        gone.map(drop).map_err(|error| AwsFailure::of(OPERATION, &error))
    }

    async fn forget(&self, waiting: &Waiting) -> Result<(), AwsFailure> {
        self.backlog.forget(waiting).await
    }

    async fn failed_findings(
        &self,
        control: &ControlId,
        accounts: &[AccountId],
        limit: usize,
    ) -> Result<(Vec<Value>, bool), AwsFailure> {
        let mut filters = failed().compliance_security_control_id(equals(control.as_str()));
        for account in accounts {
            filters = filters.aws_account_id(equals(account.as_str()));
        }
        self.findings(filters, ("SeverityNormalized", SortOrder::Descending), limit).await
    }
}

fn letter(queue: Queue, message: aws_sdk_sqs::types::Message) -> Letter {
    let sent = message.attributes.as_ref().and_then(|all| all.get(&MessageSystemAttributeName::SentTimestamp));
    let sent_at = sent.and_then(|text| text.parse().ok()).unwrap_or_default();
    let attributes = message.message_attributes.unwrap_or_default().into_iter();
    Letter {
        queue,
        id: message.message_id.unwrap_or_default(),
        receipt: message.receipt_handle.unwrap_or_default(),
        body: message.body.unwrap_or_default(),
        attributes: attributes.filter_map(|(name, value)| Some((name, value.string_value?))).collect(),
        sent_at,
    }
}

/// The filter of a text.
pub(super) fn equals(value: &str) -> StringFilter {
    StringFilter::builder().value(value).comparison(StringFilterComparison::Equals).build()
}

/// The filter of findings that are open.
pub(super) fn failed() -> AwsSecurityFindingFiltersBuilder {
    AwsSecurityFindingFilters::builder()
        .compliance_status(equals("FAILED"))
        .workflow_status(equals("NEW"))
        .record_state(equals("ACTIVE"))
}

impl Aws {
    /// Security Hub's findings in an order, as ASFF, at most `limit`; and whether there are more.
    pub(super) async fn findings(
        &self,
        filters: AwsSecurityFindingFiltersBuilder,
        (field, order): (&str, SortOrder),
        limit: usize,
    ) -> Result<(Vec<Value>, bool), AwsFailure> {
        let mut pages = self
            .securityhub
            .get_findings()
            .filters(filters.build())
            .sort_criteria(SortCriterion::builder().field(field).sort_order(order).build())
            .max_results(i32::try_from(PAGE).unwrap_or(1))
            .into_paginator()
            .items()
            .send();
        let mut found = Vec::new();
        while let Some(finding) = pages.next().await {
            let finding = finding.map_err(|error| AwsFailure::of("securityhub:GetFindings", &error))?;
            if found.len() == limit {
                return Ok((found, true));
            }
            found.push(asff(&finding));
        }
        Ok((found, false))
    }
}

/// A finding as Security Hub's events carry it, as far as Redress reads it.
fn asff(finding: &AwsSecurityFinding) -> Value {
    let resource = finding.resources().first();
    let severity = finding.severity();
    let mut value = json!({
        "Id": finding.id(), "ProductArn": finding.product_arn(), "AwsAccountId": finding.aws_account_id(),
        "Region": finding.region(), "Title": finding.title(), "Description": finding.description(),
        "GeneratorId": finding.generator_id(), "CreatedAt": finding.created_at(), "UpdatedAt": finding.updated_at(),
        "FirstObservedAt": finding.first_observed_at(), "RecordState": finding.record_state().map(|state| state.as_str()),
        "Severity": {
            "Label": severity.and_then(|severity| severity.label()).map(|label| label.as_str()),
            "Normalized": severity.and_then(|severity| severity.normalized()),
        },
        "Resources": [{
            "Type": resource.and_then(|resource| resource.r#type()), "Id": resource.and_then(|resource| resource.id()),
            "Partition": resource.and_then(|resource| resource.partition()).map(|partition| partition.as_str()),
            "Region": resource.and_then(|resource| resource.region()),
        }],
        "Compliance": {
            "Status": finding.compliance().and_then(|compliance| compliance.status()).map(|status| status.as_str()),
            "SecurityControlId": finding.compliance().and_then(|compliance| compliance.security_control_id()),
        },
        "Workflow": { "Status": finding.workflow().and_then(|workflow| workflow.status()).map(|status| status.as_str()) },
        "Note": finding.note().map(|note| json!({ "UpdatedBy": note.updated_by(), "UpdatedAt": note.updated_at() })),
    });
    drop_nulls(&mut value);
    value
}

/// What Security Hub did not say is left out, as it is in an event.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
