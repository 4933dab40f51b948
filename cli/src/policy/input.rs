//! Findings and facts from files.

use std::io::Read as _;
use std::path::Path;

use redress_admin::intake::{self, Case};
use redress_common::contract::GuardEvidence;
use redress_common::finding::{Finding, Inbound, parse};
use redress_common::ids::AccountId;
use redress_common::items::account::AccountFacts;
use serde_json::{Value, json};

use crate::controls;
use crate::problem::Problem;

/// No file is longer, in bytes.
const MAX: u64 = 8 * 1024 * 1024;

/// The text of a file; `-` is standard input.
pub(super) fn text(file: &Path) -> Result<String, Problem> {
    let failed = |error: &std::io::Error| Problem::aws(&format!("read {}", file.display()), error);
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX).read_to_string(&mut text).map_err(|error| failed(&error))?;
    } else {
        let opened = std::fs::File::open(file).map_err(|error| failed(&error))?;
        opened.take(MAX).read_to_string(&mut text).map_err(|error| failed(&error))?;
    }
    Ok(text)
}

fn value(file: &Path) -> Result<Value, Problem> {
    serde_json::from_str(&text(file)?)
        .map_err(|error| Problem::aws(&format!("read {} as JSON", file.display()), &error))
}

/// What the findings of a file are about, each with the campaign that released it.
pub(super) fn cases(file: &Path) -> Result<Vec<(Case, Option<String>)>, Problem> {
    let name = file.display();
    let not_understood = |why: &dyn std::fmt::Display| Problem::failed(format!("{name} is not understood: {why}"));
    let event = event(value(file)?).ok_or_else(|| {
        not_understood(&"it is neither an EventBridge event nor an ASFF finding").help(
            "`aws securityhub get-findings` prints findings; `redress audit list` shows remediations for --remediation",
        )
    })?;
    let findings: Vec<(Finding, Option<String>)> = match parse(event.to_string().as_bytes()) {
        Err(error) => return Err(not_understood(&error)),
        Ok(Inbound::Nothing { reason }) => {
            return Err(not_understood(&format_args!("there is nothing to decide: {reason}")));
        }
        Ok(Inbound::Undo { .. }) => {
            return Err(not_understood(&"it is a request to undo").help("use --remediation with the id of the undo"));
        }
        Ok(Inbound::Released { finding, campaign }) => vec![(*finding, campaign)],
        Ok(Inbound::Findings(findings)) => {
            let whole = findings.into_iter().map(|finding| Ok((finding?, None)));
            whole.collect::<Result<_, redress_common::finding::ParseError>>().map_err(|error| not_understood(&error))?
        }
    };
    let catalogue = controls::catalogue()?;
    let case = |(finding, campaign): (Finding, _)| Ok((intake::case_of(&finding, &catalogue)?, campaign));
    let cases: Result<_, intake::NoCase> = findings.into_iter().map(case).collect();
    cases.map_err(|error| not_understood(&error))
}

/// The event that brings it: itself, or the import of findings that somebody saved.
fn event(value: Value) -> Option<Value> {
    if value.get("detail-type").is_some() {
        return Some(value);
    }
    let findings = match &value {
        Value::Array(findings) => findings.clone(),
        Value::Object(fields) => match fields.get("Findings") {
            Some(Value::Array(findings)) => findings.clone(),
            _ => vec![value.clone()],
        },
        _ => return None,
    };
    let first = findings.first()?;
    let account = first.get("AwsAccountId")?;
    let region =
        first.get("Region").and_then(Value::as_str).or_else(|| first.get("ProductArn")?.as_str()?.split(':').nth(3))?;
    Some(json!({
        "version": "0",
        "id": "00000000-0000-0000-0000-000000000000",
        "source": "aws.securityhub",
        "detail-type": "Security Hub Findings - Imported",
        "account": account,
        "region": region,
        "time": jiff::Timestamp::now(),
        "resources": [],
        "detail": { "findings": findings },
    }))
}

/// What Organizations would say.
pub(super) fn account_facts(file: &Path, account: &AccountId) -> Result<AccountFacts, Problem> {
    let mut facts = json!({ "Account": account, "Name": "", "OuPath": [], "Tags": {}, "ReadAt": 0 });
    if let (Value::Object(facts), Value::Object(given)) = (&mut facts, value(file)?) {
        facts.extend(given);
    }
    let facts: AccountFacts = serde_json::from_value(facts)
        .map_err(|error| Problem::aws(&format!("read {} as facts of an account", file.display()), &error))?;
    if facts.account != *account {
        return Err(Problem::failed(format!(
            "{} is about account {}, the finding about {account}",
            file.display(),
            facts.account
        )));
    }
    Ok(facts)
}

/// What the guard would say.
pub(super) fn evidence(file: &Path) -> Result<GuardEvidence, Problem> {
    if file == Path::new("nothing") {
        return Ok(GuardEvidence::default());
    }
    serde_json::from_value(value(file)?)
        .map_err(|error| Problem::aws(&format!("read {} as the guard's evidence", file.display()), &error))
}
