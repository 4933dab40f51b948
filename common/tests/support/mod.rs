//! What the tests of findings share.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "test support")]

use std::path::PathBuf;

use redress_common::finding::{Finding, Inbound, ParseError, parse};
use serde_json::Value;

/// Every fixture, by name, in order.
pub(crate) fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}

/// A fixture as JSON, to be changed.
pub(crate) fn fixture(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub(crate) fn parse_value(event: &Value) -> Result<Inbound, ParseError> {
    parse(event.to_string().as_bytes())
}

/// The results of an event that must hold findings.
pub(crate) fn results(event: &Value) -> Vec<Result<Finding, ParseError>> {
    match parse_value(event) {
        Ok(Inbound::Findings(results)) => results,
        other => panic!("expected findings, got {other:?}"),
    }
}

/// The one finding of an event that must hold just that.
pub(crate) fn finding(event: &Value) -> Finding {
    let [result] = <[_; 1]>::try_from(results(event)).unwrap();
    result.unwrap()
}

/// Why one event is refused, be it the envelope or its one finding.
pub(crate) fn refusal(event: &Value) -> ParseError {
    match parse_value(event) {
        Err(error) => error,
        Ok(Inbound::Findings(results)) => match <[_; 1]>::try_from(results).unwrap() {
            [Err(error)] => error,
            [Ok(finding)] => panic!("expected a refusal, got {finding:?}"),
        },
        Ok(other) => panic!("expected a refusal, got {other:?}"),
    }
}
