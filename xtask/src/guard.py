"""The rules of stacksets/rules.guard for templates: `python -c <this> <rules> <template>…`.

CloudFormation Guard from PyPI, and the reader of templates that cfn-lint has. Exit code 1 when a template breaks a rule,
or when there is a rule that applies to no template.
"""

import json
import re
import sys
from pathlib import Path

from cfn_guard_rs.cfn_guard_rs import run_checks_rs
from cfnlint.decode import cfn_yaml


def main(rules_file, templates):
    rules = Path(rules_file).read_text(encoding="utf-8")
    idle = set(re.findall(r"^rule (\w+)", rules, re.MULTILINE))
    whole = True
    for template in templates:
        said = run_checks_rs(json.dumps(cfn_yaml.load(template)), rules, False)
        try:
            report = json.loads(said)
        except ValueError:
            # What it says of a template that breaks a rule it may cut off at the front.
            report = {"not_compliant": ["?"], "compliant": []}
        idle -= set(report["compliant"])
        if report["not_compliant"]:
            whole = False
            for why in re.findall(r'"(?:error_message|reason)": "(.+)"', said):
                print(f"{template}: {why}", file=sys.stderr)
    if whole:
        for rule in sorted(idle):
            print(f"{rules_file}: rule {rule} applies to no template", file=sys.stderr)
    return 0 if whole and not idle else 1


sys.exit(main(sys.argv[1], sys.argv[2:]))
