//! Lambda `redress-completion`: reads the completions queue. Only wires; see [`redress_admin::completion`].

use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use redress_admin::{aws::Aws, batch, completion::Completion};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let (outside, me) = Aws::from_environment()?;
    let completion = &Completion::new(outside, me);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<_>| async move {
        let handle = |body: String| Box::pin(async move { completion.message(&body, jiff::Timestamp::now()).await });
        Ok::<_, Error>(batch::each(event.payload, handle).await)
    }))
    .await
}
