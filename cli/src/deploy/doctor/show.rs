//! How a doctor's answer reads, and what it ends with.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::CHECKS;
use super::finding::{Fault, Finding, Severity, Unseen};
use crate::output::{Answer, Style, Text, Tone};
use crate::problem::{Exit, Problem};

/// All that was found, and what was not seen.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    pub(crate) not_seen: Vec<Unseen>,
    /// Accounts that were looked at, the administrator's among them.
    pub(crate) accounts: usize,
    /// Checks that were made, each in one account and Region.
    pub(crate) checks: usize,
}

impl Report {
    /// The worst first, then by account and Region.
    pub(crate) fn sorted(mut self) -> Self {
        self.findings.sort_by(|a, b| {
            let key = |one: &Finding| (one.severity, one.code, one.account.clone(), one.region.clone());
            key(a).cmp(&key(b))
        });
        self.not_seen.sort_by(|a, b| (&a.account, &a.region).cmp(&(&b.account, &b.region)));
        self
    }

    fn is_wrong(&self) -> bool {
        self.findings.iter().any(|found| found.severity != Severity::Note)
    }

    /// 1 when something is wrong, 6 when nothing is known to be wrong and not all was seen.
    pub(crate) fn exit(&self) -> Exit {
        match (self.is_wrong(), self.not_seen.is_empty()) {
            (true, _) => Exit::Failed,
            (false, false) => Exit::Unseen,
            (false, true) => Exit::Done,
        }
    }

    pub(crate) fn answer(&self, style: Style) -> Result<Answer, Problem> {
        let mut data = json!(self);
        data["Healthy"] = json!(self.exit() == Exit::Done);
        Ok(Answer::new(&data, self.text(style))?.exit(self.exit()))
    }

    fn text(&self, style: Style) -> String {
        let mut text = String::new();
        if !self.findings.is_empty() {
            let rows = self.findings.iter().map(|found| {
                [
                    Text::toned(tone(found.severity), found.severity.text()),
                    found.code.into(),
                    found.account.as_str().into(),
                    found.region.as_str().into(),
                    found.what.as_str().into(),
                ]
            });
            text.push_str(&style.table(["Severity", "Code", "Account", "Region", "What"], rows));
            text.push('\n');
            text.push_str(&self.advice(style));
        }
        if !self.not_seen.is_empty() {
            let rows = self.not_seen.iter().map(|unseen| {
                let checks: Vec<String> = unseen.checks.iter().map(|check| check.name()).collect();
                [
                    Text::toned(Tone::Warning, "could not look"),
                    checks.join(", ").into(),
                    unseen.account.as_str().into(),
                    unseen.region.as_str().into(),
                    unseen.reason.as_str().into(),
                ]
            });
            text.push_str(&style.table(["", "Checks", "Account", "Region", "Why not"], rows));
            text.push('\n');
        }
        text.push_str(&self.verdict(style));
        text
    }

    /// Once for each code: why it matters, and for each place what to do.
    fn advice(&self, style: Style) -> String {
        let mut by_code: BTreeMap<(Severity, &str), Vec<&Finding>> = BTreeMap::new();
        for found in &self.findings {
            by_code.entry((found.severity, found.code)).or_default().push(found);
        }
        let mut text = String::new();
        for ((_, code), all) in by_code {
            let why = all.first().map_or("", |found| found.why);
            text.push_str(&format!("{}: {why}\n", style.paint(Tone::Strong, code)));
            let mut told: Vec<&str> = Vec::new();
            for found in all {
                if !told.contains(&found.todo.as_str()) {
                    text.push_str(&format!("  {} {}\n", style.paint(Tone::Faint, "→"), found.todo));
                    told.push(&found.todo);
                }
            }
        }
        text.push('\n');
        text
    }

    fn verdict(&self, style: Style) -> String {
        let count = |severity: Severity| self.findings.iter().filter(|found| found.severity == severity).count();
        let counted = |severity: Severity| match count(severity) {
            1 => format!("1 {}", severity.text()),
            many => format!("{many} {}s", severity.text()),
        };
        let (tone, says) = match self.exit() {
            Exit::Done => (Tone::Good, format!("healthy: {}", counted(Severity::Note))),
            Exit::Unseen => (Tone::Warning, "not known: nothing wrong was seen, but not all of it was".to_owned()),
            _ => {
                let all = [Severity::Error, Severity::Warning, Severity::Note].map(counted).join(", ");
                (Tone::Bad, format!("not healthy: {all}"))
            }
        };
        let looked = format!("; {} checks made in {}", self.checks, accounts(self.accounts));
        format!("{}{looked}\n", style.paint(tone, &says))
    }
}

fn accounts(count: usize) -> String {
    if count == 1 { "1 account".to_owned() } else { format!("{count} accounts") }
}

const fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Warning,
        Severity::Note => Tone::Faint,
    }
}

/// What can be looked at.
pub(crate) fn list(style: Style) -> Result<Answer, Problem> {
    let data: Vec<_> = CHECKS
        .iter()
        .map(|check| {
            let fault = |fault: &&Fault| json!({ "Code": fault.code, "Severity": fault.severity, "What": fault.about });
            let faults: Vec<_> = check.faults.iter().map(fault).collect();
            json!({
                "Check": check.id, "Where": check.at.text(), "LooksAt": check.about, "Finds": faults, "Rights": check.rights,
            })
        })
        .collect();
    let rows = CHECKS.iter().map(|check| [check.id.name().into(), check.at.text().into(), check.about.into()]);
    Answer::new(&data, style.table(["Check", "Where", "Looks at"], rows))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::finding::CheckId;
    use super::super::finding::tests::member;
    use super::*;

    static ERROR: Fault = Fault {
        code: "rule-off",
        severity: Severity::Error,
        about: "a rule is off",
        why: "nothing is heard of",
        todo: "`aws events enable-rule --name {thing} --region {region}`",
    };
    static NOTE: Fault =
        Fault { code: "observes", severity: Severity::Note, about: "", why: "it tells only", todo: "wait" };

    fn report() -> Report {
        Report { accounts: 2, checks: 31, ..Report::default() }
    }

    fn unseen() -> Unseen {
        Unseen {
            checks: vec![CheckId::Roles, CheckId::Key],
            account: member().account,
            region: member().region,
            reason: "`GetRole` failed: AccessDenied: no".to_owned(),
        }
    }

    #[test]
    fn a_report_says_what_where_why_and_what_to_do() {
        let mut report = report();
        report.findings = vec![
            member().finding(&NOTE, "", "it observes"),
            member().finding(&ERROR, "redress-forward-config", "rule redress-forward-config is off"),
            member().finding(&ERROR, "redress-forward-outcomes", "rule redress-forward-outcomes is off"),
        ];
        report.not_seen = vec![unseen()];
        insta::assert_snapshot!(report.sorted().text(Style::PLAIN));
    }

    #[test]
    fn what_was_not_seen_is_never_healthy() {
        assert_eq!(report().exit(), Exit::Done);
        let mut noted = report();
        noted.findings = vec![member().finding(&NOTE, "", "it observes")];
        assert_eq!(noted.exit(), Exit::Done);
        noted.not_seen = vec![unseen()];
        assert_eq!(noted.exit(), Exit::Unseen);
        noted.findings.push(member().finding(&ERROR, "", "x"));
        assert_eq!(noted.exit(), Exit::Failed);
    }
}
