"""Step Functions: where MiniStack's interpreter departs from AWS in what the project uses.

Functions are invoked over the gateway as a session of the state machine's role, so that they are authorised,
run and recorded as any other. The rest is the life of task tokens, timeouts, and paths that lead nowhere.
"""

import contextvars
import json
import os
import threading
import time

from ministack.core import iam_actions
from ministack.core.responses import error_response_json, get_account_id, get_region, json_response, new_uuid, now_iso
from ministack.services import stepfunctions as sfn

PRINCIPAL = "states.amazonaws.com"
GATEWAY = f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}"
TIMEOUTS = ("States.Timeout", "States.HeartbeatTimeout")
# No Retry or Catch sees these, not even one of States.ALL.
TERMINAL = ("States.Runtime", "States.DataLimitExceeded")

Error = sfn._ExecutionError
running: contextvars.ContextVar[str] = contextvars.ContextVar("lab_execution")
# The input of the state that runs, before its `Parameters`.
given: contextvars.ContextVar[object] = contextvars.ContextVar("lab_state_input")


def amend(session, call):
    """`session` and `call` are the lab's own: a role's session for a service, and one API call."""
    invoke_functions_over_the_gateway(session, call)
    start_an_execution_once()
    end_tasks_as_they_should()
    end_executions_in_time()
    refuse_paths_that_lead_nowhere()
    judge_by_the_state_machine_of_a_token()


# --- Invoking ----------------------------------------------------------------------------------------------


def invoke_functions_over_the_gateway(session, call):
    run = sfn._run_execution

    def noted(execution_arn):
        running.set(execution_arn)
        run(execution_arn)

    def invoke(function, event):
        execution = sfn._executions[running.get()]
        machine = sfn._state_machines[execution["stateMachineArn"]]
        asked = session({"role_arn": machine["roleArn"], "service_principal": PRINCIPAL,
                         "session_name": execution["name"], "source_arn": machine["stateMachineArn"]})
        if "error" in asked:
            raise Error("Lambda.AWSLambdaException", asked["error"]["message"])
        answer = call({"endpoint": GATEWAY, "credentials": asked["ok"], "region": get_region(), "service": "lambda",
                       "operation": "Invoke", "parameters": {"FunctionName": function, "Payload": json.dumps(event)}})
        if "error" in answer:
            raise Error(*call_failure(answer["error"]))
        payload = answer["ok"].get("Payload") or "null"
        if answer["ok"].get("FunctionError"):
            raise Error(told_error(payload), payload)
        return json.loads(payload)

    sfn._run_execution = noted
    sfn._call_lambda = invoke


def call_failure(error):
    """The name that Step Functions gives a failed Invoke, and its cause."""
    known = ("ResourceNotFoundException", "ServiceException", "TooManyRequestsException")
    name = error["code"] if error["code"] in known else "AWSLambdaException"
    return f"Lambda.{name}", (f"{error['message']} (Service: AWSLambda; Status Code: {error['status']}; "
                              f"Error Code: {error['code']})")


def told_error(payload):
    try:
        return json.loads(payload).get("errorType") or "Lambda.Unknown"
    except (ValueError, AttributeError):
        return "Lambda.Unknown"


# --- Starting ----------------------------------------------------------------------------------------------


def start_an_execution_once():
    """A running execution of this name and input is the one that is asked for; any other of this name is in the way."""
    start = sfn._start_execution

    def once(data):
        machine = sfn._resolve_state_machine_arn(data.get("stateMachineArn", ""))
        held = machine and data.get("name") and sfn._executions.get(
            f"{machine.replace(':stateMachine:', ':execution:')}:{data['name']}")
        if held and held["status"] == "RUNNING" and held["input"] == data.get("input", "{}"):
            return json_response({"executionArn": held["executionArn"], "startDate": held["startDate"]})
        return start(data)

    sfn._start_execution = once


# --- Tasks that wait for their token -------------------------------------------------------------------------


def end_tasks_as_they_should():
    apply_parameters, add_event, matches, stop = (
        sfn._apply_parameters, sfn._add_event, sfn._error_matches, sfn._stop_execution)

    def new_token_per_attempt(state, data, ctx=None):
        if ".waitForTaskToken" in state.get("Resource", ""):
            ctx["Task"] = {"Token": new_uuid()}
            given.set(data)
        return apply_parameters(state, data, ctx)

    def add_fitting_event(execution, kind, details=None):
        if execution["status"] != "RUNNING" and not kind.startswith("Execution"):
            return None  # Nothing happens in an execution that has ended.
        told = (details or {}).get("taskFailedEventDetails", {})
        if kind == "TaskFailed" and told.get("error") in TIMEOUTS:
            kind, details = "TaskTimedOut", {"taskTimedOutEventDetails": told}
        return add_event(execution, kind, details)

    def error_matches(names, error):
        if error in TERMINAL:
            return error in names
        if error == "States.HeartbeatTimeout":
            return bool({"States.ALL", "States.Timeout", error} & set(names))
        return matches(names, error)

    def stop_and_close(data):
        answer = stop(data)
        close_tasks_of(data.get("executionArn"))
        return answer

    sfn._apply_parameters = new_token_per_attempt
    sfn._add_event = add_fitting_event
    sfn._error_matches = error_matches
    sfn._stop_execution = stop_and_close
    sfn._invoke_with_callback = wait_for_token
    sfn._send_task_success = lambda data: send(data, result=data.get("output", "{}"))
    sfn._send_task_failure = lambda data: send(
        data, error={"Error": data.get("error", ""), "Cause": data.get("cause", "")})
    sfn._send_task_heartbeat = lambda data: send(data)


def wait_for_token(resource, effective, token, state):
    """The task: its call, then whatever comes first of its token, its heartbeat's end, its timeout and its execution's end."""
    execution = sfn._executions[running.get()]
    changed = threading.Condition()
    task = {"execution": execution["executionArn"], "machine": execution["stateMachineArn"], "changed": changed,
            "open": True, "beat": time.monotonic(), "result": None, "error": None}
    sfn._task_tokens[token] = task
    timeout, heartbeat = seconds(state, "TimeoutSeconds"), seconds(state, "HeartbeatSeconds")
    deadline = time.monotonic() + timeout
    called = threading.Thread(target=contextvars.copy_context().run, daemon=True,
                              args=(make_call, resource.replace(".waitForTaskToken", ""), effective, task, execution))
    called.start()
    with changed:
        while task["open"] and execution["status"] == "RUNNING":
            now, limit = time.monotonic(), task["beat"] + heartbeat
            if now >= min(deadline, limit):
                late = "States.Timeout" if now >= deadline else "States.HeartbeatTimeout"
                task.update(open=False, error={"Error": late, "Cause": ""})
                break
            changed.wait(min(deadline, limit) - now)
        task["open"] = False
    if execution["status"] != "RUNNING":
        raise Error("States.Runtime", "The execution has ended.")
    if task["error"]:
        raise Error(task["error"]["Error"], task["error"]["Cause"])
    return json.loads(task["result"]) if task["result"] is not None else None


def make_call(resource, effective, task, execution):
    """The call that hands the token over. Its failure is the task's; a later answer than the token's counts for nothing."""
    try:
        sfn._invoke_resource(resource, effective)
        with task["changed"]:
            if task["open"]:
                sfn._add_event(execution, "TaskSubmitted", {
                    "taskSubmittedEventDetails": {"resourceType": "lambda", "resource": resource}})
    except Error as error:
        finish(task, error={"Error": error.error, "Cause": error.cause})
    except Exception as error:
        # Whatever goes wrong in the emulator: a task that nobody will ever end is worse than one that failed.
        finish(task, error={"Error": "Lambda.SdkClientException", "Cause": repr(error)})


def seconds(state, field):
    """A limit of a task, or (nearly) none. A path is into the state's input, not into what `Parameters` makes of it."""
    path = state.get(f"{field}Path")
    limit = sfn._resolve_path(path, given.get()) if path else state.get(field)
    if path and not isinstance(limit, int):
        raise Error("States.Runtime", f"The path '{path}' of {field}Path selects no number.")
    return float(limit) if limit is not None else threading.TIMEOUT_MAX / 2


def finish(task, **outcome):
    with task["changed"]:
        if not task["open"]:
            return False
        task.update(outcome, open=False)
        task["changed"].notify_all()
    return True


def send(data, **outcome):
    task = sfn._task_tokens.get(data.get("taskToken"))
    if task is None or "changed" not in task:
        return error_response_json("InvalidToken", "Invalid Token: 'Invalid token'", 400)
    if "result" in outcome:
        try:
            json.loads(outcome["result"])
        except (TypeError, ValueError):
            return error_response_json("InvalidOutput", "Invalid Output: 'Invalid JSON'", 400)
    if not outcome:
        with task["changed"]:
            accepted, task["beat"] = task["open"], time.monotonic()
    else:
        accepted = finish(task, **outcome)
    if not accepted:
        return error_response_json(
            "TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'", 400)
    return json_response({})


def close_tasks_of(execution_arn):
    for task in list(sfn._task_tokens.values()):
        if task.get("execution") == execution_arn:
            finish(task)


# --- Timeouts of executions ----------------------------------------------------------------------------------


def end_executions_in_time():
    """A state machine's own `TimeoutSeconds`."""
    run = sfn._run_execution

    def limited(execution_arn):
        execution = sfn._executions[execution_arn]
        machine = sfn._state_machines.get(execution["stateMachineArn"]) or {}
        try:
            limit = json.loads(machine.get("definition", "{}")).get("TimeoutSeconds")
        except ValueError:
            limit = None
        timer = None
        if limit is not None:
            timer = threading.Timer(float(limit), contextvars.copy_context().run, (time_out, execution))
            timer.daemon = True
            timer.start()
        run(execution_arn)
        if timer:
            timer.cancel()

    sfn._run_execution = limited
    fail = sfn._fail_execution

    def fail_once(execution, error, cause):
        if execution["status"] == "RUNNING":
            fail(execution, error, cause)

    sfn._fail_execution = fail_once


def time_out(execution):
    if execution["status"] != "RUNNING":
        return
    execution.update(status="TIMED_OUT", error="States.Timeout", stopDate=now_iso())
    sfn._add_event(execution, "ExecutionTimedOut", {"executionTimedOutEventDetails": {"error": "States.Timeout"}})
    sfn._emit_execution_status_event(execution)
    close_tasks_of(execution["executionArn"])


# --- Paths ---------------------------------------------------------------------------------------------------


def refuse_paths_that_lead_nowhere():
    """A path without a value ends the execution on AWS. MiniStack goes on with null, and with the next choice."""
    resolve_fields, evaluate = sfn._resolve_params_obj, sfn._evaluate_rule

    def resolved(template, data, ctx=None):
        if isinstance(template, dict):
            for key, path in template.items():
                if key.endswith(".$") and isinstance(path, str) and path.startswith("$"):
                    place = (ctx or {}) if path.startswith("$$") else data
                    if not present(path.replace("$$", "$", 1), place):
                        raise Error("States.Runtime", f"The JSONPath '{path}' specified for the field '{key}' could "
                                                      f"not be found in the input '{json.dumps(data)}'")
        return resolve_fields(template, data, ctx)

    def judged(rule, data, ctx=None):
        variable = rule.get("Variable")
        if variable is None:
            return evaluate(rule, data, ctx)
        there = present(variable.replace("$$", "$", 1), (ctx or {}) if variable.startswith("$$") else data)
        if "IsPresent" in rule:
            return there == rule["IsPresent"]
        if not there:
            raise Error("States.Runtime", f"Invalid path '{variable}': The choice state's condition path references "
                                          "an invalid value.")
        return evaluate(rule, data, ctx)

    sfn._resolve_params_obj = resolved
    sfn._evaluate_rule = judged


def present(path, data):
    """Whether a path leads to a value, be it null."""
    for kind, step in sfn._parse_jsonpath_tokens(path) or []:
        if kind == "wildcard":
            return True
        if kind == "field" and isinstance(data, dict) and step in data:
            data = data[step]
        elif kind == "index" and isinstance(data, list) and step < len(data):
            data = data[step]
        else:
            return False
    return True


# --- Authorisation -------------------------------------------------------------------------------------------


def judge_by_the_state_machine_of_a_token():
    """Who answers for a task is judged by the ARN of its state machine."""
    resource_of = iam_actions.extract_resource_arn

    def named(service, method, path, headers, body, *rest):
        if service == "states" and headers.get("x-amz-target", "").rpartition(".")[2].startswith("SendTask"):
            token = json.loads(body or b"{}").get("taskToken")
            task = sfn._task_tokens.get(token) or {}
            return task.get("machine", "*")
        return resource_of(service, method, path, headers, body, *rest)

    iam_actions.extract_resource_arn = named
