//! ARNs of every service that a control of the plan touches, in every partition, and what identifiers refuse.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use redress_common::arn::{Arn, ArnError, Partition};
use redress_common::ids::{AccountId, ClaimKey, ControlId, Generation, Region, RemediationId};

/// The service prefixes in the column `apis` of the plan of controls, and one ARN of a resource each.
/// `P` is the partition, `R` a Region of it and `A` the account. Prefixes of one service share its ARN form.
const SERVICES: &[(&[&str], &str)] = &[
    (&["account", "sts", "tag"], "arn:P:iam::A:root"),
    (&["acm"], "arn:P:acm:R:A:certificate/8e1a2b3c-4d5e-4f60-8a9b-0c1d2e3f4a5b"),
    (&["apigateway"], "arn:P:apigateway:R::/restapis/a1b2c3d4e5/stages/prod"),
    (&["apigatewayv2"], "arn:P:apigateway:R::/apis/a1b2c3d4e5/stages/$default"),
    (&["application-autoscaling"], "arn:P:application-autoscaling:R:A:scalable-target/0ec51234567890abcdef"),
    (&["athena"], "arn:P:athena:R:A:workgroup/primary"),
    (
        &["autoscaling"],
        "arn:P:autoscaling:R:A:autoScalingGroup:8e1a2b3c-4d5e-4f60-8a9b-0c1d2e3f4a5b:autoScalingGroupName/web",
    ),
    (&["cloudformation"], "arn:P:cloudformation:R:A:stack/network/8e1a2b3c-4d5e-11ee-8a9b-0c1d2e3f4a5b"),
    (&["cloudfront"], "arn:P:cloudfront::A:distribution/E1ABCDEF2GHIJK"),
    (&["cloudtrail"], "arn:P:cloudtrail:R:A:trail/organization"),
    (&["cloudwatch"], "arn:P:cloudwatch:R:A:alarm:Root user: sign-in"),
    (&["codebuild"], "arn:P:codebuild:R:A:project/release"),
    (&["config"], "arn:P:config:R:A:config-rule/config-rule-9rpvxc"),
    (&["dynamodb"], "arn:P:dynamodb:R:A:table/Orders.2026_eu"),
    (&["ec2"], "arn:P:ec2:R:A:security-group/sg-0a1b2c3d4e5f60718"),
    (&["ecr"], "arn:P:ecr:R:A:repository/team/app"),
    (&["ecs"], "arn:P:ecs:R:A:task-definition/web:42"),
    (&["eks"], "arn:P:eks:R:A:cluster/prod"),
    (&["elasticache"], "arn:P:elasticache:R:A:replicationgroup:sessions"),
    (&["elb"], "arn:P:elasticloadbalancing:R:A:loadbalancer/classic"),
    (&["elbv2"], "arn:P:elasticloadbalancing:R:A:loadbalancer/app/web/50dc6c495c0c9188"),
    (&["guardduty"], "arn:P:guardduty:R:A:detector/12abc34d567e8fa901bc2d34e56789f0/filter/low"),
    (&["iam"], "arn:P:iam::A:user/finance/eu/jo.doe+x=y,z_1@example.com"),
    (&["kinesis"], "arn:P:kinesis:R:A:stream/clicks"),
    (&["kms"], "arn:P:kms:R:A:key/mrk-8e1a2b3c4d5e4f608a9b0c1d2e3f4a5b"),
    (&["lambda"], "arn:P:lambda:R:A:function:nightly-report:live"),
    (&["logs"], "arn:P:logs:R:A:log-group:/aws/lambda/nightly-report:*"),
    (&["macie2"], "arn:P:macie2:R:A:classification-job/3ce05dbb7ec5505def334104bf347788"),
    (&["rds"], "arn:P:rds:R:A:snapshot:rds:orders-2026-03-02-04-15"),
    (&["redshift"], "arn:P:redshift:R:A:cluster:warehouse"),
    (&["s3"], "arn:P:s3:::payroll.exports-eu"),
    (&["s3control"], "arn:P:s3:R:A:accesspoint/reports"),
    (&["secretsmanager"], "arn:P:secretsmanager:R:A:secret:prod/db@main-AbCdEf"),
    (&["sns"], "arn:P:sns:R:A:alerts.fifo"),
    (&["sqs"], "arn:P:sqs:R:A:orders.fifo"),
    (&["ssm"], "arn:P:ssm:R:A:document/Redress-S3.8"),
    (&["states"], "arn:P:states:R:A:stateMachine:Approval"),
];

/// The prefixes of the plan, as of the day this was written: a control of another service adds a row above.
const PLANNED: &str = "account acm apigateway apigatewayv2 application-autoscaling athena autoscaling cloudformation \
    cloudfront cloudtrail cloudwatch codebuild config dynamodb ec2 ecr ecs eks elasticache elb elbv2 guardduty iam kinesis \
    kms lambda logs macie2 rds redshift s3 s3control secretsmanager sns sqs ssm states sts tag";

const PARTITIONS: [(Partition, &str); 4] = [
    (Partition::Aws, "eu-central-1"),
    (Partition::Aws, "ap-southeast-3"),
    (Partition::UsGov, "us-gov-west-1"),
    (Partition::China, "cn-northwest-1"),
];

fn arn(text: &str) -> Arn {
    text.parse().unwrap()
}

#[test]
fn defect_23_arns_of_every_planned_service_parse_in_every_partition() {
    let covered: BTreeSet<_> = SERVICES.iter().flat_map(|(prefixes, _)| prefixes.iter().copied()).collect();
    assert_eq!(covered, PLANNED.split_whitespace().collect());
    for (partition, region) in PARTITIONS {
        for (_, template) in SERVICES {
            let fill = |part: &str| match part {
                "P" => partition.as_str().to_owned(),
                "R" => region.to_owned(),
                "A" => "111122223333".to_owned(),
                other => other.to_owned(),
            };
            let parts: Vec<_> = template.splitn(6, ':').map(fill).collect();
            let text = parts.join(":");
            let arn = arn(&text);
            assert_eq!(arn.as_str(), text);
            assert_eq!(arn.partition(), partition);
            assert_eq!(arn.service(), parts[2]);
            assert_eq!(arn.region().map_or("", Region::as_str), parts[3]);
            assert_eq!(arn.account().map_or("", AccountId::as_str), parts[4]);
            assert_eq!(arn.resource(), parts[5]);
            assert_eq!(serde_json::from_str::<Arn>(&serde_json::to_string(&arn).unwrap()).unwrap(), arn);
        }
    }
}

#[test]
fn a_region_tells_its_partition_and_a_foreign_one_is_no_region() {
    for (partition, region) in PARTITIONS {
        assert_eq!(Partition::of_region(&region.parse().unwrap()), partition);
        assert_eq!(Partition::of_region(&partition.global_region().parse().unwrap()), partition);
    }
    for foreign in ["us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1", "eusc-de-east-1"] {
        assert!(foreign.parse::<Region>().is_err(), "{foreign}");
    }
}

#[test]
fn what_is_not_an_arn_is_refused_with_the_reason() {
    let error = |text: &str| text.parse::<Arn>().unwrap_err();
    for text in [
        "",
        "arn",
        "arn:aws:s3",
        "arn:aws:s3::",
        "arn:aws:s3:::",
        "ARN:aws:s3:::b",
        " arn:aws:s3:::b",
        "arn:aws::::b",
        "arn:aws:S3:::b",
        "arn:aws:s3:::b\n",
        "arn:aws:s3:::\u{0}b",
        "payroll-exports",
    ] {
        assert!(matches!(error(text), ArnError::Malformed { .. }), "{text:?}");
    }
    assert!(matches!(error("arn:aws-iso:s3:::b"), ArnError::UnknownPartition { .. }));
    assert!(matches!(error("arn:aws-eusc:s3:::b"), ArnError::UnknownPartition { .. }));
    assert!(matches!(error("arn:aws:sqs:here:111122223333:q"), ArnError::Part { .. }));
    assert!(matches!(error("arn:aws:sqs:eu-central-1:11112222333:q"), ArnError::Part { .. }));
    let long = format!("arn:aws:s3:::{}", "b".repeat(Arn::MAX_LENGTH));
    assert_eq!(error(&long), ArnError::TooLong { length: long.len() });
}

#[test]
fn a_root_made_is_a_root_parsed() {
    for partition in [Partition::Aws, Partition::UsGov, Partition::China] {
        let made = Arn::account_root(partition, &"111122223333".parse().unwrap());
        assert_eq!(made, arn(made.as_str()));
        assert_eq!((made.service(), made.resource()), ("iam", "root"));
    }
}

#[test]
fn an_arn_of_an_aws_owned_resource_names_no_customers_account() {
    assert_eq!(arn("arn:aws:iam::aws:policy/AdministratorAccess").account(), None);
}

#[test]
fn a_pattern_captures_the_name_or_does_not_match() {
    for (text, pattern, captured) in [
        ("arn:aws:s3:::payroll", "arn:*:s3:::{}", Some("payroll")),
        ("arn:aws-cn:s3:::payroll", "arn:*:s3:::{}", Some("payroll")),
        ("arn:aws:s3:eu-central-1:111122223333:accesspoint/x", "arn:*:s3:::{}", None),
        ("arn:aws:ec2:eu-central-1:111122223333:security-group/sg-1", "arn:*:ec2:*:*:security-group/{}", Some("sg-1")),
        ("arn:aws:ec2:eu-central-1:111122223333:instance/i-1", "arn:*:ec2:*:*:security-group/{}", None),
        ("arn:aws:iam::111122223333:user/finance/eu/jo@x.org", "arn:*:iam::*:user/{path}", Some("jo@x.org")),
        ("arn:aws:iam::111122223333:user/jo@x.org", "arn:*:iam::*:user/{path}", Some("jo@x.org")),
        ("arn:aws:iam::111122223333:user/finance/", "arn:*:iam::*:user/{path}", None),
        ("arn:aws:rds:eu-central-1:111122223333:snapshot:rds:a-1", "arn:*:rds:*:*:snapshot:{}", Some("rds:a-1")),
        ("arn:aws:logs:eu-central-1:111122223333:log-group:/a/b:*", "arn:*:logs:*:*:log-group:{}:*", Some("/a/b")),
        ("arn:aws:iam::111122223333:root", "arn:*:iam::*:{}", Some("root")),
        ("arn:aws:s3:::payroll", "arn:*:s3", None),
        ("arn:aws:s3:::payroll", "arn:*:s3:::payroll", None),
    ] {
        assert_eq!(arn(text).capture(pattern), captured, "{text} {pattern}");
    }
}

#[test]
fn identifiers_refuse_what_is_not_one() {
    for account in ["", "11112222333", "1111222233334", "11112222333a", "１１１１２２２２３３３３", " 11112222333"]
    {
        assert!(account.parse::<AccountId>().is_err(), "{account}");
    }
    for region in ["", "eu", "eu-central", "eu-central-", "EU-central-1", "eu--1", "eu-central-1a", "global"] {
        assert!(region.parse::<Region>().is_err(), "{region}");
    }
    for region in ["us-east-1", "us-gov-west-1", "cn-north-1", "ap-southeast-3", "il-central-1", "mx-central-1"] {
        assert!(region.parse::<Region>().is_ok(), "{region}");
    }
    for control in ["", "S3", "S3.", ".8", "S3.8.1", "3S.8", "S3.8 ", "S3-8", "1.9"] {
        assert!(control.parse::<ControlId>().is_err(), "{control}");
    }
    for control in ["S3.8", "EC2.182", "Tag.Required", "APIGateway.1"] {
        assert_eq!(control.parse::<ControlId>().unwrap().family(), control.split('.').next().unwrap());
    }
    assert!("{".parse::<RemediationId>().is_err());
}

#[test]
fn an_error_about_an_identifier_shows_neither_all_of_it_nor_what_steers_a_terminal() {
    let message = "\u{1b}[31m\u{202e}".repeat(100).parse::<AccountId>().unwrap_err().to_string();
    assert!(message.chars().count() < 130, "{message:?}");
    assert!(!message.contains(['\u{1b}', '\u{202e}']), "{message:?}");
}

#[test]
fn the_same_claim_and_generation_have_the_same_remediation_and_nothing_else_has() {
    let key = |account: &str, region: &str, control: &str, resource: &str| {
        ClaimKey::new(&account.parse().unwrap(), &region.parse().unwrap(), &control.parse().unwrap(), &arn(resource))
    };
    let one = key("111122223333", "eu-central-1", "S3.8", "arn:aws:s3:::b");
    let ids = [
        RemediationId::of_finding(&one, Generation(1)),
        RemediationId::of_finding(&one, Generation(2)),
        RemediationId::of_finding(&key("111122223334", "eu-central-1", "S3.8", "arn:aws:s3:::b"), Generation(1)),
        RemediationId::of_finding(&key("111122223333", "eu-central-2", "S3.8", "arn:aws:s3:::b"), Generation(1)),
        RemediationId::of_finding(&key("111122223333", "eu-central-1", "S3.80", "arn:aws:s3:::b"), Generation(1)),
        RemediationId::of_finding(&key("111122223333", "eu-central-1", "S3.8", "arn:aws:s3:::bb"), Generation(1)),
        RemediationId::of_request(&one, "a"),
        RemediationId::of_request(&one, "b"),
        RemediationId::of_rejected(b"a"),
        RemediationId::of_rejected(b"b"),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert_eq!(ids[0], RemediationId::of_finding(&one, Generation(1)));
    // Ids are in ledgers and bucket keys: a release that computes them otherwise would remediate everything again.
    assert_eq!(ids[0].to_string(), "760b4793-ff6e-5094-b884-5336d4da9a00");
}

fn any_arn() -> impl Strategy<Value = String> {
    let partition = prop_oneof![Just("aws"), Just("aws-us-gov"), Just("aws-cn")];
    let region = prop_oneof![Just("".to_owned()), "[a-z]{2}-[a-z]{4,9}-[1-9]"];
    let account = prop_oneof![Just("".to_owned()), "[0-9]{12}"];
    (partition, "[a-z][a-z0-9-]{0,20}", region, account, "[!-~ä€ ]{1,80}")
        .prop_map(|(p, s, r, a, resource)| format!("arn:{p}:{s}:{r}:{a}:{resource}"))
}

proptest! {
    #[test]
    fn an_arn_is_written_as_it_was_read(text in any_arn()) {
        let arn = arn(&text);
        prop_assert_eq!(arn.to_string(), text.clone());
        let parts: Vec<_> = text.splitn(6, ':').collect();
        prop_assert_eq!((arn.partition().as_str(), arn.service(), arn.resource()), (parts[1], parts[2], parts[5]));
        prop_assert_eq!(arn.region().map_or("", Region::as_str), parts[3]);
        prop_assert_eq!(arn.account().map_or("", AccountId::as_str), parts[4]);
    }

    #[test]
    fn any_text_is_an_arn_or_an_error(text in ".{0,200}") {
        if let Ok(arn) = text.parse::<Arn>() {
            prop_assert_eq!(arn.as_str(), text);
        }
    }

    #[test]
    fn a_capture_is_a_part_of_the_resource(text in any_arn(), before in "[!-~]{0,3}", hole in prop_oneof![Just("{}"), Just("{path}"), Just("")], after in "[!-~]{0,3}") {
        let arn = arn(&text);
        if let Some(captured) = arn.capture(&format!("*:*:*:*:*:{before}{hole}{after}")) {
            prop_assert!(!captured.is_empty() && arn.resource().contains(captured));
        }
        prop_assert_eq!(arn.capture("*:*:*:*:*:{}"), Some(arn.resource()));
    }
}
