//! The documents that Redress ships, run as they are: every path from a dry run to an undo.

use std::path::Path;

use super::*;

const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ssm-documents/documents");
const ID: &str = "6f1e0b7c-1111-5222-8333-444455556666";
const SOURCE: &str = "year=2026/month=02/day=02/remediation-7a1e0b7c-1111-5222-8333-444455556666.json";

fn block(on: bool) -> Value {
    json!({"BlockPublicAcls": on, "IgnorePublicAcls": on, "BlockPublicPolicy": on, "RestrictPublicBuckets": on})
}

/// A bucket's public access block, and what its world does to it.
#[derive(Clone, Default)]
struct Bucket {
    block: Arc<Mutex<Option<Value>>>,
    /// Reading it fails with this instead.
    unreadable: Option<AwsError>,
    /// Changing it fails with this.
    unchangeable: Option<AwsError>,
    /// Calls that never answer.
    hangs: Vec<&'static str>,
    /// Changes are accepted and lost.
    forgets: bool,
    /// What the recorder answers to `Load`.
    load: Value,
}

impl Bucket {
    fn with(block: Option<Value>) -> Self {
        let load = json!({"Decision": "Proceed", "Present": false, "State": {}, "ChangeSha256": ""});
        Self { block: Arc::new(Mutex::new(block)), load, ..Self::default() }
    }

    /// A lab with the shipped documents and this bucket.
    fn lab(&self) -> Lab {
        with(self.fake(), &["Redress-Control", "Redress-S3.8"])
    }

    fn fake(&self) -> Fake {
        let (read, put, delete) = (self.clone(), self.clone(), self.clone());
        let (load, finished) = (self.load.clone(), Arc::new(Mutex::new(json!("Started"))));
        let outcome = finished.clone();
        let fake = Fake::default()
            .on("s3:GetPublicAccessBlock", move |_, parameters| {
                assert_eq!(parameters, &json!({"Bucket": "photos", "ExpectedBucketOwner": ACCOUNT}));
                match (&read.unreadable, locked(&read.block).clone()) {
                    (Some(error), _) => Err(error.clone()),
                    (None, Some(block)) => Ok(json!({"PublicAccessBlockConfiguration": block})),
                    (None, None) => Err(absent()),
                }
            })
            .on("s3:PutPublicAccessBlock", move |_, parameters| {
                if let Some(error) = &put.unchangeable {
                    return Err(error.clone());
                }
                if !put.forgets {
                    *locked(&put.block) = Some(parameters["PublicAccessBlockConfiguration"].clone());
                }
                Ok(json!({}))
            })
            .on("s3:DeletePublicAccessBlock", move |_, _| {
                *locked(&delete.block) = None;
                Ok(json!({}))
            })
            .on("s3:HeadObject", move |_, _| {
                let metadata = json!({"outcome": *locked(&outcome), "pre-image-sha256": "aa", "change-sha256": "bb", "post-image-sha256": "cc", "error": "none"});
                Ok(json!({"VersionId": "v2", "Metadata": metadata}))
            })
            .on("lambda:Invoke", move |_, parameters| {
                let payload: Value = serde_json::from_str(parameters["Payload"].as_str().unwrap()).unwrap();
                let answer = match payload["Verb"].as_str().unwrap() {
                    "Load" => load.clone(),
                    verb => {
                        if verb == "Finish" {
                            *locked(&finished) = payload["Outcome"].clone();
                        }
                        json!({"Decision": "Proceed", "Present": false, "State": {}, "ChangeSha256": "bb"})
                    }
                };
                Ok(json!({"StatusCode": 200, "Payload": answer.to_string()}))
            });
        Fake { hangs: self.hangs.clone(), ..fake }
    }
}

/// A lab with some of the shipped documents.
fn with(fake: Fake, names: &[&str]) -> Lab {
    let lab = Lab::with(fake, Options { time_scale: 0.001, ..Options::default() });
    for name in names {
        let content = std::fs::read_to_string(Path::new(DOCUMENTS).join(format!("{name}.json"))).unwrap();
        // A minute is too long for a test.
        let content = content.replace("\"timeoutSeconds\": 60", "\"timeoutSeconds\": 1");
        lab.ssm.put_document(ACCOUNT, REGION, name, &content).unwrap();
    }
    lab
}

async fn control(lab: &Lab, mode: &str) -> Execution {
    control_of(lab, "S3.8", mode).await
}

async fn control_of(lab: &Lab, control: &str, mode: &str) -> Execution {
    let parameters = json!({
        "AutomationAssumeRole": [format!("arn:aws:iam::{ACCOUNT}:role/Redress-Control")],
        "RemediationAssumeRole": [format!("arn:aws:iam::{ACCOUNT}:role/Redress-Remediate-S3")],
        "RemediationId": [ID],
        "Control": [control],
        "ResourceArn": ["arn:aws:s3:::photos"],
        "ResourceName": ["photos"],
        "Mode": [mode],
        "Fence": ["1"],
        "EvidenceKey": [format!("year=2026/month=02/day=03/remediation-{ID}.json")],
        "SourceEvidenceKey": [if mode == "Restore" { SOURCE } else { "none" }],
        "EvidenceBucket": [format!("security-remediation-logs-{ACCOUNT}-{REGION}")],
    });
    lab.run("Redress-Control", parameters).await
}

fn outcome(execution: &Execution) -> &str {
    &execution.outputs["LogResults.Outcome"][0]
}

/// Calls that change the bucket.
fn changes(lab: &Lab) -> Vec<String> {
    lab.aws
        .operations()
        .into_iter()
        .filter(|operation| operation.starts_with("s3:Put") || operation.starts_with("s3:Delete"))
        .collect()
}

/// What the recorder was told, verb by verb.
fn told(lab: &Lab) -> Vec<Value> {
    let calls = locked(&lab.aws.calls);
    let invocations = calls.iter().filter(|call| call.operation == "lambda:Invoke");
    invocations.map(|call| serde_json::from_str(call.parameters["Payload"].as_str().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn every_shipped_document_can_be_run() {
    let ssm = Ssm::default();
    let mut seen = 0;
    for entry in std::fs::read_dir(DOCUMENTS).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        ssm.put_document(ACCOUNT, REGION, &name, &std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        seen += 1;
    }
    assert!(seen >= 14, "only {seen} documents");
}

/// No bucket of AWS's can be without a default since January 2023, nor one of the emulators': S3.4 on answers as S3 gave
/// them before, from bad to fixed to undone, and on a default that is stronger.
#[tokio::test]
async fn s3_4_on_recorded_shapes_sets_a_default_undoes_it_and_leaves_a_stronger_one() {
    let rules = |algorithm: &str| json!({"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}, "BucketKeyEnabled": false}]});
    let run = async |before: Option<Value>, mode: &str| {
        let held = Arc::new(Mutex::new(before));
        let (read, put, delete) = (held.clone(), held.clone(), held.clone());
        let none = || {
            AwsError::new(
                "ServerSideEncryptionConfigurationNotFoundError",
                "The server side encryption configuration was not found",
            )
        };
        let fake = Bucket::with(None)
            .fake()
            .on("s3:GetBucketEncryption", move |_, parameters| {
                assert_eq!(parameters, &json!({"Bucket": "photos", "ExpectedBucketOwner": ACCOUNT}));
                locked(&read).clone().map(|held| json!({"ServerSideEncryptionConfiguration": held})).ok_or_else(none)
            })
            .on("s3:PutBucketEncryption", move |_, parameters| {
                *locked(&put) = Some(parameters["ServerSideEncryptionConfiguration"].clone());
                Ok(json!({}))
            })
            .on("s3:DeleteBucketEncryption", move |_, _| {
                *locked(&delete) = None;
                Ok(json!({}))
            });
        let lab = with(fake, &["Redress-Control", "Redress-S3.4"]);
        let done = control_of(&lab, "S3.4", mode).await;
        let said = outcome(&done).to_owned();
        let after = locked(&held).clone();
        (said, after, changes(&lab))
    };
    let set = json!({"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]});
    let (said, after, changed) = run(None, "DryRun").await;
    assert_eq!((said.as_str(), after, changed.len()), ("Planned", None, 0));
    let (said, after, changed) = run(None, "Apply").await;
    assert_eq!(
        (said.as_str(), after, changed),
        ("Verified", Some(set.clone()), vec!["s3:PutBucketEncryption".to_owned()])
    );
    let (said, after, changed) = run(Some(set), "Restore").await;
    assert_eq!((said.as_str(), after, changed), ("Restored", None, vec!["s3:DeleteBucketEncryption".to_owned()]));
    for algorithm in ["AES256", "aws:kms", "aws:kms:dsse"] {
        let (said, after, changed) = run(Some(rules(algorithm)), "Apply").await;
        assert_eq!(
            (said.as_str(), after, changed.len()),
            ("AlreadyCompliant", Some(rules(algorithm)), 0),
            "{algorithm}"
        );
    }
}

#[tokio::test]
async fn a_dry_run_states_the_change_and_makes_none() {
    let bucket = Bucket::with(Some(block(false)));
    let lab = bucket.lab();
    let done = control(&lab, "DryRun").await;
    assert_eq!((done.status, outcome(&done)), (Status::Success, "Planned"), "{done:#?}");
    assert!(changes(&lab).is_empty());
    let told = told(&lab);
    assert_eq!(
        (&told[0]["Verb"], &told[0]["Present"], &told[0]["State"]),
        (&json!("Prepare"), &json!(true), &block(false))
    );
    assert_eq!(told[0]["Change"][0]["Parameters"]["PublicAccessBlockConfiguration"], block(true));
}

#[tokio::test]
async fn an_absent_setting_is_recorded_as_absent_then_set_and_verified() {
    let bucket = Bucket::with(None);
    let lab = bucket.lab();
    let done = control(&lab, "Apply").await;
    assert_eq!((done.status, outcome(&done)), (Status::Success, "Verified"), "{done:#?}");
    assert_eq!(*locked(&bucket.block), Some(block(true)));
    let told = told(&lab);
    assert_eq!((&told[0]["Present"], &told[0]["State"]), (&json!(false), &json!({})));
    assert_eq!((&told[1]["Outcome"], &told[1]["State"]), (&json!("Verified"), &block(true)));
    let operations = lab.aws.operations();
    let first = |operation: &str| operations.iter().position(|o| o == operation).unwrap();
    assert!(first("lambda:Invoke") < first("s3:PutPublicAccessBlock"), "the pre-image is stored before the change");
    assert_eq!(done.outputs["LogResults.PostImageSha256"], ["cc"]);
}

#[tokio::test]
async fn defect_05_a_compliant_bucket_is_already_compliant_and_no_error() {
    let lab = Bucket::with(Some(block(true))).lab();
    let done = control(&lab, "Apply").await;
    assert_eq!((done.status, outcome(&done)), (Status::Success, "AlreadyCompliant"), "{done:#?}");
    assert!(changes(&lab).is_empty());
}

#[tokio::test]
async fn another_error_than_absent_fails_and_changes_nothing() {
    let denied = AwsError::new("AccessDenied", "Access Denied");
    let lab = Bucket { unreadable: Some(denied), ..Bucket::with(None) }.lab();
    let done = control(&lab, "Apply").await;
    assert_eq!(done.status, Status::Failed, "{done:#?}");
    assert!(changes(&lab).is_empty() && told(&lab).is_empty());
    assert!(done.failure_message.is_some_and(|message| message.contains("AccessDenied")));
}

#[tokio::test]
async fn a_change_that_does_not_stay_is_unverified() {
    let lab = Bucket { forgets: true, ..Bucket::with(Some(block(false))) }.lab();
    let done = control(&lab, "Apply").await;
    assert_eq!(outcome(&done), "Unverified", "{done:#?}");
    assert_eq!(changes(&lab), ["s3:PutPublicAccessBlock"]);
}

#[tokio::test]
async fn a_refused_change_is_failed_with_its_reason_in_the_evidence() {
    let denied = AwsError::new("AccessDenied", "explicit deny");
    let lab = Bucket { unchangeable: Some(denied), ..Bucket::with(Some(block(false))) }.lab();
    let done = control(&lab, "Apply").await;
    assert_eq!((done.status, outcome(&done)), (Status::Failed, "Failed"), "{done:#?}");
    assert!(told(&lab).last().unwrap()["Error"].as_str().unwrap().contains("explicit deny"));
}

#[tokio::test]
async fn a_change_that_never_answers_is_recorded_as_failed() {
    let lab = Bucket { hangs: vec!["s3:PutPublicAccessBlock"], ..Bucket::with(Some(block(false))) }.lab();
    let done = control(&lab, "Apply").await;
    assert_eq!(outcome(&done), "Failed", "{done:#?}");
    assert!(told(&lab).last().unwrap()["Error"].as_str().unwrap().contains("timed out"));
}

#[tokio::test]
async fn a_restore_of_nothing_deletes_what_was_set() {
    let bucket = Bucket::with(Some(block(true)));
    let lab = bucket.lab();
    let done = control(&lab, "Restore").await;
    assert_eq!((done.status, outcome(&done)), (Status::Success, "Restored"), "{done:#?}");
    assert_eq!((locked(&bucket.block).clone(), changes(&lab)), (None, vec!["s3:DeletePublicAccessBlock".to_owned()]));
}

#[tokio::test]
async fn a_restore_puts_the_pre_image_back_as_it_was() {
    let before = json!({"BlockPublicAcls": true, "IgnorePublicAcls": false, "BlockPublicPolicy": false, "RestrictPublicBuckets": true});
    let load = json!({"Decision": "Proceed", "Present": true, "State": before, "ChangeSha256": ""});
    let bucket = Bucket { load, ..Bucket::with(Some(block(true))) };
    let lab = bucket.lab();
    let done = control(&lab, "Restore").await;
    assert_eq!((done.status, outcome(&done)), (Status::Success, "Restored"), "{done:#?}");
    assert_eq!(locked(&bucket.block).clone(), Some(before));
}

#[tokio::test]
async fn a_restore_of_a_drifted_bucket_changes_nothing() {
    let load = json!({"Decision": "Drifted", "Present": false, "State": {}, "ChangeSha256": ""});
    let lab = Bucket { load, ..Bucket::with(Some(block(false))) }.lab();
    let done = control(&lab, "Restore").await;
    assert_eq!((done.status, outcome(&done)), (Status::Success, "Drifted"), "{done:#?}");
    assert!(changes(&lab).is_empty());
}

#[tokio::test]
async fn nothing_runs_when_the_controls_document_is_missing() {
    let lab = Bucket::with(None).lab();
    lab.ask("DeleteDocument", json!({"Name": "Redress-S3.8"})).await.unwrap();
    let done = control(&lab, "Apply").await;
    assert_eq!((done.status, lab.aws.operations()), (Status::Failed, vec!["ssm:DescribeDocument".to_owned()]));
}
