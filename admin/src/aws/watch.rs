//! What the reconciler needs of AWS beside the rest: [`crate::reconcile::ports`] over the official SDK.

use aws_sdk_config::types::{ComplianceType, ConfigRuleComplianceFilters};
use aws_sdk_securityhub::types::{DateFilter, SortOrder};
use aws_sdk_ssm::types::{AutomationExecutionFilter, AutomationExecutionFilterKey};
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::ledger_store::StoreError;
use redress_common::aws::open::Open;
use redress_common::aws::state_table::StateKey;
use redress_common::ids::AccountId;
use redress_common::ledger::Record;
use redress_common::names;
use redress_common::time::seconds;
use serde_json::{Value, json};

use super::Aws;
use super::desk::{equals, failed};
use crate::ports::{Place, StartError};
use crate::reconcile::ports::{FailedRule, Part, Run, Search, Watch};

/// Config gives no more at a time.
const PAGE: i32 = 100;
/// SSM gives no more at a time.
const RUNS_PAGE: i32 = 50;

/// The Config aggregator to ask, where there is one.
fn aggregator() -> Option<String> {
    std::env::var("CONFIG_AGGREGATOR").ok().filter(|name| !name.is_empty())
}

fn in_member(failure: AwsFailure) -> StartError {
    StartError::of(&failure)
}

fn time(time: Option<&aws_sdk_ssm::primitives::DateTime>) -> Option<Timestamp> {
    Timestamp::from_millisecond(time?.to_millis().ok()?).ok()
}

impl Watch for Aws {
    async fn open(
        &self,
        open: Open,
        from_ms: i64,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<(Option<StateKey>, i64)>, AwsFailure> {
        self.store.open(open, from_ms, before_ms, limit).await
    }

    async fn records_since(
        &self,
        account: &AccountId,
        since_ms: i64,
        limit: usize,
    ) -> Result<Part<Record>, StoreError> {
        let items = self.store.records_of_account_since(account, since_ms, limit).await?;
        Ok(Part { whole: items.len() < limit, items })
    }

    async fn runs(
        &self,
        place: &Place,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Part<Run>, StartError> {
        const OPERATION: &str = "ssm:DescribeAutomationExecutions";
        let within = self.within(place).await?;
        let filter = |key: AutomationExecutionFilterKey, value: String| {
            let built = AutomationExecutionFilter::builder().key(key).values(value).build();
            built.map_err(|error| in_member(AwsFailure::partial(OPERATION, error.to_string())))
        };
        let filters = vec![
            filter(AutomationExecutionFilterKey::DocumentNamePrefix, names::CONTROL_DOCUMENT.to_owned())?,
            filter(AutomationExecutionFilterKey::StartTimeAfter, seconds(from))?,
            filter(AutomationExecutionFilterKey::StartTimeBefore, seconds(until))?,
        ];
        let (mut runs, mut next) = (Vec::new(), None);
        loop {
            let request = self.ssm.describe_automation_executions().set_filters(Some(filters.clone()));
            let request = request.max_results(RUNS_PAGE).set_next_token(next);
            let answer = request.customize().config_override(within.clone()).send().await;
            let answer = answer.map_err(|error| in_member(AwsFailure::of(OPERATION, &error)))?;
            for run in answer.automation_execution_metadata_list() {
                // A prefix is all that SSM filters by.
                if run.document_name() == Some(names::CONTROL_DOCUMENT) {
                    runs.push(Run {
                        id: run.automation_execution_id().unwrap_or_default().to_owned(),
                        status: run.automation_execution_status().map(|s| s.as_str().to_owned()).unwrap_or_default(),
                        started: time(run.execution_start_time()).unwrap_or(from),
                    });
                }
            }
            next = answer.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(Part { items: runs, whole: true });
            }
            if runs.len() >= limit {
                return Ok(Part { items: runs, whole: false });
            }
        }
    }

    async fn updated_findings(&self, search: &Search, limit: usize) -> Result<Part<Value>, AwsFailure> {
        let updated = DateFilter::builder().start(search.from.to_string()).end(search.until.to_string()).build();
        let mut filters = failed().updated_at(updated);
        for control in &search.controls {
            filters = filters.compliance_security_control_id(equals(control.as_str()));
        }
        let (items, more) = self.findings(filters, ("UpdatedAt", SortOrder::Ascending), limit).await?;
        Ok(Part { items, whole: !more })
    }

    fn has_aggregator(&self) -> bool {
        aggregator().is_some()
    }

    async fn failed_rules(&self, from: &str, limit: usize) -> Result<(Vec<FailedRule>, String), AwsFailure> {
        const OPERATION: &str = "config:DescribeAggregateComplianceByConfigRules";
        let filters = ConfigRuleComplianceFilters::builder().compliance_type(ComplianceType::NonCompliant).build();
        let answer = self
            .config()
            .describe_aggregate_compliance_by_config_rules()
            .set_configuration_aggregator_name(aggregator())
            .filters(filters)
            .limit(i32::try_from(limit).unwrap_or(1))
            .set_next_token((!from.is_empty()).then(|| from.to_owned()))
            .send()
            .await
            .map_err(|error| AwsFailure::of(OPERATION, &error))?;
        let rules = answer.aggregate_compliance_by_config_rules().iter().filter_map(|rule| {
            Some(FailedRule {
                name: rule.config_rule_name()?.to_owned(),
                account: rule.account_id()?.parse().ok()?,
                region: rule.aws_region()?.parse().ok()?,
            })
        });
        Ok((rules.collect(), answer.next_token().unwrap_or_default().to_owned()))
    }

    async fn failed_resources(&self, rule: &FailedRule, from: &str) -> Result<(Vec<Value>, String), AwsFailure> {
        const OPERATION: &str = "config:GetAggregateComplianceDetailsByConfigRule";
        let answer = self
            .config()
            .get_aggregate_compliance_details_by_config_rule()
            .set_configuration_aggregator_name(aggregator())
            .config_rule_name(&rule.name)
            .account_id(rule.account.as_str())
            .aws_region(rule.region.as_str())
            .compliance_type(ComplianceType::NonCompliant)
            .limit(PAGE)
            .set_next_token((!from.is_empty()).then(|| from.to_owned()))
            .send()
            .await
            .map_err(|error| AwsFailure::of(OPERATION, &error))?;
        let time = |time: Option<&aws_sdk_config::primitives::DateTime>| {
            let time = Timestamp::from_millisecond(time?.to_millis().ok()?).ok()?;
            Some(time.to_string())
        };
        let items = answer.aggregate_evaluation_results().iter().map(|result| {
            let identifier = result.evaluation_result_identifier();
            let qualifier = identifier.and_then(|identifier| identifier.evaluation_result_qualifier());
            json!({
                "EvaluationResultIdentifier": {
                    "EvaluationResultQualifier": {
                        "ConfigRuleName": qualifier.and_then(|qualifier| qualifier.config_rule_name()),
                        "ResourceType": qualifier.and_then(|qualifier| qualifier.resource_type()),
                        "ResourceId": qualifier.and_then(|qualifier| qualifier.resource_id()),
                    },
                    "OrderingTimestamp": time(identifier.and_then(|identifier| identifier.ordering_timestamp())),
                },
                "ResultRecordedTime": time(result.result_recorded_time()),
                "ConfigRuleInvokedTime": time(result.config_rule_invoked_time()),
            })
        });
        Ok((items.collect(), answer.next_token().unwrap_or_default().to_owned()))
    }
}
