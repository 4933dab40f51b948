//! The way to `redress-api`, the function that makes every change: a signed POST to its URL.
//!
//! AWS checks the signature and tells the function who calls; nothing that is sent says so.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use redress_common::aws::failure::AwsFailure;
use redress_common::names;
use redress_common::operate::{Refusal, Request};
use serde_json::Value;

use crate::aws::Connection;
use crate::problem::Problem;

/// The function is stopped after a minute.
const PATIENCE: Duration = Duration::from_secs(65);

/// Asks for something, and gives the answer.
pub(crate) async fn call(connection: &Connection, request: &Request) -> Result<Value, Problem> {
    let url = match &connection.api_url {
        Some(url) => url.clone(),
        None => find(connection).await?,
    };
    let body = serde_json::to_string(request).map_err(|error| Problem::aws("write the request", &error))?;
    let request = signed(connection, &url, body).await?;
    let (status, body) = send(&url, request).await?;
    let answer = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if status == 200 { Ok(answer) } else { Err(refused(status, answer)) }
}

/// The function's URL, as Lambda tells it.
async fn find(connection: &Connection) -> Result<String, Problem> {
    let client = aws_sdk_lambda::Client::new(&connection.config);
    let found = client.get_function_url_config().function_name(names::API_FUNCTION).send().await;
    found.map(|found| found.function_url().to_owned()).map_err(|error| {
        let doing = format!("find the URL of function {}", names::API_FUNCTION);
        Problem::aws(&doing, &AwsFailure::of("lambda:GetFunctionUrlConfig", &error))
    })
}

async fn signed(connection: &Connection, url: &str, body: String) -> Result<HttpRequest, Problem> {
    let doing = "sign the request";
    let provider = connection.config.credentials_provider().ok_or_else(|| {
        Problem::failed("there are no AWS credentials")
            .help("log in to the administrator account (--profile), or use the lab: eval \"$(redress lab env)\"")
    })?;
    let credentials = provider.provide_credentials().await.map_err(|error| Problem::aws(doing, &error))?;
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(connection.region.as_str())
        .name("lambda")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| Problem::aws(doing, &error))?;
    let headers = [("content-type", "application/json")];
    let signable = SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
        .map_err(|error| Problem::aws(doing, &error))?;
    let (instructions, _) =
        sign(signable, &parameters.into()).map_err(|error| Problem::aws(doing, &error))?.into_parts();
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_uri(url).map_err(|error| Problem::aws(doing, &error))?;
    request.set_method("POST").map_err(|error| Problem::aws(doing, &error))?;
    request.headers_mut().insert("content-type", "application/json");
    for (name, value) in instructions.headers() {
        request.headers_mut().insert(name.to_owned(), value.to_owned());
    }
    Ok(request)
}

async fn send(url: &str, request: HttpRequest) -> Result<(u16, Vec<u8>), Problem> {
    let doing = format!("reach {url}");
    let connector = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).build();
    let answer = async {
        let answer = connector.call(request).await.map_err(|error| Problem::aws(&doing, &error))?;
        let status = answer.status().as_u16();
        let body =
            collected(answer.into_body()).await.map_err(|error| Problem::failed(format!("cannot {doing}: {error}")))?;
        Ok((status, body))
    };
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        Err(Problem::timed_out(format!("no answer from {url} in {} s", PATIENCE.as_secs()))
            .help("it may have happened; look before you ask again: redress settings show"))
    })
}

async fn collected(body: SdkBody) -> Result<Vec<u8>, String> {
    let body = aws_smithy_types::byte_stream::ByteStream::new(body).collect().await;
    body.map(|body| body.to_vec()).map_err(|error| error.to_string())
}

/// What an answer that is no success says.
fn refused(status: u16, answer: Value) -> Problem {
    let Ok(refusal) = serde_json::from_value::<Refusal>(answer.clone()) else {
        let said = answer["Message"].as_str().or(answer["message"].as_str()).unwrap_or("it did not say why");
        return match status {
            403 => Problem::refused(format!("AWS refused the request: {said}")).help(format!(
                "the caller needs role {} (lambda:InvokeFunctionUrl); `aws sts get-caller-identity` shows who you are",
                names::OPERATOR_ROLE
            )),
            _ => Problem::failed(format!("function {} failed with HTTP {status}: {said}", names::API_FUNCTION))
                .help(format!("its log says why: /aws/lambda/{}", names::API_FUNCTION)),
        };
    };
    let message = format!("{} ({})", refusal.message, refusal.code);
    match status {
        403 => Problem::refused(message),
        404 => Problem::not_found(message),
        409 => Problem::failed(message).help("nothing was changed; look at how it stands now, and ask again"),
        501 => Problem::failed(message).help("deploy a newer release"),
        503 => Problem::failed(message).help("ask again; if it lasts, see \"Break glass\" in docs/operate.md"),
        _ => Problem::failed(message).help("nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::problem::Exit;

    #[test]
    fn each_refusal_has_the_exit_code_that_is_promised() {
        let refusal = json!({ "Code": "no-such-exemption", "Message": "there is none" });
        for (status, exit) in
            [(400, Exit::Failed), (403, Exit::Refused), (404, Exit::NotFound), (409, Exit::Failed), (503, Exit::Failed)]
        {
            let problem = refused(status, refusal.clone());
            assert_eq!(problem.exit(), exit, "{status}");
            assert!(problem.plain().contains("there is none (no-such-exemption)"));
        }
    }

    #[test]
    fn what_aws_itself_refuses_names_the_permission() {
        let problem = refused(403, json!({ "Message": "Forbidden" }));
        assert_eq!(problem.exit(), Exit::Refused);
        assert!(problem.plain().contains("lambda:InvokeFunctionUrl"), "{}", problem.plain());
        assert_eq!(refused(502, json!({ "Message": "Internal Server Error" })).exit(), Exit::Failed);
    }
}
