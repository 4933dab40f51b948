//! The documents of every account and Region, with their versions.
//!
//! Only Automation documents that can be run, calendars that can be read and Command documents with steps get in. Nothing
//! here runs one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::calendar::Calendar;
use super::document::{Document, Format};
use super::{Place, arn, epoch};
use crate::service::AwsError;

/// One version of a document.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) number: u32,
    content_of: Kind,
    content: Arc<str>,
    format: Format,
    created: Timestamp,
}

/// What a document is, read.
#[derive(Debug, Clone)]
enum Kind {
    Automation(Arc<Document>),
    ChangeCalendar(Arc<Calendar>),
    Command,
}

impl Kind {
    const fn type_name(&self) -> &'static str {
        match self {
            Self::Automation(_) => "Automation",
            Self::ChangeCalendar(_) => "ChangeCalendar",
            Self::Command => "Command",
        }
    }
}

/// AWS keeps no larger document, in bytes.
const MAX_BYTES: usize = 64 * 1024;

impl Version {
    fn new(number: u32, content: &str, format: Format, now: Timestamp) -> Result<Self, AwsError> {
        if content.len() > MAX_BYTES {
            let reason = format!("The document has {} bytes; the limit is {MAX_BYTES}.", content.len());
            return Err(AwsError::new("MaxDocumentSizeExceeded", reason));
        }
        let content_of = match format {
            Format::Text => Calendar::parse(content).map(|calendar| Kind::ChangeCalendar(Arc::new(calendar))),
            Format::Json if is_command(content) => Ok(Kind::Command),
            Format::Json | Format::Yaml => {
                Document::parse(content, format).map(|document| Kind::Automation(Arc::new(document)))
            }
        };
        let content_of = content_of.map_err(|reason| AwsError::new("InvalidDocumentContent", reason))?;
        Ok(Self { number, content_of, content: content.into(), format, created: now })
    }

    /// The Automation document, if it is one.
    pub(crate) fn document(&self) -> Option<&Arc<Document>> {
        match &self.content_of {
            Kind::Automation(document) => Some(document),
            Kind::ChangeCalendar(_) | Kind::Command => None,
        }
    }

    fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.content.as_bytes()))
    }
}

/// Whether a text is a Command document: of schema 2.2, with steps.
fn is_command(content: &str) -> bool {
    let read: Option<Value> = serde_json::from_str(content).ok();
    read.is_some_and(|read| {
        read["schemaVersion"] == "2.2" && read["mainSteps"].as_array().is_some_and(|steps| !steps.is_empty())
    })
}

#[derive(Debug)]
struct Entry {
    versions: Vec<Version>,
    next: u32,
    default: u32,
    shared_with: BTreeSet<String>,
    tags: Value,
}

impl Entry {
    fn version(&self, wanted: Option<&str>) -> Result<&Version, AwsError> {
        let number = match wanted {
            None | Some("" | "$DEFAULT") => Some(self.default),
            Some("$LATEST") => self.versions.last().map(|version| version.number),
            Some(number) => number.parse().ok(),
        };
        self.versions.iter().find(|version| Some(version.number) == number).ok_or_else(|| {
            AwsError::new("InvalidDocumentVersion", "The document version is not valid or does not exist.")
        })
    }

    fn latest(&self) -> u32 {
        self.versions.last().map_or(0, |version| version.number)
    }
}

/// All documents, by account, Region and name.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: BTreeMap<(Place, String), Entry>,
}

fn unknown(name: &str) -> AwsError {
    AwsError::new("InvalidDocument", format!("Document with name {name} does not exist."))
}

fn checked_name(name: &str) -> Result<&str, AwsError> {
    let well_formed = (3..=128).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let reserved = ["aws", "amazon", "amzn"].iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
    if well_formed && !reserved {
        return Ok(name);
    }
    Err(AwsError::new(
        "ValidationException",
        format!(
            "Document name `{name}` must have 3 to 128 characters of a-z, A-Z, 0-9, _, - and ., and not \
             start with aws, amazon or amzn."
        ),
    ))
}

fn text<'a>(body: &'a Value, field: &str) -> Option<&'a str> {
    body.get(field).and_then(Value::as_str)
}

pub(crate) fn required<'a>(body: &'a Value, field: &str) -> Result<&'a str, AwsError> {
    text(body, field).ok_or_else(|| AwsError::new("ValidationException", format!("{field} is required")))
}

fn format(body: &Value, otherwise: Format) -> Result<Format, AwsError> {
    match text(body, "DocumentFormat") {
        None => Ok(otherwise),
        Some("JSON") => Ok(Format::Json),
        Some("YAML") => Ok(Format::Yaml),
        Some("TEXT") => Ok(Format::Text),
        Some(other) => Err(AwsError::new(
            "ValidationException",
            format!("DocumentFormat `{other}` is none of JSON, YAML and TEXT"),
        )),
    }
}

impl Store {
    fn entry(&self, place: &Place, name: &str) -> Result<&Entry, AwsError> {
        self.entries.get(&(place.clone(), name.to_owned())).ok_or_else(|| unknown(name))
    }

    fn entry_mut(&mut self, place: &Place, name: &str) -> Result<&mut Entry, AwsError> {
        self.entries.get_mut(&(place.clone(), name.to_owned())).ok_or_else(|| unknown(name))
    }

    /// A document by name, or by ARN when its owner shares it.
    fn find(&self, place: &Place, name: &str) -> Result<(Place, &str, &Entry), AwsError> {
        let (owner, short) = owner(place, name);
        let (key, entry) = self
            .entries
            .get_key_value(&(owner.clone(), short.to_owned()))
            .filter(|(_, entry)| {
                owner.account == place.account || entry.shared_with.iter().any(|to| *to == place.account || to == "all")
            })
            .ok_or_else(|| unknown(short))?;
        Ok((owner, &key.1, entry))
    }

    /// The version to run.
    pub(crate) fn runnable(
        &self,
        place: &Place,
        name: &str,
        version: Option<&str>,
    ) -> Result<(String, Version), AwsError> {
        let (_, name, entry) = self.find(place, name)?;
        Ok((name.to_owned(), entry.version(version)?.clone()))
    }

    /// A calendar by name or ARN.
    pub(crate) fn calendar(&self, place: &Place, name: &str) -> Result<Arc<Calendar>, AwsError> {
        let (_, name, entry) = self.find(place, name)?;
        match &entry.version(None)?.content_of {
            Kind::ChangeCalendar(calendar) => Ok(calendar.clone()),
            Kind::Automation(_) | Kind::Command => {
                Err(AwsError::new("InvalidDocumentType", format!("The document {name} is not of type ChangeCalendar.")))
            }
        }
    }

    /// Create a document in several places: read once, kept once.
    pub(crate) fn create_all(
        &mut self,
        places: &[Place],
        name: &str,
        content: &str,
        now: Timestamp,
    ) -> Result<(), AwsError> {
        checked_name(name)?;
        let version = Version::new(1, content, Format::of(content), now)?;
        for place in places {
            let entry = Entry {
                versions: vec![version.clone()],
                next: 2,
                default: 1,
                shared_with: BTreeSet::new(),
                tags: json!([]),
            };
            self.entries.insert((place.clone(), name.to_owned()), entry);
        }
        Ok(())
    }

    /// Create it, or make a new default version of it.
    pub(crate) fn put(&mut self, place: &Place, name: &str, content: &str, now: Timestamp) -> Result<(), AwsError> {
        checked_name(name)?;
        let next = self.entry(place, name).map_or(1, |entry| entry.next);
        let version = Version::new(next, content, Format::of(content), now)?;
        match self.entry_mut(place, name) {
            Ok(entry) => {
                if entry.version(None).is_ok_and(|old| *old.content == *content) {
                    return Ok(());
                }
                entry.versions.push(version);
                (entry.next, entry.default) = (next + 1, next);
            }
            Err(_) => {
                let entry = Entry {
                    versions: vec![version],
                    next: 2,
                    default: 1,
                    shared_with: BTreeSet::new(),
                    tags: json!([]),
                };
                self.entries.insert((place.clone(), name.to_owned()), entry);
            }
        }
        Ok(())
    }

    pub(crate) fn create(&mut self, place: &Place, body: &Value, now: Timestamp) -> Result<Value, AwsError> {
        let name = checked_name(required(body, "Name")?)?;
        let given = text(body, "DocumentType").unwrap_or("Command");
        let format = format(body, Format::Json)?;
        match (given, format) {
            ("Automation", Format::Json | Format::Yaml)
            | ("ChangeCalendar", Format::Text)
            | ("Command", Format::Json) => {}
            ("Automation" | "ChangeCalendar" | "Command", _) => {
                let reason = format!("a document of type {given} is not written as {}", format.as_str());
                return Err(AwsError::new("ValidationException", reason));
            }
            _ => {
                let reason =
                    format!("the lab keeps documents of type Automation, ChangeCalendar and Command, not {given}");
                return Err(AwsError::new("ValidationException", reason));
            }
        }
        if self.entry(place, name).is_ok() {
            return Err(AwsError::new(
                "DocumentAlreadyExists",
                format!("Document with same name {name} already exists"),
            ));
        }
        let version = Version::new(1, required(body, "Content")?, format, now)?;
        if version.content_of.type_name() != given {
            return Err(AwsError::new(
                "InvalidDocumentContent",
                format!("The content is not that of a {given} document."),
            ));
        }
        let tags = body.get("Tags").cloned().unwrap_or_else(|| json!([]));
        let entry = Entry { versions: vec![version], next: 2, default: 1, shared_with: BTreeSet::new(), tags };
        self.entries.insert((place.clone(), name.to_owned()), entry);
        self.describe(place, &json!({"Name": name})).map(|answer| json!({"DocumentDescription": answer["Document"]}))
    }

    /// Refuses a document that is not there, or is no Command document.
    pub(crate) fn is_command(&self, place: &Place, name: &str) -> Result<(), AwsError> {
        let (_, _, entry) = self.find(place, name)?;
        match entry.version(None)?.content_of {
            Kind::Command => Ok(()),
            _ => Err(AwsError::new("InvalidDocument", format!("Document {name} is not of type Command."))),
        }
    }

    pub(crate) fn update(&mut self, place: &Place, body: &Value, now: Timestamp) -> Result<Value, AwsError> {
        let name = required(body, "Name")?;
        let entry = self.entry_mut(place, name)?;
        let latest = entry.version(Some("$LATEST"))?;
        if text(body, "DocumentVersion").is_some_and(|given| given != "$LATEST" && given != latest.number.to_string()) {
            return Err(AwsError::new(
                "InvalidDocumentVersion",
                "Only the latest version of a document can be updated.",
            ));
        }
        let version = Version::new(entry.next, required(body, "Content")?, format(body, latest.format)?, now)?;
        if version.content_of.type_name() != latest.content_of.type_name() {
            return Err(AwsError::new("InvalidDocumentContent", "A document keeps its type."));
        }
        if version.content == latest.content {
            return Err(AwsError::new(
                "DuplicateDocumentContent",
                "The content of the document matches the latest version.",
            ));
        }
        let number = version.number;
        entry.versions.push(version);
        entry.next = number + 1;
        let wanted = json!({"Name": name, "DocumentVersion": number.to_string()});
        self.describe(place, &wanted).map(|answer| json!({"DocumentDescription": answer["Document"]}))
    }

    pub(crate) fn update_default(&mut self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let name = required(body, "Name")?;
        let entry = self.entry_mut(place, name)?;
        entry.default = entry.version(Some(required(body, "DocumentVersion")?))?.number;
        Ok(json!({"Description": {"Name": name, "DefaultVersion": entry.default.to_string()}}))
    }

    pub(crate) fn describe(&self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let (owner, name, entry) = self.find(place, required(body, "Name")?)?;
        let version = entry.version(text(body, "DocumentVersion"))?;
        let document = version.document();
        let parameters: Vec<Value> = document
            .into_iter()
            .flat_map(|document| &document.parameters)
            .map(|(name, spec)| {
                let mut parameter = json!({"Name": name, "Type": spec.type_name, "Description": spec.description});
                if let Some(default) = &spec.default {
                    parameter["DefaultValue"] = Value::from(super::value::text(default));
                }
                parameter
            })
            .collect();
        Ok(json!({"Document": {
            "Name": name,
            "Owner": owner.account,
            "Status": "Active",
            "DocumentType": version.content_of.type_name(),
            "DocumentFormat": version.format.as_str(),
            "SchemaVersion": schema_version(version),
            "Description": document.map_or("", |document| &document.description),
            "DocumentVersion": version.number.to_string(),
            "DefaultVersion": entry.default.to_string(),
            "LatestVersion": entry.latest().to_string(),
            "CreatedDate": epoch(version.created),
            "Hash": version.hash(),
            "HashType": "Sha256",
            "PlatformTypes": ["Windows", "Linux", "MacOS"],
            "Parameters": parameters,
            "Tags": entry.tags,
        }}))
    }

    pub(crate) fn get(&self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let (_, name, entry) = self.find(place, required(body, "Name")?)?;
        let version = entry.version(text(body, "DocumentVersion"))?;
        Ok(json!({
            "Name": name,
            "Status": "Active",
            "DocumentType": version.content_of.type_name(),
            "DocumentFormat": version.format.as_str(),
            "DocumentVersion": version.number.to_string(),
            "CreatedDate": epoch(version.created),
            "Content": *version.content,
        }))
    }

    /// The documents of an account and Region that the filters `Name` (prefix), `DocumentType` and `Owner` let through.
    pub(crate) fn list(&self, place: &Place, body: &Value) -> Vec<Value> {
        let passes = |name: &str, kind: &str| {
            body.get("Filters").and_then(Value::as_array).into_iter().flatten().all(|filter| {
                let values: Vec<&str> =
                    filter["Values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                match filter["Key"].as_str() {
                    Some("Name") => values.iter().any(|value| name.starts_with(value)),
                    Some("DocumentType") => values.contains(&kind),
                    Some("Owner") => values.iter().any(|value| matches!(*value, "Self" | "All")),
                    _ => false,
                }
            })
        };
        self.entries
            .iter()
            .filter(|((at, _), _)| at == place)
            .filter_map(|((_, name), entry)| {
                let version = entry.version(None).ok()?;
                passes(name, version.content_of.type_name()).then(|| {
                    json!({
                        "Name": name,
                        "Owner": place.account,
                        "DocumentType": version.content_of.type_name(),
                        "DocumentFormat": version.format.as_str(),
                        "DocumentVersion": version.number.to_string(),
                        "SchemaVersion": schema_version(version),
                        "CreatedDate": epoch(version.created),
                        "PlatformTypes": ["Windows", "Linux", "MacOS"],
                        "Tags": entry.tags,
                    })
                })
            })
            .collect()
    }

    pub(crate) fn versions(&self, place: &Place, body: &Value) -> Result<Vec<Value>, AwsError> {
        let (_, name, entry) = self.find(place, required(body, "Name")?)?;
        let each = |version: &Version| {
            json!({
                "Name": name,
                "DocumentVersion": version.number.to_string(),
                "CreatedDate": epoch(version.created),
                "IsDefaultVersion": version.number == entry.default,
                "DocumentFormat": version.format.as_str(),
                "Status": "Active",
            })
        };
        Ok(entry.versions.iter().rev().map(each).collect())
    }

    pub(crate) fn delete(&mut self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let name = required(body, "Name")?;
        let entry = self.entry_mut(place, name)?;
        if !entry.shared_with.is_empty() && body.get("Force").and_then(Value::as_bool) != Some(true) {
            return Err(AwsError::new(
                "InvalidDocumentOperation",
                "The document is shared; stop sharing it before you delete it.",
            ));
        }
        match text(body, "DocumentVersion") {
            Some(wanted) => {
                let number = entry.version(Some(wanted))?.number;
                if number == entry.default {
                    return Err(AwsError::new(
                        "InvalidDocumentOperation",
                        "The default version of a document cannot be deleted.",
                    ));
                }
                entry.versions.retain(|version| version.number != number);
            }
            None => {
                self.entries.remove(&(place.clone(), name.to_owned()));
            }
        }
        Ok(json!({}))
    }

    pub(crate) fn share(&mut self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let entry = self.entry_mut(place, required(body, "Name")?)?;
        let ids = |field: &str| -> Vec<String> {
            body.get(field)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_lowercase)
                .collect()
        };
        entry.shared_with.extend(ids("AccountIdsToAdd"));
        for id in ids("AccountIdsToRemove") {
            entry.shared_with.remove(&id);
        }
        Ok(json!({}))
    }

    pub(crate) fn sharing(&self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let entry = self.entry(place, required(body, "Name")?)?;
        let infos: Vec<Value> =
            entry.shared_with.iter().map(|id| json!({"AccountId": id, "SharedDocumentVersion": "$DEFAULT"})).collect();
        Ok(json!({"AccountIds": entry.shared_with, "AccountSharingInfoList": infos}))
    }
}

const fn schema_version(version: &Version) -> &'static str {
    match version.content_of {
        Kind::Automation(_) => "0.3",
        Kind::ChangeCalendar(_) => "1.0",
        Kind::Command => "2.2",
    }
}

/// Who owns the document of that name or ARN, and its short name.
fn owner<'a>(place: &Place, name: &'a str) -> (Place, &'a str) {
    let parts: Vec<&str> = name.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", _, "ssm", region, account, resource] => {
            let short = resource.rsplit_once('/').map_or(*resource, |(_, short)| short);
            (Place { account: (*account).to_owned(), region: (*region).to_owned() }, short)
        }
        _ => (place.clone(), name),
    }
}

/// The ARN of a document: `kind` is `document` or `automation-definition`.
pub(crate) fn document_arn(place: &Place, kind: &str, name: &str, suffix: &str) -> String {
    let (owner, short) = owner(place, name);
    arn(&owner, &format!("{kind}/{short}{suffix}"))
}
