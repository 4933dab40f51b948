//! Lambda `redress-orchestrator`: reads the findings queue. Only wires; see [`redress_admin::orchestrate`].

use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use redress_admin::{aws::Aws, batch, orchestrate::Orchestrator};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let (outside, me) = Aws::from_environment()?;
    let orchestrator = &Orchestrator::new(outside, me);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<_>| async move {
        let handle = |body: String| Box::pin(async move { orchestrator.message(&body, jiff::Timestamp::now()).await });
        Ok::<_, Error>(batch::each(event.payload, handle).await)
    }))
    .await
}
