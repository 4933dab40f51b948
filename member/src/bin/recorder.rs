//! Lambda `redress-recorder`. Only wires; see [`redress_member::recorder`].

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use redress_common::contract::{RecorderRequest, StepAnswer};
use redress_member::place::Place;
use redress_member::{recorder, start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let (_, evidence) = start::from_environment()?;
    let evidence = &evidence;
    run(service_fn(|event: LambdaEvent<RecorderRequest>| async move {
        let place = Place::of_function(&event.context.invoked_function_arn)?;
        let answer = Box::pin(recorder::handle(evidence, &place, event.payload)).await?;
        tracing::info!(decision = answer.decision, "recorded");
        Ok::<_, Error>(StepAnswer::from(answer))
    }))
    .await
}
