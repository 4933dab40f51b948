//! Lambda `redress-notifier`: reads the notifications queue. Only wires; see [`redress_admin::notify`].

use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use redress_admin::notify;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let notifier = &notify::aws::from_environment()?;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<_>| async move {
        let deadline = i64::try_from(event.context.deadline).unwrap_or(i64::MAX);
        Ok::<_, Error>(Box::pin(notifier.batch(event.payload, deadline, jiff::Timestamp::now)).await)
    }))
    .await
}
