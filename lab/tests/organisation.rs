//! The organisation that the lab deploys, on the real emulators: stacks, refusals, and what is noticed of what breaks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redress_common::names;
use redress_lab::organisation::{Organisation, Plan};
use redress_lab::service::{AwsError, Credentials};
use redress_lab::services::config::Config;
use redress_lab::services::securityhub::SecurityHub;
use redress_lab::services::ssm::{Options, Ssm};
use redress_lab::{Lab, LabOptions, deploy, scenario};
use serde_json::{Value, json};

struct Bed {
    lab: Lab,
    organisation: Organisation,
    external_ids: redress_common::external_id::ExternalIdPrefix,
}

impl Bed {
    /// An organisation of two members, whose findings nobody takes off the queue.
    async fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let hub = Arc::new(SecurityHub::default());
        let mut options = LabOptions::new(root);
        let ssm = Arc::new(Ssm::new(Options::default()));
        options.services = vec![hub.clone(), Arc::new(Config::new(hub)), ssm.clone()];
        let lab = Lab::start(options).await.unwrap();
        let plan = Plan::of(root, &["payments", "web"], Arc::new(|_| ())).unwrap();
        let organisation = deploy::organisation(lab.aws(), &ssm, &plan).await.unwrap_or_else(|error| panic!("{error}"));
        Self { lab, organisation, external_ids: plan.external_ids }
    }

    async fn as_root(
        &self,
        account: &str,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        self.call(&Credentials::root(account), service, operation, parameters).await
    }

    async fn call(
        &self,
        credentials: &Credentials,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        self.lab.aws().call(credentials, self.organisation.region.as_str(), service, operation, parameters).await
    }

    /// Nobody works here: the functions are not to take the findings that a test looks for.
    async fn stop_functions(&self) {
        let admin = self.organisation.administrator.id.as_str();
        let mappings = self.as_root(admin, "lambda", "ListEventSourceMappings", json!({})).await.unwrap();
        for mapping in mappings["EventSourceMappings"].as_array().unwrap() {
            self.as_root(admin, "lambda", "DeleteEventSourceMapping", json!({ "UUID": mapping["UUID"] }))
                .await
                .unwrap();
        }
        self.lab.refresh(admin, self.organisation.region.as_str());
    }

    /// Bodies of a queue of the administrator account, until `enough` says so or ten seconds have passed.
    async fn received(&self, queue: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let admin = self.organisation.administrator.id.as_str();
        let url =
            self.as_root(admin, "sqs", "GetQueueUrl", json!({ "QueueName": queue })).await.unwrap()["QueueUrl"].clone();
        let (begun, mut bodies) = (Instant::now(), Vec::new());
        while !enough(&bodies) && begun.elapsed() < Duration::from_secs(10) {
            let asked = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 });
            let answer = self.as_root(admin, "sqs", "ReceiveMessage", asked).await.unwrap();
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            bodies.extend(
                messages.iter().map(|message| serde_json::from_str(message["Body"].as_str().unwrap()).unwrap()),
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bodies
    }

    /// A session of a role that may do everything that its account lets it.
    async fn powerful_role(&self, account: &str) -> Credentials {
        let document = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let trust = document(json!({ "Effect": "Allow", "Principal": { "AWS": account }, "Action": "sts:AssumeRole" }));
        let role = self
            .as_root(account, "iam", "CreateRole", json!({ "RoleName": "Powerful", "AssumeRolePolicyDocument": trust }))
            .await
            .unwrap();
        let policy = document(json!({ "Effect": "Allow", "Action": "*", "Resource": "*" }));
        self.as_root(
            account,
            "iam",
            "PutRolePolicy",
            json!({ "RoleName": "Powerful", "PolicyName": "all", "PolicyDocument": policy }),
        )
        .await
        .unwrap();
        self.assume(&Credentials::root(account), role["Role"]["Arn"].as_str().unwrap(), None).await.unwrap()
    }

    /// A session of a role that the root of `by` assumes.
    async fn assume(
        &self,
        by: &Credentials,
        role_arn: &str,
        external_id: Option<&str>,
    ) -> Result<Credentials, AwsError> {
        let mut asked = json!({ "RoleArn": role_arn, "RoleSessionName": "redress-test" });
        if let Some(id) = external_id {
            asked["ExternalId"] = id.into();
        }
        let answer = self.call(by, "sts", "AssumeRole", asked).await?;
        let text = |name: &str| answer["Credentials"][name].as_str().unwrap().to_owned();
        Ok(Credentials {
            access_key_id: text("AccessKeyId"),
            secret_access_key: text("SecretAccessKey"),
            session_token: Some(text("SessionToken")),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_broken_reaches_the_findings_queue_once_by_each_reporter() {
    let bed = Bed::new().await;
    bed.stop_functions().await;
    let before = bed.received(names::FINDINGS_QUEUE, |_| false).await;
    assert_eq!(before, Vec::<Value>::new(), "a fresh organisation is in good order");

    let member = &bed.organisation.members[0].id;
    for one in scenario::list() {
        let broken = scenario::run(one.name, bed.lab.aws(), member, &bed.organisation.region)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let reporters = if one.control == "Tag.Required" { 1 } else { 2 };
        let events = bed.received(names::FINDINGS_QUEUE, |bodies| bodies.len() >= reporters).await;
        let mut sources: Vec<&str> = events.iter().map(|event| event["source"].as_str().unwrap()).collect();
        sources.sort_unstable();
        assert_eq!(sources, &["aws.config", "aws.securityhub"][..reporters], "{}: {events:#?}", one.name);
        for event in &events {
            let parsed = redress_common::finding::parse(event.to_string().as_bytes()).unwrap();
            let redress_common::finding::Inbound::Findings(findings) = parsed else {
                panic!("{}: {parsed:?}", one.name)
            };
            let finding = findings.into_iter().next().unwrap().unwrap();
            assert_eq!(finding.resource.arn, broken.resource_arn, "{}", one.name);
        }
        let state = scenario::read_state(bed.lab.aws(), &broken).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(state.is_object() && !state.as_object().unwrap().is_empty(), "{}", one.name);
    }
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deployed_organisation_lets_in_whom_it_should_and_nobody_else() {
    let bed = Bed::new().await;
    let admin = bed.organisation.administrator.id.clone();
    let member = bed.organisation.members[0].id.clone();
    let partition = bed.organisation.partition();
    let role = |account, name| names::role_arn(partition, account, name);

    let operator =
        bed.assume(&Credentials::root(admin.as_str()), &bed.organisation.operator_role_arn(), None).await.unwrap();
    let reader = role(&member, names::EVIDENCE_READER_ROLE);
    for wrong in [None, Some("wrong-external-id-0000")] {
        assert_eq!(bed.assume(&operator, &reader, wrong).await.unwrap_err().code, "AccessDenied");
    }
    let id = bed.external_ids.of(&member);
    let reader = bed.assume(&operator, &reader, Some(id.reveal())).await.unwrap();
    let bucket = names::evidence_bucket(&member, &bed.organisation.region);
    let evidence = json!({ "Bucket": bucket, "Key": "year=2026/x.json", "Body": "{}" });
    assert_eq!(bed.call(&reader, "s3", "PutObject", evidence.clone()).await.unwrap_err().code, "AccessDenied");
    // The emulator lets an account's root past bucket policies, so it can lay out what the reader reads.
    bed.as_root(member.as_str(), "s3", "PutObject", evidence.clone()).await.unwrap();
    let read =
        bed.call(&reader, "s3", "GetObject", json!({ "Bucket": bucket, "Key": "year=2026/x.json" })).await.unwrap();
    assert_eq!(read["Body"], "{}");
    let anything = bed.powerful_role(member.as_str()).await;
    assert_eq!(
        bed.call(&anything, "s3", "PutObject", evidence).await.unwrap_err().code,
        "AccessDenied",
        "only the functions write evidence"
    );
    assert_eq!(
        bed.assume(&operator, &role(&member, names::CROSS_ACCOUNT_ROLE), Some(id.reveal())).await.unwrap_err().code,
        "AccessDenied"
    );

    let rewrite = json!({
        "TableName": names::AUDIT_TABLE, "Key": { "RemediationId": { "S": "x" }, "Timestamp": { "N": "1" } },
        "UpdateExpression": "SET ExecutionStatus = :s", "ExpressionAttributeValues": { ":s": { "S": "Verified" } },
    });
    let anything = bed.powerful_role(admin.as_str()).await;
    let refused = bed.call(&anything, "dynamodb", "UpdateItem", rewrite).await.unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException", "nobody rewrites the audit log: {refused}");
    let audit = json!({
        "TableName": names::AUDIT_TABLE, "KeyConditionExpression": "RemediationId = :id", "ExpressionAttributeValues": { ":id": { "S": "x" } },
    });
    assert_eq!(bed.call(&operator, "dynamodb", "Query", audit).await.unwrap()["Count"], 0);
    // Operators change nothing themselves: they ask the api.
    let switch = json!({
        "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "settings" } },
        "UpdateExpression": "SET Switch = :off", "ExpressionAttributeValues": { ":off": { "S": "off" } },
    });
    let write = json!({ "TableName": names::STATE_TABLE, "Item": { "Key": { "S": "settings" } } });
    for (operation, parameters) in [("UpdateItem", switch), ("PutItem", write)] {
        let refused = bed.call(&operator, "dynamodb", operation, parameters).await.unwrap_err();
        assert_eq!(refused.code, "AccessDeniedException", "{operation}");
    }
    let request = |source: &str| json!({ "Entries": [{ "EventBusName": bed.organisation.hub_bus_arn(), "Source": source, "DetailType": "Redress Undo Requested", "Detail": "{}" }] });
    let refused = bed.call(&operator, "events", "PutEvents", request("redress")).await.unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
    let api = json!({ "FunctionName": names::API_FUNCTION, "Payload": "{}" });
    let refused = bed.call(&operator, "lambda", "Invoke", api).await.unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException", "the api's caller is who its URL says, so nobody goes past it");
    let forged = bed.as_root(member.as_str(), "events", "PutEvents", request("redress")).await;
    let refused = forged.is_err() || forged.is_ok_and(|answer| answer["FailedEntryCount"] == 1);
    assert!(refused, "a member may forward by rule, never put events");
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stacks_hold_what_their_templates_promise() {
    let bed = Bed::new().await;
    let admin = bed.organisation.administrator.id.as_str();
    let member = bed.organisation.members[1].id.clone();

    let table =
        bed.as_root(admin, "dynamodb", "DescribeTable", json!({ "TableName": names::AUDIT_TABLE })).await.unwrap();
    let mut indexes: Vec<&str> = table["Table"]["GlobalSecondaryIndexes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|index| index["IndexName"].as_str().unwrap())
        .collect();
    indexes.sort_unstable();
    assert_eq!(indexes, ["AccountId-Timestamp-index", "ResourceId-Timestamp-index"]);
    assert_eq!(table["Table"]["SSEDescription"]["SSEType"], "KMS");
    for table in [names::AUDIT_TABLE, names::STATE_TABLE] {
        let live = bed.as_root(admin, "dynamodb", "DescribeTimeToLive", json!({ "TableName": table })).await.unwrap();
        assert_eq!(live["TimeToLiveDescription"]["AttributeName"], "ExpiresAt", "{table}");
    }
    let backups = bed
        .as_root(admin, "dynamodb", "DescribeContinuousBackups", json!({ "TableName": names::AUDIT_TABLE }))
        .await
        .unwrap();
    assert_eq!(
        backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
        "ENABLED"
    );

    let settings = json!({ "TableName": names::STATE_TABLE, "Key": { "Key": { "S": "settings" } } });
    assert_eq!(
        bed.as_root(admin, "dynamodb", "GetItem", settings).await.unwrap()["Item"]["PolicySet"]["S"],
        "standard"
    );

    let bucket = json!({ "Bucket": names::evidence_bucket(&member, &bed.organisation.region) });
    let look = async |operation: &str| bed.as_root(member.as_str(), "s3", operation, bucket.clone()).await.unwrap();
    let encryption = look("GetBucketEncryption").await;
    let default = &encryption["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"];
    assert_eq!(default["SSEAlgorithm"], "aws:kms");
    assert_eq!(look("GetBucketVersioning").await["Status"], "Enabled");
    assert_eq!(look("GetBucketLifecycleConfiguration").await["Rules"][0]["Transitions"][0]["StorageClass"], "GLACIER");

    let runbook = json!({ "Name": names::CONTROL_DOCUMENT });
    assert_eq!(
        bed.as_root(member.as_str(), "ssm", "DescribeDocument", runbook).await.unwrap()["Document"]["Status"],
        "Active"
    );
    let asked = json!({ "RoleName": names::REMEDIATE_ROLE });
    let list = async |operation: &str| bed.as_root(member.as_str(), "iam", operation, asked.clone()).await.unwrap();
    assert_eq!(list("ListRolePolicies").await["PolicyNames"].as_array().unwrap().len(), 1, "what it records with");
    let attached = list("ListAttachedRolePolicies").await["AttachedPolicies"].as_array().unwrap().clone();
    let is_native =
        |policy: &Value| policy["PolicyName"].as_str().is_some_and(|name| name.starts_with(names::NATIVE_POLICY));
    assert!(!attached.is_empty() && attached.iter().all(is_native), "what the native controls call: {attached:?}");
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_are_in_units_with_tags_and_only_the_administrator_may_look() {
    let bed = Bed::new().await;
    let admin = bed.organisation.administrator.id.as_str();
    let members: Vec<&str> = bed.organisation.members.iter().map(|member| member.id.as_str()).collect();
    let ask =
        async |operation: &str, parameters: Value| bed.as_root(admin, "organizations", operation, parameters).await;

    // From an account up to the root, as a Lambda finds the path of an account.
    let mut names = Vec::new();
    let mut child = members[0].to_owned();
    loop {
        let parents = ask("ListParents", json!({ "ChildId": child })).await.unwrap();
        child = parents["Parents"][0]["Id"].as_str().unwrap().to_owned();
        if parents["Parents"][0]["Type"] == "ROOT" {
            break;
        }
        let unit = ask("DescribeOrganizationalUnit", json!({ "OrganizationalUnitId": child })).await.unwrap();
        names.push(unit["OrganizationalUnit"]["Name"].as_str().unwrap().to_owned());
    }
    assert_eq!(names, ["Production", "Workloads"]);
    let roots = ask("ListRoots", json!({})).await.unwrap();
    assert_eq!(roots["Roots"][0]["Id"], child);
    let account = ask("DescribeAccount", json!({ "AccountId": members[0] })).await.unwrap()["Account"].clone();
    assert_eq!((&account["Name"], &account["State"]), (&json!("payments"), &json!("ACTIVE")));
    let administrator = ask("DescribeAccount", json!({ "AccountId": admin })).await.unwrap();
    assert_eq!(administrator["Account"]["Name"], "administrator");
    let path = account["Paths"][0].as_str().unwrap();
    assert!(path.starts_with(&format!("{}/{child}/ou-", bed.organisation.id)), "{path}");
    assert!(path.ends_with(&format!("/{}/", members[0])), "{path}");
    let tags = ask("ListTagsForResource", json!({ "ResourceId": members[1] })).await.unwrap();
    assert_eq!(tags["Tags"], json!([{ "Key": "Environment", "Value": "development" }]));
    let tag = json!({ "ResourceId": members[1], "Tags": [{ "Key": "Environment", "Value": "production" }] });
    ask("TagResource", tag).await.unwrap();
    let tags = ask("ListTagsForResource", json!({ "ResourceId": members[1] })).await.unwrap();
    assert_eq!(tags["Tags"][0]["Value"], "production");
    let mut seen = Vec::new();
    let mut page = json!({ "MaxResults": 1 });
    loop {
        let listed = ask("ListAccounts", page.clone()).await.unwrap();
        seen.extend(listed["Accounts"].as_array().unwrap().iter().map(|one| one["Id"].as_str().unwrap().to_owned()));
        let Some(token) = listed["NextToken"].as_str() else { break };
        page["NextToken"] = token.into();
    }
    assert_eq!(seen, [&[admin], members.as_slice()].concat());
    let nobody = ask("DescribeAccount", json!({ "AccountId": "999999999999" })).await.unwrap_err();
    assert_eq!(nobody.code, "AccountNotFoundException");

    // A move, and a wrong one.
    let parent = ask("ListParents", json!({ "ChildId": members[1] })).await.unwrap()["Parents"][0]["Id"].clone();
    let there = json!({ "AccountId": members[1], "SourceParentId": parent, "DestinationParentId": child });
    ask("MoveAccount", there.clone()).await.unwrap();
    assert_eq!(ask("MoveAccount", there).await.unwrap_err().code, "AccountNotFoundException");

    // A member sees which organisation it is in, and no more, unless reading was delegated to it.
    let as_member = async |operation: &str, parameters: Value| {
        bed.as_root(members[1], "organizations", operation, parameters).await.map_err(|error| error.code)
    };
    let described = as_member("DescribeOrganization", json!({})).await.unwrap();
    assert_eq!(described["Organization"]["Id"], bed.organisation.id);
    assert_eq!(described["Organization"]["MasterAccountId"], admin);
    assert_eq!(as_member("ListAccounts", json!({})).await.unwrap_err(), "AccessDeniedException");
    let delegate = json!({ "AccountId": members[1], "ServicePrincipal": "config.amazonaws.com" });
    ask("RegisterDelegatedAdministrator", delegate).await.unwrap();
    assert_eq!(as_member("ListAccounts", json!({})).await.unwrap()["Accounts"].as_array().unwrap().len(), 3);
    let tag = json!({ "ResourceId": members[1], "Tags": [{ "Key": "Environment", "Value": "sandbox" }] });
    assert_eq!(as_member("TagResource", tag).await.unwrap_err(), "AccessDeniedException");

    // Roles are judged by the account's ARN.
    let arn = account["Arn"].as_str().unwrap();
    let document = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
    let trust = document(json!({ "Effect": "Allow", "Principal": { "AWS": admin }, "Action": "sts:AssumeRole" }));
    let role = json!({ "RoleName": "Looks", "AssumeRolePolicyDocument": trust });
    let role = bed.as_root(admin, "iam", "CreateRole", role).await.unwrap();
    let policy = document(json!({ "Effect": "Allow", "Action": "organizations:DescribeAccount", "Resource": arn }));
    let policy = json!({ "RoleName": "Looks", "PolicyName": "p", "PolicyDocument": policy });
    bed.as_root(admin, "iam", "PutRolePolicy", policy).await.unwrap();
    let looks = bed.assume(&Credentials::root(admin), role["Role"]["Arn"].as_str().unwrap(), None).await.unwrap();
    bed.call(&looks, "organizations", "DescribeAccount", json!({ "AccountId": members[0] })).await.unwrap();
    let other = bed.call(&looks, "organizations", "DescribeAccount", json!({ "AccountId": members[1] })).await;
    assert_eq!(other.unwrap_err().code, "AccessDeniedException");
    bed.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aggregator_shows_the_administrator_what_the_rules_of_all_members_found() {
    let bed = Bed::new().await;
    let admin = bed.organisation.administrator.id.as_str();
    let members: Vec<&str> = bed.organisation.members.iter().map(|member| member.id.as_str()).collect();
    let region = bed.organisation.region.as_str();
    let ask = async |operation: &str, mut parameters: Value| {
        parameters["ConfigurationAggregatorName"] = "redress".into();
        bed.as_root(admin, "config", operation, parameters).await
    };
    let all = bed.as_root(admin, "config", "DescribeConfigurationAggregators", json!({})).await.unwrap();
    let arn = all["ConfigurationAggregators"][0]["ConfigurationAggregatorArn"].as_str().unwrap();
    assert!(arn.contains(":config-aggregator/config-aggregator-"), "{arn}");
    let rule = "securityhub-s3-bucket-level-public-access-prohibited-5c2f0a91";
    let details = |account: &str, kind: &str| json!({ "ConfigRuleName": rule, "AccountId": account, "AwsRegion": region, "ComplianceType": kind });
    let found = async |account: &str, kind: &str| {
        let found = ask("GetAggregateComplianceDetailsByConfigRule", details(account, kind)).await.unwrap();
        found["AggregateEvaluationResults"].as_array().unwrap().clone()
    };
    assert_eq!(found(members[0], "NON_COMPLIANT").await, Vec::<Value>::new());
    let broken =
        scenario::run("public-bucket", bed.lab.aws(), &bed.organisation.members[0].id, &bed.organisation.region);
    let broken = broken.await.unwrap_or_else(|error| panic!("{error}"));
    let results = found(members[0], "NON_COMPLIANT").await;
    assert_eq!(results.len(), 1);
    let subject = results[0]["EvaluationResultIdentifier"]["EvaluationResultQualifier"]["ResourceId"].as_str().unwrap();
    assert!(broken.resource_arn.to_string().ends_with(subject), "{subject}");
    assert_eq!((&results[0]["AccountId"], &results[0]["AwsRegion"]), (&json!(members[0]), &json!(region)));
    assert_eq!(found(members[1], "NON_COMPLIANT").await, Vec::<Value>::new());

    let filters = json!({ "Filters": { "ComplianceType": "NON_COMPLIANT" } });
    let failing = ask("DescribeAggregateComplianceByConfigRules", filters).await.unwrap();
    let failing = failing["AggregateComplianceByConfigRules"].as_array().unwrap();
    let named: Vec<_> = failing.iter().map(|one| (one["AccountId"].as_str(), one["ConfigRuleName"].as_str())).collect();
    assert_eq!(named, [(Some(members[0]), Some(rule))]);
    let (mut count, mut page) = (0, json!({ "Limit": 5 }));
    loop {
        let answer = ask("DescribeAggregateComplianceByConfigRules", page.clone()).await.unwrap();
        count += answer["AggregateComplianceByConfigRules"].as_array().unwrap().len();
        let Some(token) = answer["NextToken"].as_str() else { break };
        page["NextToken"] = token.into();
    }
    assert_eq!(count, 2 * 6, "every rule of both members");
    let wrong = json!({ "Limit": 5, "NextToken": "nonsense" });
    let wrong = ask("DescribeAggregateComplianceByConfigRules", wrong).await.unwrap_err();
    assert_eq!(wrong.code, "InvalidNextTokenException");

    let elsewhere = json!({ "ConfigurationAggregatorName": "redress" });
    let elsewhere = bed.as_root(members[0], "config", "DescribeAggregateComplianceByConfigRules", elsewhere).await;
    assert_eq!(elsewhere.unwrap_err().code, "NoSuchConfigurationAggregatorException");
    let powerless = json!({ "ConfigurationAggregatorName": "mine", "OrganizationAggregationSource": {
        "RoleArn": bed.organisation.operator_role_arn(), "AllAwsRegions": true } });
    let refused = bed.as_root(admin, "config", "PutConfigurationAggregator", powerless).await.unwrap_err();
    assert_eq!(refused.code, "InvalidRoleException", "a role that Config may not assume");
    bed.lab.stop().await;
}
