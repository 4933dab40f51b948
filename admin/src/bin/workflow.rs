//! Lambda `redress-workflow`: the steps of the state machine. Only wires; see [`redress_admin::workflow`].

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn, tracing};
use redress_admin::{
    aws::Aws,
    workflow::{Request, Workflow},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let (outside, me) = Aws::from_environment()?;
    let workflow = &Workflow::new(outside, me);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Request>| async move {
        workflow.step(&event.payload, jiff::Timestamp::now()).await.map_err(Diagnostic::from)
    }))
    .await
}
