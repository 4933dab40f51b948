//! Lambda `redress-guard`. Only wires; see [`redress_member::guard`].

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use redress_common::aws::config;
use redress_common::contract::GuardRequest;
use redress_member::guard::Guard;
use redress_member::place::Place;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let guard = Guard::new(config::from_environment()?, |name| std::env::var(name).ok());
    let guard = &guard;
    run(service_fn(|event: LambdaEvent<GuardRequest>| async move {
        let place = Place::of_function(&event.context.invoked_function_arn)?;
        let control = event.payload.control.clone();
        let found = guard.look(&place, event.payload).await?;
        tracing::info!(%control, dependents = found.dependent_count, unanswered = found.unanswered.len(), "looked");
        Ok::<_, Error>(found)
    }))
    .await
}
