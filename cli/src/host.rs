//! The lab as this process runs it: emulators, functions, a deployed organisation, and the control endpoint.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_sdk_sts::config::SharedCredentialsProvider;
use aws_types::SdkConfig;
use redress_common::aws::config::http_client;
use redress_common::ids::{AccountId, Region};
use redress_common::names;
use redress_lab::bed::{Bed, BedError, BedOptions};
use redress_lab::control::{self, Steered};
use redress_lab::organisation::{Organisation, Plan};
use redress_lab::scenario::{self, Scenario};
use redress_lab::service::{Aws, AwsError, Credentials};
use redress_lab::{Lab, Progress};
use redress_runbooks::Control;
use serde_json::{Map, Value, json};

use crate::aws::{Connection, assume};
use crate::output::{Answer, Output};
use crate::problem::{Exit, Problem};
use crate::running::{Running, root};
use crate::timeline::Step;

/// What member accounts are called, in order.
const NAMES: [&str; 3] = ["payments", "web", "data"];

/// The second Region of an organisation without Redress.
const FURTHER: &str = "eu-west-1";

/// Who works with it.
const OPERATOR: &str = "operator";

/// A running lab with an organisation in it.
pub(crate) struct Host {
    pub(crate) lab: Lab,
    pub(crate) organisation: Organisation,
}

impl Host {
    /// Starts it all; slow steps are told to `progress`.
    pub(crate) async fn start(members: u8, port: u16, progress: Progress) -> Result<Self, Problem> {
        Self::start_with(members, port, None, progress).await
    }

    /// The same; with these controls instead of those that were generated.
    pub(crate) async fn start_with(
        members: u8,
        port: u16,
        controls: Option<&[Control]>,
        progress: Progress,
    ) -> Result<Self, Problem> {
        started(Self::bed(Self::options(members, port, progress)?, controls).await)
    }

    /// An organisation in two Regions, without Redress.
    async fn start_empty(members: u8, port: u16, progress: Progress) -> Result<Self, Problem> {
        let options = Self::options(members, port, progress)?;
        let names: Vec<&str> = options.members.iter().map(String::as_str).collect();
        let plan = Plan::of(&options.root, &names, options.progress.clone());
        let mut plan = plan.map_err(|error| Problem::aws("start the lab", &error))?;
        plan.further_regions = vec![FURTHER.parse().map_err(|error| Problem::aws("choose a second Region", &error))?];
        started(Bed::start_empty(options, plan).await)
    }

    fn options(members: u8, port: u16, progress: Progress) -> Result<BedOptions, Problem> {
        let name =
            |index| NAMES.get(index).map_or_else(|| format!("member-{}", index + 1), |name: &&str| (*name).to_owned());
        let here = std::env::current_exe().map_err(|error| Problem::aws("find the functions' binaries", &error))?;
        Ok(BedOptions {
            root: root(),
            binaries: here.parent().map(Path::to_owned).unwrap_or_default(),
            port,
            members: (0..usize::from(members)).map(name).collect(),
            progress,
        })
    }

    async fn bed(options: BedOptions, controls: Option<&[Control]>) -> Result<Bed, BedError> {
        let Some(controls) = controls else { return Bed::start(options).await };
        let members: Vec<&str> = options.members.iter().map(String::as_str).collect();
        let plan = Plan::of(&options.root, &members, options.progress.clone())?.with_controls(controls)?;
        Bed::start_planned(options, plan).await
    }

    /// One AWS call as the root of an account.
    pub(crate) async fn as_root(
        &self,
        account: &AccountId,
        service: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, AwsError> {
        let root = Credentials::root(account.as_str());
        self.lab.aws().call(&root, self.organisation.region.as_str(), service, operation, parameters).await
    }

    /// The operator, as the command line connects.
    pub(crate) async fn operator(&self) -> Result<Connection, Problem> {
        self.operator_called(OPERATOR).await
    }

    /// The same, somebody of that name.
    pub(crate) async fn operator_called(&self, who: &str) -> Result<Connection, Problem> {
        let (organisation, endpoint) = (&self.organisation, self.lab.endpoint());
        let role = organisation.operator_role_arn();
        let session = session_of(who, endpoint, &organisation.region, &organisation.administrator.id, &role).await?;
        Ok(Connection {
            config: config(endpoint, &organisation.region, session).await,
            region: organisation.region.clone(),
            api_url: None,
        })
    }

    /// The steps of an execution and of the ones that it started.
    pub(crate) async fn steps(&self, account: &AccountId, execution: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut executions = vec![execution.to_owned()];
        while let Some(id) = executions.pop() {
            let asked = json!({ "AutomationExecutionId": id });
            let answer = self.as_root(account, "ssm", "GetAutomationExecution", asked).await.unwrap_or_default();
            let execution = &answer["AutomationExecution"];
            let document = execution["DocumentName"].as_str().unwrap_or_default();
            for step in execution["StepExecutions"].as_array().into_iter().flatten() {
                let text = |name: &str| step[name].as_str().unwrap_or_default();
                let nested =
                    step["Outputs"]["ExecutionId"][0].as_str().filter(|_| text("Action") == "aws:executeAutomation");
                executions.extend(nested.map(str::to_owned));
                if let (Ok(start), Ok(end)) = (text("ExecutionStartTime").parse(), text("ExecutionEndTime").parse()) {
                    let (name, status) = (text("StepName").to_owned(), text("StepStatus").to_owned());
                    steps.push(Step { document: document.to_owned(), name, status, start, end });
                }
            }
        }
        steps
    }

    /// What this lab says of itself in `.lab/lab.json`.
    fn running(&self, control: &control::Control) -> Running {
        Running {
            endpoint: self.lab.endpoint().to_owned(),
            control: control.url.clone(),
            token: control.token.clone(),
            region: self.organisation.region.clone(),
            administrator: self.organisation.administrator.id.clone(),
            members: self.organisation.members.iter().map(|member| member.id.clone()).collect(),
            external_id: self.organisation.external_ids.reveal().to_owned(),
        }
    }
}

fn started(bed: Result<Bed, BedError>) -> Result<Host, Problem> {
    let bed = bed.map_err(|error| match error {
        BedError::NotBuilt(path) => Problem::not_found(format!("a function's binary is not there: {}", path.display()))
            .help("build everything first: cargo build --workspace"),
        other => Problem::aws("start the lab", &other),
    })?;
    Ok(Host { lab: bed.lab, organisation: bed.organisation })
}

/// Starts a lab and keeps it until somebody ends it.
pub(crate) async fn up(members: u8, port: u16, empty: bool, output: Output) -> Result<Answer, Problem> {
    if let Ok(other) = Running::find()
        && other.status().await.is_ok()
    {
        return Err(Problem::refused(format!("a lab is running already, at {}", other.endpoint))
            .help("use it, or end it first: redress lab down"));
    }
    let progress: Progress = Arc::new(move |text: &str| output.progress(&format!("  {text}")));
    let mut host = if empty {
        Host::start_empty(members, port, progress).await?
    } else {
        Host::start(members, port, progress).await?
    };
    host.lab.run_schedules();
    let host = Arc::new(host);
    let control = control::Control::serve(host.clone())
        .await
        .map_err(|error| Problem::aws("open the lab's control port", &error))?;
    let running = host.running(&control);
    let announced = running.announce()?;
    if output.is_json() {
        output.answer(&Answer::new(&running, String::new())?);
    } else {
        output.say(&if empty { invitation(&host).await? } else { welcome(&host.organisation, &running) });
    }
    tokio::select! {
        () = control.stopped() => {}
        () = interrupted() => {}
    }
    output.progress("stopping the lab …");
    drop(announced);
    drop(control);
    // The control endpoint held the other reference; without it the lab can be waited for.
    for _ in 0..100 {
        if Arc::strong_count(&host) == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    if let Some(host) = Arc::into_inner(host) {
        host.lab.stop().await;
    }
    Ok(Answer::silent(Exit::Done))
}

/// Ctrl-C, or a polite kill.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let asked = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = asked => {}
    }
}

/// How to call this command, when the shell would not find it. Empty when it would.
pub(crate) fn alias() -> String {
    let here = std::env::current_exe().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join("redress") == here);
    if found { String::new() } else { format!("  alias redress={}\n", here.display()) }
}

fn welcome(organisation: &Organisation, running: &Running) -> String {
    let mut text = format!(
        "\nThe lab runs at {}, in {}.\n\n  {}  {} (administrator)\n",
        running.endpoint, organisation.region, organisation.administrator.id, organisation.administrator.name
    );
    for member in &organisation.members {
        text.push_str(&format!("  {}  {}\n", member.id, member.name));
    }
    text.push_str(&format!(
        "
In another terminal:
{}  eval \"$(redress lab env)\"        be the operator; `--account <id>` to be the root of an account
  redress lab scenarios            what can be broken
  redress lab break <scenario>     break it; Redress repairs it
  redress lab status               how everything stands
  redress audit list               what was done, and `redress why`, `redress undo` of it
  aws s3 ls                        any other AWS client works too

Ctrl-C ends it.
",
        alias()
    ));
    text
}

/// How to deploy Redress into an organisation that has none: a release of this repository, and the commands.
async fn invitation(host: &Host) -> Result<String, Problem> {
    let (organisation, folder) = (&host.organisation, root().join(".lab/release"));
    // What an earlier lab wrote there may have files that this one's list does not know.
    let _ = std::fs::remove_dir_all(&folder);
    redress_lab::release::write(&root(), &folder, env!("CARGO_PKG_VERSION"))
        .map_err(|error| Problem::aws("write the lab's release", &error))?;
    let administrator = &organisation.administrator.id;
    let failed = |error: AwsError| Problem::aws("read the lab's organisation", &error);
    let roots = host.as_root(administrator, "organizations", "ListRoots", json!({})).await.map_err(failed)?;
    let top = roots["Roots"][0]["Id"].as_str().unwrap_or_default();
    let listed = async |parent: &str| {
        let asked = json!({ "ParentId": parent });
        host.as_root(administrator, "organizations", "ListOrganizationalUnitsForParent", asked).await.map_err(failed)
    };
    let workloads = listed(top).await?["OrganizationalUnits"][0]["Id"].as_str().unwrap_or_default().to_owned();
    let below = listed(&workloads).await?;
    let pilot =
        below["OrganizationalUnits"].as_array().into_iter().flatten().find(|unit| unit["Name"] == "Development");
    let pilot = pilot.and_then(|unit| unit["Id"].as_str());
    let pilot = pilot.map(|unit| format!(" --pilot-unit {unit}")).unwrap_or_default();
    Ok(format!(
        r#"
The lab runs at {endpoint}: an organisation in {home} and {FURTHER}, without Redress.

In another terminal, in a folder of your own:
{alias}  eval "$(redress lab env --account {administrator})"
  redress deploy init --yes --organization {id} --administrator {administrator} --home-region {home} \
    --further-region {FURTHER} --target-unit {workloads}{pilot} --policy-set standard \
    --no-deletion-protection --release {folder}
  redress deploy plan
  redress deploy apply
  redress deploy status

Then it is a lab as any other: redress lab break, redress audit list. Ctrl-C ends it.
"#,
        endpoint = host.lab.endpoint(),
        home = organisation.region,
        id = organisation.id,
        alias = alias(),
        folder = folder.display(),
    ))
}

/// A session of a role of the lab's, for a client outside this process.
pub(crate) async fn session(
    endpoint: &str,
    region: &Region,
    account: &AccountId,
    role_arn: &str,
) -> Result<Credentials, Problem> {
    session_of(OPERATOR, endpoint, region, account, role_arn).await
}

async fn session_of(
    who: &str,
    endpoint: &str,
    region: &Region,
    account: &AccountId,
    role_arn: &str,
) -> Result<Credentials, Problem> {
    let config = config(endpoint, region, Credentials::root(account.as_str())).await;
    let given = assume(&config, role_arn, who, None).await?;
    Ok(Credentials {
        access_key_id: given.access_key_id().to_owned(),
        secret_access_key: given.secret_access_key().to_owned(),
        session_token: given.session_token().map(str::to_owned),
    })
}

/// A client of the lab's.
pub(crate) async fn config(endpoint: &str, region: &Region, credentials: Credentials) -> SdkConfig {
    let Credentials { access_key_id, secret_access_key, session_token } = credentials;
    let keys = aws_sdk_sts::config::Credentials::new(access_key_id, secret_access_key, session_token, None, "lab");
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .endpoint_url(endpoint)
        .region(aws_types::region::Region::new(region.to_string()))
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .load()
        .await
}

#[async_trait]
impl Steered for Host {
    fn scenarios(&self) -> Value {
        let row = |scenario: &Scenario| json!({ "Scenario": scenario.name, "Control": scenario.control, "What": scenario.title });
        scenario::list().iter().map(row).collect()
    }

    async fn break_it(&self, scenario: &str, account: Option<&str>) -> Result<Value, String> {
        let members = &self.organisation.members;
        let chosen = match account {
            None => members.first(),
            Some(id) => members.iter().find(|member| member.id.as_str() == id),
        };
        let chosen =
            chosen.ok_or_else(|| format!("`{}` is no member account of this lab", account.unwrap_or_default()))?;
        let broken = scenario::run(scenario, self.lab.aws(), &chosen.id, &self.organisation.region).await;
        broken.map(|broken| json!(broken)).map_err(|error| error.to_string())
    }

    async fn status(&self) -> Value {
        let mut status = Map::new();
        status.insert("Endpoint".to_owned(), json!(self.lab.endpoint()));
        let accounts = std::iter::once(&self.organisation.administrator).chain(&self.organisation.members);
        let mut stacks = Vec::new();
        for account in accounts {
            let described = self.as_root(&account.id, "cloudformation", "DescribeStacks", json!({})).await;
            for stack in described.unwrap_or_default()["Stacks"].as_array().into_iter().flatten() {
                stacks.push(json!({
                    "Account": account.id, "Name": account.name,
                    "Stack": stack["StackName"], "Status": stack["StackStatus"],
                }));
            }
        }
        status.insert("Stacks".to_owned(), stacks.into());
        status.insert("NonCompliant".to_owned(), self.non_compliant().await.into());
        status.insert("Remediations".to_owned(), self.remediations().await);
        status.insert("Queues".to_owned(), self.queues().await.into());
        let failed = self.lab.record().deliveries().into_iter().filter(|delivery| delivery.error.is_some());
        let failed: Vec<Value> = failed
            .map(|delivery| {
                json!({
                    "Event": delivery.event_id, "Type": delivery.detail_type, "Target": delivery.target_arn,
                    "Error": delivery.error, "DeadLettered": delivery.dead_lettered,
                })
            })
            .collect();
        status.insert("FailedDeliveries".to_owned(), failed.into());
        Value::Object(status)
    }

    fn aws(&self) -> Arc<dyn Aws> {
        self.lab.aws()
    }
}

impl Host {
    /// What the members' Config rules find wrong now.
    async fn non_compliant(&self) -> Vec<Value> {
        let mut found = Vec::new();
        for member in &self.organisation.members {
            let rules = self.as_root(&member.id, "config", "DescribeConfigRules", json!({})).await.unwrap_or_default();
            for rule in rules["ConfigRules"].as_array().into_iter().flatten() {
                let asked = json!({ "ConfigRuleName": rule["ConfigRuleName"], "ComplianceTypes": ["NON_COMPLIANT"] });
                let details = self.as_root(&member.id, "config", "GetComplianceDetailsByConfigRule", asked).await;
                for result in details.unwrap_or_default()["EvaluationResults"].as_array().into_iter().flatten() {
                    let of = &result["EvaluationResultIdentifier"]["EvaluationResultQualifier"];
                    found.push(
                        json!({ "Account": member.id, "Rule": of["ConfigRuleName"], "Resource": of["ResourceId"] }),
                    );
                }
            }
        }
        found
    }

    /// How many remediations stand where.
    async fn remediations(&self) -> Value {
        let asked = json!({ "TableName": names::AUDIT_TABLE });
        let scanned = self.as_root(&self.organisation.administrator.id, "dynamodb", "Scan", asked).await;
        let scanned = scanned.unwrap_or_default();
        let mut newest: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
        for item in scanned["Items"].as_array().into_iter().flatten() {
            let number =
                |name: &str| item[name]["N"].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
            let (Some(id), Some(state)) = (item["RemediationId"]["S"].as_str(), item["ExecutionStatus"]["S"].as_str())
            else {
                continue;
            };
            let known = newest.entry(id).or_default();
            *known = (*known).max((number("Timestamp"), state));
        }
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        newest.into_values().for_each(|(_, state)| *counts.entry(state).or_default() += 1);
        json!(counts)
    }

    /// The administrator's queues, dead-letter queues among them.
    async fn queues(&self) -> Vec<Value> {
        let account = &self.organisation.administrator.id;
        let mut queues = Vec::new();
        for queue in [names::FINDINGS_QUEUE, names::FINDINGS_DLQ, names::COMPLETIONS_QUEUE, names::COMPLETIONS_DLQ] {
            let url =
                self.as_root(account, "sqs", "GetQueueUrl", json!({ "QueueName": queue })).await.unwrap_or_default();
            let asked = json!({ "QueueUrl": url["QueueUrl"], "AttributeNames": ["All"] });
            let found = self.as_root(account, "sqs", "GetQueueAttributes", asked).await.unwrap_or_default();
            let of = |name: &str| found["Attributes"][name].as_str().unwrap_or_default().to_owned();
            queues.push(json!({
                "Queue": queue, "Waiting": of("ApproximateNumberOfMessages"), "InFlight": of("ApproximateNumberOfMessagesNotVisible"),
            }));
        }
        queues
    }
}
