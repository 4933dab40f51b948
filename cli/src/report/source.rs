//! Where records come from: the ledger of the administrator account, or files. Each is handed on as it is read.
//!
//! Files may be what `redress audit … --json` prints, one record a line, or a DynamoDB export in DynamoDB JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use jiff::Timestamp;
use redress_common::ids::AccountId;
use redress_common::ledger::{Head, Record};
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::chain::Chains;
use crate::ledger::Ledger;
use crate::output::Output;
use crate::problem::Problem;

/// Progress is told after so many records.
const PROGRESS: u64 = 10_000;

/// Counts what is read, and tells how far it is.
pub(crate) struct Progress {
    output: Output,
    read: u64,
}

impl Progress {
    pub(crate) const fn new(output: Output) -> Self {
        Self { output, read: 0 }
    }

    pub(crate) fn one_more(&mut self) {
        self.read += 1;
        if self.read.is_multiple_of(PROGRESS) {
            self.output.progress(&format!("{} records read", super::table::grouped(self.read)));
        }
    }
}

/// The heads of the chains that were seen. A chain that moved while it was read is read again from where it may lack something.
pub(crate) async fn heads(
    ledger: &Ledger,
    chains: &mut Chains,
    begun: Timestamp,
) -> Result<BTreeMap<AccountId, Head>, Problem> {
    // Writers' clocks differ a little, and a scan takes its time.
    const SLACK_MS: i64 = 10 * 60 * 1000;
    let mut heads = BTreeMap::new();
    let ends: Vec<(AccountId, u64)> = chains.ends().map(|(origin, last)| (origin.clone(), last)).collect();
    for (origin, last) in ends {
        let head = ledger.head(&origin).await?;
        if head.seq > last || chains.has_gap(&origin) {
            let since = begun.as_millisecond().saturating_sub(SLACK_MS);
            ledger
                .each(Some(&origin), Some(since), &mut |record| {
                    if record.origin == origin && record.seq <= head.seq {
                        chains.add(&record);
                    }
                })
                .await?;
        }
        heads.insert(origin, head);
    }
    Ok(heads)
}

/// The records of a file.
pub(crate) fn file(path: &Path, each: &mut dyn FnMut(Record)) -> Result<(), Problem> {
    let shown = path.display().to_string();
    let failed = |error: &dyn std::error::Error| Problem::aws(&format!("read records from {shown}"), error);
    let read: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(|error| failed(&error))?)
    };
    records(read, each).map_err(|error| {
        failed(&error).help("a file has records as `redress audit list --json` or `redress audit show --json` prints them, one a line, or a DynamoDB export in DynamoDB JSON (unpacked: gunzip -c … | redress report --from-file -)")
    })
}

/// Why a file is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("not JSON, or no record")]
    Json(#[from] serde_json::Error),
    #[error("value {nth} is no record of the ledger")]
    Record {
        nth: u64,
        #[source]
        error: serde_json::Error,
    },
}

/// Every record of a stream of JSON values: records, arrays of records, or objects that hold one or an array of them.
fn records(read: impl Read, each: &mut dyn FnMut(Record)) -> Result<(), FileError> {
    let mut read = BufReader::new(read);
    let mut nth = 0;
    let mut wrong = None;
    let mut one = |value: Value| {
        nth += 1;
        match record(value) {
            Ok(read) => read.into_iter().for_each(&mut *each),
            Err(error) => {
                wrong.get_or_insert(FileError::Record { nth, error });
            }
        }
    };
    if first_byte(&mut read)? == Some(b'[') {
        serde_json::Deserializer::from_reader(read).deserialize_seq(EachOf(&mut one))?;
    } else {
        for value in serde_json::Deserializer::from_reader(read).into_iter::<Value>() {
            one(value?);
        }
    }
    wrong.map_or(Ok(()), Err)
}

/// The first byte that is no white space; it stays to be read.
fn first_byte(read: &mut impl BufRead) -> Result<Option<u8>, std::io::Error> {
    loop {
        let buffer = read.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        match buffer.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(at) => {
                let byte = buffer.get(at).copied();
                read.consume(at);
                return Ok(byte);
            }
            None => {
                let all = buffer.len();
                read.consume(all);
            }
        }
    }
}

/// An array whose values are handed on one by one.
struct EachOf<'a, F>(&'a mut F);

impl<'de, F: FnMut(Value)> Visitor<'de> for EachOf<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            (self.0)(value);
        }
        Ok(())
    }
}

/// The records in a value.
fn record(value: Value) -> Result<Vec<Record>, serde_json::Error> {
    match value {
        Value::Object(mut object) if object.contains_key("Records") => {
            serde_json::from_value(object.remove("Records").unwrap_or_default())
        }
        Value::Object(mut object) if object.contains_key("Item") => {
            let item = object.remove("Item").unwrap_or_default();
            let Value::Object(item) = item else { return serde_json::from_value(item).map(|record| vec![record]) };
            let plain: Map<String, Value> = item.into_iter().map(|(name, value)| (name, plain(value))).collect();
            serde_json::from_value(Value::Object(plain)).map(|record| vec![record])
        }
        value => serde_json::from_value(value).map(|record| vec![record]),
    }
}

/// A value of DynamoDB JSON, such as `{"N":"1"}`, as JSON.
fn plain(value: Value) -> Value {
    let Value::Object(object) = value else { return value };
    let Some((kind, value)) = object.into_iter().next() else { return Value::Null };
    match (kind.as_str(), value) {
        ("N", Value::String(number)) => serde_json::from_str(&number).unwrap_or(Value::String(number)),
        ("M", Value::Object(map)) => Value::Object(map.into_iter().map(|(name, value)| (name, plain(value))).collect()),
        ("L", Value::Array(list)) => list.into_iter().map(plain).collect(),
        ("NULL", _) => Value::Null,
        (_, value) => value,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::demo;
    use super::*;

    fn read(text: &str) -> Result<Vec<Record>, FileError> {
        let mut all = Vec::new();
        records(text.as_bytes(), &mut |record| all.push(record))?;
        Ok(all)
    }

    /// As DynamoDB writes it.
    fn typed(value: &Value) -> Value {
        match value {
            Value::String(text) => serde_json::json!({ "S": text }),
            Value::Number(number) => serde_json::json!({ "N": number.to_string() }),
            Value::Bool(is) => serde_json::json!({ "BOOL": is }),
            Value::Object(map) => {
                let map: Map<String, Value> = map.iter().map(|(name, value)| (name.clone(), typed(value))).collect();
                serde_json::json!({ "M": map })
            }
            other => other.clone(),
        }
    }

    #[test]
    fn records_are_read_in_every_form_in_which_they_leave_the_ledger() {
        let records = demo::chain_of(4);
        let array = serde_json::to_string_pretty(&records).unwrap();
        let lines: String = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
        let shown = serde_json::json!({ "RemediationId": "x", "Records": records, "Timeline": {} }).to_string();
        let export: String = records
            .iter()
            .map(|record| {
                let item = typed(&serde_json::to_value(record).unwrap());
                serde_json::json!({ "Item": item["M"] }).to_string() + "\n"
            })
            .collect();
        for text in [array, format!("\n  {lines}"), shown, export] {
            assert_eq!(read(&text).unwrap(), records);
        }
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_record_is_named_by_its_place() {
        let good = serde_json::to_string(&demo::chain_of(1)[0]).unwrap();
        let error = read(&format!("{good}\n{{\"a\":1}}\n")).unwrap_err();
        assert_eq!(error.to_string(), "value 2 is no record of the ledger");
        assert!(matches!(read("[1,"), Err(FileError::Json(_))));
    }
}
