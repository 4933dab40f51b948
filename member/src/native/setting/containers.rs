//! Where containers are built, kept and run.

use serde_json::{Value, json};

use super::{Ask, Setting, Subject, at};
use crate::wire::{Operation, Protocol, Service};

static ECS: Service = Service {
    name: "ecs",
    signing: "ecs",
    host: "ecs",
    protocol: Protocol::Json { target: "AmazonEC2ContainerServiceV20141113", version: "1.1" },
};
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

static CODEBUILD: Service = Service {
    name: "codebuild",
    signing: "codebuild",
    host: "codebuild",
    protocol: Protocol::Json { target: "CodeBuild_20161006", version: "1.1" },
};
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
