use serde_json::json;

use super::*;

/// An excerpt of the reference, in its own form.
fn actions() -> Actions {
    let reference = json!({
        "rds": {
            "Actions": {
                "modifydbinstance": { "Resources": ["db", "og", "pg"] }, "describedbinstances": { "Resources": ["db"] },
                "describeaccountattributes": {}, "addtagstoresource": { "Resources": ["cluster", "db"] },
            },
            "Resources": {
                "db": { "ARNFormats": ["arn:${Partition}:rds:${Region}:${Account}:db:.*"] },
                "cluster": { "ARNFormats": ["arn:${Partition}:rds:${Region}:${Account}:cluster:.*"] },
                "og": { "ARNFormats": ["arn:${Partition}:rds:${Region}:${Account}:og:.*"] },
                "pg": { "ARNFormats": ["arn:${Partition}:rds:${Region}:${Account}:pg:.*"] },
            },
        },
        "account": {
            "Actions": { "putalternatecontact": { "Resources": ["account", "accountInOrganization"] } },
            "Resources": {
                "account": { "ARNFormats": ["arn:${Partition}:account::${Account}:account"] },
                "accountinorganization": { "ARNFormats": ["arn:${Partition}:account::${ManagementAccountId}:account/.*"] },
            },
        },
        "autoscaling": {
            "Actions": { "updateautoscalinggroup": { "Resources": ["autoScalingGroup"] } },
            "Resources": { "autoscalinggroup": { "ARNFormats": ["arn:${Partition}:autoscaling:${Region}:${Account}:autoScalingGroup:.*"] } },
        },
        "ec2": {
            "Actions": {
                "createflowlogs": { "Resources": ["subnet", "vpc", "vpc-flow-log"] }, "createsnapshot": { "Resources": ["snapshot", "volume"] },
                "revokesecuritygroupingress": { "Resources": ["security-group"] },
            },
            "Resources": {
                "security-group": { "ARNFormats": ["arn:${Partition}:ec2:${Region}:${Account}:security-group/.*"] },
                "snapshot": { "ARNFormats": ["arn:${Partition}:ec2:${Region}::snapshot/.*"] },
                "subnet": { "ARNFormats": ["arn:${Partition}:ec2:${Region}:${Account}:subnet/.*"] },
                "volume": { "ARNFormats": ["arn:${Partition}:ec2:${Region}:${Account}:volume/.*"] },
                "vpc": { "ARNFormats": ["arn:${Partition}:ec2:${Region}:${Account}:vpc/.*"] },
                "vpc-flow-log": { "ARNFormats": ["arn:${Partition}:ec2:${Region}:${Account}:vpc-flow-log/.*"] },
            },
        },
        "elasticbeanstalk": {
            "Actions": { "updateenvironment": { "Resources": ["environment"] } },
            "Resources": { "environment": { "ARNFormats": ["arn:${Partition}:elasticbeanstalk:${Region}:${Account}:environment/.*"] } },
        },
        "elasticloadbalancing": {
            "Actions": { "modifyloadbalancerattributes": { "Resources": ["loadbalancer", "loadbalancer/app/", "loadbalancer/net/"] } },
            "Resources": {
                "loadbalancer": { "ARNFormats": ["arn:${Partition}:elasticloadbalancing:${Region}:${Account}:loadbalancer/.*"] },
                "loadbalancer/app/": { "ARNFormats": ["arn:${Partition}:elasticloadbalancing:${Region}:${Account}:loadbalancer/app/.*"] },
                "loadbalancer/net/": { "ARNFormats": ["arn:${Partition}:elasticloadbalancing:${Region}:${Account}:loadbalancer/net/.*"] },
            },
        },
        "s3": { "Actions": { "putaccountpublicaccessblock": {} } },
    });
    Actions(serde_json::from_value(reference).unwrap())
}

fn wanted(scope: &str, operation: &str, parameters: Value) -> Result<(String, Vec<String>), AwsError> {
    let caller =
        Caller { account: "222222222222".to_owned(), arn: "arn:aws-cn:sts::222222222222:assumed-role/R/s".to_owned() };
    let place = Place { caller: &caller, region: "cn-north-1", method: "PATCH", path: "/v2/apis/a1/stages/prod" };
    let family = FAMILIES.iter().find(|family| family.scope == scope).unwrap();
    let call = Parsed { operation: operation.to_owned(), parameters: serde_json::from_value(parameters).unwrap() };
    actions().wanted(family, &call, &place).map(|wanted| (wanted.action, wanted.resources))
}

#[test]
fn a_call_is_authorised_on_every_resource_that_it_names() {
    let arn = |resource: &str| format!("arn:aws-cn:rds:cn-north-1:222222222222:{resource}");
    let modify = json!({ "DBInstanceIdentifier": "d", "DBParameterGroupName": "p", "MonitoringRoleArn": "arn:aws-cn:iam::222222222222:role/m" });
    let expected = ("rds:ModifyDBInstance".to_owned(), vec![arn("db:d"), arn("pg:p")]);
    assert_eq!(wanted("rds", "ModifyDBInstance", modify).unwrap(), expected);
    let tag = json!({ "ResourceName": arn("cluster:c") });
    assert_eq!(wanted("rds", "AddTagsToResource", tag).unwrap().1, [arn("cluster:c")]);
}

#[test]
fn an_action_without_resource_level_permissions_is_authorised_on_everything() {
    let (action, resources) = wanted("rds", "DescribeAccountAttributes", json!({})).unwrap();
    assert_eq!((action.as_str(), resources), ("rds:DescribeAccountAttributes", vec!["*".to_owned()]));
}

#[test]
fn reading_without_a_name_reads_all_of_the_type() {
    let (_, resources) = wanted("rds", "DescribeDBInstances", json!({})).unwrap();
    assert_eq!(resources, ["arn:aws-cn:rds:cn-north-1:222222222222:db:*"]);
}

#[test]
fn what_cannot_be_told_is_refused_as_the_labs_own_fault() {
    for (scope, operation, parameters) in [
        ("rds", "ModifyDBInstance", json!({ "Unheard": "of" })),
        ("rds", "NoSuchAction", json!({ "DBInstanceIdentifier": "d" })),
        ("rds", "AddTagsToResource", json!({ "ResourceName": "arn:aws-cn:rds:cn-north-1:222222222222:proxy:x" })),
        ("account", "PutAlternateContact", json!({ "AccountId": "333333333333" })),
    ] {
        let error = wanted(scope, operation, parameters).unwrap_err();
        assert_eq!((error.status, error.code.as_str()), (501, "LabCannotTell"), "{operation}");
    }
}

#[test]
fn ids_of_ec2_tell_their_types_and_what_is_made_counts_too() {
    let arn = |resource: &str| format!("arn:aws-cn:ec2:cn-north-1:222222222222:{resource}");
    let logs = json!({ "ResourceIds": ["vpc-1", "subnet-2"], "LogGroupName": "vpc-like" });
    let expected = [arn("subnet/subnet-2"), arn("vpc/vpc-1"), arn("vpc-flow-log/*")];
    assert_eq!(wanted("ec2", "CreateFlowLogs", logs).unwrap().1, expected);
    let snapshot = wanted("ec2", "CreateSnapshot", json!({ "VolumeId": "vol-1" })).unwrap().1;
    assert_eq!(snapshot, ["arn:aws-cn:ec2:cn-north-1::snapshot/*".to_owned(), arn("volume/vol-1")]);
    let revoke = wanted("ec2", "RevokeSecurityGroupIngress", json!({ "GroupId": "sg-1" })).unwrap().1;
    assert_eq!(revoke, [arn("security-group/sg-1")]);
}

#[test]
fn arns_are_written_as_each_service_writes_them() {
    let one = |scope, operation, parameters| {
        let (action, resources) = wanted(scope, operation, parameters).unwrap();
        assert_eq!(resources.len(), 1, "{resources:?}");
        (action, resources[0].clone())
    };
    let (_, group) = one("autoscaling", "UpdateAutoScalingGroup", json!({ "AutoScalingGroupName": "g" }));
    assert_eq!(group, "arn:aws-cn:autoscaling:cn-north-1:222222222222:autoScalingGroup:*:autoScalingGroupName/g");
    let environment = json!({ "ApplicationName": "a", "EnvironmentName": "e" });
    let (_, environment) = one("elasticbeanstalk", "UpdateEnvironment", environment);
    assert_eq!(environment, "arn:aws-cn:elasticbeanstalk:cn-north-1:222222222222:environment/a/e");
    let (_, account) = one("account", "PutAlternateContact", json!({ "AlternateContactType": "SECURITY" }));
    assert_eq!(account, "arn:aws-cn:account::222222222222:account");
    let alb = "arn:aws-cn:elasticloadbalancing:cn-north-1:222222222222:loadbalancer/app/a/1";
    let (_, balancer) = one("elasticloadbalancing", "ModifyLoadBalancerAttributes", json!({ "LoadBalancerArn": alb }));
    assert_eq!(balancer, alb);
    let (action, stage) = one("apigateway", "UpdateStage", json!({ "ApiId": "a1", "StageName": "prod" }));
    assert_eq!(
        (action.as_str(), stage.as_str()),
        ("apigateway:PATCH", "arn:aws-cn:apigateway:cn-north-1::/apis/a1/stages/prod")
    );
    let (action, block) = one("s3", "PutPublicAccessBlock", json!({ "AccountId": "222222222222" }));
    assert_eq!((action.as_str(), block.as_str()), ("s3:PutAccountPublicAccessBlock", "*"));
}

#[test]
fn of_s3_and_account_only_what_ministack_lacks_is_served_elsewhere() {
    assert!(family("s3", "/bucket/key").is_none() && family("sqs", "/").is_none());
    assert!(family("account", "/putAccountName").is_none() && family("rds", "/").is_some());
    for (scope, path) in [("s3", "/v20180820/configuration/publicAccessBlock"), ("account", "/putAlternateContact")] {
        assert_eq!(family(scope, path).map(|family| family.server), Some(Server::Moto), "{path}");
    }
}

#[test]
fn every_scope_has_one_row_and_every_template_is_whole() {
    for (at, family) in FAMILIES.iter().enumerate() {
        assert!(FAMILIES[..at].iter().all(|earlier| earlier.scope != family.scope), "{} twice", family.scope);
        assert!(!family.models.is_empty());
        for (parameter, kind, template) in family.named {
            assert_eq!(*kind, kind.to_lowercase(), "{}: {parameter}", family.scope);
            assert_eq!(template.matches('{').count(), template.matches('}').count(), "{}: {parameter}", family.scope);
        }
    }
}
