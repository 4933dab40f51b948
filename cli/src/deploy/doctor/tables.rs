//! The tables of the administrator account: what must not be lost.

use redress_common::names;
use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, DESCRIBE_BACKUPS, DESCRIBE_TABLE, GET_TABLE_POLICY, Site, is_true};
use super::statement::{principals, speaks_of, statements};

static MISSING: Fault = Fault {
    code: "table-missing",
    severity: Severity::Error,
    about: "a table is not there",
    why: "without its tables Redress changes nothing, and leaves findings in their queue",
    todo: "update stack redress-administrator with its own template; a table that was deleted within 35 days comes back with `aws dynamodb restore-table-to-point-in-time`, before that update",
};

static NO_BACKUP: Fault = Fault {
    code: "table-without-recovery",
    severity: Severity::Error,
    about: "point-in-time recovery of a table is off",
    why: "what is lost by mistake cannot be brought back; for the audit log that is the proof of what was done",
    todo: "`aws dynamodb update-continuous-backups --table-name {thing} --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true --region {home}`",
};

static DELETABLE: Fault = Fault {
    code: "table-deletable",
    severity: Severity::Warning,
    about: "a table may be deleted",
    why: "one call, or the deletion of the stack by mistake, takes it away",
    todo: "`aws dynamodb update-table --table-name {thing} --deletion-protection-enabled --region {home}`, and DeletionProtection=true for stack redress-administrator",
};

static OTHER_KEY: Fault = Fault {
    code: "table-encryption",
    severity: Severity::Warning,
    about: "a table is not encrypted by a KMS key of the account",
    why: "who may read it is said by DynamoDB's rights alone",
    todo: "update stack redress-administrator with its own template",
};

static NOT_APPEND_ONLY: Fault = Fault {
    code: "audit-not-append-only",
    severity: Severity::Error,
    about: "the audit log's table does not refuse updates and deletes",
    why: "whoever has the rights may change or delete what was recorded. The hash chain still tells that it happened",
    todo: "update stack redress-administrator with its own template, then `redress audit verify --account <id>` for each account",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Tables,
    at: Where::Administrator,
    about: "the tables: there, encrypted, with point-in-time recovery and deletion protection; the audit log append-only",
    faults: &[&MISSING, &NO_BACKUP, &DELETABLE, &OTHER_KEY, &NOT_APPEND_ONLY],
    rights: &["dynamodb:DescribeTable", "dynamodb:DescribeContinuousBackups", "dynamodb:GetResourcePolicy"],
};

const TABLES: [&str; 3] = [names::AUDIT_TABLE, names::STATE_TABLE, names::BACKLOG_TABLE];

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let mut findings = Vec::new();
    for table in TABLES {
        let Some(described) = site.ask(&DESCRIBE_TABLE, json!({ "TableName": table })).await? else {
            findings.push(site.place.finding(&MISSING, table, format!("there is no table {table}")));
            continue;
        };
        let backups = site.ask(&DESCRIBE_BACKUPS, json!({ "TableName": table })).await?.unwrap_or_default();
        let policy = match (table, described["Table"]["TableArn"].as_str()) {
            (names::AUDIT_TABLE, Some(arn)) => {
                Some(site.ask(&GET_TABLE_POLICY, json!({ "ResourceArn": arn })).await?.unwrap_or_default())
            }
            _ => None,
        };
        findings.extend(judge(&site.place, table, &described["Table"], &backups, policy.as_ref()));
    }
    Ok(findings)
}

/// What nobody may do to a record.
const CHANGES: [&str; 3] = ["dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"];

fn judge(place: &Place, table: &str, described: &Value, backups: &Value, policy: Option<&Value>) -> Vec<Finding> {
    let recovery = &backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
    let refuses = |policy: &Value| {
        let statements = statements(&policy["Policy"]);
        let denied = |action: &&str| {
            let denies =
                |one: &Value| one["Effect"] == "Deny" && principals(one).contains(&"*") && speaks_of(one, action);
            statements.iter().any(denies)
        };
        CHANGES.iter().all(denied)
    };
    let verdicts = [
        (recovery["PointInTimeRecoveryStatus"] == "ENABLED", &NO_BACKUP, "has no point-in-time recovery"),
        (is_true(&described["DeletionProtectionEnabled"]), &DELETABLE, "may be deleted"),
        (described["SSEDescription"]["SSEType"] == "KMS", &OTHER_KEY, "is not encrypted by a KMS key"),
        (policy.is_none_or(refuses), &NOT_APPEND_ONLY, "does not refuse updates and deletes"),
    ];
    let wrong = verdicts.into_iter().filter(|(holds, ..)| !holds);
    wrong.map(|(_, fault, says)| place.finding(fault, table, format!("table {table} {says}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{administrator, codes};
    use super::*;

    #[test]
    fn a_table_can_be_brought_back_and_the_audit_log_is_only_appended_to() {
        let table =
            json!({ "DeletionProtectionEnabled": true, "SSEDescription": { "Status": "ENABLED", "SSEType": "KMS" } });
        let backed = |status: &str| json!({ "ContinuousBackupsDescription": { "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": status } } });
        let deny = json!({ "Effect": "Deny", "Principal": "*", "Action": CHANGES });
        let policy = json!({ "Policy": json!({ "Statement": [deny] }).to_string() });
        let told = |table: &Value, backups: &Value, policy: Option<&Value>| {
            codes(&judge(&administrator(), "RedressAuditLog", table, backups, policy))
        };
        let on = backed("ENABLED");
        assert!(told(&table, &on, Some(&policy)).is_empty() && told(&table, &on, None).is_empty());
        assert_eq!(told(&table, &backed("DISABLED"), None), ["table-without-recovery"]);
        assert_eq!(told(&table, &on, Some(&Value::Null)), ["audit-not-append-only"]);
        let bare = json!({ "DeletionProtectionEnabled": false, "SSEDescription": { "SSEType": "AES256" } });
        assert_eq!(told(&bare, &on, None), ["table-deletable", "table-encryption"]);
    }
}
