//! Lambda `redress-reconciler`: invoked by a schedule, and by events of AWS Organizations. Only wires; see
//! [`redress_admin::reconcile`].

use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use redress_admin::{aws::Aws, reconcile::Reconciler};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let (outside, me) = Aws::from_environment()?;
    let reconciler = &Reconciler::new(outside, me);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<serde_json::Value>| {
        Box::pin(async move { Ok::<_, Error>(reconciler.invoked(event.payload, jiff::Timestamp::now()).await?) })
    }))
    .await
}
