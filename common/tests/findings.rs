//! What every reporter's events become. Fixtures have the shapes of AWS's documentation.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use redress_common::contract::Mode;
use redress_common::finding::{
    Check, CustomAction, Finding, Inbound, MAX_BODY, ParseError, SeverityLabel, Trigger, WorkflowStatus, parse,
};
use serde_json::{Value, json};
use support::{finding, fixture, fixtures, parse_value, refusal, results};

fn line(result: &Result<Finding, ParseError>) -> String {
    match result {
        Ok(f) => format!(
            "{:?} | {} {} {} | {} {} | {:?} {} | {:?} | {:?} | generation {}{}",
            f.check,
            f.resource.kind,
            f.resource.name,
            f.resource.arn,
            f.account,
            f.region,
            f.severity.label,
            f.severity.score,
            f.workflow,
            f.trigger,
            f.generation,
            if f.sample { " | sample" } else { "" }
        ),
        Err(error) => format!("{}: {error}", error.code()),
    }
}

#[test]
fn every_fixture_becomes_what_its_name_says() {
    let read = |body: &[u8]| match parse(body) {
        Ok(Inbound::Findings(results)) => results.iter().map(line).collect(),
        Ok(other) => vec![format!("{other:?}")],
        Err(error) => vec![format!("{}: {error}", error.code())],
    };
    let all: BTreeMap<_, Vec<String>> = fixtures().into_iter().map(|(name, body)| (name, read(&body))).collect();
    insta::assert_yaml_snapshot!(all);
}

#[test]
fn a_guardduty_finding_tells_the_other_sides_address_whoever_brings_it() {
    for name in ["guardduty-instance", "asff-guardduty"] {
        assert_eq!(finding(&fixture(name)).indicators, ["203.0.113.7"], "{name}");
    }
    assert!(finding(&fixture("asff-bucket")).indicators.is_empty());
}

#[test]
fn a_finding_survives_the_way_through_json() {
    for (_, body) in fixtures() {
        let Ok(Inbound::Findings(results)) = parse(&body) else { continue };
        for finding in results.into_iter().flatten() {
            let text = serde_json::to_string(&finding).unwrap();
            assert_eq!(serde_json::from_str::<Finding>(&text).unwrap(), finding);
        }
    }
}

#[test]
fn defect_14_a_suppressed_finding_keeps_its_status_for_policy_to_refuse() {
    assert_eq!(finding(&fixture("asff-suppressed")).workflow, WorkflowStatus::Suppressed);
    assert_eq!(finding(&fixture("ocsf-suppressed")).workflow, WorkflowStatus::Suppressed);
    let mut chosen = fixture("action-remediate");
    chosen["detail"]["findings"][0]["Workflow"]["Status"] = json!("SUPPRESSED");
    assert_eq!(finding(&chosen).workflow, WorkflowStatus::Suppressed, "nor does a custom action lose it");
}

#[test]
fn defect_22_our_own_update_of_a_finding_is_nothing_to_act_on() {
    assert!(matches!(parse_value(&fixture("asff-own-update")), Ok(Inbound::Nothing { .. })));

    let mut later = fixture("asff-own-update");
    later["detail"]["findings"][0]["UpdatedAt"] = json!("2026-03-02T09:15:04.002Z");
    assert_eq!(finding(&later).generation.0, 1_772_442_904_002, "security hub's update after ours is news");

    let mut jittered = fixture("asff-own-update");
    jittered["detail"]["findings"][0]["UpdatedAt"] = json!("2026-03-02T09:15:03.020Z");
    assert!(matches!(parse_value(&jittered), Ok(Inbound::Nothing { .. })), "one update, two clocks");

    let mut other = fixture("asff-own-update");
    other["detail"]["findings"][0]["Note"]["UpdatedBy"] = json!("jo.doe");
    finding(&other);
}

#[test]
fn defect_23_paths_at_signs_partitions_and_opt_in_regions_parse() {
    let user = finding(&fixture("asff-iam-user-path-at"));
    assert_eq!(user.resource.name, "jo.doe@example.com");
    assert_eq!(user.resource.arn.resource(), "user/finance/eu/jo.doe@example.com");
    assert_eq!(finding(&fixture("asff-gov-key")).resource.arn.partition().as_str(), "aws-us-gov");
    assert_eq!(finding(&fixture("asff-china-bucket")).resource.arn.as_str(), "arn:aws-cn:s3:::payroll-exports-cn");
    assert_eq!(finding(&fixture("asff-opt-in-region")).region.as_str(), "ap-southeast-3");
    let built = finding(&fixture("config-gov-security-group")).resource.arn;
    assert_eq!(built.as_str(), "arn:aws-us-gov:ec2:us-gov-west-1:111122223333:security-group/sg-0a1b2c3d4e5f60718");
}

#[test]
fn one_bad_finding_of_twenty_does_not_lose_the_others() {
    let mut event = fixture("action-remediate");
    let good = event["detail"]["findings"][0].clone();
    let mut all = vec![good; 20];
    for (index, finding) in all.iter_mut().enumerate() {
        finding["Id"] = json!(format!("finding-{index}"));
    }
    all[7]["AwsAccountId"] = json!("not an account");
    event["detail"]["findings"] = json!(all);

    let results = results(&event);
    assert_eq!(results.iter().flatten().count(), 19);
    let ParseError::BadField { path, reason } = results[7].as_ref().unwrap_err() else { panic!() };
    assert_eq!(path, "detail.findings[7].AwsAccountId");
    assert_eq!(reason, "`not an account` is not a twelve-digit account id");

    event["detail"]["findings"].as_array_mut().unwrap().push(json!({}));
    assert_eq!(refusal(&event), ParseError::TooManyFindings { count: 21, max: 20 });
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_read() {
    let error = parse(&vec![b'['; MAX_BODY + 1]).unwrap_err();
    assert_eq!(error, ParseError::TooLarge { size: MAX_BODY + 1, max: MAX_BODY });
    assert_eq!(parse(&vec![b'['; MAX_BODY]).unwrap_err().code(), "not-json", "deep nesting ends in an error too");
}

#[test]
fn every_account_an_event_names_is_the_same_account() {
    for (name, change) in [
        ("config-queue-url", "account"),
        ("guardduty-instance", "account"),
        ("redress-undo", "account"),
        ("action-remediate", "account"),
    ] {
        let mut event = fixture(name);
        event[change] = json!("444455556666");
        assert_eq!(refusal(&event).code(), "account-mismatch", "{name}");
    }
    for (name, pointer) in [
        ("asff-gov-key", "/detail/findings/0/AwsAccountId"),
        ("asff-account", "/detail/findings/0/AwsAccountId"),
        ("ocsf-queue", "/detail/findings/0/cloud/account/uid"),
        ("ocsf-suppressed", "/detail/findings/0/resources/0/owner/account/uid"),
        ("redress-remediate", "/detail/AccountId"),
    ] {
        let mut event = fixture(name);
        *event.pointer_mut(pointer).unwrap() = json!("444455556666");
        assert_eq!(refusal(&event).code(), "account-mismatch", "{name}");
    }
    let mut queue = fixture("config-queue-url");
    queue["detail"]["resourceId"] = json!("https://sqs.eu-central-1.amazonaws.com/444455556666/orders");
    assert_eq!(refusal(&queue).code(), "account-mismatch");
    let mut by_arn = fixture("config-queue-url");
    by_arn["detail"]["resourceId"] = json!("arn:aws:sqs:eu-central-1:444455556666:orders");
    assert_eq!(refusal(&by_arn).code(), "account-mismatch");
}

#[test]
fn a_security_hub_finding_may_come_from_the_administrator_account() {
    let event = fixture("asff-bucket");
    assert_ne!(event["account"], event["detail"]["findings"][0]["AwsAccountId"]);
    assert_eq!(finding(&event).account.as_str(), "111122223333");
}

#[test]
fn a_control_is_believed_only_of_the_product_that_checks_it() {
    for name in ["asff-control-of-another-product", "asff-inspector"] {
        assert!(matches!(parse_value(&fixture(name)), Ok(Inbound::Nothing { .. })), "{name}");
    }
    let mut v2 = fixture("ocsf-queue");
    v2["detail"]["findings"][0]["metadata"]["product"]["uid"] =
        json!("arn:aws:securityhub:us-east-2:111122223333:productv2/111122223333/default");
    assert!(matches!(parse_value(&v2), Ok(Inbound::Nothing { .. })));
}

#[test]
fn ids_of_the_old_standards_lead_to_the_control() {
    let mut event = fixture("asff-standard-cis");
    for (generator, control) in [
        ("arn:aws:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0/rule/2.8", "KMS.4"),
        ("arn:aws:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0/rule/4.1", "EC2.13"),
        ("cis-aws-foundations-benchmark/v/1.4.0/2.1.5.2", "S3.8"),
        ("cis-aws-foundations-benchmark/v/1.4.0/2.2.1", "EC2.7"),
        ("pci-dss/v/3.2.1/PCI.EC2.5", "EC2.13"),
        ("nist-800-53/v/5.0.0/S3.8", "S3.8"),
        ("service-managed-aws-control-tower/v/1.0.0/EC2.7", "EC2.7"),
        ("aws-foundational-security-best-practices/v/1.0.0/S3.8", "S3.8"),
        ("security-control/S3.8", "S3.8"),
        ("security-control/Autoscaling.5", "AutoScaling.5"),
    ] {
        event["detail"]["findings"][0]["GeneratorId"] = json!(generator);
        event["detail"]["findings"][0]["ProductFields"] = json!({});
        assert_eq!(finding(&event).check, Check::Control(control.parse().unwrap()), "{generator}");
    }
    for generator in
        ["cis-aws-foundations-benchmark/v/9.9.9/1.9", "cis-aws-foundations-benchmark/v/1.2.0/rule/99.9", "x/v/1/1.9"]
    {
        event["detail"]["findings"][0]["GeneratorId"] = json!(generator);
        assert!(
            matches!(parse_value(&event), Ok(Inbound::Nothing { .. })),
            "{generator} names no control that we know"
        );
    }
}

#[test]
fn an_undo_may_be_chosen_on_a_finding_that_has_passed_since() {
    let chosen = finding(&fixture("action-undo-of-passed"));
    assert_eq!(chosen.trigger, Trigger::CustomAction(CustomAction::Undo));
    assert!(chosen.trigger.is_manual());
}

#[test]
fn guardduty_severity_has_its_four_bands_and_an_attack_sequence_is_always_critical() {
    let mut event = fixture("guardduty-instance");
    for (number, label, score) in [
        (1.0, SeverityLabel::Low, 10),
        (3.9, SeverityLabel::Low, 39),
        (4.0, SeverityLabel::Medium, 40),
        (6.9, SeverityLabel::Medium, 69),
        (7.0, SeverityLabel::High, 70),
        (8.9, SeverityLabel::High, 89),
        (9.0, SeverityLabel::Critical, 90),
        (10.0, SeverityLabel::Critical, 100),
    ] {
        event["detail"]["severity"] = json!(number);
        let severity = finding(&event).severity;
        assert_eq!((severity.label, severity.score), (label, score), "{number}");
    }
    for wrong in [json!(10.1), json!(-1), json!("8")] {
        event["detail"]["severity"] = wrong;
        assert_eq!(refusal(&event).code(), "bad-field");
    }
    assert_eq!(finding(&fixture("guardduty-attack-sequence")).severity.label, SeverityLabel::Critical);
}

/// CloudTrail's kinds of identities, with the keys that they have. A session of a user is the user's, also where its key is
/// a temporary one.
#[test]
fn the_principal_behind_an_access_key_is_told_by_its_kind() {
    let mut event = fixture("guardduty-access-key-user");
    for (kind, key, name, wanted) in [
        ("IAMUser", "AKIAIOSFODNN7EXAMPLE", "ann", "AWS::IAM::User ann arn:aws:iam::111122223333:user/ann"),
        ("IAMUser", "ASIAIOSFODNN7EXAMPLE", "ann", "AWS::IAM::User ann arn:aws:iam::111122223333:user/ann"),
        (
            "AssumedRole",
            "ASIAIOSFODNN7EXAMPLE",
            "deploy",
            "AWS::IAM::Role deploy arn:aws:iam::111122223333:role/deploy",
        ),
        ("Role", "ASIAIOSFODNN7EXAMPLE", "deploy", "AWS::IAM::Role deploy arn:aws:iam::111122223333:role/deploy"),
        (
            "FederatedUser",
            "ASIAIOSFODNN7EXAMPLE",
            "bob",
            "AWS::STS::FederatedUser bob arn:aws:sts::111122223333:federated-user/bob",
        ),
        ("Root", "AKIAIOSFODNN7EXAMPLE", "Root", "AWS::::Account 111122223333 arn:aws:iam::111122223333:root"),
        ("AWSAccount", "", "", "AWS::::Account 111122223333 arn:aws:iam::111122223333:root"),
        ("AWSService", "", "", "AWS::::Account 111122223333 arn:aws:iam::111122223333:root"),
    ] {
        event["detail"]["resource"]["accessKeyDetails"] = json!({
            "accessKeyId": key, "principalId": "AIDACKCEVSQ6C2EXAMPLE", "userType": kind, "userName": name,
        });
        let found = finding(&event).resource;
        assert_eq!(format!("{} {} {}", found.kind, found.name, found.arn), wanted, "{kind}");
        let never = ["FederatedUser", "Root", "AWSAccount", "AWSService"].contains(&kind);
        assert_eq!(redress_common::containable::refusal(&found.arn).is_some(), never, "{kind}");
    }
    event["detail"]["resource"]["accessKeyDetails"]["userType"] = json!("WebIdentityUser");
    assert_eq!(refusal(&event).code(), "unsupported-resource");
}

/// Who calls the Kubernetes API with a name is contained alone.
#[test]
fn a_finding_of_a_clusters_api_is_of_the_principal_that_it_names() {
    let cluster = "arn:aws:eks:eu-central-1:111122223333:cluster/prod";
    let entry = |principal: &str| cluster.replace("cluster/prod", &format!("access-entry/prod/{principal}"));
    let key =
        |kind: &str, name: &str| json!({ "userType": kind, "userName": name, "accessKeyId": "ASIAIOSFODNN7EXAMPLE" });
    let mut event = fixture("guardduty-instance");
    let (tor, anonymous) = ("Impact:Kubernetes/TorIPCaller", "Impact:Kubernetes/SuccessfulAnonymousAccess");
    let (session, foreign) = ("arn:aws:sts::111122223333:assumed-role/deploy/jo", "arn:aws:iam::999999999999:user/eve");
    for (found, key, username, wanted) in [
        (tor, key("Role", "deploy"), "admin", entry("role/111122223333/deploy")),
        (tor, key("AssumedRole", "deploy"), "admin", entry("role/111122223333/deploy")),
        (tor, key("IAMUser", "jo"), "admin", entry("user/111122223333/jo")),
        (tor, json!(null), session, entry("role/111122223333/deploy")),
        (tor, key("AWSAccount", ""), foreign, entry("user/999999999999/eve")),
        (tor, key("Root", "root"), "admin", cluster.to_owned()),
        (tor, key("FederatedUser", "jo"), "admin", cluster.to_owned()),
        (tor, key("Role", "a b"), "admin", cluster.to_owned()),
        (tor, json!(7), "system:serviceaccount:shop:web", cluster.to_owned()),
        (tor, json!(null), "arn:aws:iam::111122223333:group/ops", cluster.to_owned()),
        (anonymous, key("Role", "deploy"), session, cluster.to_owned()),
    ] {
        event["detail"]["type"] = json!(found);
        event["detail"]["resource"] = json!({
            "resourceType": "EKSCluster", "eksClusterDetails": { "arn": cluster, "name": "prod" },
            "accessKeyDetails": key, "kubernetesDetails": { "kubernetesUserDetails": { "username": username } },
        });
        let resource = finding(&event).resource;
        let kind = if wanted == cluster { "AWS::EKS::Cluster" } else { "AWS::EKS::AccessEntry" };
        assert_eq!(
            (resource.kind.as_str(), resource.arn.as_str()),
            (kind, wanted.as_str()),
            "{found} {key} {username}"
        );
    }
    event["detail"]["type"] = json!(tor);
    event["detail"]["resource"]["accessKeyDetails"] = key("Role", "deploy");
    event["detail"]["resource"]["eksClusterDetails"]["arn"] = json!(cluster.replace("111122223333", "999999999999"));
    assert_eq!(refusal(&event).code(), "account-mismatch");
}

/// What a process does is a pod's doing, when GuardDuty names one; who calls the API is no pod's.
#[test]
fn a_finding_of_a_clusters_runtime_is_of_the_pod_that_it_names() {
    let cluster = "arn:aws:eks:eu-central-1:111122223333:cluster/prod";
    let pod = "arn:aws:eks:eu-central-1:111122223333:pod/prod/shop/web-1";
    let mut event = fixture("guardduty-instance");
    for (found, workload, kind, arn) in [
        (
            "Backdoor:Runtime/C&CActivity.B",
            json!({ "type": "pods", "namespace": "shop", "name": "web-1" }),
            "Kubernetes::Pod",
            pod,
        ),
        (
            "Backdoor:Runtime/C&CActivity.B",
            json!({ "type": "Pod", "namespace": "shop", "name": "web-1" }),
            "Kubernetes::Pod",
            pod,
        ),
        (
            "Backdoor:Runtime/C&CActivity.B",
            json!({ "type": "deployments", "namespace": "shop", "name": "web" }),
            "AWS::EKS::Cluster",
            cluster,
        ),
        (
            "Backdoor:Runtime/C&CActivity.B",
            json!({ "type": "pods", "namespace": "../shop", "name": "web-1" }),
            "AWS::EKS::Cluster",
            cluster,
        ),
        (
            "Execution:Kubernetes/MaliciousFile",
            json!({ "type": "pods", "namespace": "shop", "name": "web-1" }),
            "Kubernetes::Pod",
            pod,
        ),
        ("Backdoor:Runtime/C&CActivity.B", json!(null), "AWS::EKS::Cluster", cluster),
        (
            "Discovery:Kubernetes/TorIPCaller",
            json!({ "type": "pods", "namespace": "shop", "name": "web-1" }),
            "AWS::EKS::Cluster",
            cluster,
        ),
    ] {
        event["detail"]["type"] = json!(found);
        event["detail"]["resource"] = json!({
            "resourceType": "EKSCluster", "eksClusterDetails": { "arn": cluster, "name": "prod" },
            "kubernetesDetails": { "kubernetesWorkloadDetails": workload },
        });
        let resource = finding(&event).resource;
        assert_eq!((resource.kind.as_str(), resource.arn.as_str()), (kind, arn), "{found} {workload}");
    }
    event["detail"]["type"] = json!("Backdoor:Runtime/C&CActivity.B");
    event["detail"]["resource"]["eksClusterDetails"]["arn"] = json!(cluster.replace("111122223333", "999999999999"));
    let workload = json!({ "type": "pods", "namespace": "shop", "name": "web-1" });
    event["detail"]["resource"]["kubernetesDetails"]["kubernetesWorkloadDetails"] = workload;
    assert_eq!(refusal(&event).code(), "account-mismatch", "a pod is of its cluster's account");
}

/// GuardDuty's samples name what does not exist, some of it by what is no ARN.
#[test]
fn a_sample_is_of_what_it_names_in_its_own_account_and_marked_as_one() {
    let mut event = fixture("guardduty-sample");
    let here = "111122223333";
    for (resource, wanted) in [
        (
            json!({ "resourceType": "EKSCluster", "eksClusterDetails": { "name": "GeneratedFindingEKSClusterName", "arn": "GeneratedFindingEKSClusterArn" } }),
            format!("AWS::EKS::Cluster arn:aws:eks:eu-central-1:{here}:cluster/GeneratedFindingEKSClusterName"),
        ),
        (
            json!({ "resourceType": "Lambda", "lambdaDetails": { "functionName": "made-up", "functionArn": "arn:aws:lambda:us-west-2:999988887777:function:made-up" } }),
            format!("AWS::Lambda::Function arn:aws:lambda:eu-central-1:{here}:function:made-up"),
        ),
        (
            json!({ "resourceType": "RDSDBInstance", "rdsDbInstanceDetails": { "dbInstanceIdentifier": "made-up", "dbInstanceArn": "none" } }),
            format!("AWS::RDS::DBInstance arn:aws:rds:eu-central-1:{here}:db:made-up"),
        ),
        (
            json!({ "resourceType": "S3Bucket", "s3BucketDetails": [{ "name": "GeneratedFindingS3Bucket", "arn": "none" }] }),
            "AWS::S3::Bucket arn:aws:s3:::GeneratedFindingS3Bucket".to_owned(),
        ),
        (json!({ "resourceType": "Container" }), format!("AWS::::Account arn:aws:iam::{here}:root")),
        (json!({ "resourceType": "Lambda" }), format!("AWS::::Account arn:aws:iam::{here}:root")),
    ] {
        event["detail"]["resource"] = resource.clone();
        let found = finding(&event);
        assert_eq!(format!("{} {}", found.resource.kind, found.resource.arn), wanted);
        assert!(found.sample);
        let mut real = event.clone();
        real["detail"]["service"]["additionalInfo"] = json!({ "value": "{}", "type": "default" });
        assert!(
            results(&real)[0].as_ref().map_or(true, |real| !real.sample),
            "what is real is not made up: {resource}"
        );
    }
}

#[test]
fn the_parts_of_a_sampled_sequence_are_samples_too() {
    let mut event = fixture("guardduty-attack-sequence");
    event["detail"]["service"]["additionalInfo"] = json!({ "value": "{\"sample\":true}", "type": "default" });
    event["detail"]["service"]["detection"]["sequence"]["resources"] =
        json!([{ "uid": "arn:aws:ec2:eu-central-1:111122223333:instance/i-99999999" }]);
    let all: Vec<Finding> = results(&event).into_iter().map(Result::unwrap).collect();
    assert_eq!(all.iter().map(|one| one.sample).collect::<Vec<_>>(), [true, true]);
}

#[test]
fn a_sample_that_security_hub_passes_on_is_one() {
    let event = fixture("asff-guardduty");
    assert!(!finding(&event).sample);
    let with = |pointer: &str, name: &str, value: Value| {
        let mut changed = event.clone();
        changed.pointer_mut(pointer).unwrap()[name] = value;
        finding(&changed).sample
    };
    let (whole, fields) = ("/detail/findings/0", "/detail/findings/0/ProductFields");
    assert!(with(whole, "Sample", json!(true)) && !with(whole, "Sample", json!(false)));
    assert!(with(fields, "aws/guardduty/service/additionalInfo/sample", json!("true")));
    assert!(!with(whole, "Title", json!("[SAMPLE] says whoever named the resource")), "a title says nothing");
}

#[test]
fn a_finding_of_a_version_of_a_function_is_of_the_function() {
    let mut event = fixture("guardduty-instance");
    for (given, wanted) in [("resize", "resize"), ("resize:7", "resize"), ("resize:$LATEST", "resize")] {
        let arn = format!("arn:aws:lambda:eu-central-1:111122223333:function:{given}");
        event["detail"]["resource"] = json!({ "resourceType": "Lambda", "lambdaDetails": { "functionArn": arn } });
        let found = finding(&event).resource;
        assert_eq!((found.kind.as_str(), found.name.as_str()), ("AWS::Lambda::Function", wanted), "{given}");
        assert!(found.arn.as_str().ends_with(":function:resize"), "{}", found.arn);
    }
}

#[test]
fn ocsf_severities_have_security_hubs_labels() {
    use SeverityLabel::{Critical, High, Informational, Low, Medium};
    let mut event = fixture("ocsf-queue");
    for (id, label) in [
        (0, Informational),
        (1, Informational),
        (2, Low),
        (3, Medium),
        (4, High),
        (5, Critical),
        (6, Critical),
        (99, Informational),
    ] {
        event["detail"]["findings"][0]["severity_id"] = json!(id);
        assert_eq!(finding(&event).severity.label, label, "{id}");
    }
}

#[test]
fn ocsf_without_a_written_time_is_dated_by_its_unix_time() {
    let mut event = fixture("ocsf-queue");
    let written = finding(&event).generation;
    event["detail"]["findings"][0]["finding_info"].as_object_mut().unwrap().shift_remove("modified_time_dt");
    assert_eq!(finding(&event).generation, written);
}

#[test]
fn a_config_finding_is_as_old_as_its_evaluation_and_not_as_its_event() {
    let mut event = fixture("config-bucket");
    let evaluated = finding(&event);
    assert_eq!(evaluated.generation.0, 1_772_442_902_917);
    event["time"] = json!("2026-03-02T10:00:00Z");
    event["id"] = json!("redelivered");
    assert_eq!(finding(&event).generation, evaluated.generation);
    assert_eq!(finding(&event).id, evaluated.id);

    event["detail"]["newEvaluationResult"].as_object_mut().unwrap().shift_remove("resultRecordedTime");
    assert_eq!(finding(&event).generation.0, 1_772_445_600_000, "the event's time is the next best");
}

#[test]
fn config_ids_become_arns_or_a_refusal_and_never_a_guess() {
    let arn = |kind: &str, id: &str| {
        let mut event = fixture("config-bucket");
        event["detail"]["resourceType"] = json!(kind);
        event["detail"]["resourceId"] = json!(id);
        results(&event).remove(0).map(|f| f.resource.arn.to_string()).map_err(|e| e.code())
    };
    let regional = |service: &str, rest: &str| Ok(format!("arn:aws:{service}:eu-central-1:111122223333:{rest}"));
    assert_eq!(arn("AWS::S3::Bucket", "a.b-c"), Ok("arn:aws:s3:::a.b-c".to_owned()));
    assert_eq!(arn("AWS::IAM::User", "jo@x"), Ok("arn:aws:iam::111122223333:user/jo@x".to_owned()));
    assert_eq!(arn("AWS::EC2::NetworkAcl", "acl-1"), regional("ec2", "network-acl/acl-1"));
    assert_eq!(arn("AWS::RDS::DBInstance", "orders"), regional("rds", "db:orders"));
    assert_eq!(arn("AWS::RDS::DBSnapshot", "rds:orders-2026"), regional("rds", "snapshot:rds:orders-2026"));
    assert_eq!(arn("AWS::Logs::LogGroup", "/aws/lambda/x"), regional("logs", "log-group:/aws/lambda/x"));
    assert_eq!(arn("AWS::SNS::Topic", "arn:aws:sns:eu-central-1:111122223333:t"), regional("sns", "t"));
    assert_eq!(arn("AWS::::Account", "111122223333"), Ok("arn:aws:iam::111122223333:root".to_owned()));
    assert_eq!(arn("AWS::::Account", "444455556666"), Err("account-mismatch"));

    for (kind, id) in [
        ("AWS::Nobody::Knows", "x"),
        ("AWS::S3::Bucket", "bucket/key"),
        ("AWS::S3::Bucket", "*"),
        ("AWS::EC2::SecurityGroup", "sg-1/../sg-2"),
        ("AWS::KMS::Key", "a:b"),
        ("AWS::IAM::Role", "AROAY66XCSFB4WL7AHL3V"),
        ("AWS::RDS::DBInstance", "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ("AWS::SecretsManager::Secret", "db-password"),
        ("AWS::SQS::Queue", "https://sqs.eu-central-1.amazonaws.com/orders"),
        ("AWS::::Account", "me"),
    ] {
        assert_eq!(arn(kind, id), Err("unsupported-resource"), "{kind} {id}");
    }
}

#[test]
fn an_operators_finding_is_bound_and_carries_who_asked() {
    let inner = finding(&fixture("asff-bucket"));
    let mut event = fixture("redress-remediate");
    let by = event["detail"]["RequestedBy"].as_str().unwrap().to_owned();
    event["detail"] = json!({"Finding": inner, "Mode": "Apply", "RequestedBy": by});
    let asked = finding(&event);
    assert_eq!(asked.trigger, Trigger::Operator { by, mode: Mode::Apply, reason: String::new() });
    assert_eq!((asked.id, asked.check, asked.generation), (inner.id.clone(), inner.check.clone(), inner.generation));

    event["detail"].as_object_mut().unwrap().shift_remove("Mode");
    assert!(matches!(finding(&event).trigger, Trigger::Operator { mode: Mode::DryRun, .. }), "no mode changes nothing");

    event["detail"]["Finding"]["resource"]["arn"] = json!("arn:aws:kms:eu-central-1:444455556666:key/k");
    assert_eq!(refusal(&event).code(), "account-mismatch");
    event["detail"]["Finding"]["account"] = json!("x");
    assert_eq!(refusal(&event).code(), "bad-field");
}

#[test]
fn an_undo_asks_to_restore_or_to_see_what_would_be_restored() {
    let mode = |mode: Option<&str>| {
        let mut event = fixture("redress-undo");
        if let Some(mode) = mode {
            event["detail"]["Mode"] = json!(mode);
        }
        match parse_value(&event) {
            Ok(Inbound::Undo { mode, request, .. }) => Ok((mode, request)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code()),
        }
    };
    let event_id = "7bf73129-1428-4cd3-a780-95db273d1602".to_owned();
    assert_eq!(mode(None), Ok((Mode::Restore, event_id.clone())));
    assert_eq!(mode(Some("DryRun")), Ok((Mode::DryRun, event_id)));
    assert_eq!(mode(Some("Apply")), Err("bad-field"));
    assert_eq!(mode(Some("Explode")), Err("bad-field"));
}

#[test]
fn whatever_required_field_is_missing_the_error_names_it() {
    for pointer in [
        "/source",
        "/detail-type",
        "/account",
        "/region",
        "/time",
        "/id",
        "/detail",
        "/detail/findings",
        "/detail/findings/0/Id",
        "/detail/findings/0/ProductArn",
        "/detail/findings/0/AwsAccountId",
        "/detail/findings/0/UpdatedAt",
        "/detail/findings/0/Severity",
        "/detail/findings/0/Title",
        "/detail/findings/0/Resources",
        "/detail/findings/0/Resources/0/Id",
        "/detail/findings/0/Resources/0/Type",
    ] {
        for replacement in [Value::Null, json!(17), json!({})] {
            let mut event = fixture("asff-bucket");
            *event.pointer_mut(pointer).unwrap() = replacement.clone();
            // An object where a title is expected holds no prose; that is an empty title, and no reason to refuse.
            if pointer.ends_with("Title") && !replacement.is_null() {
                continue;
            }
            let path = pointer[1..].replace("/0", "[0]").replace('/', ".");
            let error = refusal(&event);
            let (ParseError::Missing { path: named } | ParseError::BadField { path: named, .. }) = &error else {
                panic!("{pointer}: {error}");
            };
            assert!(named.starts_with(&path), "{named} for {path}");
            assert!(!replacement.is_null() || matches!(error, ParseError::Missing { .. }), "{error}");
        }
    }
}

#[test]
fn hostile_text_reaches_no_error_message_whole() {
    let long = "\u{202e}x\u{1b}[2J".repeat(300);
    for (name, pointer) in [
        ("unknown-source", "/source"),
        ("asff-bucket", "/detail/findings/0/AwsAccountId"),
        ("asff-bucket", "/detail/findings/0/Resources/0/Id"),
        ("config-bucket", "/detail/resourceType"),
        ("config-bucket", "/detail/resourceId"),
        ("guardduty-container", "/detail/resource/resourceType"),
        ("redress-undo", "/detail/RemediationId"),
    ] {
        let clean: String = long.chars().filter(|c| !c.is_control()).collect();
        for text in [&long, &clean] {
            let mut event = fixture(name);
            *event.pointer_mut(pointer).unwrap() = json!(text);
            let message = refusal(&event).to_string();
            assert!(message.len() < 600, "{} bytes: {message}", message.len());
            assert!(!message.contains(['\u{1b}', '\u{202e}']), "{message:?}");
        }
    }
    let mut event = fixture("asff-bucket");
    event["detail"]["findings"][0]["Title"] = json!(format!("{}\n\u{1b}[2J", "t".repeat(250)));
    let title = finding(&event).title;
    assert!(title.chars().count() <= Finding::MAX_TITLE && !title.chars().any(char::is_control));
}

/// Any JSON, of the field names that the parsers look for.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("detail"),
        Just("findings"),
        Just("Resources"),
        Just("Id"),
        Just("Type"),
        Just("AwsAccountId"),
        Just("account"),
        Just("time"),
        Just("region"),
        Just("id"),
        Just("compliance"),
        Just("resource"),
        Just("service"),
        Just("Finding"),
        Just("severity"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!("111122223333")),
        Just(json!("eu-central-1")),
        Just(json!("arn:aws:s3:::b")),
        Just(json!("2026-03-02T09:15:04Z")),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// The paths of all values in a JSON.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(k, v)| pointers(v, &format!("{at}/{}", k.replace('~', "~0").replace('/', "~1")), all)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| pointers(v, &format!("{at}/{i}"), all)),
        _ => {}
    }
}

/// What holds of every finding, whatever it was made of.
fn check_invariants(body: &[u8]) {
    let Ok(Inbound::Findings(results)) = parse(body) else { return };
    for result in results {
        match result {
            Ok(finding) => {
                assert!(finding.resource.arn.account().is_none_or(|account| *account == finding.account));
                assert!(finding.resource.arn.region().is_none_or(|region| *region == finding.region));
                assert!(finding.severity.score <= 100 && !finding.id.is_empty());
                assert!(finding.title.chars().count() <= Finding::MAX_TITLE);
                assert!(finding.actors.len() <= 8 && !finding.actors.contains(&finding.resource.arn));
                assert!(finding.actors.iter().all(|actor| actor.account() == Some(&finding.account)));
                assert!(
                    finding.actors.iter().all(|actor| actor.as_str().len() <= 700 && !actor.as_str().contains(' '))
                );
            }
            Err(error) => assert!(error.to_string().len() < 3000 && !error.code().is_empty()),
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_value_or_an_error(body in prop::collection::vec(any::<u8>(), 0..2000)) {
        check_invariants(&body);
    }

    #[test]
    fn any_json_in_any_envelope_gives_a_value_or_an_error(which in 0..6_usize, detail in any_json()) {
        let name = ["config-bucket", "asff-bucket", "action-remediate", "ocsf-queue", "guardduty-instance", "redress-remediate"][which];
        let mut event = fixture(name);
        event["detail"] = detail;
        check_invariants(event.to_string().as_bytes());
    }

    #[test]
    fn a_fixture_with_any_field_replaced_gives_a_value_or_an_error(which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), value in any_json()) {
        let all = fixtures();
        let (_, body) = which.get(&all);
        let mut event: Value = serde_json::from_slice(body).unwrap();
        let mut places = Vec::new();
        pointers(&event, "", &mut places);
        *event.pointer_mut(place.get::<String>(&places)).unwrap() = value;
        check_invariants(event.to_string().as_bytes());
    }

    #[test]
    fn a_cut_or_flipped_fixture_gives_a_value_or_an_error(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let all = fixtures();
        let mut body = which.get(&all).1.clone();
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = byte }
        check_invariants(&body);
    }
}

#[test]
fn a_finding_that_was_put_aside_comes_back_as_it_was() {
    let (account, region) = ("999988887777".parse().unwrap(), "eu-central-1".parse().unwrap());
    for name in ["asff-bucket", "config-bucket", "guardduty-bucket", "ocsf-account"] {
        let finding = support::finding(&fixture(name));
        for campaign in [None, Some("old-buckets")] {
            let body = redress_common::finding::released(&account, &region, &finding, campaign, finding.event_time);
            let Ok(Inbound::Released { finding: back, campaign: of }) = parse(body.as_bytes()) else {
                panic!("{body}")
            };
            assert_eq!((*back, of.as_deref()), (finding.clone(), campaign), "{name}");
        }
    }
}

#[test]
fn what_a_person_asked_for_cannot_come_back_as_a_rules_finding() {
    let (account, region) = ("999988887777".parse().unwrap(), "eu-central-1".parse().unwrap());
    let asked = support::finding(&fixture("action-remediate"));
    let body = redress_common::finding::released(&account, &region, &asked, Some("c"), asked.event_time);
    assert_eq!(parse(body.as_bytes()).unwrap_err().code(), "bad-field");
}

#[test]
fn a_finding_is_as_old_as_its_reporter_says_and_never_of_the_future() {
    for (name, first_seen) in [
        ("asff-bucket", "2026-02-11T07:04:58.112Z"),
        ("ocsf-account", "2026-03-02T09:14:47.883Z"),
        ("guardduty-instance", "2026-03-02T08:55:04.121Z"),
    ] {
        assert_eq!(support::finding(&fixture(name)).first_seen, first_seen.parse().unwrap(), "{name}");
    }
    let mut hostile = fixture("asff-bucket");
    hostile["detail"]["findings"][0]["FirstObservedAt"] = serde_json::json!("2999-01-01T00:00:00Z");
    let finding = support::finding(&hostile);
    assert_eq!(finding.first_seen, finding.event_time);
}
