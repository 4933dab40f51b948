"""Organizations: accounts join by invitation, and see what their place in the organisation lets them see.

MiniStack makes every account the management account of an organisation of its own and draws the ids of accounts
that it creates. Here accounts are invited, as existing ones are on AWS, and their requests are answered from the
organisation that they are in.
"""

import json
import re
import time

from ministack.core import iam_actions
from ministack.core.responses import error_response_json, get_account_id, get_region, new_uuid, request_scope
from ministack.services import account as accounts
from ministack.services import organizations

PAGE = 20
# What every member may ask; the rest is for the management account, and reading for delegated administrators too.
OPEN = ("DescribeOrganization", "AcceptHandshake", "DescribeHandshake")
handshakes, delegated, names = {}, {}, {}


def amend():
    answer_members_from_their_organisation()
    add_invitations_and_delegates()
    describe_accounts_and_units_by_path()
    answer_lists_by_the_page()
    keep_names_of_accounts()
    judge_by_the_account_or_unit()


def management_of(account):
    for management, member in list(organizations._accounts._data):
        if member == account:
            return management
    return account


def answer_members_from_their_organisation():
    handle = organizations.handle_request

    async def placed(method, path, headers, body, query):
        account, operation = get_account_id(), headers.get("x-amz-target", "").rpartition(".")[2]
        management = management_of(account)
        if management == account or operation == "AcceptHandshake":
            return await handle(method, path, headers, body, query)
        reads = operation.startswith(("Describe", "List"))
        if operation not in OPEN and not (reads and account in delegated.get(management, {})):
            return error_response_json(
                "AccessDeniedException", "You don't have permissions to access this resource.", 400)
        with request_scope(management, get_region()):
            return await handle(method, path, headers, body, query)

    organizations.handle_request = placed


def add_invitations_and_delegates():
    def invite(data):
        organizations._ensure_org()
        target = data.get("Target") or {}
        if target.get("Type") != "ACCOUNT" or not re.fullmatch(r"\d{12}", target.get("Id", "")):
            return error_response_json("InvalidInputException", "the lab invites accounts by their id", 400)
        if management_of(target["Id"]) != target["Id"] or target["Id"] == get_account_id():
            return error_response_json("HandshakeConstraintViolationException", "The account is in an organization.", 400)
        organization = organizations._orgs["self"]
        handshake = {
            "Id": "h-" + new_uuid().replace("-", "")[:16], "State": "OPEN", "Action": "INVITE",
            "RequestedTimestamp": int(time.time()), "ExpirationTimestamp": int(time.time()) + 15 * 86400,
            "Parties": [{"Id": target["Id"], "Type": "ACCOUNT"},
                        {"Id": organization["Id"].removeprefix("o-"), "Type": "ORGANIZATION"}],
        }
        handshake["Arn"] = (f"arn:aws:organizations::{get_account_id()}:handshake/{organization['Id']}/invite/"
                            f"{handshake['Id']}")
        handshakes[handshake["Id"]] = (handshake, get_account_id(), data.get("Tags") or [])
        return organizations._json(200, {"Handshake": handshake})

    def accept(data):
        handshake, management, tags = handshakes.get(data.get("HandshakeId"), (None, None, None))
        member = get_account_id()
        if handshake is None or handshake["Parties"][0]["Id"] != member:
            return error_response_json("HandshakeNotFoundException", "We can't find a handshake with that Id.", 400)
        if handshake["State"] != "OPEN":
            return error_response_json("HandshakeAlreadyInStateException", "The handshake is not open.", 400)
        handshake["State"] = "ACCEPTED"
        with request_scope(management, get_region()):
            organization, root = organizations._orgs["self"]["Id"], next(iter(organizations._roots))
            organizations._accounts[member] = {
                "Id": member, "Arn": f"arn:aws:organizations::{management}:account/{organization}/{member}",
                "Email": f"aws+{member}@example.com", "Name": names.get(member, member), "State": "ACTIVE",
                "JoinedMethod": "INVITED", "JoinedTimestamp": int(time.time()), "_ParentId": root}
            if tags:
                organizations._tags[member] = {tag["Key"]: tag.get("Value", "") for tag in tags}
        return organizations._json(200, {"Handshake": handshake})

    def register(data):
        organizations._ensure_org()
        if data.get("AccountId") not in organizations._accounts:
            return error_response_json("AccountNotFoundException", "The account is not in the organization.", 400)
        services = delegated.setdefault(get_account_id(), {}).setdefault(data["AccountId"], {})
        services[data["ServicePrincipal"]] = int(time.time())
        return organizations._json(200, {})

    def delegates(data):
        organizations._ensure_org()
        wanted = data.get("ServicePrincipal")
        found = [{**organizations._public_account(organizations._accounts[member]),
                  "DelegationEnabledDate": min(services.values())}
                 for member, services in delegated.get(get_account_id(), {}).items()
                 if wanted is None or wanted in services]
        return organizations._json(200, {"DelegatedAdministrators": found})

    def remove(data):
        organizations._ensure_org()
        member = data.get("AccountId")
        if member not in organizations._accounts or member == get_account_id():
            return error_response_json("AccountNotFoundException", "The account is not in the organization.", 400)
        del organizations._accounts[member]
        organizations._tags.pop(member, None)
        delegated.get(get_account_id(), {}).pop(member, None)
        return organizations._json(200, {})

    organizations._DISPATCH.update({
        "InviteAccountToOrganization": invite, "AcceptHandshake": accept, "RemoveAccountFromOrganization": remove,
        "RegisterDelegatedAdministrator": register, "ListDelegatedAdministrators": delegates})


def describe_accounts_and_units_by_path():
    """`State` instead of `Status`, which AWS retired; paths are of ids from the organisation down."""
    account_of, unit_of, move = organizations._public_account, organizations._public_ou, organizations._move_account

    def path(record):
        parent = record.get("_ParentId", "")
        above = organizations._ous.get(parent)
        start = path(above) if above else f"{organizations._orgs['self']['Id']}/{parent}/"
        return f"{start}{record['Id']}/"

    def public_account(record):
        # Closing one sets the other.
        state = "SUSPENDED" if "SUSPENDED" in (record.get("State"), record.get("Status")) else "ACTIVE"
        told = {**account_of(record), "State": state, "Paths": [path(record)]}
        told.pop("Status", None)
        told.pop("Path", None)
        return told

    def move_from(data):
        record = organizations._accounts.get(data.get("AccountId")) or {}
        at = record.get("_ParentId")
        if record and organizations._target(data.get("SourceParentId"))[0] and at != data["SourceParentId"]:
            return error_response_json("AccountNotFoundException", "The account is not in the source parent.", 400)
        return move(data)

    organizations._public_account = public_account
    organizations._public_ou = lambda record: {**unit_of(record), "Path": path(record)}
    organizations._DISPATCH["MoveAccount"] = move_from


def answer_lists_by_the_page():
    for operation, key in (("ListAccounts", "Accounts"), ("ListAccountsForParent", "Accounts"),
                           ("ListOrganizationalUnitsForParent", "OrganizationalUnits")):
        def paged(data, whole=organizations._DISPATCH[operation], key=key):
            status, headers, body = whole(data)
            if status != 200:
                return status, headers, body
            try:
                start = int(data.get("NextToken") or 0)
            except ValueError:
                return error_response_json("InvalidInputException", "You specified an invalid value.", 400)
            found, end = json.loads(body)[key], start + min(int(data.get("MaxResults") or PAGE), PAGE)
            page = {key: found[start:end]}
            if end < len(found):
                page["NextToken"] = str(end)
            return organizations._json(200, page)

        organizations._DISPATCH[operation] = paged


def keep_names_of_accounts():
    """An account's name is its own: `PutAccountName`."""
    tell = accounts._DISPATCH["/getAccountInformation"]

    def put(data):
        account = get_account_id()
        names[account] = data.get("AccountName")
        with request_scope(management_of(account), get_region()):
            if account in organizations._accounts:
                organizations._accounts[account]["Name"] = data.get("AccountName")
        return accounts._json(200, {})

    def told(data):
        status, headers, body = tell(data)
        told = json.loads(body)
        told["AccountName"] = names.get(get_account_id(), told["AccountName"])
        return accounts._json(status, told)

    accounts._DISPATCH.update({"/putAccountName": put, "/getAccountInformation": told})


def judge_by_the_account_or_unit():
    """What names an account or a unit is judged by its ARN; listing and describing the organisation by none."""
    resource_of = iam_actions.extract_resource_arn

    def named(service, method, path, headers, body, *rest):
        if service != "organizations":
            return resource_of(service, method, path, headers, body, *rest)
        asked = json.loads(body or b"{}")
        names = ("AccountId", "OrganizationalUnitId", "ChildId", "ResourceId", "ParentId")
        wanted = next((asked[name] for name in names if asked.get(name)), None)
        management = management_of(get_account_id())
        with request_scope(management, get_region()):
            for held in (organizations._accounts, organizations._ous, organizations._roots):
                if wanted in held:
                    return held[wanted]["Arn"]
        return "*"

    iam_actions.extract_resource_arn = named
