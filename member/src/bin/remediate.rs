//! Lambdas `redress-remediate` and `redress-destroy`: one binary, and a function with a role of its own for what destroys.
//! Only wires; see [`redress_member::remediate`].

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use redress_common::contract::{RemediateRequest, StepAnswer};
use redress_member::native::Clients;
use redress_member::place::Place;
use redress_member::{remediate, start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let (config, evidence) = start::from_environment()?;
    let clients = Clients::new(&config);
    let (evidence, clients) = (&evidence, &clients);
    run(service_fn(|event: LambdaEvent<RemediateRequest>| async move {
        let remediation = event.payload.job.remediation_id;
        let place = Place::of_function(&event.context.invoked_function_arn)?;
        let answer = Box::pin(remediate::handle(clients, evidence, &place, event.payload)).await?;
        tracing::info!(%remediation, outcome = answer.outcome.as_str(), error = answer.error, "remediated");
        Ok::<_, Error>(StepAnswer::from(answer))
    }))
    .await
}
