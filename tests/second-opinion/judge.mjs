// Reads requests, each with the policies that apply to it, and writes what @cloud-copilot/iam-simulate says of each.
// Knows nothing of Redress or of the lab: `tests/tests/second_opinion.rs` compares.
import { readFileSync } from "node:fs";
import { runSimulation } from "@cloud-copilot/iam-simulate";

const named = (policies) => policies.map((policy, number) => ({ name: `policy-${number}`, policy }));

async function judge({ who, action, resource, owner, context, identity, policy, boundary, guardrails }) {
  const answer = await runSimulation(
    {
      request: { principal: who, action, resource: { resource, accountId: owner }, contextVariables: context },
      identityPolicies: named(identity),
      resourcePolicy: policy ?? undefined,
      permissionBoundaryPolicies: boundary ? named([boundary]) : undefined,
      serviceControlPolicies: guardrails ? [{ orgIdentifier: "r-root", policies: named(guardrails) }] : [],
      resourceControlPolicies: [],
    },
    {},
  );
  if (answer.resultType === "error") {
    return { error: JSON.stringify(answer.errors) };
  }
  const results = answer.result ? [answer.result] : answer.results;
  const ignored = results.flatMap((one) => one.ignoredContextKeys ?? []);
  return { allowed: answer.overallResult === "Allowed", verdict: answer.overallResult, ignored };
}

const requests = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(await Promise.all(requests.map(judge))));
