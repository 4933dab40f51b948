//! Breaking things in the lab, as the root of their account, and looking at what was made for GuardDuty to report.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::eks::EntryName;
use redress_common::ids::{AccountId, ControlId};
use redress_common::names;
use redress_lab::control::RemoteEvent;
use redress_lab::scenario::{self, Broken, ScenarioError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::arena::Arena;
use super::book::Thing;
use super::finding;
use super::scenario::{Break, Resource};
use crate::problem::Problem;

/// An account that is none of the lab's.
const STRANGER: &str = "999999999999";

/// Does one break in an account. What it was done to, where the ledger will tell of it.
pub(crate) async fn play(step: Break, account: &AccountId, arena: &Arena) -> Result<Option<Thing>, Problem> {
    let owner = Owner { arena, account };
    match step {
        Break::Trust => owner.trust_a_stranger().await?,
        Break::Key => owner.give_up_the_key().await?,
        Break::Versions => owner.keep_no_versions().await?,
        Break::Subscriptions => unsubscribe(arena).await?,
        Break::Lab(name) => return broken(name, account, arena).await.map(Some),
        Break::Report { resource, kind, severity } => {
            return owner.reported(resource, (kind, severity)).await.map(Some);
        }
    }
    Ok(None)
}

/// What a resource is like, as far as its playbook touches it: equal values are equal states.
pub(crate) async fn state(resource: Resource, broken: &Broken, arena: &Arena) -> Result<Value, Problem> {
    let (owner, arn) = (Owner { arena, account: &broken.account }, &broken.resource_arn);
    let name = arn.resource().rsplit(['/', ':']).next().unwrap_or_default();
    match resource {
        Resource::Instance => owner.instance_state(name).await,
        Resource::Bucket => owner.bucket_state(name).await,
        Resource::User => owner.policies("ListUserPolicies", json!({ "UserName": name })).await,
        Resource::Role => owner.policies("ListRolePolicies", json!({ "RoleName": name })).await,
        Resource::Function => owner.function_state(name).await,
        Resource::Database => owner.database_state(name).await,
        Resource::Cluster => owner.cluster_state(name).await,
        Resource::Access => owner.access_state(arn).await,
    }
}

/// As `redress lab break`, with the state that it leaves behind.
async fn broken(name: &str, account: &AccountId, arena: &Arena) -> Result<Thing, Problem> {
    let failed = |error: ScenarioError| Problem::aws(&format!("break {name}"), &error);
    let broken = scenario::break_only(name, arena.aws(), account, arena.region()).await.map_err(failed)?;
    // Before anybody hears of it: a fix takes less than a second.
    let before = scenario::read_state(arena.aws(), &broken).await.map_err(failed)?;
    scenario::notice(arena.aws(), &broken).await.map_err(failed)?;
    Ok(Thing { broken, resource: None, before })
}

async fn unsubscribe(arena: &Arena) -> Result<(), Problem> {
    for subscription in arena.subscriptions().await? {
        // What waits to be confirmed has no ARN, and hears nothing.
        if let Some(arn) = subscription["SubscriptionArn"].as_str().filter(|arn| arn.starts_with("arn:")) {
            let gone = json!({ "SubscriptionArn": arn });
            arena.must(&arena.lab.administrator, "sns", "Unsubscribe", gone).await?;
        }
    }
    Ok(())
}

/// The root of an account.
struct Owner<'a> {
    arena: &'a Arena,
    account: &'a AccountId,
}

impl Owner<'_> {
    async fn call(&self, service: &str, operation: &str, parameters: Value) -> Result<Value, Problem> {
        self.arena.must(self.account, service, operation, parameters).await
    }

    async fn trust_a_stranger(&self) -> Result<(), Problem> {
        let stranger = format!("arn:{}:iam::{STRANGER}:root", self.arena.partition());
        let trust = document(&json!([
            { "Effect": "Allow", "Principal": { "AWS": stranger }, "Action": "sts:AssumeRole" },
        ]));
        let changed = json!({ "RoleName": names::CROSS_ACCOUNT_ROLE, "PolicyDocument": trust });
        self.call("iam", "UpdateAssumeRolePolicy", changed).await.map(drop)
    }

    async fn give_up_the_key(&self) -> Result<(), Problem> {
        let named = json!({ "KeyId": names::MEMBER_KEY_ALIAS });
        let key = self.call("kms", "DescribeKey", named).await?["KeyMetadata"]["KeyId"].clone();
        self.call("kms", "ScheduleKeyDeletion", json!({ "KeyId": key })).await.map(drop)
    }

    async fn keep_no_versions(&self) -> Result<(), Problem> {
        let bucket = names::evidence_bucket(self.account, self.arena.region());
        let none = json!({ "Bucket": bucket, "VersioningConfiguration": { "Status": "Suspended" } });
        self.call("s3", "PutBucketVersioning", none).await.map(drop)
    }

    /// Makes a resource, and has GuardDuty report it.
    async fn reported(&self, resource: Resource, report: (&str, f64)) -> Result<Thing, Problem> {
        let Self { arena, account } = *self;
        let arn = self.made(resource).await?;
        let control = resource.control().parse::<ControlId>();
        let broken = Broken {
            scenario: resource.words().to_owned(),
            control: control.map_err(|error| Problem::aws("name the playbook", &error))?,
            account: account.clone(),
            region: arena.region().clone(),
            resource_arn: arn,
        };
        let before = state(resource, &broken, arena).await?;
        let event = RemoteEvent {
            account: account.to_string(),
            region: arena.region().to_string(),
            source: finding::SOURCE.to_owned(),
            detail_type: finding::DETAIL_TYPE.to_owned(),
            resources: Vec::new(),
            detail: finding::detail(&broken, resource, report, Uuid::new_v4(), Timestamp::now()),
        };
        arena.lab.tell(&event).await?;
        Ok(Thing { broken, resource: Some(resource), before })
    }

    /// The ARN of a new resource.
    async fn made(&self, resource: Resource) -> Result<Arn, Problem> {
        let suffix = Uuid::new_v4().simple().to_string();
        let suffix = suffix.get(..8).unwrap_or(&suffix);
        let (partition, region, account) = (self.arena.partition(), self.arena.region(), self.account);
        let arn = match resource {
            Resource::Instance => {
                let id = self.instance(&format!("web-{suffix}")).await?;
                format!("arn:{partition}:ec2:{region}:{account}:instance/{id}")
            }
            Resource::Bucket => {
                let name = format!("press-kit-{suffix}");
                self.bucket(&name).await?;
                format!("arn:{partition}:s3:::{name}")
            }
            Resource::User => {
                let name = format!("deploy-{suffix}");
                self.call("iam", "CreateUser", json!({ "UserName": name })).await?;
                format!("arn:{partition}:iam::{account}:user/{name}")
            }
            Resource::Role => self.role(&format!("batch-{suffix}"), &json!([])).await?,
            Resource::Function => self.function(&format!("resize-{suffix}")).await?,
            Resource::Database => self.database(&format!("orders-{suffix}")).await?,
            Resource::Cluster => self.cluster(&format!("prod-{suffix}")).await?,
            Resource::Access => self.access(suffix).await?,
        };
        arn.parse::<Arn>().map_err(|error| Problem::aws("name what was made", &error))
    }

    /// A role that trusts as these statements say; its ARN.
    async fn role(&self, name: &str, trust: &Value) -> Result<String, Problem> {
        let role = json!({ "RoleName": name, "AssumeRolePolicyDocument": document(trust) });
        let made = self.call("iam", "CreateRole", role).await?;
        text(&made["Role"]["Arn"], "iam:CreateRole")
    }

    /// The inline policies of a user or role.
    async fn policies(&self, operation: &str, of: Value) -> Result<Value, Problem> {
        let listed = self.call("iam", operation, of).await?;
        let names: BTreeSet<&str> = items(&listed["PolicyNames"]).filter_map(Value::as_str).collect();
        Ok(json!({ "Policies": names }))
    }

    /// An instance with a role and a security group that have its name, as its tag has; its id.
    async fn instance(&self, name: &str) -> Result<String, Problem> {
        self.role(name, &json!([])).await?;
        self.call("iam", "CreateInstanceProfile", json!({ "InstanceProfileName": name })).await?;
        let role = json!({ "InstanceProfileName": name, "RoleName": name });
        self.call("iam", "AddRoleToInstanceProfile", role).await?;
        let subnet = self.call("ec2", "DescribeSubnets", json!({})).await?["Subnets"][0].clone();
        let group = json!({ "GroupName": name, "Description": "web", "VpcId": subnet["VpcId"] });
        let group = self.call("ec2", "CreateSecurityGroup", group).await?["GroupId"].clone();
        let images = self.call("ec2", "DescribeImages", json!({ "Owners": ["amazon"] })).await?;
        let run = json!({
            "ImageId": images["Images"][0]["ImageId"], "MinCount": 1, "MaxCount": 1, "SubnetId": subnet["SubnetId"],
            "SecurityGroupIds": [group],
            "MetadataOptions": { "HttpTokens": "optional", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled" },
        });
        let ran = self.call("ec2", "RunInstances", run).await?;
        let id = text(&ran["Instances"][0]["InstanceId"], "ec2:RunInstances")?;
        let profile = json!({ "InstanceId": id, "IamInstanceProfile": { "Name": name } });
        self.call("ec2", "AssociateIamInstanceProfile", profile).await?;
        let tags = json!({ "Resources": [id], "Tags": [{ "Key": "Name", "Value": name }] });
        self.call("ec2", "CreateTags", tags).await?;
        Ok(id)
    }

    async fn instance_state(&self, id: &str) -> Result<Value, Problem> {
        let described = self.call("ec2", "DescribeInstances", json!({ "InstanceIds": [id] })).await?;
        let told = &described["Reservations"][0]["Instances"][0];
        let asked = json!({ "InstanceId": id, "Attribute": "disableApiTermination" });
        let protected = self.call("ec2", "DescribeInstanceAttribute", asked).await?;
        let groups = |interface: &Value| -> BTreeSet<String> {
            let names = items(&interface["Groups"]).filter_map(|group| group["GroupName"].as_str());
            names.map(str::to_owned).collect()
        };
        let interfaces: BTreeMap<&str, BTreeSet<String>> = items(&told["NetworkInterfaces"])
            .filter_map(|interface| Some((interface["NetworkInterfaceId"].as_str()?, groups(interface))))
            .collect();
        let tags: BTreeMap<&str, &Value> =
            items(&told["Tags"]).filter_map(|tag| Some((tag["Key"].as_str()?, &tag["Value"]))).collect();
        let mut state = json!({
            "SecurityGroups": interfaces, "TerminationProtection": protected["DisableApiTermination"]["Value"],
            "State": told["State"]["Name"], "Tags": tags, "HttpTokens": told["MetadataOptions"]["HttpTokens"],
            "HopLimit": told["MetadataOptions"]["HttpPutResponseHopLimit"],
        });
        if let Some(role) = tags.get("Name").and_then(|name| name.as_str()) {
            let policies = self.policies("ListRolePolicies", json!({ "RoleName": role })).await?;
            state["RolePolicies"] = policies["Policies"].clone();
        }
        Ok(state)
    }

    /// A bucket that everybody reads.
    async fn bucket(&self, name: &str) -> Result<(), Problem> {
        let region = self.arena.region();
        let mut creation = json!({ "Bucket": name });
        if region.as_str() != "us-east-1" {
            creation["CreateBucketConfiguration"] = json!({ "LocationConstraint": region });
        }
        self.call("s3", "CreateBucket", creation).await?;
        self.call("s3", "DeletePublicAccessBlock", json!({ "Bucket": name })).await?;
        let objects = format!("arn:{}:s3:::{name}/*", self.arena.partition());
        let policy = document(&json!([
            { "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": objects },
        ]));
        self.call("s3", "PutBucketPolicy", json!({ "Bucket": name, "Policy": policy })).await.map(drop)
    }

    async fn bucket_state(&self, name: &str) -> Result<Value, Problem> {
        let bucket = || json!({ "Bucket": name });
        let block = match self.arena.call(self.account, "s3", "GetPublicAccessBlock", bucket()).await {
            Ok(answer) => answer["PublicAccessBlockConfiguration"].clone(),
            Err(error) if error.code == "NoSuchPublicAccessBlockConfiguration" => Value::Null,
            Err(error) => return Err(Problem::aws(&format!("look at bucket {name}"), &error)),
        };
        let versioning = self.call("s3", "GetBucketVersioning", bucket()).await?;
        let policy = self.call("s3", "GetBucketPolicy", bucket()).await?;
        // Versioning that never was on can only be suspended: that is as good.
        let versioned = versioning["Status"] == "Enabled";
        Ok(json!({ "PublicAccessBlock": block, "Versioned": versioned, "Policy": policy["Policy"] }))
    }

    async fn function(&self, name: &str) -> Result<String, Problem> {
        let trust = json!([
            { "Effect": "Allow", "Principal": { "Service": "lambda.amazonaws.com" }, "Action": "sts:AssumeRole" },
        ]);
        let role = self.role(name, &trust).await?;
        let function = json!({
            "FunctionName": name, "Runtime": "provided.al2023", "Handler": "bootstrap", "Role": role,
            // An empty archive: nobody invokes it.
            "Code": { "ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==" },
        });
        let made = self.call("lambda", "CreateFunction", function).await?;
        text(&made["FunctionArn"], "lambda:CreateFunction")
    }

    async fn function_state(&self, name: &str) -> Result<Value, Problem> {
        let found = self.call("lambda", "GetFunctionConcurrency", json!({ "FunctionName": name })).await?;
        Ok(json!({ "ReservedConcurrency": found["ReservedConcurrentExecutions"] }))
    }

    async fn database(&self, name: &str) -> Result<String, Problem> {
        let subnets = self.call("ec2", "DescribeSubnets", json!({})).await?;
        let ids: Vec<&Value> = items(&subnets["Subnets"]).map(|subnet| &subnet["SubnetId"]).collect();
        let places = json!({ "DBSubnetGroupName": name, "DBSubnetGroupDescription": "orders", "SubnetIds": ids });
        self.call("rds", "CreateDBSubnetGroup", places).await?;
        let group = json!({ "GroupName": name, "Description": "orders", "VpcId": subnets["Subnets"][0]["VpcId"] });
        let group = self.call("ec2", "CreateSecurityGroup", group).await?["GroupId"].clone();
        let database = json!({
            "DBInstanceIdentifier": name, "DBInstanceClass": "db.t3.micro", "Engine": "postgres", "AllocatedStorage": 20,
            "MasterUsername": "owner", "MasterUserPassword": Uuid::new_v4().simple().to_string(),
            "PubliclyAccessible": true, "DBSubnetGroupName": name, "VpcSecurityGroupIds": [group],
        });
        let made = self.call("rds", "CreateDBInstance", database).await?;
        text(&made["DBInstance"]["DBInstanceArn"], "rds:CreateDBInstance")
    }

    async fn database_state(&self, name: &str) -> Result<Value, Problem> {
        let asked = json!({ "DBInstanceIdentifier": name });
        let described = self.call("rds", "DescribeDBInstances", asked).await?;
        let told = &described["DBInstances"][0];
        let groups = items(&told["VpcSecurityGroups"]).filter_map(|group| group["VpcSecurityGroupId"].as_str());
        let groups: BTreeSet<&str> = groups.collect();
        Ok(json!({
            "SecurityGroups": groups, "Public": told["PubliclyAccessible"], "DeletionProtection": told["DeletionProtection"],
        }))
    }

    /// A cluster whose API everybody reaches.
    async fn cluster(&self, name: &str) -> Result<String, Problem> {
        let trust = json!([
            { "Effect": "Allow", "Principal": { "Service": "eks.amazonaws.com" }, "Action": "sts:AssumeRole" },
        ]);
        let role = self.role(name, &trust).await?;
        let subnets = self.call("ec2", "DescribeSubnets", json!({})).await?;
        let ids: Vec<&Value> = items(&subnets["Subnets"]).map(|subnet| &subnet["SubnetId"]).collect();
        let cluster = json!({
            "name": name, "roleArn": role, "accessConfig": { "authenticationMode": "API" },
            "resourcesVpcConfig": {
                "subnetIds": ids, "endpointPublicAccess": true, "endpointPrivateAccess": false,
                "publicAccessCidrs": ["0.0.0.0/0"],
            },
        });
        let made = self.call("eks", "CreateCluster", cluster).await?;
        text(&made["cluster"]["arn"], "eks:CreateCluster")
    }

    async fn cluster_state(&self, name: &str) -> Result<Value, Problem> {
        let described = self.call("eks", "DescribeCluster", json!({ "name": name })).await?;
        let config = &described["cluster"]["resourcesVpcConfig"];
        Ok(json!({
            "Public": config["endpointPublicAccess"], "Private": config["endpointPrivateAccess"],
            "Networks": config["publicAccessCidrs"],
        }))
    }

    /// A role that may do something in a cluster: the ARN of its access entry.
    async fn access(&self, suffix: &str) -> Result<String, Problem> {
        let name = format!("prod-{suffix}");
        let cluster = self.cluster(&name).await?;
        let role = self.role(&format!("deploy-{suffix}"), &json!([])).await?;
        let entry = json!({ "clusterName": name, "principalArn": role, "kubernetesGroups": ["deployers"] });
        self.call("eks", "CreateAccessEntry", entry).await?;
        let policy = format!("arn:{}:eks::aws:cluster-access-policy/AmazonEKSViewPolicy", self.arena.partition());
        let view = json!({
            "clusterName": name, "principalArn": role, "policyArn": policy, "accessScope": { "type": "cluster" },
        });
        self.call("eks", "AssociateAccessPolicy", view).await?;
        let named = cluster.parse().ok().zip(role.parse().ok());
        let entry = named.and_then(|(cluster, role)| EntryName::arn(&cluster, &role));
        entry
            .map(|arn| arn.to_string())
            .ok_or_else(|| Problem::refused(format!("`{role}` makes no access entry's ARN")))
    }

    async fn access_state(&self, arn: &Arn) -> Result<Value, Problem> {
        let entry = EntryName::of(arn);
        let entry = entry.ok_or_else(|| Problem::refused(format!("`{arn}` is the ARN of no access entry")))?;
        let asked = json!({ "clusterName": entry.cluster, "principalArn": entry.principal(arn.partition()) });
        let described = self.call("eks", "DescribeAccessEntry", asked.clone()).await?;
        let listed = self.call("eks", "ListAssociatedAccessPolicies", asked).await?;
        let policies = items(&listed["associatedAccessPolicies"]);
        let policies: BTreeMap<&str, &Value> =
            policies.filter_map(|policy| Some((policy["policyArn"].as_str()?, &policy["accessScope"]))).collect();
        Ok(json!({ "Groups": described["accessEntry"]["kubernetesGroups"], "Policies": policies }))
    }
}

/// A policy document of these statements, as text.
fn document(statements: &Value) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A text that an answer always has.
fn text(value: &Value, of: &str) -> Result<String, Problem> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| Problem::failed(format!("the answer to {of} does not name what was made")))
}
