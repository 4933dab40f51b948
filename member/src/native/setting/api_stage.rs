//! Stages of API Gateway: of each, only the methods that fail are changed, by patches that name their field.

use serde_json::{Map, Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static REST: Service = Service::of("apigateway", Protocol::Rest);
static GET_STAGE: Operation = REST.at("GetStage", "GET", "/restapis/{restApiId}/stages/{stageName}");
static UPDATE_STAGE: Operation = REST.at("UpdateStage", "PATCH", "/restapis/{restApiId}/stages/{stageName}");

static V2: Service =
    Service { name: "apigatewayv2", signing: "apigateway", host: "apigateway", protocol: Protocol::Rest };
static GET_V2: Operation = V2.at("GetStage", "GET", "/v2/apis/{ApiId}/stages/{StageName}");
static UPDATE_V2: Operation = V2.at("UpdateStage", "PATCH", "/v2/apis/{ApiId}/stages/{StageName}");

/// The settings of all methods of a stage that have none of their own.
const ALL: &str = "*/*";

/// Where a stage is: `/restapis/<api>/stages/<stage>`, or `/apis/…` for version 2.
struct Stage<'a> {
    v2: bool,
    api: &'a str,
    name: &'a str,
}

impl<'a> Stage<'a> {
    fn of(subject: &'a Subject) -> Option<Self> {
        let mut parts = subject.arn.resource().trim_start_matches('/').split('/');
        let (kind, api, stages, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = stages == "stages" && parts.next().is_none() && ["restapis", "apis"].contains(&kind);
        known.then_some(Self { v2: kind == "apis", api, name })
    }

    fn ask(&self) -> Ask {
        if self.v2 {
            return Ask::of(&GET_V2, json!({ "ApiId": self.api, "StageName": self.name }));
        }
        Ask::of(&GET_STAGE, json!({ "restApiId": self.api, "stageName": self.name }))
    }

    fn patched(&self, patches: Vec<Value>) -> Vec<(&'static Operation, Value)> {
        if patches.is_empty() {
            return vec![];
        }
        let input = json!({ "restApiId": self.api, "stageName": self.name, "patchOperations": patches });
        vec![(&UPDATE_STAGE, input)]
    }
}

fn stage(subject: &Subject) -> Result<Stage<'_>, NativeError> {
    Stage::of(subject).ok_or(NativeError::Refused("the ARN names no stage of an API"))
}

fn next(subject: &Subject, answers: &[Value]) -> Option<Ask> {
    Stage::of(subject).filter(|_| answers.is_empty()).map(|stage| stage.ask())
}

fn replace(path: &str, value: &str) -> Value {
    json!({ "op": "replace", "path": path, "value": value })
}

/// The path of a method's settings. The slashes of a resource's own path are written `~1` in it.
fn path_of(method: &str) -> String {
    let (resource, verb) = method.rsplit_once('/').unwrap_or((method, ""));
    format!("/{}/{verb}", resource.replace('/', "~1"))
}

/// One field of the settings of each method, by method; `keep` says which methods count.
fn of_methods(answer: &Value, field: &str, keep: impl Fn(&Value) -> bool) -> Map<String, Value> {
    let methods = at(answer, "/methodSettings").as_object().into_iter().flatten();
    methods
        .filter(|(_, settings)| keep(settings))
        .map(|(name, settings)| (name.clone(), settings[field].clone()))
        .collect()
}

/// The patches that give each method of `before` its own value back; a method that had no settings loses them.
fn back(now: &Value, before: &Value, field: &str) -> Vec<Value> {
    let (now, before) = (now["Methods"].as_object(), before["Methods"].as_object());
    let was = |method: &String| before.and_then(|before| before.get(method));
    let patch = |(method, value): (&String, &Value)| match was(method) {
        None => Some(json!({ "op": "remove", "path": path_of(method) })),
        Some(was) if was == value => None,
        Some(was) => {
            let text = was.as_str().map_or_else(|| was.to_string(), str::to_owned);
            Some(replace(&format!("{}/{field}", path_of(method)), &text))
        }
    };
    now.into_iter().flatten().filter_map(patch).collect()
}

/// REST stages take part in X-Ray traces.
pub(super) static TRACING: Setting = Setting {
    name: "api_stage_tracing",
    missing: &["NotFoundException"],
    changes: &[&UPDATE_STAGE],
    next,
    state: |_, answers| Some(json!({ "TracingEnabled": answers.first()?["tracingEnabled"] == true })),
    fix: |subject, now| {
        let patches = if now["TracingEnabled"] == true { vec![] } else { vec![replace("/tracingEnabled", "true")] };
        Ok(stage(subject)?.patched(patches))
    },
    undo: |subject, _, before| {
        let value = (before["TracingEnabled"] == true).to_string();
        Ok(stage(subject)?.patched(vec![replace("/tracingEnabled", &value)]))
    },
};

/// Methods that are cached are cached encrypted. A stage without a cache complies.
pub(super) static CACHE_ENCRYPTION: Setting = Setting {
    name: "api_stage_cache_encryption",
    missing: &["NotFoundException"],
    changes: &[&UPDATE_STAGE],
    next,
    state: |_, answers| {
        let cached = |settings: &Value| settings["cachingEnabled"] == true;
        Some(json!({ "Methods": of_methods(answers.first()?, "cacheDataEncrypted", cached) }))
    },
    fix: |subject, now| {
        let open = now["Methods"].as_object().into_iter().flatten().filter(|(_, encrypted)| **encrypted != true);
        let patches =
            open.map(|(method, _)| replace(&format!("{}/caching/dataEncrypted", path_of(method)), "true")).collect();
        Ok(stage(subject)?.patched(patches))
    },
    undo: |subject, now, before| Ok(stage(subject)?.patched(back(now, before, "caching/dataEncrypted"))),
};

fn logs(level: &Value) -> bool {
    ["ERROR", "INFO"].iter().any(|enough| level == enough)
}

/// Every method of a stage writes execution logs. A method that logs more than it must goes on doing so.
pub(super) static EXECUTION_LOGGING: Setting = Setting {
    name: "api_stage_logging",
    missing: &["NotFoundException"],
    changes: &[&UPDATE_STAGE, &UPDATE_V2],
    next,
    state: |subject, answers| {
        let answer = answers.first()?;
        if Stage::of(subject)?.v2 {
            let mut routes = at(answer, "/defaultRouteSettings").as_object().cloned().unwrap_or_default();
            routes.entry("loggingLevel").or_insert_with(|| json!("OFF"));
            return Some(json!({ "Routes": routes }));
        }
        Some(json!({ "Methods": of_methods(answer, "loggingLevel", |_| true) }))
    },
    fix: execution_logging,
    undo: |subject, now, before| {
        let stage = stage(subject)?;
        if !stage.v2 {
            return Ok(stage.patched(back(now, before, "logging/loglevel")));
        }
        let input = json!({ "ApiId": stage.api, "StageName": stage.name, "DefaultRouteSettings": before["Routes"] });
        Ok(vec![(&UPDATE_V2, input)])
    },
};

fn execution_logging(subject: &Subject, now: &Value) -> Planned {
    let stage = stage(subject)?;
    let level = subject.text("LogLevel")?;
    if stage.v2 {
        if logs(at(now, "/Routes/loggingLevel")) {
            return Ok(vec![]);
        }
        let mut routes = now["Routes"].as_object().cloned().unwrap_or_default();
        routes.insert("loggingLevel".to_owned(), json!(level));
        let input = json!({ "ApiId": stage.api, "StageName": stage.name, "DefaultRouteSettings": routes });
        return Ok(vec![(&UPDATE_V2, input)]);
    }
    let none = Map::new();
    let methods = now["Methods"].as_object().unwrap_or(&none);
    let silent = methods.iter().filter(|(_, level)| !logs(level)).map(|(method, _)| method.as_str());
    let all = (!methods.contains_key(ALL)).then_some(ALL);
    let patch = |method: &str| replace(&format!("{}/logging/loglevel", path_of(method)), level);
    Ok(stage.patched(all.into_iter().chain(silent).map(patch).collect()))
}
