//! The filters and sorting of `GetFindings`.
//!
//! Values of one field are alternatives, but for negations, all of which must hold; fields must all match. A
//! filter or comparison that is not known is an error: a filter that matched everything would hide mistakes.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Attributes that one request may filter by.
const MOST_FIELDS: usize = 10;

/// What a filter looks at in a finding.
enum Field {
    /// Texts at a path; `*` stands for every element of a list.
    Text(&'static [&'static str]),
    /// A time at a path.
    Time(&'static [&'static str]),
    /// A number at a path.
    Number(&'static [&'static str]),
    /// A map of texts at a path.
    Map(&'static [&'static str]),
}

/// Filter names, and where their values are.
const FIELDS: &[(&str, Field)] = &[
    ("AwsAccountId", Field::Text(&["AwsAccountId"])),
    ("CompanyName", Field::Text(&["CompanyName"])),
    ("ComplianceSecurityControlId", Field::Text(&["Compliance", "SecurityControlId"])),
    ("ComplianceStatus", Field::Text(&["Compliance", "Status"])),
    ("Confidence", Field::Number(&["Confidence"])),
    ("CreatedAt", Field::Time(&["CreatedAt"])),
    ("Description", Field::Text(&["Description"])),
    ("FirstObservedAt", Field::Time(&["FirstObservedAt"])),
    ("GeneratorId", Field::Text(&["GeneratorId"])),
    ("Id", Field::Text(&["Id"])),
    ("LastObservedAt", Field::Time(&["LastObservedAt"])),
    ("NoteText", Field::Text(&["Note", "Text"])),
    ("NoteUpdatedAt", Field::Time(&["Note", "UpdatedAt"])),
    ("NoteUpdatedBy", Field::Text(&["Note", "UpdatedBy"])),
    ("ProductArn", Field::Text(&["ProductArn"])),
    ("ProductFields", Field::Map(&["ProductFields"])),
    ("ProductName", Field::Text(&["ProductName"])),
    ("RecordState", Field::Text(&["RecordState"])),
    ("Region", Field::Text(&["Region"])),
    ("ResourceId", Field::Text(&["Resources", "*", "Id"])),
    ("ResourceRegion", Field::Text(&["Resources", "*", "Region"])),
    ("ResourceTags", Field::Map(&["Resources", "*", "Tags"])),
    ("ResourceType", Field::Text(&["Resources", "*", "Type"])),
    ("SeverityLabel", Field::Text(&["Severity", "Label"])),
    ("SeverityNormalized", Field::Number(&["Severity", "Normalized"])),
    ("Title", Field::Text(&["Title"])),
    ("Type", Field::Text(&["Types", "*"])),
    ("UpdatedAt", Field::Time(&["UpdatedAt"])),
    ("UserDefinedFields", Field::Map(&["UserDefinedFields"])),
    ("VerificationState", Field::Text(&["VerificationState"])),
    ("WorkflowStatus", Field::Text(&["Workflow", "Status"])),
];

/// What one value of a filter asks for.
enum Test {
    Text { comparison: Comparison, value: String },
    Entry { key: String, comparison: Comparison, value: String },
    Since { start: Option<Timestamp>, end: Option<Timestamp>, days: Option<i64> },
    Number { least: f64, most: f64 },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equals,
    Prefix,
    Contains,
    NotEquals,
    PrefixNotEquals,
    NotContains,
}

impl Comparison {
    fn parse(given: &Value) -> Result<Self, String> {
        Ok(match given.as_str() {
            Some("EQUALS") => Self::Equals,
            Some("PREFIX") => Self::Prefix,
            Some("CONTAINS") => Self::Contains,
            Some("NOT_EQUALS") => Self::NotEquals,
            Some("PREFIX_NOT_EQUALS") => Self::PrefixNotEquals,
            Some("NOT_CONTAINS") => Self::NotContains,
            _ => return Err(format!("comparison {given} is not one that the lab's Security Hub knows")),
        })
    }

    const fn is_negation(self) -> bool {
        matches!(self, Self::NotEquals | Self::PrefixNotEquals | Self::NotContains)
    }

    /// Whether a finding with these values is let through.
    fn holds(self, values: &[&str], wanted: &str) -> bool {
        match self {
            Self::Equals => values.contains(&wanted),
            Self::Prefix => values.iter().any(|value| value.starts_with(wanted)),
            Self::Contains => values.iter().any(|value| value.contains(wanted)),
            Self::NotEquals => !Self::Equals.holds(values, wanted),
            Self::PrefixNotEquals => !Self::Prefix.holds(values, wanted),
            Self::NotContains => !Self::Contains.holds(values, wanted),
        }
    }
}

/// The filters of one request.
pub(super) struct Filters(Vec<(&'static Field, Vec<Test>)>);

impl Filters {
    pub(super) fn parse(given: &Value) -> Result<Self, String> {
        if given.as_object().is_some_and(|given| given.len() > MOST_FIELDS) {
            return Err(format!("filters name at most {MOST_FIELDS} attributes"));
        }
        let mut filters = Vec::new();
        for (name, values) in given.as_object().into_iter().flatten() {
            let (_, field) = FIELDS
                .iter()
                .find(|(known, _)| known == name)
                .ok_or_else(|| format!("filter {name} is not one that the lab's Security Hub knows"))?;
            let values = values
                .as_array()
                .filter(|values| values.len() <= 20)
                .ok_or_else(|| format!("{name} takes up to 20 values"))?;
            filters.push((field, values.iter().map(|value| test(field, value)).collect::<Result<_, _>>()?));
        }
        Ok(Self(filters))
    }

    pub(super) fn match_finding(&self, finding: &Value, now: Timestamp) -> bool {
        self.0.iter().all(|(field, tests)| {
            let (negations, wanted): (Vec<&Test>, Vec<&Test>) = tests.iter().partition(|test| test.is_negation());
            negations.iter().all(|test| test.holds(field, finding, now))
                && (wanted.is_empty() || wanted.iter().any(|test| test.holds(field, finding, now)))
        })
    }
}

fn test(field: &Field, given: &Value) -> Result<Test, String> {
    let text = |name: &str| given[name].as_str().map(str::to_owned).ok_or_else(|| format!("a filter lacks {name}"));
    let bound = |name: &str| match given[name].as_str() {
        Some(text) => text.parse().map(Some).map_err(|_| format!("{name} is not a time")),
        None => Ok(None),
    };
    Ok(match field {
        Field::Text(_) => Test::Text { comparison: Comparison::parse(&given["Comparison"])?, value: text("Value")? },
        Field::Map(_) => Test::Entry {
            key: text("Key")?,
            comparison: Comparison::parse(&given["Comparison"])?,
            value: text("Value")?,
        },
        Field::Time(_) => {
            let range = &given["DateRange"];
            if !range.is_null() && range["Unit"] != "DAYS" {
                return Err("DateRange.Unit must be DAYS".to_owned());
            }
            Test::Since { start: bound("Start")?, end: bound("End")?, days: range["Value"].as_i64() }
        }
        Field::Number(_) => match given["Eq"].as_f64() {
            Some(exactly) => Test::Number { least: exactly, most: exactly },
            None => Test::Number {
                least: given["Gte"].as_f64().unwrap_or(f64::MIN),
                most: given["Lte"].as_f64().unwrap_or(f64::MAX),
            },
        },
    })
}

impl Test {
    const fn is_negation(&self) -> bool {
        match self {
            Self::Text { comparison, .. } | Self::Entry { comparison, .. } => comparison.is_negation(),
            Self::Since { .. } | Self::Number { .. } => false,
        }
    }

    fn holds(&self, field: &Field, finding: &Value, now: Timestamp) -> bool {
        let (Field::Text(path) | Field::Time(path) | Field::Number(path) | Field::Map(path)) = field;
        let found = values(finding, path);
        let texts = || found.iter().filter_map(|value| value.as_str()).collect::<Vec<_>>();
        match self {
            Self::Text { comparison, value } => comparison.holds(&texts(), value),
            Self::Entry { key, comparison, value } => {
                let entries: Vec<&str> = found.iter().filter_map(|map| map[key.as_str()].as_str()).collect();
                comparison.holds(&entries, value)
            }
            Self::Since { start, end, days } => {
                texts().iter().filter_map(|text| text.parse::<Timestamp>().ok()).any(|at| {
                    let recent = days.is_none_or(|days| at >= now - SignedDuration::from_hours(24 * days));
                    recent && start.is_none_or(|start| at >= start) && end.is_none_or(|end| at <= end)
                })
            }
            Self::Number { least, most } => {
                found.iter().filter_map(|value| value.as_f64()).any(|number| number >= *least && number <= *most)
            }
        }
    }
}

/// Every attribute that can be filtered by.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, _)| *name)
}

/// Every value at a path.
fn values<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a Value> {
    match path {
        [] if value.is_null() => Vec::new(),
        [] => vec![value],
        ["*", rest @ ..] => value.as_array().into_iter().flatten().flat_map(|item| values(item, rest)).collect(),
        [name, rest @ ..] => values(&value[*name], rest),
    }
}

/// Sorts by `SortCriteria`: by the first one, then the next.
pub(super) fn sort(findings: &mut [&Value], criteria: &Value) -> Result<(), String> {
    for criterion in criteria.as_array().into_iter().flatten().rev() {
        let name = criterion["Field"].as_str().unwrap_or_default();
        let (_, field) =
            FIELDS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("cannot sort by `{name}`"))?;
        let (Field::Text(path) | Field::Time(path) | Field::Number(path) | Field::Map(path)) = field;
        let rank = |finding: &Value| {
            let value = values(finding, path).first().map(|value| (*value).clone()).unwrap_or_default();
            (value.as_f64().unwrap_or_default(), value.as_str().unwrap_or_default().to_owned())
        };
        let descending = match criterion["SortOrder"].as_str() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(other) => return Err(format!("SortOrder `{other}` is neither asc nor desc")),
        };
        // Stable both ways: those that this criterion finds equal stay as the next one has put them.
        findings.sort_by(|left, right| {
            let (left, right) = (rank(left), rank(right));
            let order = left.0.total_cmp(&right.0).then_with(|| left.1.cmp(&right.1));
            if descending { order.reverse() } else { order }
        });
    }
    Ok(())
}
