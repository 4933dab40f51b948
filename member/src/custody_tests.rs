#![allow(clippy::unwrap_used)]

use std::time::Duration;

use redress_common::contract::{Call, Change, ContainRequest, Image, Job, Outcome};
use redress_common::custody::{OBJECTS, key};
use redress_common::ledger::sha256_hex;
use serde_json::json;

use super::*;
use crate::native::{Clients, Native, NativeError};
use crate::remediate;
use crate::testing::{FakeAws, here, job, request, undo_of};

const BUCKET: &str = "arn:aws:s3:::leaks";
const SECRET: &str = "merger-with-acme.pdf";

/// Something of which a snapshot and a list are taken, or cannot be.
struct Taken {
    refused: bool,
    done: std::sync::atomic::AtomicBool,
}

impl Taken {
    fn new(refused: bool) -> Self {
        Self { refused, done: false.into() }
    }
}

#[async_trait::async_trait]
impl Native for Taken {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let done = self.done.load(std::sync::atomic::Ordering::Relaxed);
        Ok(Some(Image { present: true, state: json!({ "Done": done }) }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let call = Call { service: "test".to_owned(), operation: "Set".to_owned(), parameters: json!({}) };
        Ok(Change(if now.state["Done"] == true { Vec::new() } else { vec![call] }))
    }

    fn plan_restore(&self, now: &Image, _before: &Image) -> Result<Change, NativeError> {
        self.plan(&Image { state: json!({ "Done": now.state["Done"] == false }), ..now.clone() })
    }

    async fn call(&self, _call: &Call) -> Result<(), NativeError> {
        self.done.fetch_xor(true, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    async fn acquired(&self) -> Vec<Item> {
        vec![item(ItemKind::EbsSnapshot, "snap-1", "vol-1, before isolation")]
    }

    async fn document(&self) -> Result<Option<Document>, NativeError> {
        if self.refused {
            return Err(NativeError::NotNow("ListObjectVersions: AccessDenied".to_owned()));
        }
        let content = json!({ "Versions": [{ "Key": SECRET }] });
        let lacks = vec!["GetBucketAcl: AccessDenied".to_owned()];
        Ok(Some(Document {
            name: OBJECTS,
            kind: ItemKind::ObjectListing,
            detail: "1 versions".to_owned(),
            content,
            lacks,
        }))
    }
}

async fn contained(aws: &FakeAws, job: &Job, native: &Taken) -> (Stored, String) {
    let keeper = aws.keeper();
    let told = remediate::run(native, job, None, &keeper, &here(), &[Duration::ZERO]).await.unwrap();
    (keeper.read_own(&job.evidence_key).await.unwrap(), told.error)
}

#[tokio::test]
async fn what_was_taken_is_in_the_document_with_the_hashes_of_what_lies_there() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    let (stored, error) = contained(&aws, &job, &Taken::new(false)).await;
    assert_eq!(error, "GetBucketAcl: AccessDenied", "what could not be read is told");
    write(&aws.keeper(), &here(), &stored).await.unwrap();

    let id = job.remediation_id;
    let text = aws.object(&key(id, CUSTODY)).unwrap();
    let custody: Custody = serde_json::from_slice(&text).unwrap();
    let evidence = aws.object(&job.evidence_key).unwrap();
    assert_eq!(custody.evidence.sha256, sha256_hex(&evidence));
    assert_eq!((custody.evidence.bucket.as_str(), &custody.evidence.key), ("bucket", &job.evidence_key));
    assert_eq!((custody.outcome, custody.mode), (Outcome::Verified, Mode::Apply));
    assert_eq!(custody.executed_by, here().function);
    assert!(custody.began <= custody.ended);
    let kinds: Vec<ItemKind> = custody.items.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, [ItemKind::EbsSnapshot, ItemKind::ObjectListing]);
    let listing = aws.object(&key(id, OBJECTS)).unwrap();
    assert_eq!((&custody.items[1].id, &custody.items[1].sha256), (&key(id, OBJECTS), &sha256_hex(&listing)));

    // In the clear it is for whoever may decrypt, and nobody else.
    assert!(!aws.everything().contains(SECRET));
    let opened = aws.store().open_document(id, OBJECTS, &listing).await.unwrap().unwrap();
    assert_eq!(opened["Versions"][0]["Key"], SECRET);
    let other = undo_of(&job).remediation_id;
    assert!(aws.store().open_document(other, OBJECTS, &listing).await.is_err(), "another one's does not open");
    assert_eq!(aws.store().open_document(id, CUSTODY, &text).await.unwrap(), None);
}

#[tokio::test]
async fn each_object_of_an_incident_is_created_once_and_locked_from_its_first_moment() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    let (stored, _) = contained(&aws, &job, &Taken::new(false)).await;
    write(&aws.keeper(), &here(), &stored).await.unwrap();
    let first = aws.object(&key(job.remediation_id, CUSTODY)).unwrap();
    // The same again, by another version of the function.
    write(&aws.keeper(), &Place { function: "another".to_owned(), ..here() }, &stored).await.unwrap();
    assert_eq!(aws.object(&key(job.remediation_id, CUSTODY)).unwrap(), first);

    let (mut locked, year) = (0, 365 * 24 * 60 * 60);
    for put in aws.seen().iter().filter(|seen| seen.name == "PUT") {
        let header = |name: &str| put.headers.get(name).map(String::as_str);
        let is_of_incident = put.path.contains("/incidents/");
        assert_eq!(header("x-amz-object-lock-mode"), is_of_incident.then_some("GOVERNANCE"), "{}", put.path);
        let Some(until) = header("x-amz-object-lock-retain-until-date") else { continue };
        let left = until.parse::<Timestamp>().unwrap().as_second() - Timestamp::now().as_second();
        assert!((year - 60..=year).contains(&left), "{until}");
        assert_eq!(header("if-none-match"), Some("*"));
        assert!(header("x-amz-checksum-sha256").is_some(), "S3 takes no lock without a checksum");
        locked += 1;
    }
    assert_eq!(locked, 3, "the list, the document, and the document again");
}

#[tokio::test]
async fn what_cannot_be_listed_is_told_and_the_containment_stands() {
    let (aws, job) = (FakeAws::default(), job(BUCKET));
    let (stored, error) = contained(&aws, &job, &Taken::new(true)).await;
    assert_eq!(stored.evidence.result.as_ref().unwrap().outcome, Outcome::Verified);
    assert_eq!(error, "ListObjectVersions: AccessDenied");
    write(&aws.keeper(), &here(), &stored).await.unwrap();
    let custody: Custody = serde_json::from_slice(&aws.object(&key(job.remediation_id, CUSTODY)).unwrap()).unwrap();
    assert_eq!(custody.items.len(), 1);
}

#[tokio::test]
async fn of_a_plan_and_by_who_keeps_nothing_there_is_no_document() {
    let (aws, mut job) = (FakeAws::default(), job(BUCKET));
    job.mode = Mode::DryRun;
    let (stored, _) = contained(&aws, &job, &Taken::new(false)).await;
    write(&aws.keeper(), &here(), &stored).await.unwrap();
    assert_eq!(aws.object(&key(job.remediation_id, CUSTODY)), None);

    let (aws, job) = (FakeAws::default(), crate::testing::job(BUCKET));
    let (stored, _) = contained(&aws, &job, &Taken::new(false)).await;
    write(&aws.writer(), &here(), &stored).await.unwrap();
    assert_eq!(aws.object(&key(job.remediation_id, CUSTODY)), None);
}

#[tokio::test]
async fn a_document_that_could_not_be_stored_is_told_and_stored_when_it_is_asked_for_again() {
    let aws = FakeAws::default();
    let arn = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1";
    let request = request("contain_ec2_instance", arn, json!({ "RevokeSessions": "Instance" }));
    let id = request.job.remediation_id;
    let asked = ContainRequest { request, recall: false };
    let clients = Clients::new(&aws.config());
    let gone = "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>none</Message></Error></Errors></Response>";
    let contain = async |keeper: EvidenceWriter| {
        aws.answer("DescribeInstances", 400, gone);
        remediate::contain(&clients, &keeper, &here(), asked.clone()).await.unwrap()
    };
    assert_eq!(contain(aws.writer()).await.error, "");
    aws.answer("PUT", 412, "<Error><Code>PreconditionFailed</Code></Error>");
    aws.answer("PUT", 403, "<Error><Code>AccessDenied</Code></Error>");
    let told = contain(aws.keeper()).await;
    assert_eq!(told.outcome, Some(Outcome::NotFound));
    assert!(told.error.starts_with("the custody document is missing: ") && told.error.contains("AccessDenied"));
    assert_eq!(aws.object(&key(id, CUSTODY)), None);

    assert_eq!(contain(aws.keeper()).await.error, "");
    assert!(aws.object(&key(id, CUSTODY)).is_some());
}
