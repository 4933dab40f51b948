"""Where MiniStack departs from AWS in what the project uses: each amendment with its reason.

Applied once, before the first request. An amendment goes when a newer MiniStack makes it needless.
"""

import dataclasses
import functools
import http.client
import json
import os
import time
import urllib.parse

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.core.router import extract_access_key_id, extract_region
from ministack.services import cloudformation, cloudwatch, config, dynamodb, ecs, elasticache, eventbridge, iam, kms, lambda_svc, organizations, s3, secretsmanager, sns, sts, tagging
from ministack.services.cloudformation import handlers, provisioners, stacks


def all_of_it():
    leave_delivery_to_the_gateway()
    keep_bus_policies()
    judge_by_table_policies()
    judge_by_the_policy_of_the_named_function()
    judge_roots_in_other_accounts()
    give_functions_urls_of_the_gateway()
    keep_dead_letter_queues_of_functions()
    leave_packages_unread()
    keep_alarms_of_stacks()
    leave_documents_to_the_lab()
    leave_automation_rules_to_the_lab()
    make_nested_stacks_in_turn()
    tell_reads_of_concurrency_from_writes()
    refuse_what_is_missing_to_who_may_not_list()
    keep_what_nested_templates_retain()
    keep_attributes_of_nested_resources()
    read_templates_and_packages_of_other_accounts()
    know_the_members_of_an_organisation()
    name_the_role_behind_a_session()
    name_batches_by_their_action()
    name_log_streams_within_their_group()
    name_the_user_of_an_access_key()
    name_the_resources_that_actions_are_for()
    name_the_alarms_of_a_request()
    tell_policies_what_is_attached()
    keep_topics_of_stacks()
    ask_s3_before_tagging_its_buckets()
    tell_policies_the_key_of_an_upload()
    ask_for_the_lock_of_an_upload()
    tell_policies_the_condition_of_an_upload()
    lock_buckets_of_stacks()
    tell_buckets_of_others_who_asks()
    answer_whether_a_bucket_policy_is_public()
    find_the_stack_of_a_resource()
    replace_password_policies()
    age_credentials()
    know_the_policy_of_support_roles()
    keep_automatic_upgrades_of_caches()
    cancel_rotations()
    age_secrets()
    date_rotations()
    find_the_latest_active_revision()
    delete_recorders_and_channels()
    forget_emptied_attributes_of_topics()
    judge_aliases_by_their_keys()
    name_service_linked_roles()
    keep_sessions()
    read_a_condition_once()


def leave_delivery_to_the_gateway():
    """Events, schedules and queue polling are the gateway's: MiniStack must not do them too."""
    lambda_svc._ensure_poller = lambda: None
    eventbridge._dispatch_event = lambda *args, **kwargs: None
    eventbridge.start_scheduler = lambda: None


def keep_bus_policies():
    """MiniStack drops `PutPermission`'s Policy, and words a Principal as no evaluator reads it."""
    put_permission = eventbridge._put_permission

    def put(data):
        if data.get("Policy"):
            eventbridge._event_bus_policies[data.get("EventBusName") or "default"] = json.loads(data["Policy"])
            return eventbridge.json_response({})
        if str(data.get("Principal", "")).isdigit():
            data = {**data, "Principal": {"AWS": data["Principal"]}}
        return put_permission(data)

    eventbridge._put_permission = put


def judge_by_table_policies():
    """MiniStack stores a table's resource policy and does not evaluate it."""

    def policy_of(arn):
        held = dynamodb._resource_policies.get(arn.partition("/index/")[0])
        return (held["Policy"], arn.split(":")[4]) if held else None

    dynamodb.table_policy_for_arn = policy_of
    iam_evaluator._RESOURCE_POLICY_LOOKUPS["dynamodb"] = ("dynamodb", "table_policy_for_arn")


def judge_by_the_policy_of_the_named_function():
    """A function's policy is looked up by its ARN. MiniStack takes the caller's function of that name."""

    def policy_of(arn):
        place, found, reference = arn.partition(":function:")
        if not found:
            return None
        region, account = place.split(":")[3:5]
        function = lambda_svc._functions.get_scoped(account, region, reference.split(":")[0])
        return (function["policy"], account) if function else None

    lambda_svc.function_policy_for_arn = policy_of


def judge_roots_in_other_accounts():
    """An account's root may invoke another's function if that function lets it. MiniStack lets a root do all."""
    enforce = iam_evaluator.enforce

    def judged(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        denied = enforce(access_key_id, iam_action, service, region, resource_arn, service_context)
        caller, owner = get_account_id(), (resource_arn.split(":") + [""] * 5)[4]
        root = f"arn:aws:iam::{caller}:root"
        if denied or service != "lambda" or owner in ("", caller) or not iam_evaluator._is_root_key(access_key_id):
            return denied
        context = iam_evaluator.EvalContext(
            principal_arn=root, principal_type="Root", principal_account=caller, action=iam_action,
            resource_arn=resource_arn, region=region,
            service_context={key.lower(): value for key, value in (service_context or {}).items()})
        policy, _ = iam_evaluator._resource_policy(service, resource_arn) or (None, None)
        verdict = iam_evaluator.evaluate_resource_policy(policy, context)
        verdict.principal_arn = root
        return None if verdict.decision == "Allow" else verdict

    iam_evaluator.enforce = judged


def give_functions_urls_of_the_gateway():
    """A function URL's host cannot be looked up on this machine: the gateway serves them by path."""
    create = lambda_svc._create_function_url_config

    def create_here(name, data, qualifier):
        answer = create(name, data, qualifier)
        config = lambda_svc._function_urls.get(lambda_svc._url_config_key(name, qualifier))
        if answer[0] == 201:
            config["FunctionUrl"] = (f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}/_url/"
                                     f"{get_account_id()}/{get_region()}/{name}/")
            answer = lambda_svc.json_response(config, status=201)
        return answer

    lambda_svc._create_function_url_config = create_here


def keep_dead_letter_queues_of_functions():
    """MiniStack's CloudFormation drops a function's `DeadLetterConfig`."""
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    create = handlers["create"]

    def create_whole(logical_id, properties, stack):
        created = create(logical_id, properties, stack)
        if properties.get("DeadLetterConfig"):
            lambda_svc._functions[created[0]]["config"]["DeadLetterConfig"] = properties["DeadLetterConfig"]
        return created

    handlers["create"] = create_whole


def leave_packages_unread():
    """A function's new package may be any file: the lab runs the binaries of this machine. MiniStack wants to unpack it."""
    update = lambda_svc._update_code

    def updated(name, data):
        return update(name, {key: value for key, value in data.items() if not key.startswith("S3")})

    lambda_svc._update_code = updated


def keep_alarms_of_stacks():
    """MiniStack's CloudFormation refuses alarms over expressions, and alarms over alarms. Nothing raises the former."""
    record = provisioners._cw_metric_alarm_record

    def kept(name, properties):
        expression = properties.get("Metrics")
        if not expression:
            return record(name, properties)
        alarm = record(name, {**properties, "Metrics": None, "MetricName": "-", "Namespace": "-"})
        for single in ("MetricName", "Namespace", "Statistic", "Period", "Dimensions", "Unit"):
            alarm.pop(single)
        return {**alarm, "Metrics": expression}

    def create(logical_id, properties, stack):
        status, _, body = cloudwatch._put_composite_alarm({}, properties, False, True)
        if status != 200:
            raise ValueError(body.decode())
        name = properties["AlarmName"]
        return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}

    provisioners._cw_metric_alarm_record = kept
    provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::CompositeAlarm"] = {
        "create": create, "update": lambda physical_id, *rest: (physical_id, {}),
        "delete": lambda physical_id, properties: cloudwatch._composite_alarms.pop(physical_id, None)}


def leave_documents_to_the_lab():
    """MiniStack's CloudFormation refuses `AWS::SSM::Document`; the lab's own SSM takes what the template holds."""

    def create(logical_id, properties, stack):
        return properties.get("Name") or f"{stack}-{logical_id}", {}

    provisioners._RESOURCE_HANDLERS["AWS::SSM::Document"] = {
        "create": create, "update": lambda physical_id, *rest: (physical_id, {}), "delete": lambda *rest: None}


def leave_automation_rules_to_the_lab():
    """MiniStack's CloudFormation refuses `AWS::SecurityHub::AutomationRule`; the lab's own Security Hub has them."""

    def lab(operation, parameters):
        asked = {"account": get_account_id(), "region": get_region(), "service": "securityhub", "operation": operation,
                 "parameters": parameters}
        gateway = http.client.HTTPConnection("127.0.0.1", int(os.environ["GATEWAY_PORT"]), timeout=30)
        try:
            gateway.request("POST", "/_lab/provision", json.dumps(asked),
                            {"content-type": "application/json", "x-lab-token": os.environ["LAB_TOKEN"]})
            answer = json.loads(gateway.getresponse().read())
        finally:
            gateway.close()
        if "ok" not in answer:
            raise ValueError(f"securityhub:{operation}: {answer['error']}")
        return answer["ok"]

    def create(logical_id, properties, stack):
        arn = lab("CreateAutomationRule", properties)["RuleArn"]
        return arn, {"RuleArn": arn}

    def update(arn, before, properties, *rest):
        items = [{**properties, "RuleArn": arn}]
        if lab("BatchUpdateAutomationRules", {"UpdateAutomationRulesRequestItems": items})["UnprocessedAutomationRules"]:
            raise ValueError(f"there is no automation rule {arn}")
        return arn, {"RuleArn": arn}

    # One that is gone counts as deleted.
    provisioners._RESOURCE_HANDLERS["AWS::SecurityHub::AutomationRule"] = {
        "create": create, "update": update,
        "delete": lambda arn, properties: lab("BatchDeleteAutomationRules", {"AutomationRulesArns": [arn]})}


def make_nested_stacks_in_turn():
    """MiniStack makes a nested stack in a thread, beside the requests that read and change the same dictionaries."""
    blocks = stacks._runs_on_worker_thread
    stacks._runs_on_worker_thread = lambda kind: kind != "AWS::CloudFormation::Stack" and blocks(kind)


def keep_what_nested_templates_retain():
    """MiniStack deletes everything of a nested stack, also what its template says to retain."""
    handlers = provisioners._RESOURCE_HANDLERS["AWS::CloudFormation::Stack"]
    delete = handlers["delete"]

    def delete_the_rest(physical_id, properties):
        stack = cloudformation._stacks.get(provisioners._nested_stack_lookup_name(physical_id)) or {}
        made = stack.get("_template", {}).get("Resources", {})
        for kept in [one for one in stack.get("_resources", {}) if made.get(one, {}).get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate")]:
            del stack["_resources"][kept]
        delete(physical_id, properties)

    handlers["delete"] = delete_the_rest


def keep_attributes_of_nested_resources():
    """When a nested stack is updated, MiniStack forgets the attributes of what did not change, and so its outputs."""
    update = provisioners._update_resource

    def updated(kind, physical_id, old, new, stack, logical_id=None, attributes=None):
        if attributes is None:
            made = (cloudformation._stacks.get(stack) or {}).get("_resources", {})
            attributes = made.get(logical_id, {}).get("Attributes")
        return update(kind, physical_id, old, new, stack, logical_id, attributes)

    provisioners._update_resource = updated


def read_templates_and_packages_of_other_accounts():
    """A stack's template and a function's package may lie in another account. MiniStack looks in the caller's buckets only."""
    read = s3._get_object_data

    def read_any(bucket, *rest):
        owner = next((account for account, name in list(s3._buckets._data) if name == bucket), get_account_id())
        with request_scope(owner, get_region()):
            return read(bucket, *rest)

    s3._get_object_data = read_any


def know_the_members_of_an_organisation():
    """`aws:PrincipalOrgID` of a member is its organisation's: MiniStack knows the management account's only."""
    of_management = iam_evaluator._principal_org_id

    def of_any(account_id):
        for management, member in list(organizations._accounts._data):
            if member == account_id:
                return (organizations._orgs.get_scoped(management, None, "self") or {}).get("Id")
        return of_management(account_id)

    iam_evaluator._principal_org_id = of_any


def name_the_role_behind_a_session():
    """`aws:PrincipalArn` of a session is the ARN of its role; MiniStack tells the session's."""
    resolve = iam_evaluator._resolve_condition_key

    def resolved(key, context):
        arn = context.principal_arn
        if key.lower() != "aws:principalarn" or ":assumed-role/" not in arn:
            return resolve(key, context)
        role = iam._roles.get_scoped(arn.split(":")[4], None, iam_evaluator._role_name_from_assumed_arn(arn))
        return role["Arn"] if role else arn

    iam_evaluator._resolve_condition_key = resolved


def name_batches_by_their_action():
    """SQS batches have no IAM action of their own."""
    action_of = iam_actions.extract_iam_action
    single = {f"sqs:{name}Batch": f"sqs:{name}" for name in ("SendMessage", "DeleteMessage", "ChangeMessageVisibility")}

    def named(*args):
        action = action_of(*args)
        return single.get(action, action)

    iam_actions.extract_iam_action = named


def tell_reads_of_concurrency_from_writes():
    """A function's concurrency is read, set and removed under one path; MiniStack takes all three for setting it."""
    action_of = iam_actions._lambda_action

    def named(method, path):
        if path.rstrip("/").endswith("/concurrency"):
            verb = {"GET": "Get", "DELETE": "Delete"}.get(method, "Put")
            return f"{verb}FunctionConcurrency"
        return action_of(method, path)

    iam_actions._lambda_action = named


def replace_password_policies():
    """`UpdateAccountPasswordPolicy` replaces the policy: what is not given goes back to its default. MiniStack merges."""
    update = iam._IAM_HANDLERS["UpdateAccountPasswordPolicy"]

    def replace(parameters):
        iam._account_password_policy["policy"] = {"MinimumPasswordLength": 6}
        return update(parameters)

    iam._IAM_HANDLERS["UpdateAccountPasswordPolicy"] = replace


def age_credentials():
    """Nobody can wait 90 days for a key to grow old: those of a user with the path `/aged-100-days/` are made that long ago."""
    def aged(handler, made):
        def make(parameters):
            name = iam._p(parameters, "UserName")
            path = iam._users.get(name, {}).get("Path", "")
            known = set(iam._access_keys)
            answer = handler(parameters)
            if path.startswith("/aged-") and answer[0] == 200:
                then = time.time() - 86400 * int(path.split("-")[1])
                made(name, known)["CreateDate"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))
            return answer
        return make

    handlers = iam._IAM_HANDLERS
    handlers["CreateAccessKey"] = aged(
        handlers["CreateAccessKey"],
        lambda name, known: next(key for id, key in iam._access_keys.items() if id not in known))
    handlers["CreateLoginProfile"] = aged(
        handlers["CreateLoginProfile"], lambda name, known: iam._login_profiles[name])


def know_the_policy_of_support_roles():
    """MiniStack has some of AWS's managed policies, and not this one."""
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["support:*"], "Resource": "*"}]}
    iam._aws_managed_policies["arn:aws:iam::aws:policy/AWSSupportAccess"] = iam._make_aws_managed_record(
        "AWSSupportAccess", json.dumps(policy), "Access to AWS Support.")


def judge_by(named):
    """Lets `named` say by which resource a call is judged: it is given the service, MiniStack's answer, headers and body."""
    resource_of = iam_actions.extract_resource_arn

    def judged(service, method, path, headers, body, *rest):
        return named(service, resource_of(service, method, path, headers, body, *rest), headers, body)

    iam_actions.extract_resource_arn = judged


def name_log_streams_within_their_group():
    """What is done with a log stream is judged by the stream's ARN, which is longer than its group's."""

    def named(service, resource, _, body):
        if service == "logs" and resource.count(":") == 6:
            resource += ":log-stream:" + json.loads(body or b"{}").get("logStreamName", "")
        return resource

    judge_by(named)


def name_the_user_of_an_access_key():
    """When a key was used last is judged by its user's ARN; MiniStack finds none in the request."""

    def named(service, resource, _, body):
        asked = urllib.parse.parse_qs(body.decode()) if service == "iam" and body else {}
        key = iam._access_keys.get(asked.get("AccessKeyId", [""])[0])
        if asked.get("Action") == ["GetAccessKeyLastUsed"] and key:
            return iam._users[key["UserName"]]["Arn"]
        return resource

    judge_by(named)


def name_the_resources_that_actions_are_for():
    """AWS judges these by the ARN that is given here; MiniStack by everything, or by another resource of the request."""
    global_iam = "arn:aws:iam::{account}:"
    recorder = "arn:aws:config:{region}:{account}:configuration-recorder/{}/lab"
    wanted = {
        "config:DeleteConfigurationRecorder": ("ConfigurationRecorderName", recorder),
        "config:PutConfigurationRecorder": ("ConfigurationRecorder", recorder),
        "config:StartConfigurationRecorder": ("ConfigurationRecorderName", recorder),
        "config:StopConfigurationRecorder": ("ConfigurationRecorderName", recorder),
        "dynamodb:ListTagsOfResource": ("ResourceArn", "{}"),
        "dynamodb:TagResource": ("ResourceArn", "{}"),
        "dynamodb:UntagResource": ("ResourceArn", "{}"),
        "iam:AddRoleToInstanceProfile": ("InstanceProfileName", global_iam + "instance-profile/{}"),
        "iam:AddUserToGroup": ("GroupName", global_iam + "group/{}"),
        "iam:AttachGroupPolicy": ("GroupName", global_iam + "group/{}"),
        "iam:CreateInstanceProfile": ("InstanceProfileName", global_iam + "instance-profile/{}"),
        "iam:CreatePolicy": ("PolicyName", global_iam + "policy/{}"),
        "iam:CreateServiceLinkedRole": ("AWSServiceName", global_iam + "role/aws-service-role/{}/of-the-service"),
        "iam:DeleteInstanceProfile": ("InstanceProfileName", global_iam + "instance-profile/{}"),
        "iam:DeleteServerCertificate": ("ServerCertificateName", global_iam + "server-certificate/{}"),
        "iam:DetachGroupPolicy": ("GroupName", global_iam + "group/{}"),
        "iam:GetInstanceProfile": ("InstanceProfileName", global_iam + "instance-profile/{}"),
        "iam:RemoveRoleFromInstanceProfile": ("InstanceProfileName", global_iam + "instance-profile/{}"),
        "iam:RemoveUserFromGroup": ("GroupName", global_iam + "group/{}"),
        "ssm:GetServiceSetting": ("SettingId", "arn:aws:ssm:{region}:{account}:servicesetting/{}"),
        "ssm:ResetServiceSetting": ("SettingId", "arn:aws:ssm:{region}:{account}:servicesetting/{}"),
        "ssm:UpdateServiceSetting": ("SettingId", "arn:aws:ssm:{region}:{account}:servicesetting/{}"),
    }
    resource_of = iam_actions.extract_resource_arn

    def named(service, method, path, headers, body, *rest):
        action = service in ("config", "dynamodb", "iam", "ssm") and body and iam_actions.extract_iam_action(
            service, method, path, headers, body, rest[0])
        if action not in wanted:
            return resource_of(service, method, path, headers, body, *rest)
        parameter, template = wanted[action]
        if service == "iam":
            asked = {name: values[0] for name, values in urllib.parse.parse_qs(body.decode()).items()}
        else:
            asked = json.loads(body)
        value = asked.get(parameter, "*")
        value = str(value.get("name", "default") if isinstance(value, dict) else value)
        if value.startswith("arn:"):
            return value
        # Names of new things come with their path; a setting's id begins with a slash.
        value = (asked.get("Path", "/") + value if service == "iam" else value).lstrip("/")
        return template.format(value, region=get_region(), account=get_account_id())

    iam_actions.extract_resource_arn = named


def name_the_alarms_of_a_request():
    """What is done with alarms is judged by their ARNs; MiniStack finds them in the older of CloudWatch's protocols only."""

    def named(service, resource, headers, body):
        if service == "monitoring" and headers.get("x-amz-target"):
            asked = json.loads(body or b"{}")
            name = asked.get("AlarmName") or next(iter(asked.get("AlarmNames", [])), None)
            if name:
                return f"arn:aws:cloudwatch:{get_region()}:{get_account_id()}:alarm:{name}"
        return resource

    judge_by(named)


def tell_policies_what_is_attached():
    """`iam:PolicyARN` is a condition key of attaching and detaching a managed policy, `iam:PermissionsBoundary` of making a role."""
    context_of = iam_actions.request_tag_context

    def named(service, iam_action, body, params):
        context = context_of(service, iam_action, body, params)
        if iam_action in ("iam:AttachRolePolicy", "iam:DetachRolePolicy"):
            context["iam:policyarn"] = iam_actions._query_param(params, "PolicyArn")
        boundary = iam_actions._query_param(params, "PermissionsBoundary")
        if iam_action == "iam:CreateRole" and boundary:
            context["iam:permissionsboundary"] = boundary
        return context

    iam_actions.request_tag_context = named


def keep_topics_of_stacks():
    """MiniStack forgets a stack's `NotificationARNs`, and finds nothing to update when nothing else changes."""
    create, update = handlers._ACTION_HANDLERS["CreateStack"], handlers._ACTION_HANDLERS["UpdateStack"]
    describe, unchanged = handlers._ACTION_HANDLERS["DescribeStacks"], handlers._stack_has_no_updates
    wished = {}

    def keeping(handler):
        def handled(parameters):
            topics = handlers._extract_string_members(parameters, "NotificationARNs")
            # Given and empty takes them away; not given keeps them.
            given = topics or "NotificationARNs" in parameters
            wished["topics"] = topics if given else None
            answer = handler(parameters)
            wished.clear()
            stack = handlers._resolve_stack(handlers._p(parameters, "StackName"))
            if given and stack and answer[0] < 400:
                stack["NotificationARNs"] = topics
            return answer

        return handled

    def same(stack, *rest):
        topics = wished.get("topics")
        return (topics is None or topics == stack.get("NotificationARNs", [])) and unchanged(stack, *rest)

    def described(parameters):
        status, headers, body = describe(parameters)
        text = body.decode() if isinstance(body, bytes) else body
        for stack in list(cloudformation._stacks.values()):
            topics = "".join(f"<member>{topic}</member>" for topic in stack.get("NotificationARNs", []))
            own = f"<StackId>{stack['StackId']}</StackId>"
            text = text.replace(own, f"{own}<NotificationARNs>{topics}</NotificationARNs>") if topics else text
        return status, headers, text.encode() if isinstance(body, bytes) else text

    handlers._stack_has_no_updates = same
    handlers._ACTION_HANDLERS.update(CreateStack=keeping(create), UpdateStack=keeping(update), DescribeStacks=described)


def ask_s3_before_tagging_its_buckets():
    """The tagging API may do to a bucket's tags what S3 lets its caller do, and tells of a refusal per resource."""
    handle = tagging.handle_request

    async def asked(method, path, headers, body, query_params):
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if action in ("TagResources", "UntagResources"):
            key, region = extract_access_key_id(headers, query_params), extract_region(headers, query_params)
            arns = [arn for arn in json.loads(body).get("ResourceARNList", []) if ":s3:::" in arn]
            refused = {arn: needed for arn in arns for needed in ("s3:GetBucketTagging", "s3:PutBucketTagging")
                       if iam_evaluator.enforce(key, needed, "s3", region, resource_arn=arn)}
            if refused:
                told = {arn: {"StatusCode": 403, "ErrorCode": "AccessDeniedException",
                              "ErrorMessage": f"User is not authorized to perform: {needed} on resource: {arn}"}
                        for arn, needed in refused.items()}
                return tagging._json({"FailedResourcesMap": told})
        return await handle(method, path, headers, body, query_params)

    tagging.handle_request = asked


def refuse_what_is_missing_to_who_may_not_list():
    """S3 says 404 of an object that is not there to who may list the bucket, and 403 to others."""
    get = s3._get_object

    def got(bucket, key, headers, query_params=None):
        answer = get(bucket, key, headers, query_params)
        asks = extract_access_key_id(headers, query_params or {})
        if answer[0] != 404 or not asks or "NoSuchKey" not in str(answer[2]):
            return answer
        region = extract_region(headers, query_params or {})
        if iam_evaluator.enforce(asks, "s3:ListBucket", "s3", region, resource_arn=f"arn:aws:s3:::{bucket}"):
            return s3._error("AccessDenied", "Access Denied", 403, f"/{bucket}/{key}")
        return answer

    s3._get_object = got


def tell_policies_the_key_of_an_upload():
    """`s3:x-amz-server-side-encryption-aws-kms-key-id` is a condition key of `s3:PutObject`."""
    context_of = iam_actions._s3_object_context

    def named(iam_action, query_params, path, headers):
        context = context_of(iam_action, query_params, path, headers)
        key = headers.get("x-amz-server-side-encryption-aws-kms-key-id")
        if iam_action == "s3:PutObject" and key:
            context["s3:x-amz-server-side-encryption-aws-kms-key-id"] = key
        return context

    iam_actions._s3_object_context = named


def ask_for_the_lock_of_an_upload():
    """`s3:object-lock-mode` is a condition key of `s3:PutObject`, and an upload with a lock needs `s3:PutObjectRetention`, too."""
    context_of, more_of = iam_actions._s3_object_context, iam_actions.s3_additional_checks

    def named(iam_action, query_params, path, headers):
        context = context_of(iam_action, query_params, path, headers)
        mode = headers.get("x-amz-object-lock-mode")
        if iam_action == "s3:PutObject" and mode:
            context["s3:object-lock-mode"] = mode
        return context

    def asked(method, path, headers, body, query_params):
        checks = more_of(method, path, headers, body, query_params)
        if method == "PUT" and headers.get("x-amz-object-lock-mode"):
            checks = [*checks, ("s3:PutObjectRetention", f"arn:aws:s3:::{path.lstrip('/')}")]
        return checks

    iam_actions._s3_object_context, iam_actions.s3_additional_checks = named, asked


def tell_policies_the_condition_of_an_upload():
    """`s3:if-none-match` is a condition key of `s3:PutObject`: by it a bucket lets nobody write over what is there."""
    context_of = iam_actions._s3_object_context

    def named(iam_action, query_params, path, headers):
        context = context_of(iam_action, query_params, path, headers)
        condition = headers.get("if-none-match")
        if iam_action == "s3:PutObject" and condition:
            context["s3:if-none-match"] = condition
        return context

    iam_actions._s3_object_context = named


def lock_buckets_of_stacks():
    """MiniStack's CloudFormation leaves out `ObjectLockEnabled` and a bucket's default retention."""
    configure = provisioners._s3_apply_configurations

    def configured(name, properties, *rest):
        configure(name, properties, *rest)
        if str(properties.get("ObjectLockEnabled", "")).lower() != "true":
            return
        rule = properties.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
        rule = rule and {name: value if name == "Mode" else int(value) for name, value in rule.items()}
        s3._bucket_object_lock[name] = {"enabled": True, "default_retention": rule}

    provisioners._s3_apply_configurations = configured


def tell_buckets_of_others_who_asks():
    """The policy of another account's bucket is judged by who asks; MiniStack tells it the account only."""
    judge, evaluate, asking = s3._foreign_bucket_allows, iam_evaluator.evaluate_resource_policy, []

    def judged(owner, bucket, key, method, query_params, caller, headers=None):
        access_key = headers and extract_access_key_id(headers, query_params)
        known = access_key and iam_evaluator.resolve_caller_identity(access_key) or {}
        # `aws:PrincipalArn` of a session is its role's.
        arn = known.get("userArn", "").replace(":sts:", ":iam:").replace(":assumed-role/", ":role/")
        asking.append(arn.rsplit("/", 1)[0] if ":role/" in arn else arn)
        try:
            return judge(owner, bucket, key, method, query_params, caller, headers)
        finally:
            asking.pop()

    def by_principal(policy, context, *rest, **named):
        if asking and asking[-1]:
            context = dataclasses.replace(context, principal_arn=asking[-1])
        return evaluate(policy, context, *rest, **named)

    s3._foreign_bucket_allows, iam_evaluator.evaluate_resource_policy = judged, by_principal


def answer_whether_a_bucket_policy_is_public():
    """MiniStack takes `GetBucketPolicyStatus` for a listing."""
    handle = s3.handle_request

    async def asked(method, path, headers, body, query_params, *rest, **named):
        bucket = path.strip("/")
        if method != "GET" or "policyStatus" not in query_params or "/" in bucket:
            return await handle(method, path, headers, body, query_params, *rest, **named)
        status, answered, policy = s3._get_bucket_policy(bucket)
        if status != 200:
            return status, answered, policy
        public = str(s3._policy_is_public(policy.decode())).lower()
        told = f'<PolicyStatus xmlns="{s3.S3_NS}"><IsPublic>{public}</IsPublic></PolicyStatus>'
        return 200, {"Content-Type": "application/xml"}, told.encode()

    s3.handle_request = asked


def find_the_stack_of_a_resource():
    """`DescribeStackResources` also takes a resource's physical id instead of a stack's name."""
    describe = handlers._ACTION_HANDLERS["DescribeStackResources"]

    def described(parameters):
        wanted = handlers._p(parameters, "PhysicalResourceId")
        if not wanted:
            return describe(parameters)
        for stack in list(cloudformation._stacks.values()):
            held = stack.get("_resources", {}).values()
            if any(resource.get("PhysicalResourceId") == wanted for resource in held):
                return describe({**parameters, "StackName": [stack["StackId"]]})
        return handlers._error("ValidationError", f"Stack for {wanted} does not exist")

    handlers._ACTION_HANDLERS["DescribeStackResources"] = described


def keep_automatic_upgrades_of_caches():
    """MiniStack forgets AutoMinorVersionUpgrade of a cache cluster, and of a group that is modified."""
    create, modify, modify_group = (
        elasticache._create_cache_cluster, elasticache._modify_cache_cluster, elasticache._modify_replication_group)
    render = elasticache._cluster_xml_inner

    def kept(change, held, identifier):
        def changed(parameters):
            answer = change(parameters)
            wanted = elasticache._p(parameters, "AutoMinorVersionUpgrade")
            resource = held.get(elasticache._p(parameters, identifier))
            if not wanted or not resource or answer[0] >= 400:
                return answer
            resource["AutoMinorVersionUpgrade"] = wanted.lower() == "true"
            # Told again, as it is now.
            return answer if change is create else change(parameters)

        return changed

    elasticache._create_cache_cluster = kept(create, elasticache._clusters, "CacheClusterId")
    elasticache._modify_cache_cluster = kept(modify, elasticache._clusters, "CacheClusterId")
    elasticache._modify_replication_group = kept(modify_group, elasticache._replication_groups, "ReplicationGroupId")
    elasticache._cluster_xml_inner = lambda cluster: render(cluster) + (
        f"<AutoMinorVersionUpgrade>{str(cluster.get('AutoMinorVersionUpgrade', True)).lower()}</AutoMinorVersionUpgrade>")


def cancel_rotations():
    """MiniStack turns a secret's rotation on and never off."""
    handle = secretsmanager.handle_request

    async def handled(method, path, headers, body, query_params):
        if not headers.get("x-amz-target", "").endswith(".CancelRotateSecret"):
            return await handle(method, path, headers, body, query_params)
        _, secret = secretsmanager._resolve(json.loads(body).get("SecretId"))
        if not secret:
            return secretsmanager.error_response_json(
                "ResourceNotFoundException", "Secrets Manager can't find the specified secret.", 400)
        secret["RotationEnabled"] = False
        return secretsmanager.json_response({"ARN": secret["ARN"], "Name": secret["Name"]})

    secretsmanager.handle_request = handled


def age_secrets():
    """Nobody can wait 90 days for a secret to grow old: one whose name begins with `aged-100-days/` was made that long ago."""
    store = secretsmanager._store_new_secret

    def stored(name, *args, **kwargs):
        made = store(name, *args, **kwargs)
        if name.startswith("aged-"):
            secretsmanager._secrets[name]["CreatedDate"] -= 86400 * int(name.split("-")[1])
        return made

    secretsmanager._store_new_secret = stored


def date_rotations():
    """MiniStack does not tell when a secret was rotated last. Turning rotation on without rotating at once is no rotation."""
    handle = secretsmanager.handle_request

    async def handled(method, path, headers, body, query_params):
        answer = await handle(method, path, headers, body, query_params)
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if operation not in ("DescribeSecret", "RotateSecret") or answer[0] != 200:
            return answer
        asked = json.loads(body)
        _, secret = secretsmanager._resolve(asked.get("SecretId"))
        if operation == "RotateSecret":
            if asked.get("RotateImmediately", True):
                secret["LastRotatedDate"] = int(time.time())
        elif secret.get("RotationEnabled") and secret.get("LastRotatedDate"):
            return secretsmanager.json_response({**json.loads(answer[2]), "LastRotatedDate": secret["LastRotatedDate"]})
        return answer

    secretsmanager.handle_request = handled


def find_the_latest_active_revision():
    """A family stands for its latest active task definition. MiniStack takes one that was deregistered, too."""
    resolve = ecs._resolve_td_key

    def found(reference):
        key = resolve(reference)
        family, _, number = (key or "").rpartition(":")
        if not family or key in (reference or ""):
            return key
        active = [held["revision"] for held in ecs._task_defs.values()
                  if held["family"] == family and held["status"] == "ACTIVE"]
        return f"{family}:{max(active, default=number)}"

    ecs._resolve_td_key = found


def delete_recorders_and_channels():
    """MiniStack can make a recorder and a delivery channel of Config and delete neither."""
    handle = config.handle_request
    deletes = {"DeleteConfigurationRecorder": ("ConfigurationRecorderName", config._recorders, "ConfigurationRecorder"),
               "DeleteDeliveryChannel": ("DeliveryChannelName", config._delivery_channels, "DeliveryChannel")}

    async def handled(method, path, headers, body, query_params):
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if action not in deletes:
            return await handle(method, path, headers, body, query_params)
        parameter, held, kind = deletes[action]
        name = json.loads(body).get(parameter)
        if name not in held:
            return config.error_response_json(f"NoSuch{kind}Exception", f"Cannot find '{name}'.", 400)
        if kind == "DeliveryChannel" and any(one.get("recording") for one in config._recorders.values()):
            return config.error_response_json(
                "LastDeliveryChannelDeleteFailedException", "There is a running configuration recorder.", 400)
        del held[name]
        return config.json_response({})

    config.handle_request = handled


def forget_emptied_attributes_of_topics():
    """A key or a role of a topic that is set to nothing is not there any more; MiniStack keeps an empty one."""
    change = sns._set_topic_attributes

    def changed(parameters):
        answer = change(parameters)
        name, topic = sns._p(parameters, "AttributeName"), sns._topics.get(sns._p(parameters, "TopicArn"))
        emptied = not sns._p(parameters, "AttributeValue") and (name == "KmsMasterKeyId" or name.endswith("RoleArn"))
        if answer[0] == 200 and topic and emptied:
            topic["attributes"].pop(name, None)
        return answer

    sns._set_topic_attributes = changed


def judge_aliases_by_their_keys():
    """What is done with a key that is named by an alias is judged by the key's ARN; MiniStack takes the alias."""

    def named(service, resource, headers, _):
        place, found, _ = resource.partition(":alias/")
        operations = ("DescribeKey", "GenerateDataKey", "Decrypt", "GetPublicKey", "Sign")
        of_key = headers.get("x-amz-target", "").rpartition(".")[2] in operations
        if service != "kms" or not found or not of_key:
            return resource
        # AWS looks for the alias first, whoever asks.
        return f"{place}:key/{kms._aliases.get(resource, 'of-no-alias')}"

    judge_by(named)


def name_service_linked_roles():
    """What is done with a service-linked role is judged by its ARN, which has a path; MiniStack leaves it out."""

    def named(service, resource, *_):
        place, found, name = resource.partition(":role/AWSServiceRoleFor")
        role = service == "iam" and found and iam._roles.get("AWSServiceRoleFor" + name)
        return role["Arn"] if role else resource

    judge_by(named)


def keep_sessions():
    """MiniStack looks through all sessions for expired ones whenever one is made, while other threads make theirs: Python
    refuses that, the call fails, and a thread of a state machine dies of it. An expired session is refused all the same."""
    sts._evict_expired_sessions = lambda: None


def read_a_condition_once():
    """No departure: the same few hundred conditions come thousands of times, and reading one takes longer than the write
    that it guards."""
    dynamodb._condition_syntax_error = functools.lru_cache(maxsize=4096)(dynamodb._condition_syntax_error)
