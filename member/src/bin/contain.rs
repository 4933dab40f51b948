//! Lambdas `redress-contain-…`: one binary, and a function with a role of its own for each family of playbooks. Only wires;
//! see [`redress_member::remediate::contain`].

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use redress_common::contract::{ContainRequest, Outcome};
use redress_member::native::Clients;
use redress_member::place::Place;
use redress_member::{remediate, start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let (config, evidence) = start::keeper_from_environment()?;
    let clients = Clients::new(&config).with_memory_capture(start::memory_capture_from_environment()?);
    let (evidence, clients) = (&evidence, &clients);
    run(service_fn(|event: LambdaEvent<ContainRequest>| async move {
        let remediation = event.payload.request.job.remediation_id;
        let version = &event.context.env_config.version;
        let place = Place::of_function(&event.context.invoked_function_arn)?.of_version(version);
        let answer = Box::pin(remediate::contain(clients, evidence, &place, event.payload)).await?;
        let outcome = answer.outcome.map_or("none", Outcome::as_str);
        tracing::info!(%remediation, outcome, error = answer.error, "contained");
        Ok::<_, Error>(answer)
    }))
    .await
}
