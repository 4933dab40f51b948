//! Where containers are built, kept and run.

use serde_json::{Map, Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service, Until};

static ECS: Service =
    Service::of("ecs", Protocol::Json { target: "AmazonEC2ContainerServiceV20141113", version: "1.1" });
static DESCRIBE_CLUSTERS: Operation = ECS.operation("DescribeClusters");
static UPDATE_CLUSTER_SETTINGS: Operation = ECS.operation("UpdateClusterSettings");

fn insights(cluster: &Value) -> &Value {
    let settings = at(cluster, "/settings").as_array().into_iter().flatten();
    settings
        .into_iter()
        .find(|setting| setting["name"] == "containerInsights")
        .map_or(&Value::Null, |one| &one["value"])
}

/// Clusters send Container Insights. Enhanced observability is more, and stays.
pub(super) static CLUSTER_INSIGHTS: Setting = Setting {
    name: "ecs_container_insights",
    missing: &["ClusterNotFoundException"],
    changes: &[&UPDATE_CLUSTER_SETTINGS],
    next: |subject, answers| {
        let input = json!({ "clusters": [subject.arn.to_string()], "include": ["SETTINGS"] });
        Ask::once(answers, &DESCRIBE_CLUSTERS, input)
    },
    state: |_, answers| {
        let cluster = answers.first()?.pointer("/clusters/0")?;
        (cluster["status"] != "INACTIVE").then(|| json!({ "ContainerInsights": insights(cluster) }))
    },
    fix: |subject, now| {
        let good = ["enabled", "enhanced"].iter().any(|value| now["ContainerInsights"] == *value);
        Ok(if good { vec![] } else { vec![with_insights(subject, "enabled")] })
    },
    undo: |subject, _, before| {
        Ok(vec![with_insights(subject, before["ContainerInsights"].as_str().unwrap_or("disabled"))])
    },
};

fn with_insights(subject: &Subject, value: &str) -> (&'static Operation, Value) {
    let settings = json!([{ "name": "containerInsights", "value": value }]);
    (&UPDATE_CLUSTER_SETTINGS, json!({ "cluster": subject.arn.to_string(), "settings": settings }))
}

static DESCRIBE_DEFINITION: Operation = ECS.operation("DescribeTaskDefinition");
static REGISTER_DEFINITION: Operation = ECS.operation("RegisterTaskDefinition");
static DEREGISTER_DEFINITION: Operation = ECS.operation("DeregisterTaskDefinition");

/// What a definition says of itself, and nobody says of a new one.
const NOT_SAID: [&str; 10] = [
    "compatibilities",
    "deleteRequestedAt",
    "deregisteredAt",
    "family",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "taskDefinitionArn",
];
/// What is said of a new one. Whatever else there may come to be is not dropped without a word.
const SAID: [&str; 16] = [
    "containerDefinitions",
    "cpu",
    "enableFaultInjection",
    "ephemeralStorage",
    "executionRoleArn",
    "inferenceAccelerators",
    "ipcMode",
    "memory",
    "networkMode",
    "pidMode",
    "placementConstraints",
    "proxyConfiguration",
    "requiresCompatibilities",
    "runtimePlatform",
    "taskRoleArn",
    "volumes",
];

/// Of `web:7` the family: its latest active revision is the one that counts.
fn family(subject: &Subject) -> &str {
    subject.name.split_once(':').map_or(subject.name.as_str(), |(family, _)| family)
}

/// Containers cannot write to their root filesystems: a new revision of the task definition, the same but for that. An undo
/// takes the new revision away, so that the old one is the latest again.
pub(super) static READONLY_FILESYSTEMS: Setting = Setting {
    name: "ecs_readonly_filesystems",
    // ECS says so of a family that has no active revision.
    missing: &["ClientException"],
    changes: &[&REGISTER_DEFINITION, &DEREGISTER_DEFINITION],
    next: |subject, answers| {
        Ask::once(answers, &DESCRIBE_DEFINITION, json!({ "taskDefinition": family(subject), "include": ["TAGS"] }))
    },
    state: |_, answers| {
        let answer = answers.first()?;
        let definition =
            answer["taskDefinition"].as_object().filter(|definition| definition["status"] != "INACTIVE")?;
        let is_said =
            |(name, value): &(&String, &Value)| !NOT_SAID.contains(&name.as_str()) && !value.is_null() && **value != "";
        let said: Map<String, Value> =
            definition.iter().filter(is_said).map(|(name, value)| (name.clone(), value.clone())).collect();
        let tags = at(answer, "/tags").as_array().into_iter().flatten();
        let tags: Vec<&Value> =
            tags.filter(|tag| !tag["key"].as_str().is_some_and(|key| key.starts_with("aws:"))).collect();
        Some(json!({ "TaskDefinition": definition["taskDefinitionArn"], "Said": said, "Tags": tags }))
    },
    fix: readonly,
    undo: |_, now, before| {
        if now["TaskDefinition"] == before["TaskDefinition"] {
            return Ok(vec![]);
        }
        Ok(vec![(&DEREGISTER_DEFINITION, json!({ "taskDefinition": now["TaskDefinition"] }))])
    },
};

fn readonly(subject: &Subject, now: &Value) -> Planned {
    const READONLY: &str = "readonlyRootFilesystem";
    let containers = at(now, "/Said/containerDefinitions").as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.iter().all(|container| container[READONLY] == true) {
        return Ok(vec![]);
    }
    let system = at(now, "/Said/runtimePlatform/operatingSystemFamily").as_str().unwrap_or("LINUX");
    if system.starts_with("WINDOWS") {
        return Err(NativeError::Refused("Windows containers have no read-only root filesystems"));
    }
    let mut input = now["Said"].as_object().cloned().unwrap_or_default();
    if input.keys().any(|name| !SAID.contains(&name.as_str())) {
        return Err(NativeError::Refused(
            "the task definition has a part that Redress does not know how to keep; register the revision by hand",
        ));
    }
    let closed = containers.iter().map(|container| {
        let mut container = container.clone();
        container[READONLY] = json!(true);
        container
    });
    input.insert("containerDefinitions".to_owned(), closed.collect());
    input.insert("family".to_owned(), json!(family(subject)));
    // An empty list of tags is refused.
    if now["Tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
        input.insert("tags".to_owned(), now["Tags"].clone());
    }
    Ok(vec![(&REGISTER_DEFINITION, Value::Object(input))])
}

static EKS: Service = Service::of("eks", Protocol::Rest);
static DESCRIBE_CLUSTER: Operation = EKS.at("DescribeCluster", "GET", "/clusters/{Name}");
static DESCRIBE_UPDATE: Operation = EKS.at("DescribeUpdate", "GET", "/clusters/{Name}/updates/{UpdateId}");
static UPDATE_CLUSTER: Operation = Operation {
    token: Some("ClientRequestToken"),
    until: Some(Until {
        ask: &DESCRIBE_UPDATE,
        input: |asked, answered| json!({ "Name": asked["Name"], "UpdateId": at(answered, "/update/id") }),
        state: "/update/status",
        at_it: &["InProgress"],
        done: "Successful",
        errors: "/update/errors",
    }),
    ..EKS.at("UpdateClusterConfig", "POST", "/clusters/{Name}/update-config")
};

/// The types of logs that a cluster sends.
fn logs(cluster: &Value) -> Vec<&str> {
    let groups = at(cluster, "/logging/clusterLogging").as_array().into_iter().flatten();
    let on = groups.filter(|group| group["enabled"] == true);
    let mut types: Vec<&str> =
        on.flat_map(|group| at(group, "/types").as_array().into_iter().flatten()).filter_map(Value::as_str).collect();
    types.sort_unstable();
    types
}

/// Clusters send their audit log. What other types of logs they send is not touched: EKS changes the types that are named.
pub(super) static CLUSTER_AUDIT_LOG: Setting = Setting {
    name: "eks_audit_log",
    missing: &["ResourceNotFoundException"],
    changes: &[&UPDATE_CLUSTER],
    next: |subject, answers| Ask::once(answers, &DESCRIBE_CLUSTER, json!({ "Name": subject.name })),
    state: |_, answers| Some(json!({ "Logs": logs(answers.first()?.pointer("/cluster")?) })),
    fix: |subject, now| {
        let sends = now["Logs"].as_array().is_some_and(|types| types.contains(&json!("audit")));
        Ok(if sends { vec![] } else { vec![audited(subject, true)] })
    },
    undo: |subject, _, _| Ok(vec![audited(subject, false)]),
};

fn audited(subject: &Subject, on: bool) -> (&'static Operation, Value) {
    let logging = json!({ "clusterLogging": [{ "types": ["audit"], "enabled": on }] });
    (&UPDATE_CLUSTER, json!({ "Name": subject.name, "Logging": logging }))
}

static ECR: Service = Service {
    name: "ecr",
    signing: "ecr",
    host: "api.ecr",
    protocol: Protocol::Json { target: "AmazonEC2ContainerRegistry_V20150921", version: "1.1" },
};
static DESCRIBE_REPOSITORIES: Operation = ECR.operation("DescribeRepositories");
static PUT_IMAGE_TAG_MUTABILITY: Operation = ECR.operation("PutImageTagMutability");

/// Tags of images cannot be moved. A repository that exempts some tags keeps its filters, and is left alone.
pub(super) static REPOSITORY_IMMUTABILITY: Setting = Setting {
    name: "ecr_tag_immutability",
    missing: &["RepositoryNotFoundException"],
    changes: &[&PUT_IMAGE_TAG_MUTABILITY],
    next: |subject, answers| Ask::once(answers, &DESCRIBE_REPOSITORIES, json!({ "repositoryNames": [subject.name] })),
    state: |_, answers| {
        let repository = answers.first()?.pointer("/repositories/0")?;
        Some(json!({
            "imageTagMutability": repository["imageTagMutability"],
            "imageTagMutabilityExclusionFilters": repository["imageTagMutabilityExclusionFilters"],
        }))
    },
    fix: |subject, now| {
        let mutability = now["imageTagMutability"].as_str().unwrap_or_default();
        if mutability.starts_with("IMMUTABLE") {
            return Ok(vec![]);
        }
        let input = json!({ "repositoryName": subject.name, "imageTagMutability": "IMMUTABLE" });
        Ok(vec![(&PUT_IMAGE_TAG_MUTABILITY, input)])
    },
    undo: |subject, _, before| {
        let mut input = json!({ "repositoryName": subject.name, "imageTagMutability": before["imageTagMutability"] });
        let filters = &before["imageTagMutabilityExclusionFilters"];
        if !filters.is_null() {
            input["imageTagMutabilityExclusionFilters"] = filters.clone();
        }
        Ok(vec![(&PUT_IMAGE_TAG_MUTABILITY, input)])
    },
};

static CODEBUILD: Service = Service::of("codebuild", Protocol::Json { target: "CodeBuild_20161006", version: "1.1" });
static BATCH_GET_PROJECTS: Operation = CODEBUILD.operation("BatchGetProjects");
static UPDATE_PROJECT: Operation = CODEBUILD.operation("UpdateProject");

/// Builds do not run privileged. `CodeBuild` takes an environment as a whole: all else in it goes back as it was read.
pub(super) static BUILD_PRIVILEGED_MODE: Setting = Setting {
    name: "codebuild_privileged_mode",
    missing: &[],
    changes: &[&UPDATE_PROJECT],
    next: |subject, answers| Ask::once(answers, &BATCH_GET_PROJECTS, json!({ "names": [subject.name] })),
    state: |_, answers| Some(json!({ "environment": answers.first()?.pointer("/projects/0/environment")? })),
    fix: |subject, now| {
        let mut environment = now["environment"].clone();
        if environment["privilegedMode"] != true {
            return Ok(vec![]);
        }
        environment["privilegedMode"] = json!(false);
        Ok(vec![(&UPDATE_PROJECT, json!({ "name": subject.name, "environment": environment }))])
    },
    undo: |subject, _, before| {
        Ok(vec![(&UPDATE_PROJECT, json!({ "name": subject.name, "environment": before["environment"] }))])
    },
};
