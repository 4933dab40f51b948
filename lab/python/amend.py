"""Where MiniStack departs from AWS in what the project uses: each amendment with its reason.

Applied once, before the first request. An amendment goes when a newer MiniStack makes it needless.
"""

import json

from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb, eventbridge, lambda_svc, organizations
from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS as cloudformation


def all_of_it():
    leave_delivery_to_the_gateway()
    keep_bus_policies()
    judge_by_table_policies()
    know_the_members_of_an_organisation()
    name_batches_by_their_action()


def leave_delivery_to_the_gateway():
    """Events, schedules and queue polling are the gateway's: MiniStack must not do them too."""
    lambda_svc._ensure_poller = lambda: None
    eventbridge._dispatch_event = lambda *args, **kwargs: None
    eventbridge.start_scheduler = lambda: None


def keep_bus_policies():
    """MiniStack drops `PutPermission`'s Policy and CloudFormation's, and words a principal as no evaluator reads it."""
    put_permission = eventbridge._put_permission
    bus = cloudformation["AWS::Events::EventBus"]
    create, update = bus["create"], bus["update"]

    def keep(name, policy):
        if policy:
            eventbridge._event_bus_policies[name] = json.loads(policy) if isinstance(policy, str) else policy

    def put(data):
        if data.get("Policy"):
            keep(data.get("EventBusName") or "default", data["Policy"])
            return eventbridge.json_response({})
        if str(data.get("Principal", "")).isdigit():
            data = {**data, "Principal": {"AWS": data["Principal"]}}
        return put_permission(data)

    def created(logical_id, props, stack_name):
        name, attributes = create(logical_id, props, stack_name)
        keep(name, props.get("Policy"))
        return name, attributes

    def updated(physical_id, old_props, new_props, stack_name):
        name, attributes = update(physical_id, old_props, new_props, stack_name)
        keep(name, new_props.get("Policy"))
        return name, attributes

    def statement(logical_id, props, stack_name):
        name, sid = props.get("EventBusName") or "default", props["StatementId"]
        policy = eventbridge._event_bus_policies.get(name) or {"Version": "2012-10-17", "Statement": []}
        others = [one for one in policy["Statement"] if one.get("Sid") != sid]
        own = props.get("Statement") or {
            "Effect": "Allow", "Principal": {"AWS": props.get("Principal")}, "Action": props.get("Action"), "Resource": "*"}
        eventbridge._event_bus_policies[name] = {**policy, "Statement": [*others, {**own, "Sid": sid}]}
        return f"{name}|{sid}", {}

    def remove(physical_id, props):
        name, _, sid = physical_id.partition("|")
        eventbridge._remove_permission({"EventBusName": name, "StatementId": sid})

    eventbridge._put_permission = put
    bus["create"], bus["update"] = created, updated
    cloudformation["AWS::Events::EventBusPolicy"] = {
        "create": statement, "update": lambda _, old, new, stack: statement("", new, stack), "delete": remove}


def judge_by_table_policies():
    """MiniStack stores a table's resource policy and does not evaluate it; CloudFormation's it drops."""
    table = cloudformation["AWS::DynamoDB::Table"]
    create = table["create"]

    def policy_of(arn):
        arn = arn.partition("/index/")[0]
        held = dynamodb._resource_policies.get(arn)
        return (held["Policy"], arn.split(":")[4]) if held else None

    def created(logical_id, props, stack_name):
        name, attributes = create(logical_id, props, stack_name)
        document = (props.get("ResourcePolicy") or {}).get("PolicyDocument")
        if document:
            dynamodb._put_resource_policy({"ResourceArn": attributes["Arn"], "Policy": json.dumps(document)})
        return name, attributes

    dynamodb.table_policy_for_arn = policy_of
    iam_evaluator._RESOURCE_POLICY_LOOKUPS["dynamodb"] = ("dynamodb", "table_policy_for_arn")
    table["create"] = created


def know_the_members_of_an_organisation():
    """`aws:PrincipalOrgID` of a member is its organisation's: MiniStack knows the management account's only."""
    of_management = iam_evaluator._principal_org_id

    def of_any(account_id):
        for management, member in list(organizations._accounts._data):
            if member == account_id:
                return (organizations._orgs.get_scoped(management, None, "self") or {}).get("Id")
        return of_management(account_id)

    iam_evaluator._principal_org_id = of_any


def name_batches_by_their_action():
    """SQS batches have no IAM action of their own."""
    action_of = iam_actions.extract_iam_action
    single = {f"sqs:{name}Batch": f"sqs:{name}" for name in ("SendMessage", "DeleteMessage", "ChangeMessageVisibility")}

    def named(*args):
        action = action_of(*args)
        return single.get(action, action)

    iam_actions.extract_iam_action = named
