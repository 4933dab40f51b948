"""The lab's base emulator: MiniStack, and what the gateway asks of it beyond AWS's own API.

MiniStack serves most services and holds every account's IAM state, so it also judges the calls that
the gateway serves elsewhere. The gateway alone may ask for that: it knows LAB_TOKEN. Two ways in:

* header `x-lab` (base64 JSON) on an ordinary AWS request. `{"judge_only": true}` stops after the verdict: an
  allowed request is answered 200 with `x-lab-allowed`, a refused one as AWS refuses it. `service`,
  `action` and `resources` replace what MiniStack reads from the request.
* `POST /_lab/<question>`: see QUESTIONS.

Every answer to a signed request carries `x-lab-checks`: the authorisation checks that were made.
"""

import asyncio
import base64
import concurrent.futures
import contextvars
import datetime
import functools
import gc
import json
import os
import re
import secrets
import threading
import time
import urllib.parse

PORT = int(os.environ["LAB_BASE_PORT"])
TOKEN = os.environ["LAB_TOKEN"].encode()

import amend
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions
import botocore.httpsession
import botocore.model
import botocore.response
import botocore.session
import ministack.app as ministack
import organisation
import states
from ministack.core import iam_actions, iam_evaluator
from ministack.core.arn import ArnParseError, parse_arn
from ministack.core.responses import get_account_id, request_scope
from ministack.services import eks, iam, sts

# --- One request: what the gateway orders, and the checks made -------------------------------------------


class Asked:
    """The gateway's orders for the current request, and the checks made for it."""

    def __init__(self, orders):
        self.orders = orders
        self.checks = []
        self.operation = None


asked: contextvars.ContextVar[Asked | None] = contextvars.ContextVar("lab_asked", default=None)


def order(name, default=None):
    current = asked.get()
    return default if current is None else current.orders.get(name, default)


def observe_authorisation():
    """Note every check of `enforce`, and let the gateway's orders name action and resources."""
    enforce, action_of, resource_of = (
        iam_evaluator.enforce, iam_actions.extract_iam_action, iam_actions.extract_resource_arn)
    detect = ministack.detect_service

    def observed(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        # Several ordered resources stand for one request: all of them must be allowed.
        resources = order("resources") or [resource_arn]
        service_context = {**(service_context or {}), **order("context", {})}
        denied = None
        for resource in resources:
            denied = enforce(access_key_id, iam_action, service, region, resource, service_context)
            if asked.get() is not None:
                caller = iam_evaluator.resolve_caller_identity(access_key_id) or {}
                asked.get().checks.append({
                    "principal": caller.get("userArn", ""), "account": get_account_id(), "action": iam_action,
                    "resource": resource, "allowed": denied is None, "operation": asked.get().operation})
            if denied:
                break
        return denied

    iam_evaluator.enforce = observed
    # How those are refused that MiniStack does not serve.
    iam_actions._SERVICE_PROTOCOL.update(
        {"elasticbeanstalk": "query-xml", "elb": "query-xml", "redshift": "query-xml"})

    def noted_action(service, method, path, headers, body, query):
        if asked.get() is not None and service == "s3":
            asked.get().operation = s3_operation(method, path, headers, query)
        return order("action") or action_of(service, method, path, headers, body, query)

    iam_actions.extract_iam_action = noted_action
    iam_actions.extract_resource_arn = lambda *args: (order("resources") or [None])[0] or resource_of(*args)
    ministack.detect_service = lambda *args: order("service") or detect(*args)


def s3_operation(method, path, headers, query):
    """The API name of an S3 request, where its IAM action has another one or stands for several."""
    if len([part for part in path.split("/") if part]) < 2:
        name = operation({"service": "s3", "method": method, "path": path, "query": query})["operation"]
        # Each was replaced by one that is called by the same request.
        replaced = ("GetBucketLifecycle", "GetBucketNotification", "PutBucketLifecycle", "PutBucketNotification")
        return f"{name}Configuration" if name in replaced else name
    if method == "HEAD":
        return "HeadObject"
    return "CopyObject" if "x-amz-copy-source" in headers else None


class Handlers(dict):
    """MiniStack's services; a request that is only to be judged ends here instead."""

    def get(self, name, default=None):
        return allowed if order("judge_only") else super().get(name, default)


def judge_account_settings_of_s3():
    """MiniStack refuses this path of S3's control API before it looks at who asks."""
    handle = ministack._handle_s3_control_request

    async def judged(path, method, body, query_params, request_id, headers=None):
        if path != "/v20180820/configuration/publicAccessBlock" or not order("judge_only"):
            return await handle(path, method, body, query_params, request_id, headers)
        denied = ministack._enforce_data_plane("s3", order("action"), headers, query_params, request_id)
        return denied or await allowed(method, path, headers, body, query_params)

    ministack._handle_s3_control_request = judged


async def allowed(method, path, headers, body, query_params):
    return 200, {"x-lab-allowed": "yes", "Content-Type": "application/json"}, b"{}"


# --- Questions ---------------------------------------------------------------------------------------


def refusal(code, message, status=403):
    return {"error": {"status": status, "code": code, "message": message}}


def caller(question):
    """Whose access key this is."""
    key = question["access_key_id"]
    with request_scope(account_of(key), question.get("region") or "us-east-1"):
        known = iam_evaluator.resolve_caller_identity(key)
    return {"account": known["accountId"], "arn": known["userArn"]} if known else refusal(
        "UnrecognizedClientException", "The security token included in the request is invalid.")


def token(question):
    """Who signed a token for a cluster of EKS. It is a request to STS, signed and not sent, with the cluster's name in a
    header: a good signature of that request is a token of that cluster."""
    if eks._verify_eks_token(question["token"], question["cluster"]) is None:
        return refusal("Unauthorized", "the token is not one of this cluster, is too old, or its signature is wrong", 401)
    _, query = eks._decode_aws_iam_token(question["token"])
    return caller({"access_key_id": query["X-Amz-Credential"][0].split("/")[0]})


def identity(question):
    """What a function behind an IAM-authorised URL is told of its caller."""
    key = question["access_key_id"]
    with request_scope(account_of(key), "us-east-1"):
        known = iam_evaluator.resolve_caller_identity(key) or {}
    return {"ok": {"accessKey": key, "accountId": known.get("accountId"), "callerId": known.get("userId"),
                   "cognitoIdentity": None, "principalOrgId": known.get("principalOrgId"),
                   "userArn": known.get("userArn"), "userId": known.get("userId")}}


def account_of(access_key_id):
    session = sts._sessions.get(access_key_id)
    if session:
        return session["Arn"].split(":")[4]
    return ministack._request_account_scope(access_key_id)


def operation(question):
    """The API name of a REST request's operation."""
    service = question["service"]
    if service not in iam_actions._REST_ROUTE_CACHE:
        iam_actions._BOTOCORE_SERVICE_MAP.setdefault(service, [service])
    name = iam_actions._match_rest_action(service, question["method"], question["path"], question.get("query"))
    return {"operation": name}


def request(question):
    """The operation of a request to one of the `models`, and its parameters of the first level."""
    for name in question["models"]:
        model = boto.get_service_model(name)
        found = read_request(model, question)
        if found:
            operation, parameters = found
            return {"operation": re.sub(r"\d{4}_\d{2}_\d{2}$", "", operation), "parameters": plain(parameters)}
    return refusal("LabCannotTell", f"no operation of {' or '.join(question['models'])} is called so: "
                                    f"{question['method']} {question['path']} {question['target']}", 501)


def read_request(model, question):
    body = base64.b64decode(question["body"])
    path, _, query = question["path"].partition("?")
    query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    if question["target"]:
        operation = question["target"].rpartition(".")[2]
        return (operation, json.loads(body or b"{}")) if operation in model.operation_names else None
    form = query
    if question["content_type"].startswith("application/x-www-form-urlencoded"):
        form = {**query, **dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))}
    if "Action" in form:
        operation = form["Action"]
        if operation not in model.operation_names or form.get("Version") != model.metadata["apiVersion"]:
            return None
        return operation, form_parameters(model, model.operation_model(operation).input_shape, form)
    for method, pattern, labels, wanted, operation in routes(model):
        matched = pattern.fullmatch(path) if method == question["method"] else None
        if matched and all(query.get(key) == value for key, value in wanted.items()):
            values = {label: urllib.parse.unquote(value) for label, value in zip(labels, matched.groups())}
            return operation, rest_parameters(model.operation_model(operation).input_shape, values, query, body)
    return None


def form_parameters(model, shape, form):
    """Texts and lists of them, whatever the members of a list are called."""
    found = {}
    for name, member in (shape.members if shape else {}).items():
        sent = member.serialization.get("name", name)
        if model.metadata["protocol"] == "ec2":
            sent = member.serialization.get("queryName") or sent[0].upper() + sent[1:]
        if sent in form:
            found[name] = form[sent]
        elif member.type_name == "list":
            # `Name.1`, `Name.member.1`, `Name.Item.1`; flattened, it may be called as its members are.
            inner = member.member.serialization.get("name") or sent
            number = re.compile(rf"({re.escape(sent)}(\.\w+)?|{re.escape(inner)})\.\d+")
            items = [value for key, value in form.items() if number.fullmatch(key)]
            if items:
                found[name] = items
    return found


def rest_parameters(shape, labels, query, body):
    try:
        sent = json.loads(body or b"{}")
    except ValueError:
        sent = {}
    found = {}
    for name, member in (shape.members if shape else {}).items():
        said = member.serialization.get("name", name)
        source = {"uri": labels, "querystring": query, None: sent if isinstance(sent, dict) else {}}
        value = source.get(member.serialization.get("location"), {}).get(said)
        if value is not None:
            found[name] = value
    return found


@functools.cache
def routes(model):
    """(method, pattern of the path, its labels, what the query must say, operation), the most particular first."""
    found = []
    for operation in model.operation_names:
        http = model.operation_model(operation).http
        path, _, query = http["requestUri"].partition("?")
        wanted = {key: value for key, _, value in (part.partition("=") for part in query.split("&") if part)
                  if not value.startswith("{")}
        parts = re.split(r"{(\w+\+?)}", path.rstrip("/"))
        texts, labels = parts[::2], parts[1::2]
        pattern = re.escape(texts[0]) + "".join(
            ("(.+)" if label.endswith("+") else "([^/]+)") + re.escape(text) for label, text in zip(labels, texts[1:]))
        particular = len(wanted), sum(map(len, texts))
        found.append((particular, (http["method"], re.compile(pattern + "/?"), [label.rstrip("+") for label in labels],
                                   wanted, operation)))
    return [route for _, route in sorted(found, key=lambda one: one[0], reverse=True)]


def source_of(service, account):
    """In whose name a service assumes a role, for a test that does not say: something of the role's own account."""
    sources = {"ssm.amazonaws.com": "ssm:us-east-1:{}:automation-execution/test",
               "events.amazonaws.com": "events:us-east-1:{}:rule/redress-forward-test"}
    return f"arn:aws:{sources[service].format(account)}" if service in sources else None


def session(question):
    """A session of a role for an AWS service, if the role's trust policy lets that service in."""
    role_arn, service, name = question["role_arn"], question["service_principal"], question["session_name"]
    try:
        spec = parse_arn(role_arn)
    except ArnParseError:
        return refusal("ValidationError", f"{role_arn} is invalid", 400)
    role = iam._roles.get_scoped(spec.account_id, None, spec.resource.rsplit("/", 1)[-1])
    not_assumable = refusal("AccessDenied", f"{service} is not authorized to perform: sts:AssumeRole on resource: {role_arn}")
    if role is None:
        return not_assumable
    context = iam_evaluator.EvalContext(
        principal_arn="*", principal_type="Service", principal_account="", action="sts:AssumeRole",
        resource_arn=role_arn, region=question.get("region", ""),
        service_context={"aws:sourceaccount": question.get("source_account") or spec.account_id,
                         "aws:sourcearn": question.get("source_arn") or source_of(service, spec.account_id)})
    trust = role.get("AssumeRolePolicyDocument", "{}")
    if iam_evaluator.evaluate_resource_policy(trust, context, service=service).decision != "Allow":
        return not_assumable
    key, secret, token = "ASIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30), secrets.token_urlsafe(96)
    arn, _ = sts._assumed_role_arn(role_arn, name)
    sts.register_session(key, {
        "Arn": arn, "UserId": f"{role.get('RoleId', 'AROA')}:{name}", "SecretAccessKey": secret, "SessionToken": token,
        "Expiration": time.time() + 43200, "AccountId": spec.account_id, "PrincipalType": "AssumedRole"})
    return {"ok": {"AccessKeyId": key, "SecretAccessKey": secret, "SessionToken": token}}


def check(question):
    """Whether a caller may do an action on a resource: by its identity policies, or by the `policy` of the resource."""
    arn, action, resource = question["caller_arn"], question["action"], question["resource"]
    account = arn.split(":")[4] if arn.count(":") > 4 else ""
    context = iam_evaluator.EvalContext(
        principal_arn=arn, principal_type="AssumedRole", principal_account=account, action=action,
        resource_arn=resource, region=question.get("region", ""),
        service_context={key.lower(): value for key, value in (question.get("context") or {}).items()})
    if "policy" in question:
        verdict = iam_evaluator.evaluate_resource_policy(
            question["policy"], context, service=question.get("service_principal")).decision
    elif arn.endswith(":root"):
        verdict = "Allow"
    else:
        layers = identity_policies(arn, account)
        verdict = iam_evaluator.evaluate(context, *layers).decision if layers else "ImplicitDeny"
    if verdict == "Allow":
        return {"ok": {}}
    return refusal("AccessDeniedException", f"User: {arn} is not authorized to perform: {action} on resource: {resource}")


def judge(question):
    """The verdict on a request that nobody makes, of a service or a session of a role, by the policies that are deployed."""
    who, action, resource = question["who"], question["action"], question["resource"]
    keys = {key.lower(): value for key, value in question["context"].items()}
    is_session = who.startswith("arn:")
    account = who.split(":")[4] if is_session else ""
    context = iam_evaluator.EvalContext(
        principal_arn=who if is_session else "*", principal_type="AssumedRole" if is_session else "Service",
        principal_account=account, action=action, resource_arn=resource, region=question["region"],
        secure_transport=keys.pop("aws:securetransport", "true") == "true", service_context=keys)
    if is_session:
        role = iam_evaluator._role_name_from_assumed_arn(who)
        limits = iam_evaluator._permissions_boundary(iam._roles, role, account)
        verdict = iam_evaluator.evaluate(context, iam_evaluator._gather_role_policies(role, account), *limits)
        verdict = iam_evaluator.combine_resource_policy(
            verdict, context, question["policy"], question["owner"], limits=limits,
            # A key and a role let in whom their own policy lets in, also at home.
            required=action.startswith(("kms:", "sts:")))
    else:
        verdict = iam_evaluator.evaluate_resource_policy(question["policy"], context, service=who)
    return {"ok": {"allowed": verdict.decision == "Allow"}}


def identity_policies(arn, account):
    """What a principal may do, and what limits it (permissions boundary, session policies)."""
    key = next((key for key, held in list(sts._sessions.items()) if held.get("Arn") == arn), None)
    if key is not None:
        principal = iam_evaluator.resolve_principal(key, account)
        return None if isinstance(principal, iam_evaluator.AuthError) else [principal.policies, *principal.limits]
    name = arn.rsplit("/", 1)[-1]
    with request_scope(account, "us-east-1"):
        return [iam_evaluator._gather_user_policies(name, account),
                *iam_evaluator._permissions_boundary(iam._users, name, account)]


# --- Calls by botocore, for whoever has no SDK of its own ----------------------------------------------


class CallersCredentials(botocore.credentials.Credentials):
    """The credentials of the call that this thread is making: one client serves every caller."""

    current = threading.local()

    def get_frozen_credentials(self):
        return self.current.credentials


credentials = CallersCredentials("lab", "lab")
boto = botocore.session.Session(session_vars={"config_file": (None, None, os.devnull, None)})
boto._credentials = credentials
clients, clients_lock = {}, threading.Lock()
CONFIG = botocore.config.Config(
    retries={"total_max_attempts": 1}, read_timeout=60, max_pool_connections=64, s3={"addressing_style": "path"},
    user_agent="redress-lab",  # the one that it works out anew each time is a twenty-fifth of a call
    inject_host_prefix=False, request_checksum_calculation="when_required", response_checksum_validation="when_required")


def client(service, region, endpoint):
    with clients_lock:
        if (service, region, endpoint) not in clients:
            made = boto.create_client(service, region_name=region, endpoint_url=endpoint, config=CONFIG)
            # It says the account before the host's name, which the loopback address cannot have.
            made.meta.events.register("before-sign.s3-control", functools.partial(to_endpoint, endpoint))
            clients[service, region, endpoint] = made
        return clients[service, region, endpoint]


def to_endpoint(endpoint, request, **_):
    request.url = endpoint + "/" + request.url.split("/", 3)[3]


def call(question):
    """One AWS API call, signed by the given credentials."""
    given = question["credentials"]
    credentials.current.credentials = botocore.credentials.ReadOnlyCredentials(
        given["AccessKeyId"], given["SecretAccessKey"], given.get("SessionToken"))
    try:
        api = client(question["service"], question["region"], question["endpoint"])
        shape = api.meta.service_model.operation_model(question["operation"]).input_shape
        parameters = with_blobs(shape, question.get("parameters") or {})
        answer = api._make_api_call(question["operation"], parameters)
    except botocore.exceptions.ClientError as error:
        told = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        return refusal(told.get("Code", "Unknown"), told.get("Message") or str(error), status)
    except (botocore.exceptions.ParamValidationError, botocore.exceptions.UnknownServiceError) as error:
        return refusal("ValidationException", str(error), 400)
    except botocore.model.OperationNotFoundError:
        return refusal("UnknownOperationException", f"{question['service']} has no operation {question['operation']}", 400)
    except botocore.exceptions.BotoCoreError as error:
        return refusal("InternalFailure", str(error), 500)
    answer.pop("ResponseMetadata", None)
    return {"ok": plain(answer)}


plain_http = botocore.httpsession.URLLib3Session(max_pool_connections=64)


def fetch(question):
    """One HTTP request, signed when there are credentials."""
    body = None if question.get("body") is None else json.dumps(question["body"]).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = botocore.awsrequest.AWSRequest(question["method"], question["url"], headers, body or b"")
    given = question.get("credentials")
    if given:
        keys = botocore.credentials.Credentials(
            given["AccessKeyId"], given["SecretAccessKey"], given.get("SessionToken"))
        botocore.auth.SigV4Auth(keys, question["service"], question["region"]).add_auth(request)
    try:
        answer = plain_http.send(request.prepare())
    except botocore.exceptions.HTTPClientError as error:
        return refusal("InternalFailure", str(error), 500)
    return {"ok": {"status": answer.status_code, "body": answer.content.decode("utf-8", "replace")}}


def with_blobs(shape, value):
    """Parameters as botocore wants them: blobs come as base64, but for a request's body, which is text."""
    if shape is None:
        return value
    if shape.type_name == "structure" and isinstance(value, dict):
        body = shape.serialization.get("payload")
        return {name: item if name == body or name not in shape.members else with_blobs(shape.members[name], item)
                for name, item in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [with_blobs(shape.member, item) for item in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {name: with_blobs(shape.value, item) for name, item in value.items()}
    if shape.type_name == "blob" and isinstance(value, str):
        return base64.b64decode(value)
    return value


def plain(value):
    """A botocore answer as JSON: bodies as text, blobs as base64, times as RFC 3339."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, botocore.response.StreamingBody):
        return value.read().decode("utf-8", "replace")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    return value


# --- ASGI -------------------------------------------------------------------------------------------------

QUESTIONS = {"caller": caller, "identity": identity, "operation": operation, "request": request, "session": session, "check": check,
             "judge": judge, "token": token}
# Those that call back in, and so may not hold up the event loop.
ERRANDS = {"call": call, "fetch": fetch}
workers = concurrent.futures.ThreadPoolExecutor(max_workers=64, thread_name_prefix="lab-call")


async def app(scope, receive, send):
    if scope["type"] != "http":
        return await ministack.app(scope, receive, send)
    headers = dict(scope["headers"])
    trusted = secrets.compare_digest(headers.get(b"x-lab-token", b""), TOKEN)
    if scope["path"].startswith("/_lab/"):
        return await answer(scope["path"].removeprefix("/_lab/"), trusted, receive, send)

    orders = json.loads(base64.b64decode(headers.get(b"x-lab", b""))) if trusted and b"x-lab" in headers else {}
    current = Asked(orders)
    asked.set(current)

    async def with_checks(message):
        if message["type"] == "http.response.start" and current.checks:
            noted = base64.b64encode(json.dumps(current.checks[:64]).encode())
            message = {**message, "headers": [*message["headers"], (b"x-lab-checks", noted)]}
        await send(message)

    # The client must not see the gateway's own headers come back in a signature or a log.
    scope = {**scope, "headers": [(n, v) for n, v in scope["headers"] if n not in (b"x-lab", b"x-lab-token")]}
    await ministack.app(scope, receive, with_checks)


async def answer(name, trusted, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if not trusted:
        status, reply = 403, {"message": "this endpoint is the lab gateway's"}
    elif name in ERRANDS:
        errand = asyncio.get_running_loop().run_in_executor(workers, ERRANDS[name], json.loads(body))
        status, reply = 200, await errand
    elif name in QUESTIONS:
        status, reply = 200, QUESTIONS[name](json.loads(body or b"{}"))
    else:
        status, reply = 404, {"message": f"no such question: {name}"}
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(reply).encode()})


def exit_with_parent():
    """The lab holds our standard input open: when it ends, however it ends, so do we."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def main():
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    amend.all_of_it()
    organisation.amend()
    states.amend(session, call)
    observe_authorisation()
    judge_account_settings_of_s3()
    ministack.SERVICE_HANDLERS = Handlers(ministack.SERVICE_HANDLERS)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    config = Config()
    config.bind = [f"127.0.0.1:{PORT}"]
    config.keep_alive_timeout = 600
    config.loglevel = os.environ.get("LOG_LEVEL", "WARNING")
    # What is imported stays: looking through it for garbage again and again is a tenth of all the time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    asyncio.run(serve(app, config))


if __name__ == "__main__":
    main()
