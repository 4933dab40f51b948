"""moto's server, mended where the catalogue needs it. It ends when the lab does: the lab holds its standard input open."""

import datetime
import gc
import hashlib
import json
import os
import sys
import threading
import uuid
from urllib.parse import unquote

from moto.applicationautoscaling.models import ApplicationAutoscalingBackend
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidNetworkAclIdError, InvalidTransitGatewayID
from moto.ec2.models import iam_instance_profile, network_acls
from moto.ec2.models.amis import Ami
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.models.transit_gateway import TransitGatewayBackend
from moto.ec2.responses import EC2Response
from moto.eks import urls as eks_urls
from moto.eks.models import EKSBackend
from moto.eks.responses import EKSResponse
from moto.guardduty import urls as guardduty_urls
from moto.guardduty.exceptions import DetectorNotFoundException, FilterNotFoundException
from moto.guardduty.responses import GuardDutyResponse
from moto.macie2.models import MacieBackend
from moto.rds.models import DBInstance, DBParameterGroup, RDSBackend
from moto.rds.responses import RDSResponse
from moto.redshift.models import RedshiftBackend
from moto.redshift.responses import RedshiftResponse
from moto.server import main


def exit_with_parent():
    while os.read(0, 4096):
        pass
    os._exit(0)


def filter_images_by_snapshot():
    """moto knows no filter of images by what they are made of."""
    value_of = Ami.get_filter_value

    def known(image, name, method_name=None):
        return image.ebs_snapshot.id if name == "block-device-mapping.snapshot-id" else value_of(image, name, method_name)

    Ami.get_filter_value = known


def encrypt_copies_of_snapshots():
    """moto encrypts a copy only when its source is encrypted."""
    copy = EC2Response.copy_snapshot
    copied = EBSBackend.copy_snapshot

    def keep(backend, *args, **kwargs):
        snapshot = copied(backend, *args, **kwargs)
        if str(wish.encrypted).lower() == "true":
            snapshot.encrypted = True
            snapshot.kms_key_id = snapshot.kms_key_id or "alias/aws/ebs"
        return snapshot

    def asked(response):
        wish.encrypted = response._get_param("Encrypted")
        return copy(response)

    wish = threading.local()
    EC2Response.copy_snapshot, EBSBackend.copy_snapshot = asked, keep


def begin_template_versions_from_their_source():
    """A version of a launch template takes from `SourceVersion` what it does not say itself."""
    create, made = EC2Response.create_launch_template_version, LaunchTemplate.create_version
    source = threading.local()

    def version(template, data, description):
        number, source.number = getattr(source, "number", None), None
        return made(template, {**template.get_version(number).data, **data} if number else data, description)

    def asked(response):
        source.number = response._get_param("SourceVersion")
        return create(response)

    EC2Response.create_launch_template_version, LaunchTemplate.create_version = asked, version


def block_public_snapshots():
    """moto lacks the Region's setting that blocks public snapshots."""
    states = {}

    def place(response):
        return response.current_account, response.region

    def enable(response):
        states[place(response)] = response._get_param("State")
        return ActionResult({"State": states[place(response)]})

    def disable(response):
        states.pop(place(response), None)
        return ActionResult({"State": "unblocked"})

    EC2Response.enable_snapshot_block_public_access = enable
    EC2Response.disable_snapshot_block_public_access = disable
    EC2Response.get_snapshot_block_public_access_state = lambda response: ActionResult(
        {"State": states.get(place(response), "unblocked"), "ManagedBy": "account"})


def trust_instance_profiles_of_the_base():
    """Instance profiles are MiniStack's: moto knows none of them."""
    class Profile:
        def __init__(self, arn):
            self.arn, self.name = arn, arn.rsplit("/", 1)[-1]
            self.id = "AIPA" + hashlib.sha256(arn.encode()).hexdigest()[:16].upper()

    def found(account_id, partition, iam_instance_profile_arn=None, iam_instance_profile_name=None):
        return Profile(iam_instance_profile_arn
                       or f"arn:{partition}:iam::{account_id}:instance-profile/{iam_instance_profile_name}")

    iam_instance_profile.filter_iam_instance_profiles = found
def name_missing_network_acls():
    """moto says that a route table is missing."""
    network_acls.InvalidRouteTableIdError = InvalidNetworkAclIdError


def trust_keys_of_the_base():
    """Keys are MiniStack's: moto knows none of them."""
    RDSBackend._validate_kms_key = lambda backend, key: key if key.startswith("arn:") else backend.kms_arn(key)
    RDSBackend.kms_arn = lambda backend, key: (
        f"arn:{backend.partition}:kms:{backend.region_name}:{backend.account_id}:"
        + (key if key.startswith("alias/") else f"key/{key}"))


def know_instances_by_their_resource_ids():
    """moto gives every database the same resource id, by which RDS knows it whatever it is called."""
    made = DBInstance.__init__

    def make(instance, *args, **kwargs):
        made(instance, *args, **kwargs)
        instance.dbi_resource_id = "db-" + uuid.uuid4().hex[:26].upper()

    DBInstance.__init__ = make


def tell_of_updates_of_clusters():
    """moto puts what UpdateClusterConfig gives in the place of what there was, answers with the cluster, and knows no update."""
    described = EKSBackend.describe_cluster
    updates = {}

    def update(response):
        cluster = described(response.eks_backend, name=response._get_param("name"))
        network, logging = response._get_param("resourcesVpcConfig"), response._get_param("logging")
        if network:
            cluster.resources_vpc_config = {**cluster.resources_vpc_config, **network}
        if logging:
            on = {kind: group["enabled"] for group in cluster.logging["clusterLogging"] for kind in group["types"]}
            on.update({kind: group["enabled"] for group in logging["clusterLogging"] for kind in group["types"]})
            groups = [{"types": [kind for kind in on if on[kind] is wanted], "enabled": wanted} for wanted in (True, False)]
            cluster.logging = {"clusterLogging": [group for group in groups if group["types"]]}
        kind = "EndpointAccessUpdate" if network else "LoggingUpdate"
        made = {"id": str(uuid.uuid4()), "status": "InProgress", "type": kind, "params": [], "errors": []}
        updates[made["id"]] = {**made, "status": "Successful"}
        return ActionResult({"update": made})

    EKSResponse.update_cluster_config = update
    EKSResponse.describe_update = lambda response: ActionResult({"update": updates[response._get_param("updateId")]})
    eks_urls.url_paths["{0}/clusters/(?P<name>[^/]+)/updates/(?P<updateId>[^/]+)$"] = EKSResponse.dispatch


def keep_parameters_of_redshift():
    """moto has parameter groups of Redshift without parameters of their own."""
    defaults = RedshiftBackend.describe_cluster_parameters

    def described(backend, parameter_group_name):
        own = getattr(backend.parameter_groups.get(parameter_group_name), "lab_parameters", {})
        return [{**parameter, **({"ParameterValue": own[parameter["ParameterName"]], "Source": "user"}
                                 if parameter["ParameterName"] in own else {})}
                for parameter in defaults(backend, parameter_group_name)]

    def change(response, values):
        name = response._get_param("ParameterGroupName")
        defaults(response.redshift_backend, name)
        group = response.redshift_backend.parameter_groups[name]
        group.lab_parameters = values(getattr(group, "lab_parameters", {}))
        return ActionResult({"ParameterGroupName": name, "ParameterGroupStatus": "Your parameter group has been updated"})

    def given(response):
        return {item["ParameterName"]: item.get("ParameterValue") for item in response._get_param("Parameters", [])}

    def reset(response):
        if str(response._get_param("ResetAllParameters")).lower() == "true":
            return change(response, lambda held: {})
        return change(response, lambda held: {name: held[name] for name in held if name not in given(response)})

    def asked(response):
        source = response._get_param("Source")
        listed = described(response.redshift_backend, response._get_param("ParameterGroupName"))
        return ActionResult({"Parameters": [one for one in listed if source in (None, one["Source"])]})

    RedshiftBackend.describe_cluster_parameters = described
    RedshiftResponse.describe_cluster_parameters = asked
    RedshiftResponse.modify_cluster_parameter_group = lambda response: change(
        response, lambda held: {**held, **given(response)})
    RedshiftResponse.reset_cluster_parameter_group = reset


def keep_parameters_of_postgres():
    """moto has parameter groups of RDS that begin empty, do not say who set what, and cannot be reset."""
    begin, update = DBParameterGroup.__init__, DBParameterGroup.update_parameters

    def default(group):
        version = float(group.family.removeprefix("postgres"))
        return {"ParameterName": "rds.force_ssl", "ParameterValue": "1" if version >= 15 else "0", "Source": "system",
                "ApplyType": "dynamic", "DataType": "boolean", "IsModifiable": True, "ApplyMethod": "pending-reboot"}

    def begun(group, *args, **kwargs):
        begin(group, *args, **kwargs)
        if group.family.startswith("postgres"):
            group.parameters["rds.force_ssl"] = default(group)

    def reset(response):
        name = response.params["DBParameterGroupName"]
        group = response.backend.modify_db_parameter_group(name, [])
        for parameter in response.params.get("Parameters", []):
            changed = parameter.original_dict()["ParameterName"]
            if group.parameters.pop(changed, None) and changed == "rds.force_ssl":
                group.parameters[changed] = default(group)
        return ActionResult({"DBParameterGroupName": name})

    DBParameterGroup.__init__ = begun
    DBParameterGroup.update_parameters = lambda group, new: update(group, [{**one, "Source": "user"} for one in new])
    RDSResponse.reset_db_parameter_group = reset


def say_that_databases_are_not_monitored():
    """moto leaves out how often a database is monitored until it is."""
    DBInstance.monitoring_interval = 0


def take_policies_with_their_target():
    """moto keeps the scaling policies of a target that is deregistered."""
    deregister = ApplicationAutoscalingBackend.deregister_scalable_target

    def deregistered(backend, namespace, r_id, dimension):
        deregister(backend, namespace, r_id, dimension)
        for policy in list(backend.policies.values()):
            if (policy.service_namespace, policy.resource_id, policy.scalable_dimension) == (namespace, r_id, dimension):
                backend.delete_scaling_policy(policy.policy_name, namespace, r_id, dimension)

    ApplicationAutoscalingBackend.deregister_scalable_target = deregistered


def tag_detectors():
    """moto tells a detector's tags and cannot change them, and knows none of filters."""
    def held(response):
        _, _, name = unquote(response.path).rpartition(":detector/")
        detector = response.guardduty_backend.get_detector(name.split("/")[0])
        if "/filter/" in name:
            detector.get_filter(name.rpartition("/")[2])
        own = vars(detector).setdefault("lab_filter_tags", {})
        return own.setdefault(name, {}) if "/filter/" in name else detector.tags

    def tag(response):
        held(response).update(response._get_param("tags"))
        return "{}"

    def untag(response):
        for key in response.querystring.get("tagKeys", []):
            held(response).pop(key, None)
        return "{}"

    def headers(*_):
        # Without a type it is taken for a page about an error of moto itself.
        return [("X-Amzn-ErrorType", "BadRequestException"), ("Content-Type", "application/json")]

    DetectorNotFoundException.get_headers = FilterNotFoundException.get_headers = headers
    GuardDutyResponse.tag_resource = tag
    GuardDutyResponse.untag_resource = untag
    GuardDutyResponse.list_tags_for_resource = lambda response: json.dumps({"tags": held(response)})
    guardduty_urls.url_paths["{0}/tags/(?P<resource_arn>.+)$"] = GuardDutyResponse.dispatch


def keep_other_metadata_options():
    """moto puts its defaults, or nothing, for what ModifyInstanceMetadataOptions does not name; EC2 leaves it as it is."""
    modify = InstanceBackend.modify_instance_metadata_options

    def modified(backend, instance_id, **named):
        now = backend.get_instance(instance_id).metadata_options
        kept = {
            "http_tokens": now.http_tokens,
            "hop_limit": now.http_put_response_hop_limit,
            "http_endpoint": now.http_endpoint,
            "http_protocol": now.http_protocol_ipv6,
            "metadata_tags": now.instance_metadata_tags,
        }
        given = {name: value for name, value in named.items() if value is not None}
        return modify(backend, instance_id, **(kept | given))

    InstanceBackend.modify_instance_metadata_options = modified


def keep_the_groups_of_interfaces():
    """moto adds the groups that an instance began with to those that its interfaces have now; EC2 does not."""
    modify = InstanceBackend.modify_instance_security_groups

    def modified(backend, *given, **named):
        instance = modify(backend, *given, **named)
        instance.nics[0]._group_set = list(instance.security_groups)
        return instance

    NetworkInterface.group_set = property(lambda interface: interface._group_set)
    InstanceBackend.modify_instance_security_groups = modified


def name_missing_transit_gateways():
    """moto lists none where EC2 says that there is none of the id."""
    listed = TransitGatewayBackend.describe_transit_gateways

    def found(backend, filters, transit_gateway_ids=None):
        for name in transit_gateway_ids or []:
            if name not in backend.transit_gateways:
                raise InvalidTransitGatewayID(name)
        return listed(backend, filters, transit_gateway_ids)

    TransitGatewayBackend.describe_transit_gateways = found


def list_public_snapshots():
    """moto lists snapshots whoever may restore them, and those of AWS."""
    def asked(response):
        found = response.ec2_backend.describe_snapshots(
            snapshot_ids=response._get_param("SnapshotIds", []), filters=response._filters_from_querystring())
        if "self" in response._get_param("OwnerIds", []):
            found = [one for one in found if one.owner_id == response.current_account]
        if "all" in response._get_param("RestorableByUserIds", []):
            found = [one for one in found if "all" in one.create_volume_permission_groups]
        return ActionResult({"Snapshots": found})

    EC2Response.describe_snapshots = asked


def deny_access_to_macie_where_it_is_off():
    """moto says that there is no such resource; Macie denies access."""
    session = MacieBackend.get_macie_session

    def found(backend):
        if not backend.macie_session:
            error = JsonRESTError("AccessDeniedException", "Macie is not enabled")
            error.code = 403
            raise error
        return session(backend)

    MacieBackend.get_macie_session = found


def age_stops():
    """Nobody can wait 30 days: an instance with tag `aged-days` was stopped so many days ago."""
    stop = Instance.stop

    def stopped(instance):
        previous = stop(instance)
        days = next((tag["value"] for tag in instance.get_tags() if tag["key"] == "aged-days"), None)
        if days:
            then = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=int(days))
            instance._reason = f"User initiated ({then:%Y-%m-%d %H:%M:%S} GMT)"
        return previous

    Instance.stop = stopped


filter_images_by_snapshot()
encrypt_copies_of_snapshots()
begin_template_versions_from_their_source()
block_public_snapshots()
trust_instance_profiles_of_the_base()
name_missing_network_acls()
trust_keys_of_the_base()
know_instances_by_their_resource_ids()
tell_of_updates_of_clusters()
keep_parameters_of_redshift()
keep_parameters_of_postgres()
say_that_databases_are_not_monitored()
take_policies_with_their_target()
tag_detectors()
keep_other_metadata_options()
keep_the_groups_of_interfaces()
deny_access_to_macie_where_it_is_off()
name_missing_transit_gateways()
list_public_snapshots()
age_stops()
threading.Thread(target=exit_with_parent, daemon=True).start()
# As in base.py.
gc.freeze()
gc.set_threshold(50_000, 20, 20)
main(sys.argv[1:])
